"""The pictures of a comparison against those made by hand from the same folders."""

import dataclasses

import numpy as np
import pytest
import torch
from adapters import tiny_diffusers as tiny
from diffusers import (
    StableDiffusionControlNetPipeline,
    StableDiffusionGLIGENPipeline,
    StableDiffusionPipeline,
)
from PIL import Image
from safetensors.torch import save_file

from amdm import sample_amdm, sample_ddim, sample_projective_guidance, start_noise
from amdm.diffusers import from_pipeline
from amdm.page.comparing import Apart, Loaded, compare, orders, prepare_all, steps_to, title_of
from amdm.page.configuration import Fields, ModelFields, values_of
from amdm.page.grounding import Instance, scene_of
from amdm.sample import draw, jobs
from amdm.sample.cost import networks_in_memory
from amdm.sample.reading import config_of

# Diffusers' own, of the arguments that its older versions take.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
STEPS, SEED, WINDOW = 4, 5, (0, 2)
PROMPT = "a cat on a mat"
INSTANCES = [Instance("a cat", (0.1, 0.2, 0.6, 0.7)), Instance("a mat", (0.0, 0.5, 1.0, 1.0))]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two pipelines on disk: GLIGEN's, and a plain one with other weights."""
    folder = tmp_path_factory.mktemp("models")
    tiny.sd_gligen(tiny.ddim())[0].save_pretrained(folder / "gligen")
    unet = tiny.seeded(tiny.UNet2DConditionModel, **tiny.SD_UNET, seed=3)
    tiny.sd(tiny.ddim(), unet)[0].save_pretrained(folder / "plain")
    return folder


@pytest.fixture(scope="module")
def loaded():
    return Loaded()


def config(folders, names=("gligen", "plain"), **fields):
    told = Fields(
        models=[ModelFields(folder=str(folders / name)) for name in names],
        prompt=PROMPT, negative="fog", scene=scene_of(PROMPT, "", INSTANCES), steps=STEPS, seed=SEED,
        width=64, height=64, window=WINDOW, **fields,
    )  # fmt: skip
    return config_of(values_of(told) | {"device": "cpu"})


@pytest.fixture(scope="module")
def by_hand(folders):
    """The two denoisers, made with diffusers and `from_pipeline` alone."""
    call = {"prompt": PROMPT, "negative_prompt": "fog", "num_inference_steps": STEPS, "guidance_scale": 7.5}
    boxes = {
        "gligen_phrases": ["a cat", "a mat"],
        "gligen_boxes": [[0.1, 0.2, 0.6, 0.7], [0.0, 0.5, 1.0, 1.0]],
    }
    a = tiny.quiet(StableDiffusionGLIGENPipeline.from_pretrained(folders / "gligen"))
    b = tiny.quiet(StableDiffusionPipeline.from_pretrained(folders / "plain"))
    size = {"height": 64, "width": 64}
    return [from_pipeline(a, **call, **size, **boxes), from_pipeline(b, **call, **size)]


def starts_of(a):
    return start_noise([SEED], a.x.shape[1:], a.sigmas[0], 2)


def drawn(config, loaded):
    """The finished pictures of a comparison, by title; and the updates before them."""
    seen = list(compare(config, prepare_all(config, loaded.of(config))))
    return {each.title: each.pixels for each in seen if each.done}, [each for each in seen if not each.done]


def test_amdm_draws_what_the_library_draws_bit_for_bit(folders, loaded, by_hand):
    pictures, updates = drawn(config(folders), loaded)
    a, b = by_hand
    x, y = starts_of(a)
    options = {"window": WINDOW, "weights": [0.5], "correction": "auto", "disable": True}
    wanted = {
        "A": a.decode(sample_ddim(a.model, x, a.sigmas, disable=True)),
        "B": b.decode(sample_ddim(b.model, y, b.sigmas, disable=True)),
        "A(+B)": a.decode(sample_amdm([a.model, b.model], [x, y], a.sigmas, **options)),
        "B(+A)": b.decode(sample_amdm([b.model, a.model], [y, x], b.sigmas, **options)),
    }
    assert list(pictures) == list(wanted)
    for title, picture in pictures.items():
        assert np.array_equal(picture, np.asarray(wanted[title].images[0])), title
    assert not np.array_equal(pictures["A"], pictures["A(+B)"])
    assert [(each.title, each.steps, each.of) for each in updates] == [
        (title, i, STEPS) for title in wanted for i in range(1, STEPS + 1)
    ]
    joined = [(each.title, each.steps) for each in updates if each.apart]
    assert joined == [(title, i) for title in ("A(+B)", "B(+A)") for i in (1, 2)]
    assert all(each.pixels.shape == (8, 8, 3) for each in updates)


def test_projective_guidance_draws_what_the_library_draws(folders, loaded, by_hand):
    """B leads: A's background is its own network without its boxes. The other way B has no control."""
    told = config(folders, ("plain", "gligen"), method="projective_guidance", weights=(1.0,))
    prepared = prepare_all(told, Loaded().of(told))
    (a, b), found = by_hand, None
    for step in steps_to(told, prepared, (0, 1)):
        found = step.x_next
    x = starts_of(b)[0]
    background = a.without_control()
    options = {"background": background, "window": WINDOW, "weights": [1.0], "disable": True}
    assert torch.equal(found, sample_projective_guidance([b.model, a.model], x, b.sigmas, **options))


def test_the_distances_are_those_of_the_paper(folders, loaded):
    told = config(folders)
    step = next(steps_to(told, prepare_all(told, loaded.of(told)), (0, 1)))
    joined = step.aggregation
    (angle,), (gap,) = Apart.of(step)
    one, other = (x.double() for x in joined.xs)
    cosine = (one * other).sum() / (one.norm() * other.norm())
    assert angle == pytest.approx(torch.arccos(cosine).item(), rel=1e-5)
    assert gap == pytest.approx((one.norm() - other.norm()).abs().item() / joined.scale, rel=1e-4)


def test_the_memory_before_loading_is_that_of_the_loaded_parameters(folders, loaded):
    told = config(folders)
    found = sum(network.bytes for network in networks_in_memory(told))
    parts = [part for pipe in loaded.of(told).values() for part in pipe.components.values()]
    modules = [part for part in parts if isinstance(part, torch.nn.Module)]
    assert found == sum(p.numel() * p.element_size() for each in modules for p in each.parameters())


def test_pipelines_are_kept_until_others_are_asked_for(folders):
    loaded = Loaded()
    first = loaded.of(config(folders))
    assert loaded.of(config(folders, weights=(0.2,))) is first
    assert loaded.of(dataclasses.replace(config(folders), dtype="float64")) is not first


def test_pipelines_that_cannot_be_loaded_are_not_kept(folders, monkeypatch):
    loaded, told = Loaded(), config(folders)
    monkeypatch.setattr("amdm.page.comparing.load_all", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        loaded.of(told)
    monkeypatch.undo()
    assert len(loaded.of(told)) == 2


def test_three_models_have_six_pictures():
    titles = [title_of(order, "ABC") for order in orders(3)]
    assert titles == ["A", "B", "C", "A(+B, C)", "B(+A, C)", "C(+A, B)"]


def test_what_is_sampled_from_the_copied_file_are_the_pages_pictures(folders, loaded, tmp_path):
    told = dataclasses.replace(config(folders), out=tmp_path)
    pictures, _ = drawn(told, loaded)
    draw(told, jobs(told))
    for name, title in {"0_5_A": "A", "0_5_B": "B", "0_5": "A(+B)"}.items():
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"{name}.png")), pictures[title]), title


def test_add_ons_are_those_of_diffusers(folders, loaded, tmp_path):
    """A has a ControlNet, B the same network with a LoRA: their pictures alone are their pipelines' own."""
    plain = tiny.quiet(StableDiffusionPipeline.from_pretrained(folders / "plain"))
    plain.scheduler = tiny.ddim()
    net = tiny.controlnet_of(plain.unet)
    net.save_pretrained(tmp_path / "net")
    picture = Image.fromarray((255 * np.random.default_rng(0).random((64, 64, 3))).astype(np.uint8))
    picture.save(tmp_path / "edges.png")
    state = {}
    for name, module in plain.unet.named_modules():
        if name.endswith("to_q"):
            state[f"unet.{name}.lora_A.weight"] = tiny.randn(1, 2, module.in_features)
            state[f"unet.{name}.lora_B.weight"] = tiny.randn(2, module.out_features, 2)
    save_file(state, tmp_path / "lora.safetensors")
    edged = {"controlnet": str(tmp_path / "net"), "control_image": str(tmp_path / "edges.png")}
    told = Fields(
        models=[
            ModelFields(folder=str(folders / "plain"), **edged, control_scale=0.7),
            ModelFields(folder=str(folders / "plain"), loras=f"{tmp_path / 'lora.safetensors'} 0.5"),
        ],
        prompt=PROMPT, negative="fog", steps=STEPS, seed=SEED, width=64, height=64, window=WINDOW,
    )  # fmt: skip
    told = config_of(values_of(told) | {"device": "cpu"})
    pictures, _ = drawn(told, loaded)
    x, y = start_noise([SEED], (4, 8, 8), 1.0, 2)
    call = {
        "prompt": PROMPT,
        "negative_prompt": "fog",
        "num_inference_steps": STEPS,
        "height": 64,
        "width": 64,
    }
    with_edges = tiny.quiet(StableDiffusionControlNetPipeline.from_pipe(plain, controlnet=net))
    scale = (1 + 1.0**2) ** 0.5  # of a start at level 1: at every level it is unit noise for the pipeline
    a = with_edges(**call, image=picture, controlnet_conditioning_scale=0.7, latents=x / scale).images[0]
    plain.load_lora_weights(dict(state), adapter_name="lora")
    plain.set_adapters(["lora"], [0.5])
    b = plain(**call, latents=y / scale).images[0]
    for title, wanted in {"A": a, "B": b}.items():
        difference = np.abs(pictures[title].astype(int) - np.asarray(wanted).astype(int))
        assert difference.max() <= 1, title  # rounding
    assert np.abs(pictures["A"].astype(int) - pictures["B"]).max() > 8
