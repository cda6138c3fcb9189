"""Scenes of two to four coloured shapes, some of them linked, in one of four styles.

A scene is a pure function of its seed: the same alone, in any batch and in any order. Lengths are pixels; x
grows to the right and y downwards; the centre of the top left pixel is at (0.5, 0.5).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import one_hot

SIZE = 32
MAX_OBJECTS = 4
SHAPES = ("disc", "square", "triangle", "cross")
COLOURS = ("red", "green", "blue", "yellow", "magenta", "cyan")
KINDS = ("none", "holding", "pointing", "wearing", "chained")
STYLES = ("flat", "outlined", "striped", "grainy")
FLAT, OUTLINED, STRIPED, GRAINY = range(4)

# Every colour has one or two weak channels, so that only the white marks are bright in all three.
PALETTE = (
    (0.95, 0.18, 0.18),
    (0.18, 0.80, 0.25),
    (0.18, 0.35, 0.98),
    (1.00, 0.85, 0.12),
    (0.90, 0.18, 0.85),
    (0.12, 0.85, 0.92),
)
BACKGROUND = (0.11, 0.12, 0.16)
STRIPE_PERIOD = 6.0  # along x and along y

# In training a model sees the last two kinds in about 3% of the interactions each.
KIND_WEIGHTS = (0.47, 0.47, 0.03, 0.03)
LINK_PROBABILITY = 0.75

# Seeds of the splits: they share no scene.
TRAIN = range(10_000_000)
VALIDATION = range(10_000_000, 11_000_000)
TEST = range(11_000_000, 12_000_000)

# A box lies in a cell of a 2 x 2 grid, this far from its sides: a ring around it stays in the cell.
CELL, MARGIN = SIZE // 2, 1.5
BOX_SIDES = (9.5, 12.5)

VOCABULARY = ("", *SHAPES, *COLOURS, *KINDS[1:], *STYLES)
MAX_WORDS = 2 * MAX_OBJECTS + 2 + 1  # shapes and colours, two interactions, a style

Image = Float[Tensor, "batch 3 32 32"]


class Scenes(NamedTuple):
    """A batch of scenes. Objects k < count are present; ignore the entries of the others.

    Boxes are squares (x0, y0, x1, y1) that never overlap. A link is (kind, subject, object), the kind an
    index into KINDS, 0 for none; an object is in at most one link. Shapes, colours, styles are indices too.
    """

    seeds: Int[Tensor, " batch"]
    boxes: Float[Tensor, "batch 4 4"]
    present: Bool[Tensor, "batch 4"]
    shapes: Int[Tensor, "batch 4"]
    colours: Int[Tensor, "batch 4"]
    links: Int[Tensor, "batch 2 3"]
    styles: Int[Tensor, " batch"]

    def to(self, device: torch.device | str) -> "Scenes":
        """Return the same scenes on another device."""
        return Scenes(*(field.to(device) for field in self))


def split(scenes: Scenes, size: int) -> list[Scenes]:
    """Return the scenes in parts of `size`; the last one may be smaller."""
    starts = range(0, len(scenes.seeds), size)
    return [Scenes(*(field[start : start + size] for field in scenes)) for start in starts]


def sample_scenes(seeds: Sequence[int], *, uniform_kinds: bool = False) -> Scenes:
    """Return one scene per seed; with `uniform_kinds` all kinds of interaction are equally frequent.

    Raises ValueError for no seeds, and for a seed below 0 or from 2**63 on.
    """
    if len(seeds) == 0 or min(seeds) < 0 or max(seeds) >= 2**63:
        raise ValueError(f"seeds must be one or more integers in [0, 2**63), got {list(seeds)[:8]}")
    # All that is random about a scene is one row of uniforms; the rest is arithmetic on the batch of rows.
    rows = torch.from_numpy(np.stack([np.random.default_rng(int(seed)).random(34) for seed in seeds]))
    count, cells, sides, xs, ys, shapes, colours, style, order, linked, kinds = torch.split(
        rows, [1, 4, 4, 4, 4, 4, 4, 1, 4, 2, 2], dim=1
    )
    present = torch.arange(MAX_OBJECTS) < 2 + (3 * count).long()
    return Scenes(
        seeds=torch.tensor([int(seed) for seed in seeds]),
        boxes=_place(cells.argsort(1), sides, xs, ys),
        present=present,
        shapes=(len(SHAPES) * shapes).long(),
        colours=(len(COLOURS) * colours).long(),
        links=_link(present, order, linked, kinds, uniform_kinds),
        styles=(len(STYLES) * style[:, 0]).long(),
    )


def _place(
    cells: Int[Tensor, "batch 4"],
    sides: Float[Tensor, "batch 4"],
    xs: Float[Tensor, "batch 4"],
    ys: Float[Tensor, "batch 4"],
) -> Float[Tensor, "batch 4 4"]:
    """Return boxes of random sizes, at random places of their cells, from uniform numbers."""
    side = BOX_SIDES[0] + (BOX_SIDES[1] - BOX_SIDES[0]) * sides
    room = CELL - 2 * MARGIN - side
    x0 = CELL * (cells % 2) + MARGIN + room * xs
    y0 = CELL * (cells // 2) + MARGIN + room * ys
    return torch.stack([x0, y0, x0 + side, y0 + side], dim=-1).float()


def _link(
    present: Bool[Tensor, "batch 4"],
    order: Float[Tensor, "batch 4"],
    linked: Float[Tensor, "batch 2"],
    kinds: Float[Tensor, "batch 2"],
    uniform_kinds: bool,
) -> Int[Tensor, "batch 2 3"]:
    """Return the objects in random order, those present first. The first and the last two may be linked."""
    pairs = (order + 2 * ~present).argsort(1).view(-1, 2, 2)
    possible = present.gather(1, pairs.flatten(1)).view(-1, 2, 2).all(-1)
    weights = torch.ones(len(KIND_WEIGHTS)) if uniform_kinds else torch.tensor(KIND_WEIGHTS)
    edges = (weights.double() / weights.double().sum()).cumsum(0)[:-1]
    kind = 1 + (kinds[..., None] >= edges).sum(-1)
    kind = kind * (possible & (linked < LINK_PROBABILITY))
    return torch.cat([kind[..., None], pairs], dim=-1)


def link_matrix(scenes: Scenes) -> Int[Tensor, "batch 4 4"]:
    """Return the kind of interaction at [scene, subject, object], 0 for none."""
    kinds, subjects, objects = scenes.links.unbind(-1)
    matrix = torch.zeros(len(kinds), MAX_OBJECTS**2, dtype=torch.long, device=kinds.device)
    return matrix.scatter_add(1, MAX_OBJECTS * subjects + objects, kinds).view(-1, MAX_OBJECTS, MAX_OBJECTS)


def captions(scenes: Scenes) -> Int[Tensor, "batch 11"]:
    """Return the set of a scene's words as increasing indices into VOCABULARY, then zeros.

    A word occurs once, whatever the number of objects it applies to, and nothing tells which words belong
    together.
    """
    held = word_set(scenes.shapes, scenes.colours, scenes.present, scenes.links[..., 0], scenes.styles)
    ids = torch.arange(1, len(VOCABULARY), device=held.device).expand(len(held), -1)
    # Words that do not hold go last.
    ids = ids.masked_fill(~held, len(VOCABULARY)).sort(1).values[:, :MAX_WORDS]
    return ids.masked_fill(ids == len(VOCABULARY), 0)


def word_set(
    shapes: Int[Tensor, "batch 4"],
    colours: Int[Tensor, "batch 4"],
    present: Bool[Tensor, "batch 4"],
    kinds: Int[Tensor, "batch links"],
    styles: Int[Tensor, " batch"],
) -> Bool[Tensor, "batch words"]:
    """Return True for the words of VOCABULARY, without the empty one, that apply to these objects.

    There is no word for kind 0 and for style -1.
    """
    groups = [
        (shapes, SHAPES, present),
        (colours, COLOURS, present),
        (kinds - 1, KINDS[1:], kinds > 0),
        (styles[:, None], STYLES, styles[:, None] >= 0),
    ]
    held = [one_hot(index.clamp(min=0), len(names)) * there[..., None] for index, names, there in groups]
    return torch.cat([each.any(1) for each in held], dim=1)


def words(ids: Int[Tensor, " words"]) -> frozenset[str]:
    """Return the words of one caption."""
    return frozenset(VOCABULARY[i] for i in ids.tolist() if i)


def coverage(distance: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return the fraction of a pixel that lies inside, from its centre's signed distance to the edge."""
    return (0.5 - distance).clamp(0, 1)


def pixel_centres(device: torch.device) -> tuple[Float[Tensor, "1 32"], Float[Tensor, "32 1"]]:
    """Return the x and the y of every pixel's centre."""
    centres = torch.arange(SIZE, device=device) + 0.5
    return centres[None, :], centres[:, None]


def shape_distances(
    x: Float[Tensor, "*#boxes #height #width"],
    y: Float[Tensor, "*#boxes #height #width"],
    box: Float[Tensor, "*boxes 4"],
) -> Float[Tensor, "*boxes shapes height width"]:
    """Return the signed distance of points to each of SHAPES drawn in a box, negative inside."""
    x0, y0, x1, _ = box[..., None, None].unbind(-3)
    radius = (x1 - x0) / 2
    x, y = (x - x0 - radius).abs(), y - y0 - radius
    height = y.abs()
    disc = torch.hypot(x, y) - radius
    square = torch.maximum(x, height) - 0.9 * radius
    triangle = torch.maximum(y - radius, (2 * x - y - radius) / 5**0.5)
    arm = torch.maximum(x, height) - radius
    cross = torch.maximum(arm, torch.minimum(x, height) - 0.38 * radius)
    return torch.stack([disc, square, triangle, cross], dim=-3)


def brightness(
    x: Float[Tensor, "*#shape #height #width"],
    y: Float[Tensor, "*#shape #height #width"],
    distance: Float[Tensor, "*shape height width"],
) -> Float[Tensor, "*shape 3 height width"]:
    """Return a colour's factors in the flat, outlined and striped styles, by distance from a shape's edge."""
    flat = torch.ones_like(distance)
    outlined = 0.4 + 0.6 * coverage(distance + 1.5)
    wave = torch.sin((x + y) * (2 * torch.pi / STRIPE_PERIOD))
    striped = (0.72 + 0.28 * (2.5 * wave).clamp(-1, 1)) * flat
    return torch.stack([flat, outlined, striped], dim=-3)


def grain(seeds: Int[Tensor, " batch"]) -> Float[Tensor, "batch 32 32"]:
    """Return a brightness in [0.3, 1) for every pixel, from a hash of the seed and the pixel."""
    pixels = torch.arange(SIZE * SIZE, device=seeds.device)
    h = (seeds[:, None] * 0x9E3779B1 + pixels * 0x85EBCA77) & 0xFFFFFFFF
    for multiplier in (0x045D9F3B, 0x119DE1F3):
        h = ((h ^ (h >> 16)) * multiplier) & 0xFFFFFFFF
    uniform = ((h ^ (h >> 16)) >> 8).float() / 2**24
    return (0.3 + 0.7 * uniform).view(-1, SIZE, SIZE)


def mark_distances(
    x: Float[Tensor, "*#pairs #height #width"],
    y: Float[Tensor, "*#pairs #height #width"],
    subject: Float[Tensor, "*pairs 4"],
    target: Float[Tensor, "*pairs 4"],
) -> Float[Tensor, "*pairs kinds height width"]:
    """Return the signed distance of points to the mark of each kind (but none), from one box to another.

    Holding is a bar with a plate at the object, pointing is an arrow towards it, wearing is a ring around the
    subject that is tied to the object, and chained is a dotted line with a ball at the object.
    """
    along, across, x, y, radius, length = _path_coordinates(x, y, subject, target)
    start, end = 0.2 * length, 0.8 * length
    behind, beyond = start - along, along - end

    bar = torch.maximum(across - 1.1, torch.maximum(behind, beyond))
    plate = torch.maximum(across - 3.4, beyond.abs() - 0.9)
    shaft = torch.maximum(across - 0.55, torch.maximum(behind, beyond + 3))
    head = torch.maximum(-4 - beyond, (4 * across + 3.2 * beyond) / (4**2 + 3.2**2) ** 0.5)
    ring = _ring_distance(x, y, radius)
    tie = torch.maximum(across - 0.55, torch.maximum(radius + 1 - along, beyond))
    step = (end - start) / 3
    dots = torch.hypot(along - start - step * (-behind / step).round().clamp(0, 2), across) - 0.95
    ball = torch.hypot(beyond, across) - 2.4
    parts = [(bar, plate), (shaft, head), (ring, tie), (dots, ball)]
    return torch.stack([torch.minimum(*pair) for pair in parts], dim=-3)


def _ring_distance(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Return the distance to a ring, from |x| and |y|: a rounded square, one pixel outside the box."""
    inner = radius - 1.5
    return (torch.hypot((x - inner).clamp(min=0), (y - inner).clamp(min=0)) - 2.5).abs() - 0.6


def _path_coordinates(
    x: Tensor, y: Tensor, subject: Float[Tensor, "*pairs 4"], target: Float[Tensor, "*pairs 4"]
) -> tuple[Tensor, ...]:
    """Return the distances of points along and off the line from centre to centre, and more.

    The others are |x| and |y| from the subject's centre, the subject's half side and the line's length.
    """
    x0, y0, x1, y1 = subject[..., None, None].unbind(-3)
    u0, v0, u1, v1 = target[..., None, None].unbind(-3)
    dx, dy = (u0 + u1 - x0 - x1) / 2, (v0 + v1 - y0 - y1) / 2
    # Two boxes may share their centre when they are not of one scene.
    length = torch.hypot(dx, dy).clamp(min=1e-3)
    x, y = x - (x0 + x1) / 2, y - (y0 + y1) / 2
    along, across = (x * dx + y * dy) / length, (x * dy - y * dx).abs() / length
    return along, across, x.abs(), y.abs(), (x1 - x0) / 2, length


def path_coverage(
    x: Float[Tensor, "*#pairs #height #width"],
    y: Float[Tensor, "*#pairs #height #width"],
    subject: Float[Tensor, "*pairs 4"],
    target: Float[Tensor, "*pairs 4"],
) -> Float[Tensor, "*pairs height width"]:
    """Return the stretch that each mark from box to box runs through, four pixels wide, without rings."""
    _, _, *around_target, _ = _path_coordinates(x, y, target, subject)
    along, across, *around_subject, length = _path_coordinates(x, y, subject, target)
    stretch = torch.maximum(across - 2, torch.maximum(0.2 * length - along, along - 0.8 * length))
    ring = torch.minimum(_ring_distance(*around_subject), _ring_distance(*around_target))
    return coverage(stretch) * (1 - coverage(ring))


def to_pixels(colours: Sequence[Sequence[float]], device: torch.device) -> Float[Tensor, "colours 3"]:
    """Return colours in [0, 1] as pixel values in [-1, 1]."""
    return 2 * torch.tensor(colours, device=device) - 1


def render(scenes: Scenes) -> Image:
    """Return images in [-1, 1]: the objects on a dark ground, with white marks for their interactions."""
    device = scenes.boxes.device
    x, y = pixel_centres(device)
    rows = torch.arange(len(scenes.seeds), device=device)
    chosen = (rows[:, None], torch.arange(MAX_OBJECTS, device=device), scenes.shapes)
    distance = shape_distances(x, y, scenes.boxes)[chosen]
    inside = coverage(distance) * scenes.present[..., None, None]
    grains = grain(scenes.seeds)[:, None, None].expand(-1, MAX_OBJECTS, -1, -1, -1)
    bright = torch.cat([brightness(x, y, distance), grains], dim=2)[rows, :, scenes.styles]
    palette, background = to_pixels(PALETTE, device), to_pixels([BACKGROUND], device)[0, :, None, None]
    # -1 is black: what is multiplied by the brightness is the distance from it.
    light = torch.einsum("bkhw,bkc->bchw", inside * bright, palette[scenes.colours] + 1)
    image = light - inside.sum(1, keepdim=True) + background * (1 - inside.sum(1, keepdim=True))
    return torch.lerp(image, image.new_ones(()), _marks(scenes))


def _marks(scenes: Scenes) -> Float[Tensor, "batch 1 32 32"]:
    """Return the part of every pixel that the white marks cover."""
    kinds, *ends = scenes.links.unbind(-1)
    subject, target = (scenes.boxes.gather(1, end[..., None].expand(-1, -1, 4)) for end in ends)
    rows = torch.arange(len(kinds), device=kinds.device)[:, None]
    columns = torch.arange(kinds.shape[1], device=kinds.device)
    distance = mark_distances(*pixel_centres(kinds.device), subject, target)
    chosen = distance[rows, columns, (kinds - 1).clamp(min=0)]
    return (coverage(chosen) * (kinds > 0)[..., None, None]).amax(1, keepdim=True)
