"""Pipelines from the user's own files: diffusers' with their add-ons, and the systems that the paper joins.

- InteractDiffusion: a folder as on the hub, in diffusers' format, with the code of its pipeline and U-Net.
- MIGC: a checkout of its repository, its weights, Stable Diffusion 1.4.
- IP-Adapter: Stable Diffusion 1.5, the adapter's weights and its image encoder, all by diffusers.
- The first and the last also on SDXL.

Nothing of theirs is here: their own code runs, from where the user put it, under LICENCES, and not before
the whole configuration is checked. Nothing is fetched, and no pickle is executed: weights are safetensors, or
read with `weights_only=True`.
"""

import importlib
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from amdm.sample import files, scenes
from amdm.sample.configuration import Config, Model
from amdm.sample.tables import Unusable
from amdm.shapes.imports import import_beside_torchvision

LICENCES = {
    "Stable Diffusion": "weights CreativeML OpenRAIL-M",
    "SDXL": "weights CreativeML Open RAIL++-M",
    "InteractDiffusion": "pipeline Apache-2.0 by its header, weights BSD by their model card; "
    "its repository has no licence file",
    "InteractDiffusion-XL": "code Apache-2.0; for the weights see their model card",
    "MIGC": "code and weights for non-commercial research only, not to be copied or passed on",
    "IP-Adapter": "code and weights Apache-2.0",
}
LOCAL = {"local_files_only": True}  # nothing is fetched
# Safety checkers are not loaded.
CHECKERS = {"safety_checker": None, "requires_safety_checker": False}


class Place(NamedTuple):
    """A model of the configuration, with the place that messages name."""

    where: str
    """"models[0]"."""
    model: Model

    def unusable(self, key: str, expected: str) -> Unusable:
        """Return the error about one of its files."""
        return Unusable([f"{self.where}.{key} is {getattr(self.model, key)}, expected {expected}"])


def load_all(config: Config, numbers: Iterable[int] | None = None) -> dict[int, Any]:
    """Return the pipelines of the models with these numbers, on their device; by default of all.

    Models of one folder share its networks: their LoRAs are loaded into one U-Net (`switch`), and ControlNets
    and T2I-Adapters stand beside it. The systems' licences are announced.
    """
    loaded: dict[Any, Any] = {}
    pipes = {}
    for k in sorted(range(len(config.models)) if numbers is None else numbers):
        place = Place(f"models[{k}]", config.models[k])
        base = loaded.get(shared_by(place.model))
        pipe = (
            load(place, getattr(torch, config.dtype)) if base is None else _beside(place, base, config.dtype)
        )
        loaded.setdefault(shared_by(place.model), pipe)
        for i, lora in enumerate(place.model.lora):
            weights = dict(files.read_weights(lora.file))
            pipe.load_lora_weights(weights, adapter_name=adapter_of(k, i))
        pipe.scheduler = scheduler_of(place.model, config.scheduler)
        pipe.to(config.device).set_progress_bar_config(disable=True)
        pipes[k] = pipe
    return pipes


def shared_by(model: Model) -> tuple[Any, ...]:
    """Return what models must have in common to share their networks."""
    return (model.pipeline, model.system, model.trust_remote_code, model.ip_adapter, model.image_encoder)


def adapter_of(k: int, i: int) -> str:
    """Return the name of LoRA i of model k in a shared network."""
    return f"model{k}_lora{i}"


def switch(pipe: Any, config: Config, k: int) -> None:
    """Switch the shared networks to what model k is made of, before its call is prepared."""
    model = config.models[k]
    alike = [other for other in config.models if shared_by(other) == shared_by(model)]
    if any(other.lora for other in alike):
        if model.lora:
            pipe.enable_lora()
            names = [adapter_of(k, i) for i in range(len(model.lora))]
            pipe.set_adapters(names, [lora.weight for lora in model.lora])
        else:
            pipe.disable_lora()
    if model.ip_adapter:
        pipe.set_ip_adapter_scale(model.ip_adapter_scale)


def load(place: Place, dtype: torch.dtype) -> Any:
    """Return a model's pipeline, without its LoRAs. A system's licences are announced."""
    model = place.model
    if model.system:
        announce(*scenes.SYSTEMS[model.system].licences)
    if model.migc_checkout:
        return load_migc(place)
    if model.trust_remote_code:
        return load_with_code(place, torch_dtype=dtype)
    return load_plain(place, torch_dtype=dtype)


def announce(*systems: str) -> None:
    """Print the licences of what is loaded."""
    for system in systems:
        print(f"{system}: {LICENCES[system]}", file=sys.stderr)


def load_plain(place: Place, **options: Any) -> Any:
    """Load a pipeline by diffusers, with its ControlNets, T2I-Adapters and IP-Adapter."""
    diffusers, _ = libraries()
    model = place.model
    index = files.read_index(model.pipeline)
    kind = getattr(diffusers, class_of(model, index))
    parts = networks(place, **options)
    pipe = kind.from_pretrained(
        model.pipeline,
        **parts,
        **_beside_parts(place, **options),
        **_without(place, kind),
        **LOCAL,
        **options,
    )
    if model.ip_adapter:
        _add_ip_adapter(place, pipe, **options)
    return pipe


def class_of(model: Model, index: Mapping[str, Any]) -> str:
    """Return the name of a plain pipeline's class: the folder's, or the one that takes its add-ons."""
    name = model.class_name or str(index.get("_class_name"))
    for key, word in {"controlnet": "ControlNet", "t2i_adapter": "Adapter"}.items():
        if getattr(model, key) and not model.class_name and word not in name:
            name = name.removesuffix("Pipeline") + f"{word}Pipeline"
    return name


def _beside(place: Place, base: Any, dtype: str) -> Any:
    """Return a pipeline with the networks of another and its own ControlNets or T2I-Adapters."""
    diffusers, _ = libraries()
    extra = _beside_parts(place, torch_dtype=getattr(torch, dtype))
    if place.model.trust_remote_code or place.model.migc_checkout:
        return base
    kind = getattr(diffusers, class_of(place.model, files.read_index(place.model.pipeline)))
    if kind is type(base) and not extra:
        return base
    components = {name: part for name, part in base.components.items() if name in takes(kind)}
    checkers = {name: value for name, value in CHECKERS.items() if name in takes(kind)}
    return kind(**{**components, **checkers}, **extra)


def _beside_parts(place: Place, **options: Any) -> dict[str, Any]:
    """Return a model's ControlNets and T2I-Adapters, as arguments of its pipeline's class."""
    made: dict[str, Any] = {}
    for key, (argument, name) in BESIDE.items():
        networks = [
            whole(place, key, folder, ("diffusers", name), "", files.DIFFUSERS, **options)
            for folder in getattr(place.model, key)
        ]
        if networks:
            made[argument] = networks[0] if len(networks) == 1 else networks
    return made


BESIDE = {"controlnet": ("controlnet", "ControlNetModel"), "t2i_adapter": ("adapter", "T2IAdapter")}


def _add_ip_adapter(place: Place, pipe: Any, **options: Any) -> None:
    """Load an IP-Adapter and its image encoder into a pipeline."""
    _, transformers = libraries()
    model = place.model
    assert model.ip_adapter is not None and model.image_encoder is not None
    state = files.read_ip_adapter(model.ip_adapter)
    named = ("transformers", "CLIPVisionModelWithProjection")
    encoder = whole(place, "image_encoder", model.image_encoder, named, "", files.TRANSFORMERS, **options)
    size = encoder.config.image_size
    processor = transformers.CLIPImageProcessor(size={"shortest_edge": size}, crop_size=size)
    pipe.register_modules(image_encoder=encoder, feature_extractor=processor)
    pipe.load_ip_adapter(state, subfolder="", weight_name="", image_encoder_folder=None)
    pipe.set_ip_adapter_scale(model.ip_adapter_scale)


def load_with_code(place: Place, **options: Any) -> Any:
    """Load a pipeline whose code comes with its weights, InteractDiffusion's: `trust_remote_code`."""
    diffusers, _ = libraries()
    folder = place.model.pipeline
    parts = networks(place, **options)
    xl = "text_encoder_2" in parts
    without: dict[str, Any] = {"feature_extractor": None} | ({} if xl else {"safety_checker": None})
    variant = files.find_weights(folder, files.DIFFUSERS, "unet").variant
    options |= {"trust_remote_code": True, "variant": variant}
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, **parts, **without, **LOCAL, **options)
    if "unet" not in parts:
        names = files.check_weights(folder, files.DIFFUSERS, "unet")
        _check_whole(place, "pipeline", "unet", pipe.unet.state_dict().keys() - names)
    return pipe


def load_migc(place: Place) -> Any:
    """Load MIGC through the user's checkout of its repository, on Stable Diffusion 1.4.

    It is in float32 always: its processors make boxes and masks in float32, and their networks do not accept
    mixed types.
    """
    pipeline, utils = migc_modules(place)
    options = {"torch_dtype": torch.float32}
    parts = networks(place, **options)
    pipe = pipeline.StableDiffusionMIGCPipeline.from_pretrained(
        place.model.pipeline, **parts, **LOCAL, safety_checker=None, feature_extractor=None, **options
    )
    pipe.attention_store = pipeline.AttentionStore()
    weights = str(place.model.migc_weights)  # its code reads the file itself; it was checked
    utils.load_migc(pipe.unet, pipe.attention_store, weights, attn_processor=pipeline.MIGCProcessor)
    return pipe


def migc_modules(place: Place) -> list[Any]:
    """Return two modules of MIGC's repository, which is not installed."""
    libraries()
    checkout = str(place.model.migc_checkout)
    sys.path.insert(0, checkout)
    try:
        return [importlib.import_module(f"migc.{name}") for name in ("migc_pipeline", "migc_utils")]
    except Exception as error:  # it is not our code: what it needs may have changed
        expected = f"code that runs here: {type(error).__name__}, {error}"
        raise place.unusable("migc_checkout", expected) from error
    finally:
        sys.path.remove(checkout)


def networks(place: Place, **options: Any) -> dict[str, Any]:
    """Return the networks in a folder whose classes diffusers and transformers have, with all their tensors.

    If they were loaded with their pipeline, a missing tensor would be random.
    """
    folder = place.model.pipeline
    index = files.read_index(folder)
    return {
        part: whole(place, "pipeline", folder, index[part], part, stems, **options)
        for part, stems in files.networks_of(index).items()
        if part != "unet" or not files.own_unet(index)
    }


def whole(
    place: Place,
    key: str,
    folder: Path,
    named: Sequence[str],
    part: str,
    stems: tuple[str, str],
    **options: Any,
) -> Any:
    """Return a network of the library and class `named`. Raises `Unusable` if its files lack a tensor."""
    library = dict(zip(files.LIBRARIES, libraries(), strict=True))[named[0]]
    variant = files.find_weights(folder, stems, part).variant
    network, found = getattr(library, named[1]).from_pretrained(
        folder / part, variant=variant, output_loading_info=True, **LOCAL, **options
    )
    _check_whole(place, key, part, found["missing_keys"])
    return network


def _check_whole(place: Place, key: str, part: str, missing: Iterable[str]) -> None:
    names = list(missing)
    if names:
        where = f"{part}'s weights" if part else "its weights"
        raise place.unusable(key, f"{files.some(names)} in {where}")


def _without(place: Place, kind: Any) -> dict[str, Any]:
    """Return the arguments that leave out safety checkers, and the extractor that only they need."""
    without = {name: value for name, value in CHECKERS.items() if name in takes(kind)}
    extractor = (place.model.pipeline / "feature_extractor").is_dir()
    if "feature_extractor" in takes(kind) and (not extractor or place.model.ip_adapter):
        without["feature_extractor"] = None
    return without


def takes(function: Any) -> list[str]:
    """Return the names of a function's arguments."""
    return list(inspect.signature(function).parameters)


def scheduler_of(model: Model, name: str) -> Any:
    """Return the scheduler that gives a model's levels, made from its folder's.

    A U-Net's is DDIM's and a transformer's its own if `name` is empty. Latents are not clipped, whatever the
    folder says.
    """
    diffusers, _ = libraries()
    own = files.read_scheduler(model.pipeline)
    name = name or (
        "own" if files.networks_of(files.read_index(model.pipeline)).get("transformer") else "DDIMScheduler"
    )
    kind = getattr(diffusers, own["_class_name"] if name == "own" else name)
    clips = {"clip_sample": False} if "clip_sample" in takes(kind) else {}
    return kind.from_config(own, **clips)


def libraries() -> tuple[Any, Any]:
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
