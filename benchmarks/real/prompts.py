"""Prompts: captions, instances and interactions in boxes; and their checks."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amdm.command_line.arguments import Expected

Box = tuple[float, float, float, float]
"""Edges x0 < x1 and y0 < y1 as parts of the image's width and height."""
NEGATIVE = (
    "longbody, lowres, bad anatomy, bad hands, missing fingers, extra digit, fewer digits, cropped, "
    "worst quality, low quality"
)
"""The negative prompt of InteractDiffusion's `inference_batch.py` and of the paper's published script."""


@dataclass(frozen=True)
class Instance:
    """An object that is described, and where it is."""

    phrase: str
    box: Box


@dataclass(frozen=True)
class Interaction:
    """A subject that does something with an object, and where both are."""

    subject: str
    action: str
    object: str
    subject_box: Box
    object_box: Box


@dataclass(frozen=True)
class Prompt:
    """One image of a benchmark. `name` is the stem of its file, and the same in all tables."""

    name: str
    caption: str
    instances: tuple[Instance, ...] = ()
    interactions: tuple[Interaction, ...] = ()
    style: Path | None = None
    """An image whose style is wanted."""


def read_json(path: Path) -> Any:
    """Return the content of a JSON file. Raises `Expected` if it is none."""
    if not path.is_file():
        raise Expected("a file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no text
        raise Expected(f"JSON: {str(error).splitlines()[0]}") from error


def entry(value: Any, where: str, **kinds: type | tuple[type, ...]) -> Mapping[str, Any]:
    """Return a dictionary that has these keys with values of these types; `where` is its name."""
    if not isinstance(value, Mapping):
        raise Expected(f"{where} to be a dictionary, found a {type(value).__name__}")
    for key, kind in kinds.items():
        if not isinstance(value.get(key), kind):
            raise Expected(f"{where} to have {key!r}, a {_name(kind)}, found {value.get(key)!r:.40}")
    return value


def _name(kind: type | tuple[type, ...]) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join({"str": "string", "dict": "dictionary"}.get(k.__name__, k.__name__) for k in kinds)


def box_of(value: Any, where: str, width: float = 1, height: float = 1) -> Box:
    """Return a box as parts of an image of this size, cut at its edges.

    Raises:
        Expected: it has no area inside the image.
    """
    if not (
        isinstance(value, list) and len(value) == 4 and all(type(edge) in (int, float) for edge in value)
    ):
        raise Expected(f"{where} to be a box [x0, y0, x1, y1], found {value!r:.60}")
    x0, y0, x1, y1 = (
        min(max(edge / size, 0.0), 1.0)
        for edge, size in zip(value, (width, height, width, height), strict=True)
    )
    if not (x0 < x1 and y0 < y1):
        raise Expected(f"{where} to be a box with an area inside the image, found {value!r:.60}")
    return x0, y0, x1, y1


def box_inside(value: Any, width: float, height: float) -> Box | None:
    """Return a box as parts of an image of this size; None if nothing of it is inside."""
    try:
        return box_of(value, "", width, height)
    except Expected:
        return None


def with_article(thing: str) -> str:
    """Return "a cat", "an apple", "skis"."""
    if thing in ("skis", "scissors"):
        return thing
    return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"
