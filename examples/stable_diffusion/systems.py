"""The systems that the paper aggregates, each loaded from the user's own files.

- InteractDiffusion: a folder as on the hub, in diffusers' format, with the code of its pipeline and U-Net.
- MIGC: a checkout of its repository, its weights, Stable Diffusion 1.4.
- IP-Adapter: Stable Diffusion 1.5, the adapter's weights and its image encoder, all by diffusers.
- The first and the last also on SDXL.

Nothing of theirs is here: their own code runs, from where the user put it, under LICENCES, and not before all
arguments are checked. Nothing is fetched, and no pickle is executed: weights are safetensors, or read with
`weights_only=True`.
"""

import argparse
import importlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from examples.stable_diffusion import files
from shapes.imports import import_beside_torchvision
from theory_checks.arguments import Expected, check_device, check_out

LICENCES = {
    "Stable Diffusion": "weights CreativeML OpenRAIL-M",
    "SDXL": "weights CreativeML Open RAIL++-M",
    "InteractDiffusion": "pipeline Apache-2.0 by its header, weights BSD by their model card; "
    "its repository has no licence file",
    "InteractDiffusion-XL": "code Apache-2.0; for the weights see their model card",
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
    """Raise `Unusable` unless all that these systems need is where the arguments say.

    Nothing is loaded, and none of the users' code is executed.
    """
    checks: dict[str, Callable[[Any], Any]] = {"scene": files.read_scene}
    for name in names:
        checks |= {option: check for option, (check, _, _) in SYSTEMS[name].paths.items()}
    checks |= {"device": check_device, "out": check_out}
    problems = []
    for option, check in checks.items():
        value = getattr(arguments, option)
        try:
            check(value)
        except Expected as expected:
            problems.append(f"{_given(option)} is {value}, expected {expected}")
    if problems:
        raise files.Unusable(problems)


def announce(*systems: str) -> None:
    """Say under which licences what is loaded stands."""
    for system in systems:
        print(f"{system}: {LICENCES[system]}", file=sys.stderr)


def load_interact_diffusion(arguments: argparse.Namespace, **options: Any) -> Any:
    """InteractDiffusion through its own pipeline, which comes with the weights: `trust_remote_code`."""
    announce("Stable Diffusion", "InteractDiffusion")
    return _with_own_code("interactdiffusion", arguments, {"safety_checker": None}, **options)


def load_interact_diffusion_xl(arguments: argparse.Namespace, **options: Any) -> Any:
    """InteractDiffusion-XL, in the same way."""
    announce("SDXL", "InteractDiffusion-XL")
    return _with_own_code("interactdiffusion_xl", arguments, {}, **options)


def load_migc(arguments: argparse.Namespace, **options: Any) -> Any:
    """MIGC through the user's checkout of its repository, on Stable Diffusion 1.4.

    In float32 whatever the options say: its processors make boxes and masks in float32, which their
    networks refuse in any other type.
    """
    announce("Stable Diffusion", "MIGC")
    pipeline, utils = migc_modules(arguments.migc_checkout)
    options = {**options, "torch_dtype": torch.float32}
    parts = networks("sd14", arguments, **options)
    pipe = pipeline.StableDiffusionMIGCPipeline.from_pretrained(
        arguments.sd14, **parts, **LOCAL, safety_checker=None, feature_extractor=None, **options
    )
    pipe.attention_store = pipeline.AttentionStore()
    weights = str(arguments.migc_weights)  # its code reads the file itself; it was checked
    utils.load_migc(pipe.unet, pipe.attention_store, weights, attn_processor=pipeline.MIGCProcessor)
    return _with_ddim(pipe)


def load_ip_adapter(arguments: argparse.Namespace, **options: Any) -> Any:
    """IP-Adapter through diffusers, on Stable Diffusion 1.5."""
    announce("Stable Diffusion", "IP-Adapter")
    diffusers, _ = _libraries()
    parts = networks("sd15", arguments, **options)
    parts |= {"safety_checker": None, "feature_extractor": None}
    return _with_adapter(diffusers.StableDiffusionPipeline, arguments.sd15, parts, arguments, **options)


def load_ip_adapter_xl(arguments: argparse.Namespace, **options: Any) -> Any:
    """SDXL's IP-Adapter through diffusers."""
    announce("SDXL", "IP-Adapter")
    diffusers, _ = _libraries()
    parts = networks("sdxl", arguments, files.XL_NETWORKS, **options)
    return _with_adapter(diffusers.StableDiffusionXLPipeline, arguments.sdxl, parts, arguments, **options)


def networks(
    option: str,
    arguments: argparse.Namespace,
    parts: Mapping[str, tuple[str, str]] = files.NETWORKS,
    **options: Any,
) -> dict[str, Any]:
    """The networks of a folder whose classes diffusers and transformers have, with all of their tensors.

    Loaded with their pipeline, a tensor that is missing would be a random one.
    """
    folder = getattr(arguments, option)
    index = files.read_index(folder)
    return {
        part: whole(option, arguments, index[part], part, stems, **options)
        for part, stems in parts.items()
        if part != "unet" or not files.own_unet(index)
    }


def whole(
    option: str,
    arguments: argparse.Namespace,
    named: Sequence[str],
    part: str,
    stems: tuple[str, str],
    **options: Any,
) -> Any:
    """A network of the library and class `named`. Raises `Unusable` if its files lack a tensor."""
    folder: Path = getattr(arguments, option)
    library = dict(zip(files.LIBRARIES, _libraries(), strict=True))[named[0]]
    variant = files.find_weights(folder, stems, part).variant
    network, found = getattr(library, named[1]).from_pretrained(
        folder / part, variant=variant, output_loading_info=True, **LOCAL, **options
    )
    _check_whole(option, folder, part, found["missing_keys"])
    return network


def _check_whole(option: str, folder: Path, part: str, missing: Iterable[str]) -> None:
    names = list(missing)
    if names:
        where = f"{part}'s weights" if part else "its weights"
        raise files.Unusable([f"{_given(option)} is {folder}, expected {files.some(names)} in {where}"])


def _with_own_code(
    option: str, arguments: argparse.Namespace, without: Mapping[str, None], **options: Any
) -> Any:
    """A pipeline whose class, and its U-Net's, lie in its folder."""
    folder: Path = getattr(arguments, option)
    kinds = files.XL_NETWORKS if option.endswith("xl") else files.NETWORKS
    parts = networks(option, arguments, kinds, **options)
    diffusers, _ = _libraries()
    variant = files.find_weights(folder, files.DIFFUSERS, "unet").variant
    pipe = diffusers.DiffusionPipeline.from_pretrained(
        folder,
        trust_remote_code=True,
        variant=variant,
        feature_extractor=None,
        **parts,
        **without,
        **LOCAL,
        **options,
    )
    if "unet" not in parts:
        names = files.check_weights(folder, files.DIFFUSERS, "unet")
        _check_whole(option, folder, "unet", pipe.unet.state_dict().keys() - names)
    return _with_ddim(pipe)


def _with_adapter(
    kind: Any, folder: Path, parts: Mapping[str, Any], arguments: argparse.Namespace, **options: Any
) -> Any:
    """A pipeline of diffusers with an IP-Adapter and its image encoder."""
    state = files.read_ip_adapter(arguments.ip_adapter)
    _, transformers = _libraries()
    named = ("transformers", "CLIPVisionModelWithProjection")
    encoder = whole("image_encoder", arguments, named, "", files.TRANSFORMERS, **options)
    size = encoder.config.image_size
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": size}, crop_size=size)
    pipe = kind.from_pretrained(folder, **{**parts, "image_encoder": encoder}, **LOCAL, **options)
    pipe.register_modules(feature_extractor=processor)
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


def _given(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _libraries() -> tuple[Any, Any]:
    """Diffusers and transformers, with the names that code older than theirs imports from them."""
    diffusers = import_beside_torchvision("diffusers")
    importlib.import_module("transformers.processing_utils")  # puts another module in transformers' place
    transformers = importlib.import_module("transformers")
    if not hasattr(transformers, "CLIPFeatureExtractor"):
        transformers.CLIPFeatureExtractor = transformers.CLIPImageProcessor  # type: ignore[attr-defined]
    for name, value in {"DIFFUSERS_CACHE": None, "HF_HUB_OFFLINE": True}.items():
        if not hasattr(diffusers.utils, name):
            setattr(diffusers.utils, name, value)
    return diffusers, transformers


def migc_modules(checkout: Path) -> list[Any]:
    """Two modules of MIGC's repository, which is not installed."""
    _libraries()
    sys.path.insert(0, str(checkout))
    try:
        return [importlib.import_module(f"migc.{name}") for name in ("migc_pipeline", "migc_utils")]
    except Exception as error:  # it is not our code: what it needs may have changed
        problem = f"code that runs here: {type(error).__name__}, {error}"
        raise files.Unusable([f"--migc-checkout is {checkout}, expected {problem}"]) from error
    finally:
        sys.path.remove(str(checkout))


LOCAL = {"local_files_only": True}  # nothing is fetched
ADAPTER: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "ip_adapter": (
        partial(files.read_ip_adapter, names_only=True),
        "FILE",
        "ip-adapter_sd15.safetensors, of SDXL ip-adapter_sdxl.safetensors; or .bin",
    ),
    "image_encoder": (
        files.check_image_encoder,
        "FOLDER",
        "its image encoder, h94/IP-Adapter's models/image_encoder, of SDXL sdxl_models/image_encoder",
    ),
    "image": (files.read_picture, "FILE", "an image of the style"),
}
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
    "InteractDiffusion-XL": System(
        {
            "interactdiffusion_xl": (
                partial(files.check_pipeline_with_code, networks=files.XL_NETWORKS),
                "FOLDER",
                "jiuntian/interactdiffusion-xl-1024",
            )
        },
        load_interact_diffusion_xl,
        interactions,
    ),
    "MIGC": System(
        {
            "migc_checkout": (
                files.check_migc_checkout,
                "FOLDER",
                "a checkout of github.com/limuloo/MIGC",
            ),
            "migc_weights": (files.check_migc_weights, "FILE", "MIGC_SD14.ckpt"),
            "sd14": (files.check_pipeline, "FOLDER", "stable-diffusion-v1-4 in diffusers' format"),
        },
        load_migc,
        instances,
    ),
    "IP-Adapter": System(
        {
            **ADAPTER,
            "sd15": (files.check_pipeline, "FOLDER", "stable-diffusion-v1-5 in diffusers' format"),
        },
        load_ip_adapter,
        style,
    ),
    "IP-Adapter-XL": System(
        {
            **ADAPTER,
            "sdxl": (
                partial(files.check_pipeline, networks=files.XL_NETWORKS),
                "FOLDER",
                "stable-diffusion-xl-base-1.0 in diffusers' format",
            ),
        },
        load_ip_adapter_xl,
        style,
    ),
}
