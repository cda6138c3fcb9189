"""`amdm sample` on tiny random pipelines: against pipelines joined by hand, and against its own word."""

import io
import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from adapters import tiny_diffusers as tiny
from diffusers import (
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionGLIGENPipeline,
    StableDiffusionPipeline,
)
from peft.utils import get_peft_model_state_dict
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from amdm import (
    dpmpp_2m,
    fkc,
    lerp_fold,
    sample_amdm,
    sample_ddim,
    sample_dpmpp_2m,
    sample_projective_guidance,
    sample_superdiff,
    seeded_noise,
    start_noise,
)
from amdm.denoisers import linear
from amdm.diffusers import from_pipeline
from amdm.sample import Config, Model, Unusable, config_of, cost, draw, jobs, main, read_config, systems
from amdm.sample.methods import MANY, latent_of, options_of
from amdm.samplers.fkc import Particles
from amdm.samplers.step import Step

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
ROOT = Path(__file__).parents[2]
CALL = {"num_inference_steps": 4, "guidance_scale": 7.5, "negative_prompt": "fog", "height": 64, "width": 64}
BOXES = {"gligen_phrases": ["a cat"], "gligen_boxes": [[0.1, 0.3, 0.5, 0.9]]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pipelines and add-ons as they lie on a disk."""
    folder = tmp_path_factory.mktemp("models")
    tiny.sd_gligen(tiny.ddim())[0].save_pretrained(folder / "gligen")
    with_loras = tiny.sd_lora(tiny.ddim())[0]
    for name in ("one", "other"):
        lora = get_peft_model_state_dict(with_loras.unet, adapter_name=name)
        StableDiffusionPipeline.save_lora_weights(
            folder, unet_lora_layers=lora, weight_name=f"{name}.safetensors"
        )
    pipe = tiny.sd(tiny.ddim())[0]
    pipe.save_pretrained(folder / "sd")
    tiny.controlnet_of(pipe.unet).save_pretrained(folder / "edges")
    groups = tiny.ip_weights(pipe.unet)
    flat = {f"{group}.{key}": t.contiguous() for group, part in groups.items() for key, t in part.items()}
    save_file(flat, folder / "ip.safetensors")
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32,
        patch_size=8, projection_dim=12,
    )  # fmt: skip
    tiny.seeded(CLIPVisionModelWithProjection, vision).save_pretrained(folder / "image_encoder")
    Image.new("RGB", (64, 64), (200, 30, 60)).save(folder / "style.png")
    return folder


@pytest.fixture(autouse=True)
def loaded_once(folder, monkeypatch):
    """The pipelines of equal models are loaded once for all tests."""
    load = systems.load_all

    def load_all(config, numbers=None):
        key = repr((config.models, config.scheduler, config.dtype))
        if key not in LOADED:
            LOADED[key] = load(config)
        return {k: LOADED[key][k] for k in numbers or LOADED[key]}

    monkeypatch.setattr(systems, "load_all", load_all)


LOADED = {}


def two(folder, out, **changes):
    """A configuration of GLIGEN and an IP-Adapter, as TOML has it."""
    boxes = {"name": "boxes", "pipeline": "gligen", "call": BOXES}
    style = {"name": "style", "pipeline": "sd", "ip_adapter": "ip.safetensors", "ip_adapter_scale": 0.7}
    style |= {"image_encoder": "image_encoder", "call": {"ip_adapter_image": "style.png"}}
    values = {"prompt": "a cat on a mat", "device": "cpu", "dtype": "float32", "call": CALL, "out": str(out)}
    return {**values, "models": [boxes, style], **changes}


def drawn(folder, out, **changes):
    """The pictures of a configuration by name, as bytes, in order."""
    config = config_of(two(folder, out, **changes), folder)
    paths = draw(config, jobs(config))
    return {path.stem: path.read_bytes() for path in paths}


def png(picture):
    written = io.BytesIO()
    picture.save(written, format="PNG")
    return written.getvalue()


def plain(folder, kind=StableDiffusionPipeline, path="sd", **parts):
    pipe = kind.from_pretrained(folder / path, **parts, **tiny.without_checker())
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    return tiny.quiet(pipe)


def by_hand(folder, **more):
    """GLIGEN and the IP-Adapter, loaded by diffusers and prepared for the calls."""
    call = {**CALL, "prompt": "a cat on a mat", **more}
    gligen = plain(folder, StableDiffusionGLIGENPipeline, "gligen")
    style = plain(folder)
    encoder = CLIPVisionModelWithProjection.from_pretrained(folder / "image_encoder")
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32)
    style.register_modules(image_encoder=encoder, feature_extractor=processor)
    style.load_ip_adapter(str(folder), subfolder="", weight_name="ip.safetensors", image_encoder_folder=None)
    style.set_ip_adapter_scale(0.7)
    picture = Image.open(folder / "style.png")
    return from_pipeline(gligen, **call, **BOXES), from_pipeline(style, **call, ip_adapter_image=picture)


def methods_by_hand(a, b, seed):
    """Latents by hand, by the `sampling` of the configuration that should give them."""
    models, sigmas = [a.model, b.model], a.sigmas
    starts = start_noise([seed], (4, 8, 8), sigmas[0], 2)
    shared, background = starts[0], b.without_control()
    amdm = {"window": 2, "weights": [0.3], "correction": 0.2, "fold": "lerp_fold"}
    yield amdm, sample_amdm(models, starts, sigmas, disable=True, **{**amdm, "fold": lerp_fold})
    yield (
        {"method": "projective_guidance", "guidance": 2.0, "sampler": "dpmpp_2m"},
        sample_projective_guidance(
            models, shared, sigmas, background=background, guidance=2.0, sampler=dpmpp_2m, disable=True
        ),
    )
    yield (
        {"method": "linear", "weights": [0.25, 0.75], "sampler": "dpmpp_2m"},
        sample_dpmpp_2m(linear(models, [0.25, 0.75]), shared, sigmas, disable=True),
    )
    yield (
        {"method": "amdm", "starts": "shared", "eta": 0.5, "window": [1, 3]},
        sample_amdm(
            models, shared, sigmas, eta=0.5, window=(1, 3), disable=True,
            noise_sampler=[seeded_noise([seed], (4, 8, 8), stream=k) for k in range(2)],
        ),
    )  # fmt: skip
    yield (
        {"method": "superdiff", "combine": "and"},
        sample_superdiff(models, shared, sigmas, noise_sampler=seeded_noise([seed], (4, 8, 8)), disable=True),
    )


def test_a_picture_is_what_the_library_gives_by_hand(folder, tmp_path):
    a, b = by_hand(folder)
    for i, (sampling, latent) in enumerate(methods_by_hand(a, b, seed=3)):
        found = drawn(folder, tmp_path / str(i), sampling=sampling, seeds=3)
        assert found == {"0_3": png(a.decode(latent).images[0])}, sampling


def test_of_particles_one_is_drawn_by_its_weight(folder, tmp_path):
    """By pipelines of three pictures, called once a step. With this seed it is not the first particle."""
    shape, seed, three = (4, 8, 8), 1, {"num_images_per_prompt": 3}
    a, b = by_hand(folder, **three)
    noises = [seeded_noise([seed], shape, stream=k) for k in range(3)]
    steps = list(fkc(
        [a.model, b.model], torch.cat(list(start_noise([seed], shape, a.sigmas[0], 3))), a.sigmas,
        exponents=[0.5, 0.5], particles=3, generator=torch.Generator().manual_seed(seed),
        noise_sampler=lambda *levels: torch.cat([noise(*levels) for noise in noises]),
    ))  # fmt: skip
    assert any(step.record.ancestors.tolist() != [0, 1, 2] for step in steps)  # resampled
    chosen = latent_of(steps[-1], seed)
    assert not torch.equal(chosen, steps[-1].x_next[:1])
    sampling = {"method": "fkc", "exponents": [0.5, 0.5], "particles": 3}
    (found,) = drawn(folder, tmp_path, sampling=sampling, seeds=seed).values()
    pixels = np.array(Image.open(io.BytesIO(found))).astype(int)
    assert np.abs(pixels - np.array(a.decode(chosen).images[0])).max() <= 1


def test_a_particle_is_drawn_as_often_as_it_weighs():
    """2,000 seeds: each count within four standard deviations, which one run in 10,000 leaves by chance."""
    weights = torch.tensor([0.1, 0.6, 0.3], dtype=torch.float64)
    nothing = torch.zeros(3)
    record = Particles(weights.log() + 7, nothing, nothing[:1], torch.arange(3))
    x = torch.arange(3.0).reshape(3, 1)
    step = Step(0, 1.0, 0.0, x=x, denoised=x, mean=x, std=0.0, x_next=x, record=record)
    counts = np.bincount([int(latent_of(step, seed)) for seed in range(2000)], minlength=3)
    sd = np.sqrt(2000 * weights * (1 - weights)).numpy()
    assert (np.abs(counts - 2000 * weights.numpy()) < 4 * sd).all()


def test_each_model_draws_alone_from_its_own_start(folder, tmp_path):
    prepared = by_hand(folder)
    starts = start_noise([3], (4, 8, 8), prepared[0].sigmas[0], 2)
    found = drawn(folder, tmp_path, sampling={"window": 2}, seeds=3, alone=True)
    assert list(found) == ["0_3", "0_3_boxes", "0_3_style"]
    for one, start, name in zip(prepared, starts, ["boxes", "style"], strict=True):
        latent = sample_ddim(one.model, start, one.sigmas, disable=True)
        assert found[f"0_3_{name}"] == png(one.decode(latent).images[0])
    assert len(set(found.values())) == 3


LORAS = [
    {"name": "plain", "pipeline": "sd"},
    {"name": "one", "pipeline": "sd", "lora": [{"file": "one.safetensors", "weight": 0.6}]},
    {"name": "both", "pipeline": "sd", "lora": ["one.safetensors", "other.safetensors"]},
    {"name": "edges", "pipeline": "sd", "controlnet": "edges", "call": {"image": "style.png"}},
]


@pytest.mark.slow
def test_models_of_one_folder_share_its_networks(folder, tmp_path):
    """LoRAs and a ControlNet on one U-Net draw what they draw on U-Nets of their own."""
    call = {**CALL, "prompt": "a cat on a mat"}
    picture = Image.open(folder / "style.png")
    edged = plain(
        folder,
        StableDiffusionControlNetPipeline,
        controlnet=ControlNetModel.from_pretrained(folder / "edges"),
    )
    pipes = [plain(folder), plain(folder), plain(folder), edged]
    pipes[1].load_lora_weights(folder, weight_name="one.safetensors", adapter_name="one")
    pipes[1].set_adapters(["one"], [0.6])
    for name in ("one", "other"):
        pipes[2].load_lora_weights(folder, weight_name=f"{name}.safetensors", adapter_name=name)
    pipes[2].set_adapters(["one", "other"], [1.0, 1.0])
    prepared = [from_pipeline(pipe, **call) for pipe in pipes[:3]] + [
        from_pipeline(edged, **call, image=picture)
    ]
    sigmas, models = prepared[0].sigmas, [one.model for one in prepared]
    starts = start_noise([0], (4, 8, 8), sigmas[0], 4)
    latent = sample_amdm(models, starts, sigmas, disable=True)
    found = drawn(folder, tmp_path, models=LORAS, alone=True)
    assert found["0_0"] == png(prepared[0].decode(latent).images[0])
    for one, start, model in zip(prepared, starts, LORAS, strict=True):
        alone = sample_ddim(one.model, start, sigmas, disable=True)
        assert found[f"0_0_{model['name']}"] == png(one.decode(alone).images[0])
    assert len(set(found.values())) == 5
    config = config_of(two(folder, tmp_path, models=LORAS), folder)
    shared = {network.part for network in cost.networks_in_memory(config) if network.model > 0}
    assert shared == {"lora", "controlnet"}


@pytest.mark.parametrize(
    ("sampling", "changes"),
    [
        ({"window": 2}, {}),
        ({"method": "fkc", "particles": 2}, {}),
        ({"sampler": "heun"}, {}),  # its last step ends above 0 with this scheduler
        ({"method": "projective_guidance"}, {"models": [LORAS[0], LORAS[2], LORAS[3]]}),
    ],
)
def test_a_dry_run_counts_what_drawing_takes(folder, tmp_path, sampling, changes, monkeypatch):
    config = config_of(two(folder, tmp_path, sampling=sampling, **changes), folder)
    (job,) = jobs(config)
    load, loaded, calls = systems.load_all, [], []

    def counted(*given):
        pipes = load(*given)
        for unet in {pipe.unet for pipe in pipes.values()}:  # the whole network is also called to be recorded
            unet.conv_in.register_forward_hook(lambda _, given, out: calls.append(len(out)))
        loaded.extend(pipes.values())
        return pipes

    monkeypatch.setattr(systems, "load_all", counted)
    draw(config, [job])
    assert 2 * sum(cost.evaluations_of(config, job)) == sum(calls)  # one image's two halves of guidance
    parts = [
        part for pipe in loaded for part in pipe.components.values() if isinstance(part, torch.nn.Module)
    ]
    tensors = {id(p): p.nbytes for part in parts for p in part.parameters()}
    assert sum(network.bytes for network in cost.networks_in_memory(config)) == sum(tensors.values())


@pytest.fixture
def config(folder, tmp_path):
    """A configuration in a file: two prompts with two seeds."""
    values = two(folder, tmp_path / "out", prompt=["a cat", "a mat"], seeds=[0, 5], sampling={"window": 2})
    return config_of(values, folder)


def unloaded(monkeypatch):
    monkeypatch.setattr(systems, "load_all", lambda *args: pytest.fail("something was loaded"))


def test_what_is_there_is_not_drawn_again(config, monkeypatch):
    planned = jobs(config)
    assert [job.name for job in planned] == ["0_0", "0_5", "1_0", "1_5"]
    mine, others = draw(config, planned[0::2]), draw(config, planned[1::2])  # as two processes would
    assert sorted(mine + others) == [job.path for job in planned]
    before = [path.read_bytes() for path in sorted(mine + others)]
    planned[1].path.unlink()
    planned[2].manifest.unlink()
    assert draw(config, planned) == [planned[1].path, planned[2].path]
    assert [job.path.read_bytes() for job in planned] == before
    unloaded(monkeypatch)
    assert draw(config, planned) == []


def test_a_manifest_that_says_something_else_is_one_line(config, folder, monkeypatch):
    (job, *_) = jobs(config)
    draw(config, [job])
    unloaded(monkeypatch)
    values = two(folder, config.out, prompt=["a cat", "a mat"], seeds=[0, 5], sampling={"window": 3})
    other = config_of(values, folder)
    with pytest.raises(Unusable) as stopped:
        draw(other, jobs(other))
    (line,) = stopped.value.problems
    assert line.startswith(f"{job.manifest} has other sampling than the configuration, expected the same, ")
    job.manifest.write_text("{}")
    with pytest.raises(Unusable, match=f"^{job.manifest} is no manifest of a picture: "):
        draw(config, [job])


@pytest.mark.parametrize("k", [0, 2])  # the joined picture, and that of the second model alone
def test_a_picture_is_drawn_again_from_its_manifest(k, folder, tmp_path, capsys, monkeypatch):
    config = config_of(two(folder, tmp_path, alone=True, seeds=4, sampling={"eta": 0.5}), folder)
    job = jobs(config)[k]
    draw(config, [job])
    before = job.path.read_bytes()
    job.path.unlink()
    monkeypatch.chdir(folder.parent)
    assert main.main([str(job.manifest), "--quiet"]) == 0
    assert job.path.read_bytes() == before
    assert capsys.readouterr().out == f"{job.path}: the same bytes as before\n"
    told = json.loads(job.manifest.read_text())
    assert told["versions"]["torch"] == torch.__version__ and "amdm" in told
    assert len(told["steps"]) == (2 if k == 0 else 0)
    job.manifest.write_text(json.dumps({**told, "sha256": "as on another machine"}))
    kept = job.manifest.read_bytes(), job.path.read_bytes()
    assert main.main([str(job.manifest), "--quiet"]) == 0
    again = job.path.with_suffix(".again.png")
    said = f"{again}: other bytes than {job.path.name} had, which is left as it is\n"
    assert capsys.readouterr().out == said and again.read_bytes() == before
    assert (job.manifest.read_bytes(), job.path.read_bytes()) == kept


def test_what_only_drawing_shows_is_one_line(folder, tmp_path, capsys):
    """The pipelines' latents have other shapes: 8 x 8 and 16 x 8."""
    values = two(folder, tmp_path)
    values["models"][1]["call"] = {**values["models"][1]["call"], "height": 128}
    (folder / "other.toml").write_text(toml(values))
    assert main.main([str(folder / "other.toml"), "--quiet"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("amdm sample: ") and line.endswith(f", in drawing {tmp_path / '0_0.png'}")


def test_prompts_come_from_files(folder, tmp_path):
    lines = [
        {"name": "cat", "prompt": "a cat", "seed": 0, "boxes": {"gligen_phrases": ["a mat"]}},
        {"prompt": "a mat", "negative_prompt": "rain", "call": {"guidance_scale": 3.0}},
        {"name": "dog", "prompt": "a dog", "style": {"ip_adapter_image": "dog.png"}},
    ]
    (folder / "dog.png").write_bytes((folder / "style.png").read_bytes())
    (folder / "many.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    values = two(folder, tmp_path, seeds=[7, 8])
    del values["prompt"]
    planned = jobs(config_of({**values, "prompts": "many.jsonl"}, folder))
    assert [job.path.name for job in planned] == ["cat_0.png", "1_7.png", "1_8.png", "dog_7.png", "dog_8.png"]
    cat, mat, _, dog, _ = ([job.prompt, *job.calls] for job in planned)
    assert cat[1] == {**CALL, **BOXES, "prompt": "a cat", "gligen_phrases": ["a mat"]}
    assert mat[2]["negative_prompt"] == "rain" and mat[1]["guidance_scale"] == mat[2]["guidance_scale"] == 3.0
    assert dog[2]["ip_adapter_image"] == str(folder / "dog.png")
    (folder / "many.txt").write_text("a cat\n\na mat\n")
    planned = jobs(config_of({**values, "prompts": "many.txt"}, folder))
    assert [job.prompt for job in planned[::2]] == ["a cat", "a mat"]


MODEL = {"pipeline": "sd"}
WRONG = [
    ({"prompts": "x.txt"}, "prompt or prompts is needed, expected one of them"),
    ({"prompt": 3}, "prompt is 3, expected a string, or a list of strings"),
    ({"sees": 3}, "sees is not a key, expected one of out, seeds, "),
    ({"seeds": [1, 1]}, "seeds is [1, 1], expected different seeds"),
    ({"seeds": -1}, "seeds is -1, expected a whole number of 0 or more, or a list of them"),
    ({"alone": 1}, "alone is 1, expected true or false"),
    ({"dtype": "int8"}, "dtype is 'int8', expected one of float16, bfloat16, float32"),
    ({"device": "abacus"}, "device is 'abacus', expected a device that is here: "),
    (
        {"scheduler": "Euler"},
        "scheduler is 'Euler', expected a scheduler of diffusers, such as DDIMScheduler, or own",
    ),
    (
        {"call": {**CALL, "num_inference_steps": 0}},
        "call.num_inference_steps is 0, expected a whole number of 1 or ",
    ),
    ({"call": {**CALL, "height": 60}}, "call.height is 60, expected a multiple of 8"),
    ({"call": {**CALL, "guidance_scale": "7"}}, "call.guidance_scale is '7', expected a finite number"),
    ({"call": {**CALL, "latents": 1}}, "call.latents is 1, expected none: seeds say it"),
    ({"call": {**CALL, "eta": 0.5}}, "call.eta is 0.5, expected none: it is the sampler's: "),
    ({"call": {**CALL, "prompt": "a"}}, "call.prompt is 'a', expected none: prompt stands beside it"),
    (
        {"call": {**CALL, "guidance": 3}},
        "call.guidance is no argument of models[0], expected one of prompt, ",
    ),
    ({"models": [MODEL]}, "models has 1 entries, expected two [[models]] or more"),
    ({"models": [MODEL, MODEL]}, "models[1].name is 'sd', expected another than sd, name, "),
    ({"models": [MODEL, {"name": "b"}]}, "models[1].pipeline is missing, expected it"),
    (
        {"models": [MODEL, {"pipeline": "no"}]},
        "models[1].pipeline is FOLDER/no, expected a folder with model_ind",
    ),
    ({"models": [MODEL, 3]}, "models[1] is 3, expected a table"),
    (
        {"models": [MODEL, {**MODEL, "name": "b", "lora": {"scale": 1}}]},
        "models[1].lora is {'scale': 1}, expected a path, {file, weight}, or a list of them; scale is ",
    ),
    (
        {"models": [MODEL, {**MODEL, "name": "b", "lora": "ip.safetensors"}]},
        "models[1].lora is FOLDER/ip.safetensors, expected weights of a LoRA in it, found image_proj.",
    ),
    (
        {"models": [MODEL, {**MODEL, "name": "b", "controlnet": "sd", "call": {"image": "style.png"}}]},
        "models[1].controlnet is FOLDER/sd, expected a folder with config.json",
    ),
    (
        {"models": [MODEL, {**MODEL, "name": "b", "controlnet": "edges"}]},
        "models[1].call.image is missing, expected an image",
    ),
    (
        {"models": [MODEL, {**MODEL, "name": "b", "class_name": "Pipeline"}]},
        "models[1].class_name is Pipeline, expected a pipeline of diffusers",
    ),
    (
        {"models": [MODEL, {**MODEL, "name": "b", "system": "Interact"}]},
        "models[1].system is 'Interact', expected one of InteractDiffusion, ",
    ),
    (
        {"models": [MODEL, {**MODEL, "name": "b", "call": {"gligen_boxes": [[0.5, 0.5, 0.4, 1]]}}]},
        "models[1].call.gligen_boxes[0] is [0.5, 0.5, 0.4, 1], expected [x0, y0, x1, y1] with x0 < x1 and ",
    ),
    (
        {"models": [MODEL, {**MODEL, "name": "b", "call": {"num_inference_steps": 9}}]},
        "models[1].call.num_inference_steps is 9, expected none: call.num_inference_steps is that of all",
    ),
    ({"sampling": {"method": "mean"}}, "sampling.method is 'mean', expected one of linear, amdm, fkc, "),
    ({"sampling": {"method": "fkc"}}, "sampling.particles is missing, expected the number of latents "),
    (
        {"sampling": {"method": "fkc", "particles": 1.5}},
        "sampling.particles is 1.5, expected a whole number of 1 or more",
    ),
    ({"sampling": {"sampler": "euler"}}, "sampling.sampler is 'euler', expected one of ddim, heun, "),
    ({"sampling": {"fold": "mean"}}, "sampling.fold is 'mean', expected one of slerp_fold, lerp_fold, "),
    (
        {"sampling": {"guidance": 2}},
        "sampling.guidance is not a key, expected one of method, sampler, starts, ",
    ),
    ({"sampling": {"window": 5}}, "sampling.window is [0, 5), expected 0 <= start <= stop <= 4, the steps"),
    ({"sampling": {"window": 0.1}}, "sampling.window is 0.1, which rounds to none of 4 step(s): nothing is "),
    (
        {"sampling": {"window": [3, 2]}},
        "sampling.window is [3, 2), expected 0 <= start <= stop <= 4, the steps",
    ),
    (
        {"sampling": {"weights": [0.5, 0.5]}},
        "sampling.weights has 2 entries but there are 2 models: expected 1",
    ),
    ({"sampling": {"weights": [1.5]}}, "sampling.weights[0] is 1.5, expected "),
    (
        {"sampling": {"correction": -1}},
        "sampling.correction[0] is -1.0, expected a finite length of 0 or more",
    ),
    ({"sampling": {"eta": -1}}, "sampling.eta is -1.0, expected a finite number of 0 or more"),
    ({"sampling": {"method": "linear", "weights": [0.5]}}, "sampling.weights has "),
    (
        {"sampling": {"method": "projective_guidance"}, "models": [MODEL, {**MODEL, "name": "b"}]},
        "models[1] has no control, expected a LoRA, a ControlNet, an adapter, GLIGEN's boxes or a system: ",
    ),
    (
        {
            "sampling": {"method": "projective_guidance", "guidance": 2},
            "call": {**CALL, "guidance_scale": 1.0},
        },
        "sampling.guidance is not 1, expected call.guidance_scale above 1, which it needs",
    ),
]


@pytest.mark.parametrize(("changes", "expected"), WRONG)
def test_what_is_wrong_is_said_in_one_line(folder, tmp_path, changes, expected, monkeypatch):
    unloaded(monkeypatch)
    with pytest.raises(Unusable) as stopped:
        config_of(two(folder, tmp_path, **changes), folder, files=False)
        config_of(two(folder, tmp_path, **changes), folder)  # what the file alone does not show
    (line,) = stopped.value.problems
    assert line.startswith(expected.replace("FOLDER", str(folder)))


def test_all_that_is_wrong_is_said_at_once(folder, tmp_path, monkeypatch):
    unloaded(monkeypatch)
    values = two(
        folder, tmp_path, seeds="a", call={**CALL, "height": 1}, sampling={"window": 9, "weights": [2]}
    )
    values["models"][1] |= {"ip_adapter": "no", "image_encoder": "no", "scale": 1}
    with pytest.raises(Unusable) as stopped:
        config_of(values, folder)
    places = [line.split(" is ")[0] for line in stopped.value.problems]
    assert places == [
        "models[1].scale", "seeds", "call.height", "sampling.window", "sampling.weights[0]",
        "models[1].ip_adapter", "models[1].image_encoder",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("none.toml", None, "none.toml is not there, expected a TOML file"),
        ("a.toml", "out = ", "a.toml is not TOML: "),
        ("none.json", None, "none.json is not there, expected a picture's manifest"),
        ("a.json", "[]", "a.json is no manifest of a picture: "),
    ],
)
def test_a_file_that_is_none_is_one_line(name, content, expected, tmp_path, capsys):
    if content is not None:
        (tmp_path / name).write_text(content)
    assert main.main([str(tmp_path / name)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{tmp_path}/{expected}")


def test_the_help_shows_every_key_of_a_file_that_is_right(capsys):
    with pytest.raises(SystemExit):
        main.main(["--help"])
    told = capsys.readouterr().out
    example = ROOT / "amdm" / "sample" / "example.toml"
    assert told.endswith(example.read_text())
    config = read_config(example, files=False)
    assert config.title == "boxes(+style)" and len(jobs(config)) == 12
    keys = {each.name for made in (Config, Model) for each in fields(made)} | {"prompt", "prompts"}
    assert all(f"{key} = " in told or f"[{key}]" in told or f"[[{key}]]" in told for key in keys)
    assert all(method in told for method in MANY)
    assert all(option in told for method in ("amdm", "projective_guidance") for option in options_of(method))


def toml(values):
    """The lines of a file; JSON's strings, numbers and lists are TOML's."""
    tables = {name: value for name, value in values.items() if isinstance(value, dict)}
    lines = [
        f"{name} = {json.dumps(value)}" for name, value in values.items() if name not in [*tables, "models"]
    ]
    for name, table in tables.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    for model in values["models"]:
        lines += ["[[models]]", *(f"{k} = {json.dumps(v)}" for k, v in model.items() if k != "call")]
        lines += ["[models.call]", *(f"{k} = {json.dumps(v)}" for k, v in model.get("call", {}).items())]
    return "\n".join(lines)


@pytest.mark.slow
def test_a_user_starts_it_from_anywhere(folder, tmp_path, capsys):
    values = {**two(folder, tmp_path / "out", sampling={"window": 2}), "alone": True}
    (folder / "cat.toml").write_text(toml({**values, "alone": json.loads("true")}))
    assert main.main([str(folder / "cat.toml"), "--dry-run"]) == 0
    dry = capsys.readouterr().out
    assert "a picture of boxes(+style): 6 evaluations (4 of boxes, 2 of style)\n" in dry
    assert "3 pictures, 0 there already: 14 evaluations in all\n" in dry and not (tmp_path / "out").exists()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    code = "import sys; from amdm.command_line.main import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "sample", str(folder / "cat.toml"), "--quiet"]
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert ran.returncode == 0 and ran.stderr == "", ran.stderr
    lines = ran.stdout.splitlines()
    assert (
        lines[0].startswith("2 models: ")
        and lines[1] == f"3 pictures drawn, 0 were there: {tmp_path / 'out'}"
    )
    expected = drawn(folder, tmp_path / "again", sampling={"window": 2}, alone=True)
    assert {path.stem: path.read_bytes() for path in (tmp_path / "out").glob("*.png")} == expected
