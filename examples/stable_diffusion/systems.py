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
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ecosystem.imports import import_beside_torchvision
from examples.stable_diffusion import files

LICENCES = {
    "Stable Diffusion": "weights CreativeML OpenRAIL-M",
    "InteractDiffusion": "pipeline Apache-2.0 by its header; its repository has no licence file",
    "MIGC": "code and weights for non-commercial research only, not to be copied or passed on",
    "IP-Adapter": "code and weights Apache-2.0",
}


class System(NamedTuple):
    """One of them: the paths it needs, how it is loaded, and what its pipeline is told of a scene."""

    paths: Mapping[str, tuple[Callable[[Path], Any], str, str]]
    """By argument: what raises `Expected` unless it is usable; FILE or FOLDER, and which, for the help."""
    load: Callable[..., Any]
    """`load(arguments, **options) -> pipeline`, with the options of `from_pretrained`."""
    told: Callable[[Mapping[str, Any], argparse.Namespace, int], dict[str, Any]]
    """`told(scene, arguments, steps)`: the arguments of the pipeline's call."""


def check_arguments(arguments: argparse.Namespace, names: Sequence[str]) -> None:
    """Raise `Unusable` unless all that these systems need is where the arguments say. Nothing is loaded."""
    checks: dict[str, Callable[[Any], Any]] = {"scene": files.read_scene}
    for name in names:
        checks |= {option: check for option, (check, _, _) in SYSTEMS[name].paths.items()}
    checks |= {"device": files.check_device, "out": files.check_out}
    problems = []
    for option, check in checks.items():
        value = getattr(arguments, option)
        try:
            check(value)
        except files.Expected as expected:
            problems.append(f"--{option.replace('_', '-')} is {value}, expected {expected}")
    if problems:
        raise files.Unusable(problems)


def announce(*systems: str) -> None:
    """Say under which licences what is loaded stands."""
    for system in systems:
        print(f"{system}: {LICENCES[system]}", file=sys.stderr)


def load_interact_diffusion(arguments: argparse.Namespace, **options: Any) -> Any:
    """InteractDiffusion through its own pipeline, which comes with the weights: `trust_remote_code`."""
    announce("Stable Diffusion", "InteractDiffusion")
    diffusers, _ = _libraries()
    folder = arguments.interactdiffusion
    pipe = diffusers.DiffusionPipeline.from_pretrained(
        folder, custom_pipeline=str(folder), trust_remote_code=True, **UNCHECKED, **options
    )
    return _with_ddim(pipe)


def load_migc(arguments: argparse.Namespace, **options: Any) -> Any:
    """MIGC through the user's checkout of its repository, on Stable Diffusion 1.4.

    In float32 whatever the options say: its processors make boxes and masks in float32, which their
    networks refuse in any other type.
    """
    announce("Stable Diffusion", "MIGC")
    state = files.read_migc(arguments.migc_weights)
    pipeline, utils = migc_modules(arguments.migc_checkout)
    options = {**UNCHECKED, **options, "torch_dtype": torch.float32}
    pipe = pipeline.StableDiffusionMIGCPipeline.from_pretrained(arguments.sd14, **options)
    pipe.attention_store = pipeline.AttentionStore()
    utils.load_migc(pipe.unet, pipe.attention_store, state, attn_processor=pipeline.MIGCProcessor)
    return _with_ddim(pipe)


def load_ip_adapter(arguments: argparse.Namespace, **options: Any) -> Any:
    """IP-Adapter through diffusers, on Stable Diffusion 1.5."""
    announce("Stable Diffusion", "IP-Adapter")
    state = files.read_ip_adapter(arguments.ip_adapter)
    diffusers, transformers = _libraries()
    encoder, found = transformers.CLIPVisionModelWithProjection.from_pretrained(
        arguments.image_encoder, local_files_only=True, output_loading_info=True, **options
    )
    if found["missing_keys"]:
        missing = ", ".join(sorted(found["missing_keys"])[:3])
        raise files.Unusable([f"--image-encoder is {arguments.image_encoder}, expected {missing} in it"])
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(
        arguments.sd15, image_encoder=encoder, **UNCHECKED, **options
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
    told = {"prompt": scene["caption"], "negative_prompt": scene.get("negative", "")}
    return {**told, "ip_adapter_image": files.read_picture(arguments.image)}


def _with_ddim(pipe: Any) -> Any:
    """The paper's sampler; Stable Diffusion's latents are not clipped, whatever its own scheduler says."""
    diffusers, _ = _libraries()
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    return pipe


def _libraries() -> tuple[Any, Any]:
    """Diffusers and transformers, with the names that code older than theirs imports from them."""
    diffusers = import_beside_torchvision("diffusers")
    transformers = importlib.import_module("transformers")
    if not hasattr(transformers, "CLIPFeatureExtractor"):
        transformers.CLIPFeatureExtractor = transformers.CLIPImageProcessor  # type: ignore[attr-defined]
    for name, value in {"DIFFUSERS_CACHE": None, "HF_HUB_OFFLINE": True}.items():
        if not hasattr(diffusers.utils, name):
            setattr(diffusers.utils, name, value)
    return diffusers, transformers


def migc_modules(checkout: Path) -> list[Any]:
    """Two modules of MIGC's repository, which is not installed."""
    names = ["migc_pipeline", "migc_utils"]
    files.check_folder(checkout, [(f"migc/{name}.py",) for name in names])
    _libraries()
    sys.path.insert(0, str(checkout))
    try:
        return [importlib.import_module(f"migc.{name}") for name in names]
    except Exception as error:  # it is not our code: what it needs may be missing, or have changed
        raise files.Expected(f"code that runs here: {type(error).__name__}, {error}") from error
    finally:
        sys.path.remove(str(checkout))


# Nothing is fetched; no checker: the example's pictures are looked at.
UNCHECKED = {"safety_checker": None, "feature_extractor": None, "local_files_only": True}
SYSTEMS = {
    "InteractDiffusion": System(
        {
            "interactdiffusion": (
                files.check_pipeline_with_code,
                "FOLDER",
                "interactdiffusion/diffusers-v1-2, or the paper's v1.0 in that format",
            )
        },
        load_interact_diffusion,
        interactions,
    ),
    "MIGC": System(
        {
            "migc_checkout": (migc_modules, "FOLDER", "a checkout of github.com/limuloo/MIGC"),
            "migc_weights": (partial(files.read_migc, names_only=True), "FILE", "MIGC_SD14.ckpt"),
            "sd14": (files.check_pipeline, "FOLDER", "stable-diffusion-v1-4 in diffusers' format"),
        },
        load_migc,
        instances,
    ),
    "IP-Adapter": System(
        {
            "ip_adapter": (
                partial(files.read_ip_adapter, names_only=True),
                "FILE",
                "ip-adapter_sd15.safetensors or .bin",
            ),
            "image_encoder": (
                files.check_image_encoder,
                "FOLDER",
                "its image encoder, h94/IP-Adapter's models/image_encoder",
            ),
            "sd15": (files.check_pipeline, "FOLDER", "stable-diffusion-v1-5 in diffusers' format"),
            "image": (files.read_picture, "FILE", "an image of the style"),
        },
        load_ip_adapter,
        style,
    ),
}
