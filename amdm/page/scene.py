"""Boxes that a visitor draws, as a scene of the world."""

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
import torch

from amdm.shapes import world
from amdm.shapes.world import Scenes

PIXEL = 16
"""The side of one pixel of the world on the canvas."""
CANVAS = PIXEL * world.SIZE
LABELS = tuple(f"{colour} {shape}" for colour in world.COLOURS for shape in world.SHAPES)
CELLS = ("top left", "top right", "bottom left", "bottom right")
"""The places of the world's 2 x 2 grid."""
Box = Mapping[str, Any]
"""A box on the canvas: xmin, ymin, xmax, ymax in the canvas's pixels, and a label of LABELS."""
Square = tuple[float, float, float, float]


class Link(NamedTuple):
    """An interaction between the boxes of two of CELLS; kind "none" for none."""

    kind: str = "none"
    subject: str = CELLS[0]
    target: str = CELLS[1]


def rgb(label: str) -> tuple[int, int, int]:
    """Return the colour that a label names, in bytes."""
    red, green, blue = world.PALETTE[world.COLOURS.index(label.split()[0])]
    return round(255 * red), round(255 * green), round(255 * blue)


def blank() -> np.ndarray:
    """Return the empty canvas: the world's ground, with its four cells marked."""
    image = np.full((CANVAS, CANVAS, 3), [round(255 * part) for part in world.BACKGROUND], np.uint8)
    middle = CANVAS // 2
    image[middle - 1 : middle + 1] = image[:, middle - 1 : middle + 1] = (58, 61, 74)
    return image


def drawn(label: str, *corners: float) -> dict[str, Any]:
    """Return a box of the world's coordinates as the canvas has it."""
    places = (round(PIXEL * corner) for corner in corners)
    return dict(zip(("xmin", "ymin", "xmax", "ymax"), places, strict=True)) | {
        "label": label,
        "color": rgb(label),
    }


def first_boxes() -> list[dict[str, Any]]:
    """Return the boxes that the page opens with."""
    return [
        drawn("red disc", 2.0, 3.0, 13.0, 14.0),
        drawn("blue cross", 19.0, 3.0, 30.0, 14.0),
        drawn("yellow square", 2.5, 18.5, 13.5, 29.5),
    ]


NO_LINK = Link()


def scene_of(boxes: Sequence[Box], link: Link = NO_LINK, style: str = "flat") -> Scenes:
    """Return a scene of one image: every box is moved into the nearest cell of the world's 2 x 2 grid.

    In the world a box is a square of 9.5 to 12.5 pixels with a cell of its own; so are these made. The order
    of the boxes does not matter.

    Raises:
        ValueError: there are fewer than two boxes or more than four, a box has no label or no area, the
            interaction joins a box with itself or one that is not there, or a name is unknown.
    """
    if not 2 <= len(boxes) <= world.MAX_OBJECTS:
        raise ValueError(f"There are {len(boxes)} boxes: draw two to four.")
    for label in (box.get("label") for box in boxes):
        if label not in LABELS:
            said = f"is labelled {label!r}" if label else "has no label"
            raise ValueError(f"A box {said}: double-click it and choose a colour and a shape of the list.")
    placed = placed_in_cells(boxes)
    padding = world.MAX_OBJECTS - len(boxes)
    words = [box["label"].split() for box in placed.values()]
    squares = [within(box, cell) for cell, box in placed.items()]
    return Scenes(
        seeds=torch.zeros(1, dtype=torch.long),
        boxes=torch.tensor([squares + padding * squares[:1]]),
        present=torch.arange(world.MAX_OBJECTS)[None] < len(boxes),
        shapes=torch.tensor([[world.SHAPES.index(shape) for _, shape in words] + padding * [0]]),
        colours=torch.tensor([[world.COLOURS.index(colour) for colour, _ in words] + padding * [0]]),
        links=torch.tensor([links_of(link, [CELLS[cell] for cell in placed])]),
        styles=torch.tensor([index_of(style, world.STYLES, "style")]),
    )


def index_of(name: str, names: Sequence[str], what: str) -> int:
    """Return the place of a name, or raise ValueError."""
    if name not in names:
        raise ValueError(f"The {what} is {name!r}: choose one of {', '.join(names)}.")
    return names.index(name)


def links_of(link: Link, places: Sequence[str]) -> list[list[int]]:
    """Return a scene's two links, of which the second has no kind, for boxes in these cells."""
    kind = index_of(link.kind, world.KINDS, "interaction")
    if kind == 0:
        return [[0, 0, 1], [0, 2, 3]]
    if link.subject == link.target:
        raise ValueError(f"The box at the {link.subject} cannot interact with itself: choose two places.")
    for place in (link.subject, link.target):
        if place not in places:
            raise ValueError(f"There is no box at the {place}: draw one there, or choose another place.")
    ends = [places.index(link.subject), places.index(link.target)]
    others = [k for k in range(world.MAX_OBJECTS) if k not in ends]
    return [[kind, *ends], [0, *others]]


class Middle(NamedTuple):
    """A box's middle and side, in the world's pixels."""

    x: float
    y: float
    side: float


def middle_of(box: Box) -> Middle:
    """Return a box's middle and side; raise ValueError if it has no area."""
    x0, y0, x1, y1 = (float(box[side]) / PIXEL for side in ("xmin", "ymin", "xmax", "ymax"))
    if not (x0 < x1 and y0 < y1):
        raise ValueError("A box has no area: remove it and draw it again.")
    return Middle((x0 + x1) / 2, (y0 + y1) / 2, ((x1 - x0) + (y1 - y0)) / 2)


def placed_in_cells(boxes: Sequence[Box]) -> dict[int, Box]:
    """Return the boxes by their cells, each in one of its own, so that they move as little as need be."""
    middles = [middle_of(box) for box in boxes]

    def moved(cells: Sequence[int]) -> float:
        corners = [[world.CELL * (cell % 2), world.CELL * (cell // 2)] for cell in cells]
        half = world.CELL / 2
        pairs = zip(middles, corners, strict=True)
        return sum((at.x - x - half) ** 2 + (at.y - y - half) ** 2 for at, (x, y) in pairs)

    cells = min(permutations(range(len(CELLS)), len(boxes)), key=moved)
    return dict(sorted(zip(cells, boxes, strict=True), key=lambda pair: pair[0]))


def within(box: Box, cell: int) -> Square:
    """Return a box as a square of an allowed side, as near to its place as its cell lets it be."""
    middle, (smallest, largest) = middle_of(box), world.BOX_SIDES
    side = round(min(max(middle.side, smallest), largest), 2)
    room = world.CELL - 2 * world.MARGIN - side
    lows = (world.CELL * (cell % 2) + world.MARGIN, world.CELL * (cell // 2) + world.MARGIN)
    places = zip((middle.x, middle.y), lows, strict=True)
    x, y = (round(min(max(at - side / 2, low), low + room), 2) for at, low in places)
    return x, y, round(x + side, 2), round(y + side, 2)
