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
from typing import Any, Literal, NamedTuple

import torch

from amdm.command_line.arguments import Expected, check_device, check_out
from amdm.shapes.imports import import_beside_torchvision
from examples.stable_diffusion import files

LICENCES = {
    "Stable Diffusion": "weights CreativeML OpenRAIL-M",
    "SDXL": "weights CreativeML Open RAIL++-M",
    "InteractDiffusion": "pipeline Apache-2.0 by its header, weights BSD by their model card; "
    "its repository has no licence file",
    "InteractDiffusion-XL": "code Apache-2.0; for the weights see their model card",
    "MIGC": "code and weights for non-commercial research only, not to be copied or passed on",
    "IP-Adapter": "code and weights Apache-2.0",
}


class Argument(NamedTuple):
    """A path that the user gives."""

    check: Callable[[Path], Any]
    """Raises `Expected` unless it is usable."""
    kind: Literal["FILE", "FOLDER"]
    help: str


class System(NamedTuple):
    """A system: its licences, the ARGUMENTS it needs, and how to load and call it."""

    licences: Sequence[str]
    arguments: Sequence[str]
    load: Callable[..., Any]
    """`load(arguments, **options) -> pipeline`, with the options of `from_pretrained`."""
    call: Callable[[Mapping[str, Any], argparse.Namespace, int], dict[str, Any]]
    """`call(scene, arguments, steps)`: the arguments of the pipeline's call."""


def check_arguments(arguments: argparse.Namespace, names: Sequence[str]) -> None:
    """Raise `Unusable` unless all that these systems need is where the arguments say.

    Nothing is loaded, and none of the users' code is executed.
    """
    checks: dict[str, Callable[[Any], Any]] = {"scene": files.read_scene}
    checks |= {option: ARGUMENTS[option].check for name in names for option in SYSTEMS[name].arguments}
    checks |= {"device": check_device, "out": check_out}
    problems = []
    for option, check in checks.items():
        try:
            check(getattr(arguments, option))
        except Expected as expected:
            problems.append(problem(option, arguments, str(expected)))
    if problems:
        raise files.Unusable(problems)


def flag(option: str) -> str:
    """Return an argument as it is given: --its-name."""
    return f"--{option.replace('_', '-')}"


def problem(option: str, arguments: argparse.Namespace, expected: str) -> str:
    """Return the line about an argument that is not as expected."""
    return f"{flag(option)} is {getattr(arguments, option)}, expected {expected}"


def load(name: str, arguments: argparse.Namespace, **options: Any) -> Any:
    """Return the pipeline of a system, with the paper's sampler; its licences are announced.

    Stable Diffusion's latents are not clipped, whatever its own scheduler says.
    """
    system = SYSTEMS[name]
    announce(*system.licences)
    pipe = system.load(arguments, **options)
    diffusers, _ = _libraries()
    pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    return pipe


def announce(*systems: str) -> None:
    """Print the licences of what is loaded."""
    for system in systems:
        print(f"{system}: {LICENCES[system]}", file=sys.stderr)


def load_interact_diffusion(
    arguments: argparse.Namespace, option: str = "interactdiffusion", **options: Any
) -> Any:
    """Load InteractDiffusion through its own pipeline, which comes with the weights: `trust_remote_code`."""
    folder: Path = getattr(arguments, option)
    xl = option == "interactdiffusion_xl"
    parts = networks(option, arguments, files.XL_NETWORKS if xl else files.NETWORKS, **options)
    without = {"feature_extractor": None} | ({} if xl else {"safety_checker": None})
    diffusers, _ = _libraries()
    variant = files.find_weights(folder, files.DIFFUSERS, "unet").variant
    options |= {"trust_remote_code": True, "variant": variant}
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, **parts, **without, **LOCAL, **options)
    if "unet" not in parts:
        names = files.check_weights(folder, files.DIFFUSERS, "unet")
        _check_whole(option, arguments, "unet", pipe.unet.state_dict().keys() - names)
    return pipe


def load_migc(arguments: argparse.Namespace, **options: Any) -> Any:
    """Load MIGC through the user's checkout of its repository, on Stable Diffusion 1.4.

    It is in float32 whatever the options are: its processors make boxes and masks in float32, and their
    networks do not accept mixed types.
    """
    pipeline, utils = migc_modules(arguments)
    options |= {"torch_dtype": torch.float32}
    parts = networks("sd14", arguments, **options)
    pipe = pipeline.StableDiffusionMIGCPipeline.from_pretrained(
        arguments.sd14, **parts, **LOCAL, safety_checker=None, feature_extractor=None, **options
    )
    pipe.attention_store = pipeline.AttentionStore()
    weights = str(arguments.migc_weights)  # its code reads the file itself; it was checked
    utils.load_migc(pipe.unet, pipe.attention_store, weights, attn_processor=pipeline.MIGCProcessor)
    return pipe


def load_ip_adapter(arguments: argparse.Namespace, option: str = "sd15", **options: Any) -> Any:
    """Load IP-Adapter and its image encoder through diffusers, on Stable Diffusion 1.5 or SDXL."""
    diffusers, transformers = _libraries()
    xl = option == "sdxl"
    kind = diffusers.StableDiffusionXLPipeline if xl else diffusers.StableDiffusionPipeline
    without = {} if xl else {"safety_checker": None, "feature_extractor": None}
    parts = networks(option, arguments, files.XL_NETWORKS if xl else files.NETWORKS, **options)
    state = files.read_ip_adapter(arguments.ip_adapter)
    named = ("transformers", "CLIPVisionModelWithProjection")
    encoder = whole("image_encoder", arguments, named, "", files.TRANSFORMERS, **options)
    size = encoder.config.image_size
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": size}, crop_size=size)
    pipe = kind.from_pretrained(
        getattr(arguments, option), image_encoder=encoder, **parts, **without, **LOCAL, **options
    )
    pipe.register_modules(feature_extractor=processor)
    pipe.load_ip_adapter(state, subfolder="", weight_name="", image_encoder_folder=None)
    pipe.set_ip_adapter_scale(arguments.ip_scale)
    return pipe


def networks(
    option: str,
    arguments: argparse.Namespace,
    parts: Mapping[str, tuple[str, str]] = files.NETWORKS,
    **options: Any,
) -> dict[str, Any]:
    """Return the networks in a folder whose classes diffusers and transformers have, with all their tensors.

    If they were loaded with their pipeline, a missing tensor would be random.
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
    """Return a network of the library and class `named`. Raises `Unusable` if its files lack a tensor."""
    folder: Path = getattr(arguments, option)
    library = dict(zip(files.LIBRARIES, _libraries(), strict=True))[named[0]]
    variant = files.find_weights(folder, stems, part).variant
    network, found = getattr(library, named[1]).from_pretrained(
        folder / part, variant=variant, output_loading_info=True, **LOCAL, **options
    )
    _check_whole(option, arguments, part, found["missing_keys"])
    return network


def _check_whole(option: str, arguments: argparse.Namespace, part: str, missing: Iterable[str]) -> None:
    names = list(missing)
    if names:
        where = f"{part}'s weights" if part else "its weights"
        raise files.Unusable([problem(option, arguments, f"{files.some(names)} in {where}")])


def interactions(scene: Mapping[str, Any], arguments: argparse.Namespace, steps: int) -> dict[str, Any]:
    """Return InteractDiffusion's arguments: the caption, and who does what with whom, where."""
    call = caption(scene)
    for part in ("subject_phrases", "object_phrases", "action_phrases", "subject_boxes", "object_boxes"):
        key = part.removesuffix("es") if part.endswith("boxes") else part.removesuffix("_phrases")
        call[f"interactdiffusion_{part}"] = [interaction[key] for interaction in scene["interactions"]]
    return {**call, "interactdiffusion_scheduled_sampling_beta": 1.0}


def instances(scene: Mapping[str, Any], arguments: argparse.Namespace, steps: int) -> dict[str, Any]:
    """Return MIGC's arguments: the caption, each instance's phrase and box. MIGC acts in the first half."""
    phrases = [instance["phrase"] for instance in scene["instances"]]
    boxes = [[float(edge) for edge in instance["box"]] for instance in scene["instances"]]
    prompt = [[scene["caption"], *phrases]]
    return {**caption(scene), "prompt": prompt, "bboxes": [boxes], "MIGCsteps": steps // 2}


def style(scene: Mapping[str, Any], arguments: argparse.Namespace, steps: int) -> dict[str, Any]:
    """Return IP-Adapter's arguments: the caption and an image."""
    return {**caption(scene), "ip_adapter_image": files.read_picture(arguments.image)}


def caption(scene: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that all pipelines take."""
    return {"prompt": scene["caption"], "negative_prompt": scene.get("negative", "")}


def _libraries() -> tuple[Any, Any]:
    """Return diffusers and transformers, with the names that code for their older versions imports."""
    diffusers = import_beside_torchvision("diffusers")
    importlib.import_module("transformers.processing_utils")  # puts another module in transformers' place
    transformers = importlib.import_module("transformers")
    if not hasattr(transformers, "CLIPFeatureExtractor"):
        transformers.CLIPFeatureExtractor = transformers.CLIPImageProcessor  # type: ignore[attr-defined]
    for name, value in {"DIFFUSERS_CACHE": None, "HF_HUB_OFFLINE": True}.items():
        if not hasattr(diffusers.utils, name):
            setattr(diffusers.utils, name, value)
    return diffusers, transformers


def migc_modules(arguments: argparse.Namespace) -> list[Any]:
    """Return two modules of MIGC's repository, which is not installed."""
    _libraries()
    checkout = str(arguments.migc_checkout)
    sys.path.insert(0, checkout)
    try:
        return [importlib.import_module(f"migc.{name}") for name in ("migc_pipeline", "migc_utils")]
    except Exception as error:  # it is not our code: what it needs may have changed
        expected = f"code that runs here: {type(error).__name__}, {error}"
        raise files.Unusable([problem("migc_checkout", arguments, expected)]) from error
    finally:
        sys.path.remove(checkout)


LOCAL = {"local_files_only": True}  # nothing is fetched
ARGUMENTS = {
    "interactdiffusion": Argument(
        files.check_pipeline_with_code,
        "FOLDER",
        "interactdiffusion/diffusers-v1-2, or the paper's v1.0 in that format",
    ),
    "interactdiffusion_xl": Argument(
        partial(files.check_pipeline_with_code, networks=files.XL_NETWORKS),
        "FOLDER",
        "jiuntian/interactdiffusion-xl-1024",
    ),
    "migc_checkout": Argument(files.check_migc_checkout, "FOLDER", "a checkout of github.com/limuloo/MIGC"),
    "migc_weights": Argument(files.check_migc_weights, "FILE", "MIGC_SD14.ckpt"),
    "ip_adapter": Argument(
        partial(files.read_ip_adapter, names_only=True),
        "FILE",
        "ip-adapter_sd15.safetensors, of SDXL ip-adapter_sdxl.safetensors; or .bin",
    ),
    "image_encoder": Argument(
        files.check_image_encoder,
        "FOLDER",
        "its image encoder, h94/IP-Adapter's models/image_encoder, of SDXL sdxl_models/image_encoder",
    ),
    "image": Argument(files.read_picture, "FILE", "an image of the style"),
    "sd14": Argument(files.check_pipeline, "FOLDER", "stable-diffusion-v1-4 in diffusers' format"),
    "sd15": Argument(files.check_pipeline, "FOLDER", "stable-diffusion-v1-5 in diffusers' format"),
    "sdxl": Argument(
        partial(files.check_pipeline, networks=files.XL_NETWORKS),
        "FOLDER",
        "stable-diffusion-xl-base-1.0 in diffusers' format",
    ),
}
ADAPTER = ["ip_adapter", "image_encoder", "image"]
SYSTEMS = {
    "InteractDiffusion": System(
        ["Stable Diffusion", "InteractDiffusion"],
        ["interactdiffusion"],
        load_interact_diffusion,
        interactions,
    ),
    "InteractDiffusion-XL": System(
        ["SDXL", "InteractDiffusion-XL"],
        ["interactdiffusion_xl"],
        partial(load_interact_diffusion, option="interactdiffusion_xl"),
        interactions,
    ),
    "MIGC": System(
        ["Stable Diffusion", "MIGC"], ["migc_checkout", "migc_weights", "sd14"], load_migc, instances
    ),
    "IP-Adapter": System(["Stable Diffusion", "IP-Adapter"], [*ADAPTER, "sd15"], load_ip_adapter, style),
    "IP-Adapter-XL": System(
        ["SDXL", "IP-Adapter"], [*ADAPTER, "sdxl"], partial(load_ip_adapter, option="sdxl"), style
    ),
}
