"""The user's files: each is checked before a model is loaded, by what it holds and without running it.

Of safetensors and folders the headers and names are read; other checkpoints with `weights_only=True`.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

DIFFUSERS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
TRANSFORMERS = ("model.safetensors", "pytorch_model.bin")
# What a pipeline's folder has in its sub-folders: one file of each group.
PARTS: dict[str, list[tuple[str, ...]]] = {
    "unet": [("config.json",), DIFFUSERS],
    "vae": [("config.json",), DIFFUSERS],
    "text_encoder": [("config.json",), TRANSFORMERS],
    "tokenizer": [("tokenizer_config.json",), ("tokenizer.json", "vocab.json")],
    "scheduler": [("scheduler_config.json",)],
}


class Expected(Exception):  # noqa: N818 (what it says is what was expected)
    """What a path was expected to be."""


class Unusable(SystemExit):
    """One line for each argument that is not as it must be; a script ends with it."""

    def __init__(self, problems: Iterable[str]) -> None:
        super().__init__("\n".join(problems))


def check_folder(path: Path, needed: Sequence[Sequence[str]]) -> None:
    """One file of each group is there, and can be read."""
    found = [next((name for name in names if (path / name).is_file()), None) for names in needed]
    missing = [" or ".join(names) for names, name in zip(needed, found, strict=True) if name is None]
    if missing:
        raise Expected(f"a folder with {', '.join(missing)}")
    for name in found:
        if name and name.endswith(".json"):
            _json(path / name, name)
        elif name and name.endswith(".safetensors"):
            _header(path / name, name)


def check_pipeline(path: Path) -> None:
    """A folder in diffusers' format, with the weights of all that its index names."""
    check_folder(path, [("model_index.json",)])
    index = _mapping(_json(path / "model_index.json"), "model_index.json")
    unnamed = [part for part in PARTS if not any(index.get(part) or ())]
    if unnamed:
        raise Expected(f"{', '.join(unnamed)} in its model_index.json")
    absent = [part for part in PARTS if not (path / part).is_dir()]
    if absent:
        raise Expected(f"a folder with {', '.join(absent)}, as its model_index.json says")
    for part, needed in PARTS.items():
        check_folder(path, [[f"{part}/{name}" for name in names] for names in needed])


def check_pipeline_with_code(path: Path) -> None:
    """A pipeline that comes with its class."""
    check_folder(path, [("model_index.json",), ("pipeline.py",)])
    check_pipeline(path)


def check_image_encoder(path: Path) -> None:
    """A model of transformers that projects an image to one vector: not every CLIP's does."""
    check_folder(path, [("config.json",), TRANSFORMERS])
    weights, key = path / TRANSFORMERS[0], "visual_projection.weight"
    if weights.is_file() and key not in (names := _header(weights)):
        raise Expected(f"{key} in {weights.name}, found {_some(names)}")


def check_device(name: str) -> None:
    """Torch has it."""
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise Expected(f"a device that is here: {_first_line(error)}") from error


def check_out(path: Path) -> None:
    """A folder, or one that can be made."""
    there = next(folder for folder in [path.absolute(), *path.absolute().parents] if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise Expected(f"a folder that can be written to, and {there} is none")


def read_weights(path: Path, names_only: bool = False) -> Mapping[str, Any]:
    """A checkpoint's content; no code in it is run. Of safetensors, the names alone where they do."""
    if not path.is_file():
        raise Expected("a file")
    if path.suffix == ".safetensors":
        names = _header(path)
        return dict.fromkeys(names) if names_only else _load_file(path)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch says of a file that is no checkpoint, or more than tensors
        code = re.search(r"GLOBAL (\S+)", str(error))
        found = f"found {code[1]}" if code else "found no such file format"
        raise Expected(f"a checkpoint of tensors alone, {found}") from error
    return _mapping(loaded, "it")


def read_migc(path: Path, names_only: bool = False) -> Mapping[str, Any]:
    """MIGC's weights as its code wants them."""
    read = read_weights(path, names_only)
    state = read if path.suffix == ".safetensors" else read.get("state_dict")
    if not isinstance(state, Mapping):
        raise Expected(f"state_dict in it, found {_some(read)}")
    others = [name for name in state if "migc" not in str(name).split(".")]
    if others or not state:
        raise Expected(f"tensors of migc alone in it, found {_some(others)}")
    return {"state_dict": state}


def read_ip_adapter(path: Path, names_only: bool = False) -> dict[str, dict[str, Any]]:
    """IP-Adapter's two groups of weights: dictionaries in a .bin, else by the beginning of their names."""
    groups: dict[str, dict[str, Any]] = {}
    for name, value in read_weights(path, names_only).items():
        if isinstance(value, Mapping):
            groups[name] = dict(value)
        else:
            group, _, rest = str(name).partition(".")
            groups.setdefault(group, {})[rest] = value
    missing = [name for name in ("image_proj", "ip_adapter") if not groups.get(name)]
    if missing:
        raise Expected(f"{' and '.join(missing)} in it, found {_some(groups)}")
    return groups


def read_picture(path: Path) -> Any:
    """An image in RGB."""
    from PIL import Image

    if not path.is_file():
        raise Expected("a file")
    try:
        with Image.open(path) as opened:
            return opened.convert("RGB")
    except Exception as error:  # each format's reader has its own for a file that is cut off
        raise Expected("an image that PIL can read") from error


def read_scene(path: Path) -> dict[str, Any]:
    """JSON with what the systems are told: a caption, interactions and instances with boxes."""
    if not path.is_file():
        raise Expected("a file")
    scene = _mapping(_json(path), "it", ["caption", "interactions", "instances"])
    wanted = {
        "interactions": (["subject", "action", "object"], ["subject_box", "object_box"]),
        "instances": (["phrase"], ["box"]),
    }
    _phrase(scene["caption"], "caption")
    _phrase(scene.get("negative", ""), "negative")
    for part, (phrases, boxes) in wanted.items():
        if not isinstance(scene[part], list):
            raise Expected(f"{part} to be a list, found {scene[part]!r:.40}")
        for i, entry in enumerate(scene[part]):
            one = f"{part}[{i}]"
            _mapping(entry, one, [*phrases, *boxes])
            for name in phrases:
                _phrase(entry[name], f"{one}.{name}")
            for name in boxes:
                _box(entry[name], f"{one}.{name}")
    if not scene["interactions"]:
        raise Expected("one or more interactions, found none")
    return scene


def _phrase(value: Any, name: str) -> None:
    if not isinstance(value, str):
        raise Expected(f"{name} to be a string, found {value!r:.40}")


def _box(value: Any, name: str) -> None:
    numbers = isinstance(value, list) and all(type(edge) in (int, float) for edge in value)
    if numbers and len(value) == 4:
        x0, y0, x1, y1 = value
        if 0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1:
            return
    raise Expected(f"{name} to be x0 < x1 and y0 < y1 in [0, 1] as [x0, y0, x1, y1], found {value!r:.60}")


def _mapping(value: Any, name: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Expected(f"{name} to be a dictionary, found a {type(value).__name__}")
    missing = [key for key in keys if key not in value]
    if missing:
        raise Expected(f"{', '.join(missing)} in {name}, found {_some(value)}")
    return dict(value)


def _json(path: Path, name: str = "it") -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no text
        raise Expected(f"JSON in {name}: {_first_line(error)}") from error


def _header(path: Path, name: str = "it") -> list[str]:
    """The names in safetensors; their sizes are checked against the file's by the library."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as opened:
            return list(opened.keys())
    except SafetensorError as error:
        raise Expected(f"safetensors in {name}: {_first_line(error)}") from error


def _load_file(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _some(names: Iterable[Any]) -> str:
    """A few of the names, for a message."""
    first = sorted(map(str, names))
    return ", ".join(first[:3]) + (f" and {len(first) - 3} more" if len(first) > 3 else "") or "nothing"
