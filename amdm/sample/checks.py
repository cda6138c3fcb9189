"""The files of a configuration: each is looked at before a network is loaded, and none of its code runs."""

import ast
import errno
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from amdm.command_line.arguments import Expected, check_device
from amdm.sample import files, scenes
from amdm.sample.configuration import IMAGES, Config, Model, call_of
from amdm.sample.systems import class_of, libraries, takes
from amdm.sample.tables import Problems

CONTROLS = ("gligen_", "interactdiffusion_", "bboxes", "image", "ip_adapter_image")
"""The first letters of arguments of calls that `without_control` can switch off."""


def check_files(config: Config, problems: Problems, told: bool = True) -> None:
    """Note what is wrong with the files and folders that a configuration names, and with its device.

    With `told` also what the calls lack for their models.
    """
    for where, value, check in _files(config):
        if value is not None and not problems.of(where):
            problems.check(where, value, check)
    for k, model in enumerate(config.models):
        if not problems.of(f"models[{k}]"):
            problems.lines += _of_class(config, k, model, problems)
        problems.lines += _untold(config, k, model, problems) if told else []
    if told and config.sampling.method == "projective_guidance":
        problems.lines += _uncontrolled(config)
    if config.scheduler not in ("", "own") and not problems.of("scheduler"):
        problems.check("scheduler", config.scheduler, _scheduler)


def _files(config: Config) -> Iterator[tuple[str, Any, Callable[[Any], Any]]]:
    """Yield the place, the value and the check of everything outside of the file."""
    for k, model in enumerate(config.models):
        where = f"models[{k}]"
        yield f"{where}.pipeline", model.pipeline, partial(_pipeline, model)
        yield from ((f"{where}.lora", lora.file, files.check_lora) for lora in model.lora)
        for key in ("controlnet", "t2i_adapter"):
            yield from ((f"{where}.{key}", folder, files.check_network) for folder in getattr(model, key))
        names_only = partial(files.read_ip_adapter, names_only=True)
        yield f"{where}.ip_adapter", model.ip_adapter, names_only
        yield f"{where}.image_encoder", model.image_encoder, files.check_image_encoder
        yield f"{where}.migc_checkout", model.migc_checkout, files.check_migc_checkout
        yield f"{where}.migc_weights", model.migc_weights, files.check_migc_weights
    for place, call in _calls(config):
        yield from images_of(place, call)
    yield "device", config.device, check_device
    yield "out", config.out, check_folder


def images_of(place: str, call: Mapping[str, Any]) -> Iterator[tuple[str, Any, Callable[[Any], Any]]]:
    """Yield the place, the path and the check of each image in a call's arguments."""
    for name in IMAGES:
        yield from ((f"{place}.{name}", Path(each), files.read_picture) for each in _flat(call.get(name)))


def _calls(config: Config) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "call", config.call
    yield from ((f"models[{k}].call", model.call) for k, model in enumerate(config.models))
    for i, prompt in enumerate(config.prompts):
        yield f"prompts[{i}].call", prompt.call
        yield from ((f"prompts[{i}].{name}", call) for name, call in prompt.calls.items())


def _flat(value: Any) -> list[str]:
    """Return the paths in an argument that is one or a list of them."""
    if isinstance(value, list):
        return [path for each in value for path in _flat(each)]
    return [] if value is None else [value]


def _pipeline(model: Model, path: Path) -> None:
    """Raise `Expected` unless a model's folder has what it needs."""
    system = scenes.SYSTEMS.get(model.system or "")
    needed = None if system is None else files.XL_NETWORKS if system.xl else files.NETWORKS
    if model.trust_remote_code or (system is not None and "trust_remote_code" in system.keys):
        files.check_pipeline_with_code(path, needed)
    else:
        files.check_pipeline(path, needed)


def check_folder(path: Path) -> None:
    """Raise `Expected` unless files can be written to a folder, which need not be there. None is made."""
    there = next(each for each in [path, *path.parents] if each.exists())
    try:
        if not there.is_dir():
            raise FileExistsError(errno.EEXIST, "File exists")
        tempfile.TemporaryFile(dir=there).close()
    except OSError as error:
        raise Expected(f"a folder that can be written to: {error.strerror}") from error


def _of_class(config: Config, k: int, model: Model, problems: Problems) -> Iterator[str]:
    """Yield what is wrong with a pipeline's class, and the arguments that its calls do not have."""
    index = files.read_index(model.pipeline)
    try:
        takes = _taken(model, index)
    except Expected as expected:
        yield f"models[{k}].class_name is {class_of(model, index)}, expected {expected}"
        return
    if takes is None:
        return
    known = ", ".join(name for name in takes if name not in ("self", "args", "kwargs"))
    for place, call in _calls(config):
        if not place.startswith("models") and not place.endswith(("call", f".{model.name}")):
            continue
        if place.startswith("models") and not place.startswith(f"models[{k}]"):
            continue
        for name in call:
            if name not in takes and not problems.of(f"{place}.{name}"):
                yield f"{place}.{name} is no argument of models[{k}], expected one of {known}"


def _taken(model: Model, index: Mapping[str, Any]) -> list[str] | None:
    """Return the arguments of a pipeline's call, by its class or by its code, which is not run.

    None where that does not tell; the call then says it itself.
    """
    if model.migc_checkout is not None:
        return _in_code(model.migc_checkout / "migc/migc_pipeline.py", "StableDiffusionMIGCPipeline")
    if model.trust_remote_code:
        module, name = index["_class_name"]
        return _in_code(model.pipeline / f"{module}.py", name)
    diffusers, _ = libraries()
    kind = getattr(diffusers, class_of(model, index), None)
    if not (isinstance(kind, type) and callable(getattr(kind, "__call__", None))):  # noqa: B004
        raise Expected("a pipeline of diffusers")
    return takes(kind.__call__)


def _in_code(file: Path, name: str) -> list[str] | None:
    """Return the arguments of `name.__call__` in a file of Python code; None where it takes any."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and node.name == name:
            for inside in node.body:
                if isinstance(inside, ast.FunctionDef) and inside.name == "__call__":
                    told = inside.args
                    named = [each.arg for each in [*told.posonlyargs, *told.args, *told.kwonlyargs]]
                    return None if told.kwarg else named
    return None


def _untold(config: Config, k: int, model: Model, problems: Problems) -> Iterator[str]:
    """Yield what a model's calls lack: a scene, or the image of a ControlNet or an adapter."""
    needed = {
        "image": bool(model.controlnet or model.t2i_adapter),
        "ip_adapter_image": model.ip_adapter is not None,
    }
    system = scenes.SYSTEMS.get(model.system or "")
    for i, prompt in enumerate(config.prompts):
        if problems.of(f"prompts[{i}]"):
            continue
        call = call_of(config, k, prompt)
        for name in [name for name, needs in needed.items() if needs and name not in call]:
            yield f"models[{k}].call.{name} is missing, expected an image"
        if system and system.part and not prompt.scene.get(system.part) and system.told not in call:
            expected = (
                f"one or more for the system {model.system} of models[{k}], or {system.told} in its call"
            )
            yield f"prompts[{i}].{system.part} is missing, expected {expected}"
    if model.ip_adapter and not model.image_encoder:
        yield f"models[{k}].image_encoder is missing, expected a folder, for the ip_adapter"


def _uncontrolled(config: Config) -> Iterator[str]:
    """Yield the partners of projective guidance that have no control to switch off."""
    for k, model in list(enumerate(config.models))[1:]:
        told = {name for prompt in config.prompts[:1] for name in call_of(config, k, prompt)}
        adds = [model.lora, model.controlnet, model.t2i_adapter, model.ip_adapter, model.migc_weights]
        if not any(adds) and not any(name.startswith(CONTROLS) for name in told):
            controls = "a LoRA, a ControlNet, an adapter, GLIGEN's boxes or a system"
            yield f"models[{k}] has no control, expected {controls}: projective guidance switches it off"


def _scheduler(name: str) -> None:
    """Raise unless diffusers has a scheduler of this name."""
    diffusers, _ = libraries()
    kind = getattr(diffusers, name, None)
    if not name.endswith("Scheduler") or not hasattr(kind, "from_config"):
        raise Expected("a scheduler of diffusers, such as DDIMScheduler, or own")
