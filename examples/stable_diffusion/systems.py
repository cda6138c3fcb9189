"""The three systems that the paper aggregates, each loaded from the user's own files.

- InteractDiffusion: a folder in diffusers' format that has its own pipeline.
- MIGC: a checkout of its repository, its weights, Stable Diffusion 1.4.
- IP-Adapter: Stable Diffusion 1.5, the adapter's weights and its image encoder, all by diffusers.

Nothing of theirs is here: their own code runs, from where the user put it, under LICENCES. Nothing is
fetched, and no pickle is executed: weights are safetensors, or read with `weights_only=True`.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

LICENCES = {
    "Stable Diffusion": "weights CreativeML OpenRAIL-M",
    "InteractDiffusion": "pipeline Apache-2.0 by its header; its repository has no licence file",
    "MIGC": "code and weights for non-commercial research only, not to be copied or passed on",
    "IP-Adapter": "code and weights Apache-2.0",
}


class System(NamedTuple):
    """One of them: the paths it needs, how it is loaded, and what its pipeline is told of a scene."""

    paths: Mapping[str, tuple[str, str]]
    """By argument: a file that must be in the folder ("" where the path is a file), and what it is."""
    load: Callable[..., Any]
    """`load(arguments, **options) -> pipeline`, with the options of `from_pretrained`."""
    told: Callable[[Mapping[str, Any], argparse.Namespace, int], dict[str, Any]]
    """`told(scene, arguments, steps)`: the arguments of the pipeline's call."""


class Unusable(SystemExit):
    """One line for each thing that is not as it must be; a script ends with it."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))


def check_paths(arguments: argparse.Namespace, names: Sequence[str]) -> None:
    """Raise `Unusable` unless all that these systems need is where the arguments say."""
    needed, problems = {"scene": ("", "")}, []
    for name in names:
        needed |= SYSTEMS[name].paths
    for option, (inside, _) in needed.items():
        path = getattr(arguments, option)
        if not (path / inside if inside else path).is_file():
            expected = f"a folder with {inside}" if inside else "a file"
            problems.append(f"--{option.replace('_', '-')} is {path}, expected {expected}")
    if problems:
        raise Unusable(problems)


def check_keys(name: str, found: Mapping[str, Any], expected: Sequence[str]) -> None:
    """Raise `Unusable` unless all these keys are there."""
    missing = [key for key in expected if key not in found]
    if missing:
        raise Unusable([f"{name} has no {', '.join(missing)}, expected {', '.join(expected)}"])


def announce(*systems: str) -> None:
    """Say under which licences what is loaded stands."""
    for system in systems:
        print(f"{system}: {LICENCES[system]}", file=sys.stderr)


def load_interact_diffusion(arguments: argparse.Namespace, **options: Any) -> Any:
    """InteractDiffusion through its own pipeline, which comes with the weights: `trust_remote_code`."""
    announce("Stable Diffusion", "InteractDiffusion")
    diffusers, _ = _libraries()
    folder = arguments.interactdiffusion
    return _with_ddim(
        diffusers.DiffusionPipeline.from_pretrained(
            folder, custom_pipeline=str(folder), trust_remote_code=True, local_files_only=True, **options
        )
    )


def load_migc(arguments: argparse.Namespace, **options: Any) -> Any:
    """MIGC through the user's checkout of its repository, on Stable Diffusion 1.4.

    In float32 whatever the options say: its processors make boxes and masks in float32, which their
    networks refuse in any other type.
    """
    announce("Stable Diffusion", "MIGC")
    state = read_weights(arguments.migc_weights)
    check_keys(str(arguments.migc_weights), state, ["state_dict"])
    _libraries()
    pipeline, utils = _modules_of(arguments.migc_checkout, "migc.migc_pipeline", "migc.migc_utils")
    pipe = pipeline.StableDiffusionMIGCPipeline.from_pretrained(
        arguments.sd14, local_files_only=True, **{**options, "torch_dtype": torch.float32}
    )
    pipe.attention_store = pipeline.AttentionStore()
    utils.load_migc(pipe.unet, pipe.attention_store, state, attn_processor=pipeline.MIGCProcessor)
    return _with_ddim(pipe)


def load_ip_adapter(arguments: argparse.Namespace, **options: Any) -> Any:
    """IP-Adapter through diffusers, on Stable Diffusion 1.5."""
    announce("Stable Diffusion", "IP-Adapter")
    state = read_ip_adapter(arguments.ip_adapter)
    check_keys(str(arguments.ip_adapter), state, ["image_proj", "ip_adapter"])
    diffusers, transformers = _libraries()
    encoder = transformers.CLIPVisionModelWithProjection.from_pretrained(
        arguments.image_encoder, local_files_only=True, **options
    )
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(
        arguments.sd15, image_encoder=encoder, local_files_only=True, **options
    )
    size = encoder.config.image_size
    pipe.register_modules(
        feature_extractor=transformers.CLIPImageProcessor(size={"shortest_edge": size}, crop_size=size)
    )
    pipe.load_ip_adapter(state, subfolder="", weight_name="", image_encoder_folder=None)
    pipe.set_ip_adapter_scale(arguments.ip_scale)
    return _with_ddim(pipe)


def interactions(scene: Mapping[str, Any], arguments: argparse.Namespace, steps: int) -> dict[str, Any]:
    """What InteractDiffusion is told: the caption, and who does what with whom, where."""
    told: dict[str, Any] = {"prompt": scene["caption"], "negative_prompt": scene.get("negative", "")}
    for part in ("subject_phrases", "object_phrases", "action_phrases", "subject_boxes", "object_boxes"):
        key = part.removesuffix("es") if part.endswith("boxes") else part.removesuffix("_phrases")
        told[f"interactdiffusion_{part}"] = [interaction[key] for interaction in scene["interactions"]]
    return {**told, "interactdiffusion_scheduled_sampling_beta": 1.0}


def instances(scene: Mapping[str, Any], arguments: argparse.Namespace, steps: int) -> dict[str, Any]:
    """What MIGC is told: the caption, every instance's phrase and box; it works in the first half."""
    phrases = [instance["phrase"] for instance in scene["instances"]]
    boxes = [[float(edge) for edge in instance["box"]] for instance in scene["instances"]]
    return {
        "prompt": [[scene["caption"], *phrases]],
        "bboxes": [boxes],
        "negative_prompt": scene.get("negative", ""),
        "MIGCsteps": steps // 2,
    }


def style(scene: Mapping[str, Any], arguments: argparse.Namespace, steps: int) -> dict[str, Any]:
    """What IP-Adapter is told: the caption and an image."""
    from PIL import Image

    with Image.open(arguments.image) as opened:
        picture = opened.convert("RGB")
    told = {"prompt": scene["caption"], "negative_prompt": scene.get("negative", "")}
    return {**told, "ip_adapter_image": picture}


def read_weights(path: Path) -> Mapping[str, Any]:
    """A checkpoint's tensors; no code in it is run."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return {"state_dict": load_file(path)}
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch says of a file that is no checkpoint, or more than tensors
        why = str(error).splitlines()[0]
        raise Unusable([f"{path} is no checkpoint of tensors alone: {why}"]) from error
    if not isinstance(loaded, Mapping):
        raise Unusable([f"{path} holds {type(loaded).__name__}, expected a dictionary"])
    return loaded


def read_ip_adapter(path: Path) -> dict[str, dict[str, torch.Tensor]]:
    """IP-Adapter's two groups of weights from safetensors, whose names begin with the group's."""
    groups: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in read_weights(path)["state_dict"].items():
        group, _, rest = name.partition(".")
        groups.setdefault(group, {})[rest] = tensor
    return groups


def _with_ddim(pipe: Any) -> Any:
    """The paper's sampler, and no checker: the example's pictures are looked at."""
    diffusers, _ = _libraries()
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.safety_checker = None
    return pipe


def _libraries() -> tuple[Any, Any]:
    """Diffusers and transformers, with the names that code older than theirs imports from them."""
    diffusers, transformers = importlib.import_module("diffusers"), importlib.import_module("transformers")
    if not hasattr(transformers, "CLIPFeatureExtractor"):
        transformers.CLIPFeatureExtractor = transformers.CLIPImageProcessor  # type: ignore[attr-defined]
    for name, value in {"DIFFUSERS_CACHE": None, "HF_HUB_OFFLINE": True}.items():
        if not hasattr(diffusers.utils, name):
            setattr(diffusers.utils, name, value)
    return diffusers, transformers


def _modules_of(checkout: Path, *names: str) -> list[Any]:
    """Modules of a repository that is not installed."""
    sys.path.insert(0, str(checkout))
    try:
        return [importlib.import_module(name) for name in names]
    except ImportError as error:
        raise Unusable([f"{checkout} could not be imported: {error}"]) from error
    finally:
        sys.path.remove(str(checkout))


BASE = "model_index.json"
SYSTEMS = {
    "InteractDiffusion": System(
        {
            "interactdiffusion": (
                BASE,
                "interactdiffusion/diffusers-v1-2, or the paper's v1.0 in that format",
            )
        },
        load_interact_diffusion,
        interactions,
    ),
    "MIGC": System(
        {
            "migc_checkout": ("migc/migc_pipeline.py", "a checkout of github.com/limuloo/MIGC"),
            "migc_weights": ("", "MIGC_SD14.ckpt"),
            "sd14": (BASE, "stable-diffusion-v1-4 in diffusers' format"),
        },
        load_migc,
        instances,
    ),
    "IP-Adapter": System(
        {
            "ip_adapter": ("", "ip-adapter_sd15.safetensors"),
            "image_encoder": ("config.json", "its image encoder, h94/IP-Adapter's models/image_encoder"),
            "sd15": (BASE, "stable-diffusion-v1-5 in diffusers' format"),
            "image": ("", "an image of the style"),
        },
        load_ip_adapter,
        style,
    ),
}
