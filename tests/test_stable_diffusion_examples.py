"""The scripts of the paper's three settings, on tiny checkpoints with the real ones' layout."""

import argparse
import csv
import json
import os
import shutil
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from denoisers import test_paper_systems as paper
from denoisers import tiny_diffusers as tiny
from diffusers import PNDMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from PIL import Image
from safetensors.torch import save, save_file
from torch import nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from amdm import sample_amdm, sample_ddim, start_noise
from amdm.denoisers.diffusers import from_pipeline
from examples.stable_diffusion import (
    files,
    interact_ip,
    interact_migc,
    interact_migc_ip,
    memory,
    sampling,
    systems,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
SCRIPTS = {
    "interact_migc": (interact_migc, ["interactdiffusion", "migc", "sd14"]),
    "interact_ip": (interact_ip, ["interactdiffusion", "ip"]),
    "interact_migc_ip": (interact_migc_ip, ["interactdiffusion", "migc", "sd14", "ip"]),
}
NAMES = {
    "interact_migc": ["InteractDiffusion", "InteractDiffusion(+MIGC)"],
    "interact_ip": ["InteractDiffusion", "InteractDiffusion(+IP-Adapter)"],
    "interact_migc_ip": ["InteractDiffusion", "InteractDiffusion(+MIGC, IP-Adapter)"],
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Everything that the three systems need on disk."""
    folder = tmp_path_factory.mktemp("checkpoints")
    base, _ = tiny.sd(tiny.ddim())
    interact, _ = paper.interact()
    del interact.unet.position_net  # made by the pipeline, as its U-Net's own class would
    for name, pipe in {"sd": base, "interactdiffusion": interact}.items():
        schedule = {key: value for key, value in tiny.SD_SCHEDULE.items() if key != "clip_sample"}
        pipe.scheduler = PNDMScheduler(**schedule, skip_prk_steps=True)  # the published ones'
        pipe.save_pretrained(folder / name)
        index = folder / name / "model_index.json"
        checker = {
            "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]
        }  # named, not needed
        index.write_text(json.dumps({**json.loads(index.read_text()), **checker}))
    shutil.copy(paper.STANDINS / "interactdiffusion" / "pipeline.py", folder / "interactdiffusion")
    torch.save({"state_dict": {"migc.strength": torch.ones(1)}}, folder / "MIGC_SD14.ckpt")
    groups = tiny.ip_weights(tiny.seeded(UNet2DConditionModel, **tiny.SD_UNET))
    flat = {f"{group}.{key}": t.contiguous() for group, part in groups.items() for key, t in part.items()}
    save_file(flat, folder / "ip-adapter_sd15.safetensors")
    torch.save(groups, folder / "ip-adapter_sd15.bin")
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32,
        patch_size=8, projection_dim=12,
    )  # fmt: skip
    tiny.seeded(CLIPVisionModelWithProjection, vision).save_pretrained(folder / "image_encoder")
    Image.new("RGB", (48, 40), (200, 30, 60)).save(folder / "style.png")
    return folder


def arguments(folder, parts, out):
    paths = {
        "interactdiffusion": ["--interactdiffusion", folder / "interactdiffusion"],
        "migc": ["--migc-checkout", paper.STANDINS, "--migc-weights", folder / "MIGC_SD14.ckpt"],
        "sd14": ["--sd14", folder / "sd"],
        "ip": [
            "--ip-adapter", folder / "ip-adapter_sd15.safetensors",
            "--image-encoder", folder / "image_encoder",
            "--sd15", folder / "sd", "--image", folder / "style.png",
        ],
    }  # fmt: skip
    given = [str(value) for part in parts for value in paths[part]]
    return [*given, "--out", str(out), "--device", "cpu", "--quiet"]


def pictures_and_settings(script, checkpoints, out, *more):
    """A script's two pictures as numbers, and what it says it used."""
    module, parts = SCRIPTS[script]
    module.main([*arguments(checkpoints, parts, out), *more])
    pictures = [np.asarray(Image.open(out / f"{name}.png")).astype(int) for name in NAMES[script]]
    return pictures, json.loads((out / "settings.json").read_text())


def written_out(script, checkpoints, seed, steps, aggregated, weights, ip_scale=0.8):
    """A alone and A(+B) with the paper's settings, over pipelines made here, with DDIM."""
    scene = json.loads(sampling.HERE.joinpath("scene.json").read_text())
    ((interaction,), instances) = (scene["interactions"], scene["instances"])
    caption = {"prompt": scene["caption"], "negative_prompt": scene["negative"]}
    said = {
        "interactdiffusion_subject_phrases": [interaction["subject"]],
        "interactdiffusion_object_phrases": [interaction["object"]],
        "interactdiffusion_action_phrases": [interaction["action"]],
        "interactdiffusion_subject_boxes": [interaction["subject_box"]],
        "interactdiffusion_object_boxes": [interaction["object_box"]],
        "interactdiffusion_scheduled_sampling_beta": 1.0,
    }
    calls = [(paper.interact()[0], {**caption, **said})]
    if "migc" in script:
        prompt = [[scene["caption"], *(instance["phrase"] for instance in instances)]]
        boxes = [[instance["box"] for instance in instances]]
        told = {**caption, "prompt": prompt, "bboxes": boxes, "MIGCsteps": steps // 2}
        calls.append((paper.migc(strength=1.0)[0], told))
    if "ip" in script:
        pipe, _ = tiny.sd(tiny.ddim())
        encoder = CLIPVisionModelWithProjection.from_pretrained(checkpoints / "image_encoder")
        processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
        pipe.register_modules(image_encoder=encoder, feature_extractor=processor)
        tiny.with_ip_adapter(pipe, ip_scale)
        calls.append((pipe, {**caption, "ip_adapter_image": Image.open(checkpoints / "style.png")}))
    prepared = [
        from_pipeline(pipe, **told, num_inference_steps=steps, guidance_scale=7.5) for pipe, told in calls
    ]
    models, sigmas = [one.model for one in prepared], prepared[0].sigmas
    starts = start_noise([seed], (4, 8, 8), sigmas[0], len(models))
    together = sample_amdm(
        models, starts, sigmas, weights=weights, correction=0.3, window=aggregated, disable=True
    )
    alone = sample_ddim(models[0], starts[0], sigmas, disable=True)
    return [np.asarray(prepared[0].decode(x).images[0]).astype(int) for x in (alone, together)]


def assert_drawn(drawn, expected):
    """The same pictures but for rounding: without the correction one number of eight is another, by 1."""
    for one, other in zip(drawn, expected, strict=True):
        assert one.shape == other.shape == (64, 64, 3)
        assert np.abs(one - other).max() <= 1 and (one != other).mean() < 0.01


PAPERS = {
    "interact_migc": {"steps": 50, "aggregated": 20, "weights": [0.5]},
    "interact_ip": {"steps": 10, "aggregated": 5, "weights": [0.5]},
    "interact_migc_ip": {"steps": 10, "aggregated": 5, "weights": [0.5, 0.65]},
}


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_draws_what_the_paper_says(script, checkpoints, tmp_path, capsys):
    drawn, settings = pictures_and_settings(script, checkpoints, tmp_path, "--seed", "3")
    said = capsys.readouterr()
    assert_drawn(drawn, written_out(script, checkpoints, 3, **PAPERS[script]))
    assert np.abs(drawn[0] - drawn[1]).max() > 10
    rows = list(csv.DictReader((tmp_path / "steps.csv").open()))
    joined = [row for row in rows if row["angle"]]
    number = len(settings["models"]) - 1
    assert len(joined) == settings["aggregated"] * number == len(settings["weights"]) * settings["aggregated"]
    assert {row["image"] for row in joined} == {NAMES[script][1]}
    assert 1.2 < float(joined[0]["angle"]) < 1.9, "independent starts are nearly orthogonal"
    assert f"{number + 1} models: " in said.out
    assert "(computed from the tensors on cpu, not measured)" in said.out
    assert "InteractDiffusion: pipeline Apache-2.0 by its header" in said.err
    assert ("MIGC: code and weights for non-commercial" in said.err) == ("migc" in script)


@pytest.mark.slow
def test_what_was_used_is_recorded(checkpoints, tmp_path):
    used = {"--seed": 4, "--ip-scale": 0.3, "--dtype": "float32"}
    given = [str(word) for pair in used.items() for word in pair]
    drawn, settings = pictures_and_settings("interact_ip", checkpoints, tmp_path, *given)
    assert_drawn(drawn, written_out("interact_ip", checkpoints, 4, **PAPERS["interact_ip"], ip_scale=0.3))
    assert {option: settings[option[2:].replace("-", "_")] for option in used} == used
    assert settings["sd15"] == str(checkpoints / "sd") and settings["guidance"] == 7.5


@pytest.mark.slow
@pytest.mark.parametrize("script", ["interact_migc", "interact_migc_ip"])
def test_migc_runs_beside_models_in_half_precision(script, checkpoints, tmp_path):
    module, parts = SCRIPTS[script]
    module.main([*arguments(checkpoints, parts, tmp_path), "--dtype", "bfloat16"])
    alone, together = sorted(tmp_path.glob("*.png"), key=lambda path: len(path.name))
    assert Image.open(alone).tobytes() != Image.open(together).tobytes()


def test_migc_is_loaded_in_float32(checkpoints):
    paths = {"migc_checkout": paper.STANDINS, "migc_weights": checkpoints / "MIGC_SD14.ckpt"}
    given = argparse.Namespace(**paths, sd14=checkpoints / "sd")
    pipe = systems.load_migc(given, torch_dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in pipe.unet.parameters()} == {torch.float32}
    pipe(**{**paper.INSTANCES, "num_inference_steps": 1, "output_type": "latent"})


def test_the_settings_are_the_papers():
    found = [(m.SETTINGS.steps, m.SETTINGS.aggregated, m.SETTINGS.weights) for m, _ in SCRIPTS.values()]
    assert found == [(50, 20, (0.5,)), (10, 5, (0.5,)), (10, 5, (0.5, 0.65))]
    assert {m.SETTINGS.correction for m, _ in SCRIPTS.values()} == {0.3}
    assert [m.SETTINGS.ip_scale for m, _ in SCRIPTS.values()] == [None, 0.8, 0.8]


def refused(given, monkeypatch, script="interact_migc_ip"):
    """What a script says of its arguments, having loaded nothing."""
    monkeypatch.setattr(systems, "announce", lambda *names: pytest.fail("something was loaded"))
    with pytest.raises(SystemExit) as stopped:
        SCRIPTS[script][0].main(given)
    return str(stopped.value).splitlines()


def test_all_paths_are_checked_before_anything_is_loaded(checkpoints, tmp_path, monkeypatch):
    given = arguments(checkpoints, ["interactdiffusion", "migc", "sd14"], tmp_path)
    given[given.index("--migc-weights") + 1] = "nowhere.ckpt"
    given[given.index("--sd14") + 1] = str(tmp_path)
    assert refused(given, monkeypatch, "interact_migc") == [
        "--migc-weights is nowhere.ckpt, expected a file",
        f"--sd14 is {tmp_path}, expected a folder with model_index.json",
    ]


def written(name, content):
    def make(at, checkpoints):
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(content)
        return at / name

    return make


def saved(name, content):
    def make(at, checkpoints):
        (save_file if name.endswith("safetensors") else torch.save)(content, at / name)
        return at / name

    return make


def cut(name, length=None, content=None):
    """A file of the checkpoints, shortened or replaced; or a folder without it."""

    def make(at, checkpoints):
        folder, _, inside = name.partition("/")
        shutil.copytree(checkpoints / folder, at / folder)
        file = at / folder / inside
        if file.is_dir():
            shutil.rmtree(file)
        elif length is None and content is None:
            file.unlink()
        else:
            file.write_bytes(file.read_bytes()[:length] if content is None else content)
        return at / folder

    return make


UNET = "diffusion_pytorch_model.safetensors"
ONE = torch.ones(1)
WRONG = [
    ("--interactdiffusion", cut("interactdiffusion/pipeline.py"), "a folder with pipeline.py"),
    ("--interactdiffusion", cut("interactdiffusion/vae/config.json"), "a folder with vae/config.json"),
    ("--sd14", cut(f"sd/unet/{UNET}"), f"a folder with unet/{UNET} or unet/diffusion_pytorch_model.bin"),
    (
        "--sd14",
        cut("sd/text_encoder/model.safetensors", 999),
        "safetensors in text_encoder/model.safetensors: ",
    ),
    ("--sd14", cut("sd/unet/config.json", 9), "JSON in unet/config.json: "),
    (
        "--sd14",
        cut("sd/model_index.json", content=b"[]"),
        "model_index.json to be a dictionary, found a list",
    ),
    (
        "--sd14",
        cut("sd/model_index.json", content=b"{}"),
        "unet, vae, text_encoder, tokenizer, scheduler in its model_index.json",
    ),
    ("--sd15", cut("sd/vae"), "a folder with vae, as its model_index.json says"),
    ("--sd15", cut("sd/scheduler/scheduler_config.json"), "a folder with scheduler/scheduler_config.json"),
    (
        "--sd15",
        cut("sd/tokenizer/tokenizer.json"),
        "a folder with tokenizer/tokenizer.json or tokenizer/vocab.json",
    ),
    (
        "--image-encoder",
        cut("image_encoder/model.safetensors"),
        "a folder with model.safetensors or pytorch_model.bin",
    ),
    ("--image-encoder", cut("image_encoder/model.safetensors", 5), "safetensors in model.safetensors: "),
    (
        "--image-encoder",
        cut("image_encoder/model.safetensors", content=save({"a": ONE})),
        "visual_projection.weight in model.safetensors, found a",
    ),
    ("--image", written("style.png", b"no image"), "an image that PIL can read"),
    ("--image", lambda at, checkpoints: at, "a file"),
    (
        "--migc-checkout",
        lambda at, checkpoints: at,
        "a folder with migc/migc_pipeline.py, migc/migc_utils.py",
    ),
    (
        "--migc-weights",
        written("x.ckpt", b"text"),
        "a checkpoint of tensors alone, found no such file format",
    ),
    ("--migc-weights", saved("x.ckpt", [1]), "it to be a dictionary, found a list"),
    ("--migc-weights", saved("x.ckpt", {"migc.a": ONE}), "state_dict in it, found migc.a"),
    ("--migc-weights", saved("x.ckpt", {"state_dict": {"a": ONE}}), "tensors of migc alone in it, found a"),
    ("--ip-adapter", written("x.safetensors", b"text"), "safetensors in it: "),
    ("--ip-adapter", saved("x.safetensors", {"a.b": ONE}), "image_proj and ip_adapter in it, found a"),
    ("--ip-adapter", saved("x.safetensors", {"image_proj.b": ONE}), "ip_adapter in it, found image_proj"),
    ("--ip-adapter", saved("x.bin", {"image_proj": {"b": ONE}}), "ip_adapter in it, found image_proj"),
    (
        "--ip-adapter",
        saved("x.bin", {"image_proj": {}, "ip_adapter": {}}),
        "image_proj and ip_adapter in it, found image_proj, ip_adapter",
    ),
    ("--device", lambda at, checkpoints: "abacus", "a device that is here: "),
    ("--out", written("out", b""), "a folder that can be written to, and "),
]


@pytest.mark.parametrize(("option", "make", "expected"), WRONG)
def test_what_is_wrong_is_one_line(option, make, expected, checkpoints, tmp_path, monkeypatch):
    given = arguments(checkpoints, ["interactdiffusion", "migc", "sd14", "ip"], tmp_path)
    made = make(tmp_path, checkpoints)
    given[given.index(option) + 1] = str(made)
    (line,) = refused(given, monkeypatch)
    assert line.startswith(f"{option} is {made}, expected {expected}")


SCENE = json.loads(sampling.HERE.joinpath("scene.json").read_text())
INTERACTION, INSTANCE = SCENE["interactions"][0], SCENE["instances"][0]
BOX = "to be x0 < x1 and y0 < y1 in [0, 1] as [x0, y0, x1, y1], found "
SCENES = [
    ("{", "JSON in it: "),
    ([SCENE], "it to be a dictionary, found a list"),
    ({"caption": "a cat"}, "interactions, instances in it, found caption"),
    ({**SCENE, "caption": ["a cat"]}, "caption to be a string, found ['a cat']"),
    ({**SCENE, "interactions": []}, "one or more interactions, found none"),
    ({**SCENE, "interactions": {}}, "interactions to be a list, found {}"),
    ({**SCENE, "interactions": ["a cat"]}, "interactions[0] to be a dictionary, found a str"),
    (
        {**SCENE, "interactions": [INTERACTION, {"subject": "cat"}]},
        "action, object, subject_box, object_box in interactions[1], found subject",
    ),
    (
        {**SCENE, "interactions": [{**INTERACTION, "action": 1}]},
        "interactions[0].action to be a string, found 1",
    ),
    (
        {**SCENE, "interactions": [{**INTERACTION, "object_box": [0.1, 0.2]}]},
        f"interactions[0].object_box {BOX}",
    ),
    ({**SCENE, "instances": [{**INSTANCE, "box": [0.1, 0.2]}]}, f"instances[0].box {BOX}[0.1, 0.2]"),
    ({**SCENE, "instances": [{**INSTANCE, "box": [0.5, 0.2, 0.4, 0.9]}]}, f"instances[0].box {BOX}"),
    ({**SCENE, "instances": [{**INSTANCE, "box": [0, 0, 512, 512]}]}, f"instances[0].box {BOX}"),
    ({**SCENE, "instances": [{**INSTANCE, "box": ["0", "0", "1", "1"]}]}, f"instances[0].box {BOX}"),
]


@pytest.mark.parametrize(("scene", "expected"), SCENES)
def test_what_is_wrong_with_a_scene_is_one_line(scene, expected, checkpoints, tmp_path, monkeypatch):
    path = tmp_path / "scene.json"
    path.write_text(scene if isinstance(scene, str) else json.dumps(scene))
    given = arguments(checkpoints, ["interactdiffusion", "ip"], tmp_path)
    (line,) = refused([*given, "--scene", str(path)], monkeypatch, "interact_ip")
    assert line.startswith(f"--scene is {path}, expected {expected}")


def test_a_checkout_that_does_not_run_is_one_line(checkpoints, tmp_path, monkeypatch):
    for name in ("migc_pipeline", "migc_utils"):
        written(f"migc/{name}.py", b"import nothing_of_that_name")(tmp_path, checkpoints)
    given = arguments(checkpoints, ["interactdiffusion", "migc", "sd14"], tmp_path)
    given[given.index("--migc-checkout") + 1] = str(tmp_path)
    with patch.dict(sys.modules):
        for name in [name for name in sys.modules if name.split(".")[0] == "migc"]:
            del sys.modules[name]
        (line,) = refused(given, monkeypatch, "interact_migc")
    assert line.endswith(
        "expected code that runs here: ModuleNotFoundError, No module named 'nothing_of_that_name'"
    )


def test_an_image_encoder_without_all_its_weights_is_refused(checkpoints, tmp_path):
    shutil.copytree(checkpoints / "image_encoder", tmp_path / "image_encoder")
    save_file({"other": torch.ones(1)}, tmp_path / "image_encoder" / "model.safetensors", {"format": "pt"})
    paths = {"ip_adapter": checkpoints / "ip-adapter_sd15.bin", "image_encoder": tmp_path / "image_encoder"}
    with pytest.raises(SystemExit, match=r"^--image-encoder is [^\n]*, expected vision_model\.[^\n]* in it$"):
        systems.load_ip_adapter(argparse.Namespace(**paths))


def test_both_formats_of_an_ip_adapter_are_read_alike(checkpoints):
    flat, grouped = (
        files.read_ip_adapter(checkpoints / f"ip-adapter_sd15.{suffix}") for suffix in ("safetensors", "bin")
    )
    assert flat.keys() == grouped.keys() == {"image_proj", "ip_adapter"}
    for name, group in flat.items():
        assert group.keys() == grouped[name].keys()
        assert all(torch.equal(tensor, grouped[name][key]) for key, tensor in group.items())


class Dangerous:
    def __reduce__(self):
        return os.mkdir, ("touched",)


def test_no_pickle_is_executed(checkpoints, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Dangerous()}, tmp_path / "evil.ckpt")
    given = arguments(checkpoints, ["interactdiffusion", "migc", "sd14"], tmp_path)
    given[given.index("--migc-weights") + 1] = "evil.ckpt"
    (line,) = refused(given, monkeypatch, "interact_migc")
    assert line == "--migc-weights is evil.ckpt, expected a checkpoint of tensors alone, found posix.mkdir"
    assert not Path("touched").exists()


@pytest.mark.parametrize(
    ("function", "peak"),
    [
        (lambda x: x.view(-1), 0),  # what was there
        (lambda x: x + 1, 1),
        (lambda x: (x + 1) * 2, 2),  # a sum and the product made of it
        (lambda x: ((x + 1) * 2).exp(), 2),  # by then the sum is gone
        (lambda x: (x + 1).mul_(2).view(-1), 1),
        (lambda x: torch.cat([x + 1, x + 2]), 4),
        (nn.Linear(100, 300, bias=False), 3),
        (nn.Sequential(nn.Linear(100, 300, bias=False), nn.Linear(300, 50, bias=False)), 3.5),
    ],
)
def test_a_peak_is_what_lives_at_once_and_came_with_the_call(function, peak):
    x = torch.ones(10, 100)
    assert memory.peak_of(function, x) == peak * 10 * 100 * 4


def test_an_attention_matrix_counts_where_it_is_made():
    attention = Attention(8, heads=2, dim_head=4).eval()
    tokens, numbers = torch.randn(1, 512, 8), 512 * 8
    attention.set_processor(AttnProcessor())
    matrix = 2 * 512**2
    written_out = memory.peak_of(attention, tokens) / 4
    # The scores and their softmax, beside a few tensors of the tokens' size.
    assert 2 * matrix <= written_out <= 3 * matrix + 8 * numbers
    attention.set_processor(AttnProcessor2_0())
    assert memory.peak_of(attention, tokens) / 4 <= 8 * numbers < matrix / 10
    scores = lambda q: torch.softmax(q @ q.transpose(-1, -2), -1) @ q
    assert memory.peak_of(scores, tokens) / 4 == 2 * 512**2  # the scores, and then their softmax


def test_memory_counts_shared_networks_once():
    pipe, kwargs = tiny.sd_lora(tiny.ddim(), num_inference_steps=4)
    prepared = [from_pipeline(pipe, **kwargs) for _ in range(3)]
    one, three = memory.memory_of([pipe], prepared[:1]), memory.memory_of([pipe] * 3, prepared)
    parts = [pipe.unet, pipe.vae, pipe.text_encoder]
    expected = sum(4 * p.numel() for part in parts for p in part.parameters())
    assert one == three and expected <= one.parameters <= 1.01 * expected
    # At least the first layer's input and output, two rows of 8 channels at 8 x 8; less than a hundred of it.
    assert 2 * 2 * 8 * 8 * 8 * 4 <= one.activations < 100 * 2 * 2 * 8 * 8 * 8 * 4


def test_memory_counts_the_decoder():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=4, output_type="pt")
    found = memory.memory_of([pipe], [from_pipeline(pipe, **kwargs)])
    layer = 8 * 64 * 64 * 4  # of the decoder's last block: 8 channels at the picture's size
    assert 2 * layer <= found.decoding <= 8 * layer
    assert " to decode (computed from the tensors on cpu, not measured)" in str(found)
