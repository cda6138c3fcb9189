"""Manifests: beside each picture a JSON file from which it can be drawn again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import amdm
from amdm.sample.checks import images_of
from amdm.sample.configuration import Config, Job, Model
from amdm.sample.reading import config_of
from amdm.sample.tables import Problems, Unusable

PACKAGES = ("torch", "numpy", "diffusers", "transformers", "peft")


def values_of(config: Config, prompt: str) -> dict[str, Any]:
    """Return a configuration of one prompt as `config_of` reads it; paths are absolute."""
    sampling = {each.name: getattr(config.sampling, each.name) for each in fields(config.sampling)}
    options = dict(sampling.pop("options"))
    readable = config.sampling.readable()
    return {
        **{name: _plain(getattr(config, name)) for name in ("out", "device", "dtype", "scheduler", "call")},
        "prompt": prompt,
        "sampling": {name: value for name, value in sampling.items() if name in readable} | options,
        "models": [_model(model) for model in config.models],
    }


def _model(model: Model) -> dict[str, Any]:
    """Return a model's keys that are given."""
    return {name: _plain(value) for name, value in asdict(model).items() if value not in (None, (), {})}


def _plain(value: Any) -> Any:
    """Return a value as JSON and TOML have it."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def picture_of(config: Config, job: Job) -> dict[str, Any]:
    """Return all that a picture depends on, and nothing else: equal ones have equal bytes on one machine."""
    values = values_of(config, job.prompt)
    if len(job.models) == 1:
        values["sampling"] = {"sampler": config.sampling.sampler, "eta": config.sampling.eta}
        values["sampling"]["starts"] = config.sampling.starts
    models = [{k: v for k, v in values["models"][k].items() if k != "call"} for k in job.models]
    kept = {name: values[name] for name in ("dtype", "scheduler", "sampling")}
    return {
        **kept,
        "device": config.device.partition(":")[0],  # any card of one kind
        "models": models,
        "numbers": list(job.models),
        "seed": job.seed,
        "calls": _plain(job.calls),
    }


def write_manifest(config: Config, job: Job, steps: Sequence[Mapping[str, Any]]) -> None:
    """Write a picture's manifest: the configuration, the job, versions, and how the models met."""
    written = {
        "amdm": amdm.__version__,
        "versions": {name: _version(name) for name in PACKAGES},
        "sha256": hashlib.sha256(job.path.read_bytes()).hexdigest(),
        "config": values_of(config, job.prompt),
        "picture": picture_of(config, job),
        "steps": list(steps),
    }
    part = job.manifest.with_suffix(".json.part")
    part.write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(job.manifest)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def read_manifest(path: Path | str) -> tuple[Config, Job]:
    """Return the configuration and the job of a picture's manifest, checked as a file in TOML is.

    Raises:
        Unusable: it is no manifest, or what it names is not there any more.
    """
    path = Path(path)
    read = _read(path)
    folder = path.resolve().parent
    config = config_of({**read["config"], "out": str(folder)}, folder, told=False)
    job = Job(
        name=path.stem,
        path=path.with_suffix(".png"),
        prompt=read["config"]["prompt"],
        seed=read["picture"]["seed"],
        models=tuple(read["picture"]["numbers"]),
        calls=tuple(read["picture"]["calls"]),
    )
    problems = Problems()
    for k, call in zip(job.models, job.calls, strict=True):
        for where, image, check in images_of(f"picture.calls[{k}]", call):
            problems.check(where, image, check)
    problems.finish()
    return config, job


def sha256_of(path: Path) -> str:
    """Return the hash of the picture's bytes that a manifest holds."""
    return str(_read(path)["sha256"])


def is_drawn(config: Config, job: Job) -> bool:
    """Return True if the picture is there with a manifest that says the same.

    Raises:
        Unusable: its manifest says something else.
    """
    if not (job.path.is_file() and job.manifest.is_file()):
        return False
    found, wanted = _read(job.manifest)["picture"], _plain(picture_of(config, job))
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    if differing:
        expected = "the same, another folder as out, or the picture deleted"
        raise Unusable(
            [f"{job.manifest} has other {', '.join(differing)} than the configuration, expected {expected}"]
        )
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(read["config"]["prompt"], str) or not {"seed", "models", "calls"} <= set(
            read["picture"]
        ):
            raise ValueError("it lacks a prompt, or parts of its picture")
        str(read["sha256"])
    except OSError as error:
        raise Unusable([f"{path} is not there, expected a picture's manifest"]) from error
    except (ValueError, KeyError, TypeError) as error:
        raise Unusable([f"{path} is no manifest of a picture: {type(error).__name__} {error}"]) from error
    return dict(read)
