"""The user's files: each is checked before a model is loaded, by what it holds and without running it.

For safetensors and folders, headers and names are read; other checkpoints are loaded with
`weights_only=True`.
"""

import ast
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import is_zipfile

import torch
from torch.utils._pytree import tree_leaves

from amdm.command_line.arguments import Expected

# The names of weights without their endings: of safetensors, and of pickles.
DIFFUSERS = ("diffusion_pytorch_model", "diffusion_pytorch_model")
TRANSFORMERS = ("model", "pytorch_model")
PARTS = {
    **dict.fromkeys(["unet", "transformer", "vae", "controlnet", "adapter"], DIFFUSERS),
    **dict.fromkeys(["text_encoder", "text_encoder_2", "text_encoder_3", "image_encoder"], TRANSFORMERS),
}
VARIANT = "fp16"
FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")  # as safetensors names them
LIBRARIES = ("diffusers", "transformers")
NETWORKS = {"unet": DIFFUSERS, "vae": DIFFUSERS, "text_encoder": TRANSFORMERS}
XL_NETWORKS = {**NETWORKS, "text_encoder_2": TRANSFORMERS}
TOKENIZER = [("tokenizer_config.json",), ("tokenizer.json", "vocab.json", "spiece.model")]
# Where the package of an import has another name.
PACKAGES = {"cv2": "opencv-python-headless", "yaml": "pyyaml", "PIL": "pillow"}


class Weights(NamedTuple):
    """A network's weights: one file, or several with an index."""

    paths: list[Path]
    variant: str | None
    """"fp16" where there are no others."""


def check_file(path: Path) -> None:
    """Raise `Expected` unless there is a file."""
    if not path.is_file():
        raise Expected("a file")


def check_folder(path: Path, needed: Sequence[Sequence[str]]) -> None:
    """Raise unless the folder has one file of each group, readable if it is JSON."""
    found = [next((name for name in names if (path / name).is_file()), None) for names in needed]
    missing = [" or ".join(names) for names, name in zip(needed, found, strict=True) if name is None]
    if missing:
        raise Expected(f"a folder with {', '.join(missing)}")
    for name in found:
        if name and name.endswith(".json"):
            _json(path / name, name)


def find_weights(path: Path, stems: tuple[str, str], part: str = "") -> Weights:
    """Return the files that diffusers or transformers would load from `path / part`."""
    kinds = list(zip(stems, ("safetensors", "bin"), strict=True))
    for variant in (None, VARIANT):
        for stem, suffix in kinds:
            single = path / part / ".".join(filter(None, [stem, variant, suffix]))
            index = path / part / ".".join(filter(None, [stem, suffix, "index", variant, "json"]))
            if single.is_file():
                return Weights([single], variant)
            if index.is_file():
                return Weights(_shards(index, path), variant)
    raise Expected(f"a folder with {' or '.join(str(Path(part, '.'.join(kind))) for kind in kinds)}")


def check_weights(path: Path, stems: tuple[str, str], part: str = "") -> set[str]:
    """Return the names of a network's tensors. Pickles hold nothing else."""
    names: set[str] = set()
    for file in find_weights(path, stems, part).paths:
        shown = str(file.relative_to(path))
        names.update(_header(file, shown) if file.suffix == ".safetensors" else _pickle(file, shown))
    return names


def count_weights(path: Path, stems: tuple[str, str], part: str = "") -> int:
    """Return how many numbers a network in `path / part` has: the floating-point tensors' sizes."""
    return sum(count_numbers(file) for file in find_weights(path, stems, part).paths)


def count_numbers(file: Path) -> int:
    """Return how many numbers a checkpoint has, from its header or from tensors that stay on the disk."""
    if file.suffix != ".safetensors":
        tensors = [leaf for leaf in tree_leaves(_pickle(file)) if isinstance(leaf, torch.Tensor)]
        return sum(tensor.numel() for tensor in tensors if tensor.is_floating_point())
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        slices = [opened.get_slice(name) for name in opened.keys()]  # noqa: SIM118 (it is no dictionary)
        return sum(math.prod(each.get_shape()) for each in slices if each.get_dtype() in FLOATS)


def check_pipeline(
    path: Path, networks: Mapping[str, tuple[str, str]] | None = None, own: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the index of a folder in diffusers' format, which has the weights of all networks.

    `networks` are those that it must have, by default those that it names. The classes are diffusers' and
    transformers', but for the parts in `own`.
    """
    index = read_index(path)
    if networks is None:
        networks = networks_of(index)
        if not {"unet", "transformer"} & networks.keys():
            raise Expected("unet or transformer in its model_index.json")
    tokenizers = [part.replace("text_encoder", "tokenizer") for part in networks if "text" in part]
    parts = [*networks, *tokenizers, "scheduler"]
    unnamed = [part for part in parts if not any(index.get(part) or ())]
    if unnamed:
        raise Expected(f"{', '.join(unnamed)} in its model_index.json")
    strange = [part for part in networks if part not in own and index[part][0] not in LIBRARIES]
    if strange:
        found = index[strange[0]]
        raise Expected(
            f"{strange[0]} of {' or '.join(LIBRARIES)} in its model_index.json, found {found!r:.60}"
        )
    absent = [part for part in parts if not (path / part).is_dir()]
    if absent:
        raise Expected(f"a folder with {', '.join(absent)}, as its model_index.json says")
    needed = [[f"{part}/config.json"] for part in networks]
    needed += [[f"{part}/{name}" for name in names] for part in tokenizers for names in TOKENIZER]
    check_folder(path, [*needed, ["scheduler/scheduler_config.json"]])
    read_scheduler(path)
    for part, stems in networks.items():
        check_weights(path, stems, part)
    return index


def networks_of(index: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the networks that an index names, with the names of their weights. Checkers are left out."""
    named = [part for part in PARTS if isinstance(index.get(part), list) and any(index[part])]
    return {part: PARTS[part] for part in named}


def read_index(path: Path) -> dict[str, Any]:
    """Return the library and the class of each part of a pipeline, from its folder."""
    check_folder(path, [("model_index.json",)])
    return _mapping(_json(path / "model_index.json"), "model_index.json")


def read_scheduler(path: Path) -> dict[str, Any]:
    """Return the configuration of a pipeline's scheduler, from its folder."""
    name = "scheduler/scheduler_config.json"
    return _mapping(_json(path / name, name), name, ["_class_name"])


def check_pipeline_with_code(
    path: Path, networks: Mapping[str, tuple[str, str]] | None = None
) -> dict[str, Any]:
    """Return the index of a folder that has a pipeline with the code of its class and of its U-Net's."""
    index = check_pipeline(path, networks, own=["unet"])
    kind = index.get("_class_name")
    if not isinstance(kind, list) or len(kind) != 2:
        raise Expected(f"its model_index.json to name a file with the pipeline's class, found {kind!r:.60}")
    check_code(path, [f"{kind[0]}.py", *([f"unet/{index['unet'][0]}.py"] if own_unet(index) else [])])
    return index


def own_unet(index: Mapping[str, Any]) -> bool:
    """Return True if the U-Net's class is in the folder; else it is diffusers'."""
    return bool(index["unet"][0] != "diffusers")


def check_image_encoder(path: Path) -> None:
    """Raise unless this is a transformers model that projects an image to one vector; some CLIPs do not."""
    check_folder(path, [("config.json",)])
    names, key = check_weights(path, TRANSFORMERS), "visual_projection.weight"
    if key not in names:
        raise Expected(f"{key} in its weights, found {some(names)}")


def check_migc_checkout(path: Path) -> None:
    """Raise unless MIGC's code and every package that it imports are there. None of it is executed."""
    check_code(path, [f"migc/{name}.py" for name in ("migc_pipeline", "migc_utils")])


def check_code(path: Path, names: Sequence[str]) -> None:
    """Raise unless these are Python files whose imports can be found, also in the checkout's own files."""
    check_folder(path, [(name,) for name in names])
    seen, waiting = set(names), list(names)
    missing: dict[str, None] = {}
    for name in waiting:
        for module in _imports(path / name, name):
            inside = f"{module.replace('.', '/')}.py"
            if (path / inside).is_file():
                waiting += [inside] * (inside not in seen)
                seen.add(inside)
            elif find_spec(module.partition(".")[0]) is None:
                missing[module.partition(".")[0]] = None
    if missing:
        packages = " ".join(PACKAGES.get(module, module) for module in missing)
        raise Expected(
            f"{', '.join(missing)} to be installed, which its code imports: pip install {packages}"
        )


def read_weights(path: Path, names_only: bool = False) -> Mapping[str, Any]:
    """Return a checkpoint's content, without running code in it. For safetensors the names may be enough."""
    from safetensors.torch import load_file

    check_file(path)
    if path.suffix == ".safetensors":
        names = _header(path)
        return dict.fromkeys(names) if names_only else load_file(path)
    return _pickle(path)


def check_migc_weights(path: Path) -> None:
    """Raise unless these are MIGC's weights as its code expects them, a pickle of tensors alone."""
    check_file(path)
    read = _pickle(path)
    state = read.get("state_dict")
    if not isinstance(state, Mapping):
        raise Expected(f"state_dict in it, found {some(read)}")
    others = [name for name in state if "migc" not in str(name).split(".")]
    if others or not state:
        raise Expected(f"tensors of migc alone in it, found {some(others)}")


def read_ip_adapter(path: Path, names_only: bool = False) -> dict[str, dict[str, Any]]:
    """Return IP-Adapter's two groups of weights: dictionaries in a .bin, else by their names' prefixes."""
    groups: dict[str, dict[str, Any]] = {}
    for name, value in read_weights(path, names_only).items():
        if isinstance(value, Mapping):
            groups[name] = dict(value)
        else:
            group, _, rest = str(name).partition(".")
            groups.setdefault(group, {})[rest] = value
    missing = [name for name in ("image_proj", "ip_adapter") if not groups.get(name)]
    if missing:
        raise Expected(f"{' and '.join(missing)} in it, found {some(groups)}")
    return groups


def check_lora(path: Path) -> None:
    """Raise unless these are a LoRA's weights, by their names."""
    names = read_weights(path, names_only=True)
    if not any("lora" in str(name).lower() for name in names):
        raise Expected(f"weights of a LoRA in it, found {some(names)}")


def check_network(path: Path) -> None:
    """Raise unless the folder has a network of diffusers: its configuration and its weights."""
    check_folder(path, [("config.json",)])
    check_weights(path, DIFFUSERS)


def read_picture(path: Path) -> Any:
    """Return an image in RGB."""
    from PIL import Image

    check_file(path)
    try:
        with Image.open(path) as opened:
            return opened.convert("RGB")
    except Exception as error:  # each format's reader has its own for a file that is cut off
        raise Expected("an image that PIL can read") from error


def _mapping(value: Any, name: str, keys: Sequence[str] = ()) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Expected(f"{name} to be a dictionary, found a {type(value).__name__}")
    missing = [key for key in keys if key not in value]
    if missing:
        raise Expected(f"{', '.join(missing)} in {name}, found {some(value)}")
    return dict(value)


def _json(path: Path, name: str = "it") -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no text
        raise Expected(f"JSON in {name}: {_first_line(error)}") from error


def _header(path: Path, name: str = "it") -> list[str]:
    """Return the names in safetensors; their sizes are checked against the file's by the library."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as opened:
            return list(opened.keys())
    except SafetensorError as error:
        raise Expected(f"safetensors in {name}: {_first_line(error)}") from error


def _pickle(path: Path, name: str = "it") -> dict[str, Any]:
    """Return the content of a checkpoint, read without running code in it."""
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zipfile(path))
    except Exception as error:  # whatever torch says of a file that is no checkpoint, or more than tensors
        code = re.search(r"GLOBAL (\S+)", str(error))
        found = f"found {code[1]}" if code else "found no such file format"
        where = "" if name == "it" else f" in {name}"
        raise Expected(f"a checkpoint of tensors alone{where}, {found}") from error
    return _mapping(loaded, name)


def _shards(index: Path, folder: Path) -> list[Path]:
    """Return the files that an index of weights names; all are there."""
    name = str(index.relative_to(folder))
    names = _mapping(_json(index, name), name, ["weight_map"])["weight_map"]
    files = [index.with_name(file) for file in sorted(set(_mapping(names, f"{name}'s weight_map").values()))]
    missing = [str(file.relative_to(folder)) for file in files if not file.is_file()]
    if missing:
        raise Expected(f"a folder with {some(missing)}, as {name} says")
    return files


def _imports(path: Path, name: str) -> list[str]:
    """Return the modules that a file imports at its top level, outside of `try` and `if`."""
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except (SyntaxError, ValueError) as error:
        raise Expected(f"Python code in {name}: {_first_line(error)}") from error
    whole = [alias.name for node in body if isinstance(node, ast.Import) for alias in node.names]
    parts = [node for node in body if isinstance(node, ast.ImportFrom) and node.level == 0]
    return whole + [str(node.module) for node in parts]


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def some(names: Iterable[Any]) -> str:
    """Return a few of the names, for a message."""
    first = sorted(map(str, names))
    return ", ".join(first[:3]) + (f" and {len(first) - 3} more" if len(first) > 3 else "") or "nothing"
