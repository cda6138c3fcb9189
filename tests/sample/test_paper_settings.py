"""The paper's settings as configurations, on tiny checkpoints with the real ones' layout."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from adapters import test_paper_systems as paper
from adapters import tiny_diffusers as tiny
from diffusers import (
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from diffusers.utils import dynamic_modules_utils
from PIL import Image
from safetensors.torch import load_file, save, save_file
from torch import nn
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from amdm import sample_amdm, sample_ddim, start_noise
from amdm.diffusers import from_pipeline
from amdm.sample import Model, Unusable, config_of, files, memory, systems
from amdm.sample.systems import Place

# The real repositories' code warns of its own: an assertion of a tuple is a SyntaxWarning.
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::UserWarning", "ignore::SyntaxWarning"
)
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "stable_diffusion"
NAMES = {
    "interact_migc": ["InteractDiffusion", "MIGC"],
    "interact_ip": ["InteractDiffusion", "IP-Adapter"],
    "interact_migc_ip": ["InteractDiffusion", "MIGC", "IP-Adapter"],
    "interact_ip_xl": ["InteractDiffusion-XL", "IP-Adapter-XL"],
}
XL_CODE = paper.UPSTREAM / "igligen-xl"  # its pipeline imports a package of this repository
# The files with code in the folders on the hub, and where they come from.
CODE = {
    "interactdiffusion": (paper.UPSTREAM / paper.HUB, "unet", "pipeline_stable_diffusion_interactdiffusion"),
    "interactdiffusion_xl": (XL_CODE / "interactdiffusion_xl", "", "pipeline_interactdiffusion_sdxl"),
}


def based(xl=False):
    """The model that the adapters are trained for."""
    if xl:
        unet = tiny.seeded(UNet2DConditionModel, **tiny.WIDE_SDXL_UNET)
        return tiny.quiet(StableDiffusionXLPipeline(**paper.xl_parts(), unet=unet, add_watermarker=False))
    unet = tiny.seeded(UNet2DConditionModel, **tiny.SD1_UNET)
    return tiny.quiet(StableDiffusionPipeline(**paper.parts(unet, tiny.ddim())))


def as_on_the_hub(pipe, folder):
    """Save a pipeline with its code: the class named by its file, the U-Net's code beside its weights."""
    source, inside, module = CODE[folder.name]
    pipe.save_pretrained(folder)
    index, unet = folder / "model_index.json", "interactdiffusion_unet_2d_condition"
    read = json.loads(index.read_text())
    named = {"_class_name": [module, type(pipe).__name__], "unet": [unet, type(pipe.unet).__name__]}
    index.write_text(json.dumps({**read, **named}))
    shutil.copy(source / f"{module}.py", folder)
    shutil.copy(source / inside / f"{unet}.py", folder / "unet")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Everything that the systems need on disk."""
    folder = tmp_path_factory.mktemp("checkpoints")
    base = based()
    schedule = {key: value for key, value in tiny.SD_SCHEDULE.items() if key != "clip_sample"}
    base.scheduler = PNDMScheduler(**schedule, skip_prk_steps=True)  # the published one's
    base.save_pretrained(folder / "sd")
    index = folder / "sd" / "model_index.json"
    checker = {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"]}  # named, not needed
    index.write_text(json.dumps({**json.loads(index.read_text()), **checker}))
    based(xl=True).save_pretrained(folder / "sdxl")
    as_on_the_hub(paper.interact()[0], folder / "interactdiffusion")
    as_on_the_hub(paper.interact_xl()[0], folder / "interactdiffusion_xl")
    torch.save(paper.migc_state(), folder / "MIGC_SD14.ckpt")
    for name, pipe in {"ip-adapter_sd15": base, "ip-adapter_sdxl": based(xl=True)}.items():
        groups = tiny.ip_weights(pipe.unet)
        flat = {f"{group}.{key}": t.contiguous() for group, part in groups.items() for key, t in part.items()}
        save_file(flat, folder / f"{name}.safetensors")
        torch.save(groups, folder / f"{name}.bin")
    vision = CLIPVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32,
        patch_size=8, projection_dim=12,
    )  # fmt: skip
    tiny.seeded(CLIPVisionModelWithProjection, vision).save_pretrained(folder / "image_encoder")
    Image.new("RGB", (48, 40), (200, 30, 60)).save(folder / "style.png")
    return folder


@pytest.fixture(scope="module")
def code_cache(tmp_path_factory):
    """Where diffusers copies the code of a folder to."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "path", [*sys.path])
        patched.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))
        yield


# The paths in the files, as they are on the hub, and here.
PATHS = {
    "models/interactdiffusion-xl": "interactdiffusion_xl",
    "models/interactdiffusion": "interactdiffusion",
    "models/stable-diffusion-v1-4": "sd",
    "models/stable-diffusion-v1-5": "sd",
    "models/stable-diffusion-xl-base-1.0": "sdxl",
    "models/MIGC_SD14.ckpt": "MIGC_SD14.ckpt",
    "models/MIGC": paper.UPSTREAM / "MIGC",
    "models/ip-adapter_sd15.safetensors": "ip-adapter_sd15.safetensors",
    "models/ip-adapter_sdxl.safetensors": "ip-adapter_sdxl.safetensors",
    "models/image_encoder": "image_encoder",
    "style.png": "style.png",
    "scene.jsonl": EXAMPLES / "scene.jsonl",
}


def written_for(name, checkpoints, out):
    """A file of the examples as a user fills it in."""
    text = (EXAMPLES / f"{name}.toml").read_text()
    for path, here in PATHS.items():
        text = text.replace(f'"{path}"', json.dumps(str(checkpoints / here)))
    text = text.replace(f"../../out/stable_diffusion/{name}", str(out))
    return 'device = "cpu"\n' + text.replace("trust_remote_code = false", "trust_remote_code = true")


def settings(name, checkpoints, out):
    return tomllib.loads(written_for(name, checkpoints, out))


def program(*given, cache):
    """Python in a process of its own, as users start it: nothing was imported before."""
    path = os.pathsep.join(filter(None, [str(ROOT), str(XL_CODE), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": path, "HF_MODULES_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, *map(str, given)], cwd=cache.parent, env=env, capture_output=True, text=True
    )


def drawn_by_a_user(name, checkpoints, folder, change=lambda text: text):
    """A's picture and the joined one as numbers, the manifest of the latter, and what was printed."""
    (folder / "settings.toml").write_text(change(written_for(name, checkpoints, folder / "out")))
    code = "import sys; from amdm.command_line.main import main; sys.exit(main())"
    ran = program("-c", code, "sample", folder / "settings.toml", "--quiet", cache=folder / "modules")
    assert ran.returncode == 0, ran.stderr
    (joined,) = [path for path in (folder / "out").glob("*.png") if path.stem.count("_") == 1]
    alone = joined.with_name(f"{joined.stem}_{NAMES[name][0]}.png")
    pictures = [np.asarray(Image.open(path)).astype(int) for path in (alone, joined)]
    return pictures, json.loads(joined.with_suffix(".json").read_text()), ran


def written_out(script, checkpoints, seed, steps, aggregated, weights, ip_scale=0.8):
    """A alone and A(+B) with the paper's settings, over pipelines made here, with DDIM."""
    scene = json.loads((EXAMPLES / "scene.jsonl").read_text())
    ((interaction,), instances) = (scene["interactions"], scene["instances"])
    caption = {"prompt": scene["prompt"], "negative_prompt": scene["negative_prompt"]}
    said = {
        "interactdiffusion_subject_phrases": [interaction["subject"]],
        "interactdiffusion_object_phrases": [interaction["object"]],
        "interactdiffusion_action_phrases": [interaction["action"]],
        "interactdiffusion_subject_boxes": [interaction["subject_box"]],
        "interactdiffusion_object_boxes": [interaction["object_box"]],
        "interactdiffusion_scheduled_sampling_beta": 1.0,
    }
    xl = script.endswith("xl")
    calls = [((paper.interact_xl if xl else paper.interact)()[0], {**caption, **said})]
    if "migc" in script:
        prompt = [[scene["prompt"], *(instance["phrase"] for instance in instances)]]
        boxes = [[instance["box"] for instance in instances]]
        told = {**caption, "prompt": prompt, "bboxes": boxes, "MIGCsteps": steps // 2}
        calls.append((paper.migc()[0], told))
    if "ip" in script:
        pipe = based(xl)
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
    "interact_ip_xl": {"steps": 10, "aggregated": 5, "weights": [0.5]},
}


@pytest.mark.slow
@pytest.mark.parametrize("script", NAMES)
def test_a_file_draws_what_the_paper_says(script, checkpoints, tmp_path):
    drawn, manifest, said = drawn_by_a_user(
        script, checkpoints, tmp_path, lambda text: text.replace("seeds = 0", "seeds = 3")
    )
    assert_drawn(drawn, written_out(script, checkpoints, 3, **PAPERS[script]))
    assert np.abs(drawn[0] - drawn[1]).max() > 10
    number = len(NAMES[script])
    joined, met = manifest["config"]["sampling"], manifest["steps"]
    assert (
        len(met) == joined["window"] * (number - 1) == len(joined["weights"]) * PAPERS[script]["aggregated"]
    )
    assert [row["partner"] for row in met[: number - 1]] == NAMES[script][1:]
    assert 1.2 < met[0]["angle"] < 1.9, "independent starts are nearly orthogonal"
    assert f"{number} models: " in said.stdout
    assert "(computed from the tensors on cpu, not measured)" in said.stdout
    assert (
        "InteractDiffusion"
        + ("-XL: code Apache-2.0; " if script.endswith("xl") else ": pipeline Apache-2.0 by its header, ")
    ) in said.stderr
    assert ("MIGC: code and weights for non-commercial" in said.stderr) == ("migc" in script)


@pytest.mark.slow
def test_names_of_older_libraries_stay(tmp_path):
    """transformers puts another module in its place when processing_utils is first imported."""
    code = (
        "from amdm.sample import systems; systems.libraries(); "
        "import transformers.processing_utils; from transformers import CLIPFeatureExtractor; "
        "from diffusers.utils import DIFFUSERS_CACHE"
    )
    ran = program("-c", code, cache=tmp_path / "modules")
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
def test_what_was_used_is_recorded(checkpoints, tmp_path):
    def change(text):
        return text.replace("seeds = 0", "seeds = 4").replace("scale = 0.8", "scale = 0.3")

    drawn, manifest, _ = drawn_by_a_user("interact_ip", checkpoints, tmp_path, change)
    assert_drawn(drawn, written_out("interact_ip", checkpoints, 4, **PAPERS["interact_ip"], ip_scale=0.3))
    assert manifest["picture"]["seed"] == 4 and manifest["picture"]["dtype"] == "float32"
    style = manifest["config"]["models"][1]
    assert style["ip_adapter_scale"] == 0.3 and style["pipeline"] == str(checkpoints / "sd")
    assert {call["guidance_scale"] for call in manifest["picture"]["calls"]} == {7.5}


@pytest.mark.slow
def test_a_systems_picture_is_drawn_again_from_its_manifest(checkpoints, tmp_path):
    """The manifest has what the scene's file said."""
    (_, before), _, _ = drawn_by_a_user("interact_ip", checkpoints, tmp_path)
    (joined,) = [path for path in (tmp_path / "out").glob("*.json") if path.stem.count("_") == 1]
    joined.with_suffix(".png").unlink()
    code = "import sys; from amdm.command_line.main import main; sys.exit(main())"
    ran = program("-c", code, "sample", joined, "--quiet", cache=tmp_path / "modules")
    assert ran.stdout == f"{joined.with_suffix('.png')}: the same bytes as before\n", ran.stderr
    assert (np.asarray(Image.open(joined.with_suffix(".png"))) == before).all()


@pytest.mark.slow
@pytest.mark.parametrize("script", ["interact_migc", "interact_migc_ip"])
def test_migc_runs_beside_models_in_half_precision(script, checkpoints, tmp_path):
    drawn, _, _ = drawn_by_a_user(script, checkpoints, tmp_path, lambda text: f'dtype = "bfloat16"\n{text}')
    assert (drawn[0] != drawn[1]).any()


@pytest.mark.slow
def test_migc_is_loaded_in_float32(checkpoints):
    paths = {"migc_checkout": paper.UPSTREAM / "MIGC", "migc_weights": checkpoints / "MIGC_SD14.ckpt"}
    model = Model(system="MIGC", pipeline=checkpoints / "sd", **paths)
    pipe = systems.load(Place("models[0]", model), torch.bfloat16)
    assert {parameter.dtype for parameter in pipe.unet.parameters()} == {torch.float32}
    pipe(**{**paper.INSTANCES, "num_inference_steps": 1, "output_type": "latent"})


def test_the_settings_are_the_papers():
    read = {name: tomllib.loads((EXAMPLES / f"{name}.toml").read_text()) for name in NAMES}
    assert sorted(read) == sorted(path.stem for path in EXAMPLES.glob("*.toml"))
    for name, papers in PAPERS.items():
        sampling = read[name]["sampling"]
        found = read[name]["call"]["num_inference_steps"], sampling["window"], sampling["weights"]
        assert found == (papers["steps"], papers["aggregated"], papers["weights"])
        assert sampling["method"] == "amdm" and sampling["correction"] == 0.3
        models = read[name]["models"]
        assert [model["system"] for model in models] == NAMES[name]
        scales = [model["ip_adapter_scale"] for model in models if "IP" in model["system"]]
        assert scales == [0.8] * ("ip" in name)


def test_code_runs_only_where_the_user_says_yes(checkpoints, tmp_path, monkeypatch):
    """The files of the examples do not say it for him."""
    for path in EXAMPLES.glob("*.toml"):
        said = [model.get("trust_remote_code", False) for model in tomllib.loads(path.read_text())["models"]]
        assert not any(said)
    given = settings("interact_ip", checkpoints, tmp_path)
    given["models"][0]["trust_remote_code"] = False
    (line,) = refused(given, monkeypatch)
    assert line.startswith("models[0].trust_remote_code is False, expected true: ")


def refused(given, monkeypatch):
    """What is said of a configuration, having loaded nothing."""
    monkeypatch.setattr(systems, "load", lambda *args: pytest.fail("something was loaded"))
    with pytest.raises(Unusable) as stopped:
        config_of(given)
    return stopped.value.problems


def changed(given, where, value):
    """A configuration with another value in a place."""
    *path, last = where.replace("[", ".").replace("]", "").split(".")
    place = given
    for key in path:
        place = place[int(key) if key.isdecimal() else key]
    place[last] = str(value)
    return given


def test_all_paths_are_checked_before_anything_is_loaded(checkpoints, tmp_path, monkeypatch):
    given = settings("interact_migc", checkpoints, tmp_path)
    changed(given, "models[1].migc_weights", tmp_path / "nowhere.ckpt")
    changed(given, "models[1].pipeline", tmp_path)
    assert refused(given, monkeypatch) == [
        f"models[1].pipeline is {tmp_path}, expected a folder with model_index.json",
        f"models[1].migc_weights is {tmp_path / 'nowhere.ckpt'}, expected a file",
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


class Dangerous:
    def __reduce__(self):
        return os.mkdir, ("touched",)


def pickled(name, instead):
    """A folder in which a file of weights is a pickle with code in it."""

    def make(at, checkpoints):
        folder = cut(name)(at, checkpoints)
        torch.save({"weight": Dangerous()}, (at / name).with_name(instead))
        return folder

    return make


def sharded(name, variant=None, missing=False):
    """A folder in which a file of weights is two with an index, as the libraries write them."""

    def make(at, checkpoints):
        folder, file = cut(name)(at, checkpoints), at / name
        tensors = load_file(checkpoints / name)
        stem, names = ".".join(filter(None, [file.stem, variant])), list(tensors)
        parts = {f"{stem}-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
        for part, inside in list(parts.items())[: 1 if missing else 2]:
            save_file({key: tensors[key] for key in inside}, file.with_name(part), {"format": "pt"})
        index = {
            "metadata": {},
            "weight_map": {key: part for part, inside in parts.items() for key in inside},
        }
        end = ".".join(filter(None, ["safetensors.index", variant, "json"]))
        file.with_name(f"{file.stem}.{end}").write_text(json.dumps(index))
        return folder

    return make


UNET = "diffusion_pytorch_model.safetensors"
ONE = torch.ones(1)
WRONG = [
    (
        "models[0].pipeline",
        cut("interactdiffusion/pipeline_stable_diffusion_interactdiffusion.py"),
        "a folder with pipeline_stable_diffusion_interactdiffusion.py",
    ),
    (
        "models[0].pipeline",
        cut("interactdiffusion/unet/interactdiffusion_unet_2d_condition.py"),
        "a folder with unet/interactdiffusion_unet_2d_condition.py",
    ),
    (
        "models[0].pipeline",
        cut("interactdiffusion/unet/interactdiffusion_unet_2d_condition.py", content=b"import no_such_thing"),
        "no_such_thing to be installed, which its code imports: pip install no_such_thing",
    ),
    (
        "models[0].pipeline",
        cut("interactdiffusion/unet/interactdiffusion_unet_2d_condition.py", content=b"def"),
        "Python code in unet/interactdiffusion_unet_2d_condition.py: ",
    ),
    (
        "models[0].pipeline",
        lambda at, checkpoints: checkpoints / "sd",
        "its model_index.json to name a file with the pipeline's class, found 'StableDiffusionPipeline'",
    ),
    ("models[0].pipeline", cut("interactdiffusion/vae/config.json"), "a folder with vae/config.json"),
    (
        "models[1].pipeline",
        cut(f"sd/unet/{UNET}"),
        f"a folder with unet/{UNET} or unet/diffusion_pytorch_model.bin",
    ),
    (
        "models[1].pipeline",
        cut("sd/text_encoder/model.safetensors", 999),
        "safetensors in text_encoder/model.safetensors: ",
    ),
    ("models[1].pipeline", cut("sd/unet/config.json", 9), "JSON in unet/config.json: "),
    (
        "models[1].pipeline",
        cut("sd/model_index.json", content=b"[]"),
        "model_index.json to be a dictionary, found a list",
    ),
    (
        "models[1].pipeline",
        cut("sd/model_index.json", content=b"{}"),
        "unet, vae, text_encoder, tokenizer, scheduler in its model_index.json",
    ),
    (
        "models[1].pipeline",
        lambda at, checkpoints: checkpoints / "interactdiffusion",
        "unet of diffusers or transformers in its model_index.json, found ['interactdiffusion_unet_2d_",
    ),
    ("models[2].pipeline", cut("sd/vae"), "a folder with vae, as its model_index.json says"),
    (
        "models[2].pipeline",
        cut("sd/scheduler/scheduler_config.json"),
        "a folder with scheduler/scheduler_config.json",
    ),
    (
        "models[2].pipeline",
        cut("sd/tokenizer/tokenizer.json"),
        "a folder with tokenizer/tokenizer.json or tokenizer/vocab.json",
    ),
    (
        "models[2].image_encoder",
        cut("image_encoder/model.safetensors"),
        "a folder with model.safetensors or pytorch_model.bin",
    ),
    (
        "models[2].image_encoder",
        cut("image_encoder/model.safetensors", 5),
        "safetensors in model.safetensors: ",
    ),
    (
        "models[2].image_encoder",
        cut("image_encoder/model.safetensors", content=save({"a": ONE})),
        "visual_projection.weight in its weights, found a",
    ),
    (
        "models[2].image_encoder",
        pickled("image_encoder/model.safetensors", "pytorch_model.bin"),
        "a checkpoint of tensors alone in pytorch_model.bin, found posix.mkdir",
    ),
    (
        "models[1].pipeline",
        pickled(f"sd/unet/{UNET}", "diffusion_pytorch_model.bin"),
        "a checkpoint of tensors alone in unet/diffusion_pytorch_model.bin, found posix.mkdir",
    ),
    (
        "models[2].pipeline",
        pickled("sd/text_encoder/model.safetensors", "pytorch_model.fp16.bin"),
        "a checkpoint of tensors alone in text_encoder/pytorch_model.fp16.bin, found posix.mkdir",
    ),
    (
        "models[2].pipeline",
        sharded(f"sd/unet/{UNET}", missing=True),
        "a folder with unet/diffusion_pytorch_model-00002-of-00002.safetensors, as unet/",
    ),
    ("models[2].call.ip_adapter_image", written("style.png", b"no image"), "an image that PIL can read"),
    ("models[2].call.ip_adapter_image", lambda at, checkpoints: at, "a file"),
    (
        "models[1].migc_checkout",
        lambda at, checkpoints: at,
        "a folder with migc/migc_pipeline.py, migc/migc_utils.py",
    ),
    (
        "models[1].migc_weights",
        written("x.ckpt", b"text"),
        "a checkpoint of tensors alone, found no such file format",
    ),
    ("models[1].migc_weights", saved("x.ckpt", [1]), "it to be a dictionary, found a list"),
    ("models[1].migc_weights", saved("x.ckpt", {"migc.a": ONE}), "state_dict in it, found migc.a"),
    (
        "models[1].migc_weights",
        saved("x.ckpt", {"state_dict": {"a": ONE}}),
        "tensors of migc alone in it, found a",
    ),
    ("models[2].ip_adapter", written("x.safetensors", b"text"), "safetensors in it: "),
    (
        "models[2].ip_adapter",
        saved("x.safetensors", {"a.b": ONE}),
        "image_proj and ip_adapter in it, found a",
    ),
    (
        "models[2].ip_adapter",
        saved("x.safetensors", {"image_proj.b": ONE}),
        "ip_adapter in it, found image_proj",
    ),
    (
        "models[2].ip_adapter",
        saved("x.bin", {"image_proj": {"b": ONE}}),
        "ip_adapter in it, found image_proj",
    ),
    (
        "models[2].ip_adapter",
        saved("x.bin", {"image_proj": {}, "ip_adapter": {}}),
        "image_proj and ip_adapter in it, found image_proj, ip_adapter",
    ),
    ("device", lambda at, checkpoints: "abacus", "a device that is here: "),
    ("device", lambda at, checkpoints: "meta", "a device that is here: "),
    ("out", written("out", b""), "a folder that can be written to: File exists"),
    ("out", lambda at, checkpoints: Path("/proc/out"), "a folder that can be written to: "),
]


@pytest.mark.parametrize(("where", "make", "expected"), WRONG)
def test_what_is_wrong_is_one_line(where, make, expected, checkpoints, tmp_path, monkeypatch):
    given, made = (
        settings("interact_migc_ip", checkpoints, tmp_path / "pictures"),
        make(tmp_path, checkpoints),
    )
    (line,) = refused(changed(given, where, made), monkeypatch)
    shown = repr(str(made)) if where == "device" else made
    assert line.startswith(f"{where} is {shown}, expected {expected}")


SCENE = json.loads((EXAMPLES / "scene.jsonl").read_text())
INTERACTION, INSTANCE = SCENE["interactions"][0], SCENE["instances"][0]
BOX = ", expected [x0, y0, x1, y1] with x0 < x1 and y0 < y1 in [0, 1]"
MISSING = (
    "prompts[0].interactions is missing, expected one or more for the system InteractDiffusion of models[0]"
)
SCENES = [
    ([SCENE], "prompts[0] is [{'name': 'cat', "),
    ({**SCENE, "prompt": ["a cat"]}, "prompts[0].prompt is ['a cat'], expected a string"),
    ({**SCENE, "interactions": []}, MISSING),
    ({name: SCENE[name] for name in ("prompt", "instances")}, MISSING),
    (
        {name: SCENE[name] for name in SCENE if name != "prompt"},
        "prompts[0].prompt is missing, expected a str",
    ),
    ({**SCENE, "interactions": {"a": 1}}, "prompts[0].interactions is {'a': 1}, expected a list"),
    ({**SCENE, "interactions": ["a cat"]}, "prompts[0].interactions[0] is 'a cat', expected a dictionary"),
    (
        {**SCENE, "interactions": [INTERACTION, {**INTERACTION, "action": 1}]},
        "prompts[0].interactions[1].action is 1, expected a string",
    ),
    (
        {**SCENE, "interactions": [{k: v for k, v in INTERACTION.items() if k != "object_box"}]},
        "prompts[0].interactions[0].object_box is missing, expected it",
    ),
    (
        {**SCENE, "interactions": [{**INTERACTION, "object_box": [0.1, 0.2]}]},
        f"prompts[0].interactions[0].object_box is [0.1, 0.2]{BOX}",
    ),
    (
        {**SCENE, "instances": [{**INSTANCE, "box": [0.5, 0.2, 0.4, 0.9]}]},
        f"prompts[0].instances[0].box is [0.5, 0.2, 0.4, 0.9]{BOX}",
    ),
    (
        {**SCENE, "instances": [{**INSTANCE, "box": [0, 0, 512, 512]}]},
        f"prompts[0].instances[0].box is [0, 0, 512, 512]{BOX}",
    ),
    (
        {**SCENE, "instances": [{**INSTANCE, "box": ["0", "0", "1", "1"]}]},
        f"prompts[0].instances[0].box is ['0', '0', '1', '1']{BOX}",
    ),
    ({**SCENE, "captions": 1}, "prompts[0].captions is not a key, expected one of name, prompt, "),
]


@pytest.mark.parametrize(("scene", "expected"), SCENES)
def test_what_is_wrong_with_a_scene_is_one_line(scene, expected, checkpoints, tmp_path, monkeypatch):
    path = tmp_path / "scene.jsonl"
    path.write_text(json.dumps(scene))
    given = changed(settings("interact_ip", checkpoints, tmp_path), "prompts", path)
    (line,) = refused(given, monkeypatch)
    assert line.startswith(expected)


def checkout(at, code):
    for name in ("migc_pipeline", "migc_utils"):
        written(f"migc/{name}.py", code)(at, None)
    return at


def test_packages_that_a_checkout_needs_are_named(checkpoints, tmp_path, monkeypatch):
    """MIGC's code imports cv2, which the package opencv-python-headless has, and einops in another file."""
    code = b"import torch\nimport cv2\nfrom migc.layers import rest\nif False:\n    import never_needed\n"
    checkout(tmp_path, code)
    written("migc/layers.py", b"from einops import rearrange\nfrom . import other")(tmp_path, None)
    monkeypatch.setattr(files, "find_spec", lambda name: None if name in ("cv2", "einops") else name)
    given = settings("interact_migc", checkpoints, tmp_path / "pictures")
    (line,) = refused(changed(given, "models[1].migc_checkout", tmp_path), monkeypatch)
    assert line == (
        f"models[1].migc_checkout is {tmp_path}, expected cv2, einops to be installed, which its code "
        "imports: pip install opencv-python-headless einops"
    )


def test_no_code_runs_before_all_is_right(checkpoints, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkout(tmp_path, b"open('executed', 'w')")
    given = settings("interact_migc", checkpoints, tmp_path / "pictures")
    changed(given, "models[1].migc_checkout", tmp_path)
    (line,) = refused(changed(given, "models[1].pipeline", tmp_path / "nowhere"), monkeypatch)
    assert (
        line.startswith(f"models[1].pipeline is {tmp_path / 'nowhere'}, ") and not Path("executed").exists()
    )


def place(**keys):
    """A model in the first place."""
    return Place("models[0]", Model(**keys))


def test_a_checkout_that_does_not_run_is_one_line(tmp_path):
    checkout(tmp_path, b"from torch import nothing_of_that_name")
    with patch.dict(sys.modules):
        for name in [name for name in sys.modules if name.split(".")[0] == "migc"]:
            del sys.modules[name]
        expected = r"^models\[0\].migc_checkout is [^\n]*, expected code that runs here: Imp"
        with pytest.raises(Unusable, match=expected):
            systems.migc_modules(place(pipeline=tmp_path, migc_checkout=tmp_path))


LACKING = [
    ("sd", "unet", UNET, "conv_in.bias"),
    ("sd", "vae", UNET, "decoder.conv_out.bias"),
    ("sd", "text_encoder", "model.safetensors", "final_layer_norm.bias"),
    ("interactdiffusion", "text_encoder", "model.safetensors", "final_layer_norm.bias"),
    ("sdxl", "text_encoder_2", "model.safetensors", "text_projection.weight"),
]


def without(checkpoints, at, name, tensor):
    """A folder in which a file of weights lacks a tensor."""
    folder = cut(name, content=b"")(at, checkpoints)
    tensors = load_file(checkpoints / name)
    (key,) = (key for key in tensors if key.endswith(tensor))
    save_file({name: t for name, t in tensors.items() if name != key}, at / name, {"format": "pt"})
    return folder


@pytest.mark.parametrize(("folder", "part", "file", "tensor"), LACKING)
def test_a_missing_tensor_is_not_replaced(folder, part, file, tensor, checkpoints, tmp_path, monkeypatch):
    lacking = without(checkpoints, tmp_path, f"{folder}/{part}/{file}", tensor)
    monkeypatch.setattr(files, "PARTS", {part: files.PARTS[part]})
    with pytest.raises(Unusable) as stopped:
        systems.networks(place(pipeline=lacking))
    (line,) = stopped.value.problems
    assert line.startswith(f"models[0].pipeline is {lacking}, expected ")
    assert line.endswith(f"{tensor} in {part}'s weights") and "\n" not in line


@pytest.mark.slow
def test_a_missing_tensor_of_a_unet_with_its_own_code_is_not_replaced(checkpoints, code_cache, tmp_path):
    lacking = without(checkpoints, tmp_path, f"interactdiffusion/unet/{UNET}", "conv_in.bias")
    with pytest.raises(Unusable) as stopped:
        systems.load_with_code(place(pipeline=lacking, trust_remote_code=True))
    expected = "expected conv_in.bias in unet's weights"
    assert str(stopped.value) == f"models[0].pipeline is {lacking}, {expected}"


def fp16_only(name):
    def make(at, checkpoints):
        folder, file = cut(name)(at, checkpoints), at / name
        shutil.copy(checkpoints / name, file.with_name(f"{file.stem}.fp16{file.suffix}"))
        return folder

    return make


def binary(name, instead):
    def make(at, checkpoints):
        folder = cut(name)(at, checkpoints)
        torch.save(load_file(checkpoints / name), (at / name).with_name(instead))
        return folder

    return make


OTHER_LAYOUTS = [
    ("unet", sharded(f"sd/unet/{UNET}")),
    ("unet", sharded(f"sd/unet/{UNET}", variant="fp16")),
    ("text_encoder", sharded("sd/text_encoder/model.safetensors")),
    ("text_encoder", sharded("sd/text_encoder/model.safetensors", variant="fp16")),
    ("vae", fp16_only(f"sd/vae/{UNET}")),
    ("text_encoder", fp16_only("sd/text_encoder/model.safetensors")),
    ("vae", binary(f"sd/vae/{UNET}", "diffusion_pytorch_model.bin")),
    ("text_encoder", binary("sd/text_encoder/model.safetensors", "pytorch_model.bin")),
    ("text_encoder", binary("sd/text_encoder/model.safetensors", "pytorch_model.fp16.bin")),
]


@pytest.mark.parametrize(("part", "make"), OTHER_LAYOUTS)
def test_other_layouts_of_weights_are_the_same_networks(part, make, checkpoints, tmp_path, monkeypatch):
    folder = make(tmp_path, checkpoints)
    files.check_pipeline(folder)
    monkeypatch.setattr(files, "PARTS", {part: files.PARTS[part]})
    expected, found = (
        systems.networks(place(pipeline=path))[part].state_dict() for path in (checkpoints / "sd", folder)
    )
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


@pytest.mark.slow
def test_a_unet_with_its_own_code_has_other_layouts_too(checkpoints, code_cache, tmp_path):
    expected = load_file(checkpoints / "interactdiffusion" / "unet" / UNET)
    name = f"interactdiffusion/unet/{UNET}"
    for i, make in enumerate([fp16_only(name), sharded(name), sharded(name, "fp16")]):
        (tmp_path / str(i)).mkdir()
        folder = make(tmp_path / str(i), checkpoints)
        files.check_pipeline_with_code(folder)
        pipe = systems.load_with_code(place(pipeline=folder, trust_remote_code=True))
        assert all(torch.equal(t, expected[key]) for key, t in pipe.unet.state_dict().items())


def test_an_image_encoder_without_all_its_weights_is_refused(checkpoints, tmp_path):
    shutil.copytree(checkpoints / "image_encoder", tmp_path / "image_encoder")
    save_file({"other": torch.ones(1)}, tmp_path / "image_encoder" / "model.safetensors", {"format": "pt"})
    encoder = tmp_path / "image_encoder"
    named = ("transformers", "CLIPVisionModelWithProjection")
    expected = r"^models\[0\].image_encoder is [^\n]*, expected [^\n]* more in its weights$"
    with pytest.raises(Unusable, match=expected):
        given = place(pipeline=tmp_path, image_encoder=encoder)
        systems.whole(given, "image_encoder", encoder, named, "", files.TRANSFORMERS)


def test_both_formats_of_an_ip_adapter_are_read_alike(checkpoints):
    flat, grouped = (
        files.read_ip_adapter(checkpoints / f"ip-adapter_sd15.{suffix}") for suffix in ("safetensors", "bin")
    )
    assert flat.keys() == grouped.keys() == {"image_proj", "ip_adapter"}
    for name, group in flat.items():
        assert group.keys() == grouped[name].keys()
        assert all(torch.equal(tensor, grouped[name][key]) for key, tensor in group.items())


def test_no_pickle_is_executed(checkpoints, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Dangerous()}, tmp_path / "evil.ckpt")
    given = settings("interact_migc", checkpoints, tmp_path / "pictures")
    (line,) = refused(changed(given, "models[1].migc_weights", tmp_path / "evil.ckpt"), monkeypatch)
    expected = "expected a checkpoint of tensors alone, found posix.mkdir"
    assert line == f"models[1].migc_weights is {tmp_path / 'evil.ckpt'}, {expected}"
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
