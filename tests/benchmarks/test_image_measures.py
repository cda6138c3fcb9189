"""CLIP scores, style and quality on random networks, beside the formulas written out."""

import shutil

import numpy as np
import pytest
import tiny_judges
import torch
from PIL import Image

from amdm.command_line.arguments import Expected
from amdm.shapes import quality as of_sets
from amdm.shapes.imports import import_beside_torchvision
from benchmarks.real import clip_score, measuring, quality, style
from benchmarks.real.clip_score import TEMPLATES, Clip
from benchmarks.real.prompts import Instance, Prompt

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.25, 0.75, 0.75)
PROMPTS = [
    Prompt(
        "a", "a cat", (Instance("a red cup", LEFT), Instance("a cup", RIGHT), Instance("a red cup", RIGHT))
    ),
    Prompt("b", "dogs and cats.", (Instance("a cup", LEFT),)),
    Prompt("c", "fog"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_judges.clip(tmp_path_factory.mktemp("clip") / "clip")


@pytest.fixture(scope="module")
def clip(folder):
    return Clip.load(folder)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("drawn"), 3, (96, 64))


def saved(folder, number, size, seed=0):
    rng = np.random.default_rng(seed)
    paths = [folder / f"{i}.png" for i in range(number)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return paths


def logits(clip, picture, texts):
    """100 times the cosines, as the whole CLIPModel gives them: its logits without their scale."""
    inputs = clip.processor(text=texts, images=picture, padding=True, return_tensors="pt")
    return 100 * clip.model(**inputs).logits_per_image[0] / clip.model.logit_scale.exp()


def test_templates_are_eighty_sentences():
    assert len(set(TEMPLATES)) == len(TEMPLATES) == 80
    assert all(one.count("{}") == 1 for one in TEMPLATES)
    assert {"a photo of a {}.", "itap of my {}.", "the origami {}.", "art of the {}."} < set(TEMPLATES)


@pytest.mark.parametrize("batch", [1, 16])
def test_scores_are_cosines_of_captions_and_of_phrases_in_boxes(clip, files, batch):
    records = clip_score.measure(PROMPTS, files, clip, batch=batch, quiet=True)
    for prompt, file, record in zip(PROMPTS, files, records, strict=True):
        with Image.open(file) as picture:
            assert record["global"] == pytest.approx(logits(clip, picture, [prompt.caption]).item(), abs=1e-4)
    with Image.open(files[0]) as picture:
        pixels = picture.crop((48, 16, 72, 48))
    texts = [template.format("a red cup") for template in TEMPLATES]
    expected = logits(clip, measuring.resized(pixels, 512), texts).mean().item()
    assert records[0]["local"][2] == pytest.approx(expected, abs=1e-4)
    assert [len(record["local"]) for record in records] == [3, 1, 0]


def test_as_published_red_is_blue_and_pictures_are_square(clip, files, tmp_path):
    with Image.open(files[0]) as picture:
        square = np.asarray(measuring.resized(picture, 512))
    Image.fromarray(square[..., ::-1].copy()).save(tmp_path / "0.png")
    (published,) = clip_score.measure(PROMPTS[:1], files[:1], clip, as_published=True, quiet=True)
    (by_hand,) = clip_score.measure(PROMPTS[:1], [tmp_path / "0.png"], clip, quiet=True)
    (plain,) = clip_score.measure(PROMPTS[:1], files[:1], clip, quiet=True)
    assert published == by_hand and published != plain


def test_long_texts_are_cut_and_half_precision_is_near(clip, folder):
    assert clip.of_texts(["word " * 50]).shape == (1, 16)  # a piece for each letter
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    half = Clip.load(folder, dtype=torch.bfloat16)
    for one, other in (
        (half.of_pictures([noise]), clip.of_pictures([noise])),
        (half.of_texts(["a"]), clip.of_texts(["a"])),
    ):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, atol=0.02, rtol=0)


def test_folders_of_transformers_4_are_read_and_lacking_weights_are_one_line(clip, folder, tmp_path):
    """There the processor's configuration has another name, and weights may be torch's."""
    old = tmp_path / "old"
    shutil.copytree(folder, old)
    clip.processor.image_processor.save_pretrained(old)
    (old / "processor_config.json").unlink()
    (old / "model.safetensors").unlink()
    weights = {name: value.clone() for name, value in clip.model.state_dict().items()}
    torch.save(weights, old / "pytorch_model.bin")
    torch.testing.assert_close(Clip.load(old).of_texts(["a cat"]), clip.of_texts(["a cat"]))
    del weights["visual_projection.weight"]
    torch.save(weights, old / "pytorch_model.bin")
    with pytest.raises(
        Expected, match=r"^all weights of a CLIPModel, 1 are missing: visual_projection.weight"
    ):
        Clip.load(old)


def test_scores_are_means_over_images_and_over_instances():
    records = [{"global": 20.0, "local": [10.0, 40.0]}, {"global": 30.0, "local": [25.0]}]
    estimates = clip_score.summary(records)
    assert {name: one.value for name, one in estimates.items()} == {"CLIP global": 25, "CLIP local": 25}
    assert estimates["CLIP global"].interval == (20, 30)
    below = clip_score.summary([{"global": -3.0, "local": []}, {"global": 1.0, "local": []}])
    assert list(below) == ["CLIP global"]
    assert below["CLIP global"].value == 0 and below["CLIP global"].interval == (0, 1)  # no mean is below 0


def test_style_is_the_cosine_with_the_reference_and_with_the_caption(clip, files, tmp_path):
    styles = saved(tmp_path, 2, (50, 60), seed=1)
    prompts = [Prompt("a", "a cat", style=styles[0]), Prompt("b", "fog", style=files[1])]
    records = style.measure(prompts, files[:2], clip, batch=1, quiet=True)
    assert records[1]["reference"] == pytest.approx(1, abs=1e-6)  # the reference itself
    pictures = [Image.open(file).convert("RGB") for file in (files[0], styles[0])]
    pixels = clip.processor(images=pictures, return_tensors="pt")["pixel_values"]
    both = clip.model.visual_projection(clip.model.vision_model(pixels).pooler_output)
    assert records[0]["reference"] == pytest.approx(torch.cosine_similarity(*both, dim=0).item(), abs=1e-6)
    assert records[0]["caption"] == pytest.approx(logits(clip, pictures[0], ["a cat"]).item() / 100, abs=1e-6)
    estimates = style.summary([{"reference": 0.5, "caption": 0.2}, {"reference": 0.9, "caption": -0.1}])
    assert {name: one.value for name, one in estimates.items()} == pytest.approx(
        {"CLIP-I": 0.7, "CLIP-T": 0.25}
    )
    with pytest.raises(Expected, match=r"^each prompt to have a style, found none of c$"):
        style.measure([PROMPTS[2]], files[2:], clip)


def test_inception_is_torch_fidelitys(tmp_path):
    """The features are those that torch-fidelity extracts from each file, whatever their sizes."""
    network = quality.load(tiny_judges.inception(tmp_path / "weights.pth"))
    (tmp_path / "wide").mkdir()
    files = [*saved(tmp_path, 2, (64, 64)), *saved(tmp_path / "wide", 1, (80, 40))]
    found = quality.features(files, network, batch=3, quiet=True)
    datasets = import_beside_torchvision("torch_fidelity.datasets")
    for i, each in enumerate(datasets.ImagesPathDataset(files)):
        if i != 1:
            torch.testing.assert_close(network(each[None])[0][0], found[i], rtol=1e-4, atol=1e-5)
    (square,) = quality.features(files[2:], network, side=64, quiet=True)
    assert square.shape == (2048,) and not torch.equal(square, found[2])


def test_distances_are_torch_fidelitys(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    drawn, photographs = (torch.randn(n, 2048, generator=generator) / 4 + 0.02 * n for n in (23, 31))
    kid = import_beside_torchvision("torch_fidelity.metric_kid").kid_features_to_metric
    subset = {"kid_subsets": 1, "kid_subset_size": 20, "verbose": False}
    expected = kid(drawn[:20], photographs[:20], **subset)["kernel_inception_distance_mean"]
    assert list(quality.summary(drawn, photographs)) == ["KID"]  # FID is not for so few
    estimates = quality.summary(drawn, photographs[:20])
    assert estimates["KID"].value == pytest.approx(1000 * expected, rel=1e-5)  # theirs is of float32
    low, high = estimates["KID"].interval
    assert low < 1000 * expected < high

    monkeypatch.setattr(of_sets, "FID_FROM", 20)
    few = [side[:, :8] for side in (drawn, photographs)]
    module = import_beside_torchvision("torch_fidelity.metric_fid")
    statistics = [module.fid_features_to_statistics(side) for side in few]
    fid = module.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    estimate = quality.summary(*few)["FID"]
    assert estimate.value == pytest.approx(fid) and estimate.interval is None
    assert measuring.with_intervals({"FID": estimate}) == {"FID": {"value": estimate.value}}


def test_wrong_weights_are_one_line(tmp_path):
    with pytest.raises(Expected, match=r"^a file of weights$"):
        quality.load(tmp_path / "none.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(Expected, match=r"^a file of torch.save with tensors: .*$"):
        quality.load(tmp_path / "text.pth")
    torch.save({"layer": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(
        Expected, match=r"^the weights of torch-fidelity's Inception, found those of another network$"
    ):
        quality.load(tmp_path / "other.pth")
    with pytest.raises(Expected, match=r"^a folder of a model"):
        Clip.load(tmp_path)
