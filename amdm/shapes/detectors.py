"""Shapes, colours, interactions and styles read from pixels and boxes alone, never from a scene.

All fit the renderer's drawings in the given boxes by least squares: objects in a colour of any hue and
strength, marks in white. Images are float32 in [-1, 1], boxes as in `world.Scenes`. An empty box gets a shape
and a colour too: the caller must know which objects are present.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from amdm.shapes.finding import MARKED, find_objects, whiteness
from amdm.shapes.world import (
    BACKGROUND,
    GRAINY,
    KINDS,
    MAX_OBJECTS,
    PALETTE,
    SIZE,
    Image,
    brightness,
    coverage,
    mark_distances,
    path_coverage,
    pixel_centres,
    shape_distances,
    to_pixels,
)

WINDOW = 16  # pixels: what any box fits in
PAIRS = tuple((i, j) for i in range(MAX_OBJECTS) for j in range(i + 1, MAX_OBJECTS))

# Mean squared residual, summed over channels, of an object's pixels beyond that of the ground's in the box:
# on training renders grain makes at least 0.075, the other styles at most 0.02, with noise of 0.1 too.
GRAIN_ENERGY = 0.05
# A mark is there if it explains this part of what it would add on the path between two boxes.
PATH_EXPLAINED = 0.5


class Fit(NamedTuple):
    """Every shape in the flat, outlined and striped style, fitted to every box.

    The cost is the squared residual in the box, the excess its mean inside the shape less that outside, the
    area the pixels of the shape that no mark hides. Light is the fitted colour's distance from black.
    """

    cost: Float[Tensor, "batch 4 shapes 3"]
    excess: Float[Tensor, "batch 4 shapes 3"]
    area: Float[Tensor, "batch 4 shapes 3"]
    light: Float[Tensor, "batch 4 shapes 3 rgb"]


def _windows(
    maps: Float[Tensor, "batch channels 32 32"], boxes: Float[Tensor, "batch 4 4"]
) -> tuple[
    Float[Tensor, "batch 4 1 16"], Float[Tensor, "batch 4 16 1"], Float[Tensor, "batch 4 channels 16 16"]
]:
    """Return the square of pixels around every box: their x, their y and the maps' values there."""
    corner = (boxes[..., :2].floor() - 1).clamp(0, SIZE - WINDOW).long()
    offsets = torch.arange(WINDOW, device=boxes.device)
    columns, rows = corner[..., :1] + offsets, corner[..., 1:] + offsets
    batch = torch.arange(len(maps), device=boxes.device)[:, None, None, None]
    values = maps.movedim(1, -1)[batch, rows[..., :, None], columns[..., None, :]]
    return columns[..., None, :] + 0.5, rows[..., :, None] + 0.5, values.movedim(-1, 2)


def fit(images: Image, boxes: Float[Tensor, "batch 4 4"]) -> Fit:
    """Fit every shape in every box, with the colour that leaves the least."""
    x, y, values = _windows(torch.cat([images, whiteness(images)[:, None]], dim=1), boxes)
    light, white = values[:, :, :3] + 1, values[:, :, 3]
    x0, y0, x1, y1 = boxes[..., None, None].unbind(-3)
    near = (x > x0) & (x < x1) & (y > y0) & (y < y1)
    weight = (near & (white < MARKED)).float()

    distance = shape_distances(x, y, boxes)
    inside = coverage(distance)
    template = inside[..., None, :, :] * brightness(x[:, :, None], y[:, :, None], distance)
    ground = to_pixels([BACKGROUND], images.device)[0] + 1
    # What the object adds, once the part of the ground that it leaves free is taken away.
    added = light[:, :, None] - (1 - inside[..., None, :, :]) * ground[:, None, None]
    norm = torch.einsum("bkhw,bksthw->bkst", weight, template**2).clamp(min=1e-6)
    colour = torch.einsum("bkhw,bksthw,bkschw->bkstc", weight, template, added) / norm[..., None]
    left = added[:, :, :, None] - template[..., None, :, :] * colour[..., None, None]
    energy = weight[:, :, None, None] * left.square().sum(4)
    total, inner = (_sum(energy, part) for part in (torch.ones_like(inside), inside))
    area, free = ((weight[:, :, None] * part).sum((-2, -1))[..., None] for part in (inside, 1 - inside))
    excess = inner / area.clamp(min=1) - (total - inner) / free.clamp(min=1)
    return Fit(total, excess, area.expand_as(total), colour)


def _sum(
    energy: Float[Tensor, "batch 4 shapes 3 16 16"], part: Float[Tensor, "batch 4 shapes 16 16"]
) -> Float[Tensor, "batch 4 shapes 3"]:
    """Return the sum over a part of the pixels."""
    return torch.einsum("bksthw,bkshw->bkst", energy, part)


def shapes_of(fitted: Fit) -> Int[Tensor, "batch 4"]:
    """Return the shape in every box, an index into SHAPES: that of the least residual in any style."""
    return fitted.cost.amin(-1).argmin(-1)


def colours_of(fitted: Fit) -> Int[Tensor, "batch 4"]:
    """Return the colour in every box, an index into COLOURS: that of the best fit's hue at any brightness."""
    best = fitted.cost.flatten(2).argmin(-1)
    light = fitted.light.flatten(2, 3)
    light = light.gather(2, best[..., None, None].expand(-1, -1, 1, 3))[:, :, 0]
    palette = torch.nn.functional.normalize(to_pixels(PALETTE, light.device) + 1, dim=-1)
    return (light @ palette.T).argmax(-1)


def styles_of(fitted: Fit, present: Bool[Tensor, "batch 4"]) -> Int[Tensor, " batch"]:
    """Return the style with the least residual over all objects, an index into STYLES; -1 without objects.

    It is grainy if even the least residual is more than noise would leave.
    """
    cost, shapes = fitted.cost.min(2)
    style = (cost * present[..., None]).sum(1).argmin(-1)
    best = shapes[:, :, None]
    excess, area = (part.gather(2, best)[:, :, 0] for part in (fitted.excess, fitted.area))
    area = area * present[..., None]
    energy = ((excess * area).sum(1) / area.sum(1).clamp(min=1)).gather(1, style[:, None])[:, 0]
    return style.masked_fill(energy > GRAIN_ENERGY, GRAINY).masked_fill(~present.any(dim=1), -1)


def detect_styles(images: Image) -> Int[Tensor, " batch"]:
    """Return the style of the objects, wherever they are, as in `styles_of`."""
    boxes, present = find_objects(images)
    return styles_of(fit(images, boxes), present)


def detect_interactions(images: Image, boxes: Float[Tensor, "batch 4 4"]) -> Int[Tensor, "batch 4 4"]:
    """Return the kind of interaction at [image, subject, object] by index into KINDS: one per pair."""
    return interactions_of(images, boxes)[0]


def interactions_of(
    images: Image, boxes: Float[Tensor, "batch 4 4"]
) -> tuple[Int[Tensor, "batch 4 4"], Float[Tensor, "batch 4 4"]]:
    """Return the kind of interaction at [image, subject, object], and the visible fraction of its mark.

    It is the one of the four marks, in both directions, with the least residual, if the path between the
    boxes confirms it: the ring of another interaction is not enough.
    """
    first, second = torch.tensor(PAIRS, device=boxes.device).T
    x, y = pixel_centres(boxes.device)
    ends = boxes[:, first], boxes[:, second]
    marks = coverage(torch.cat([mark_distances(x, y, *ends), mark_distances(x, y, *ends[::-1])], dim=2))
    white = whiteness(images)[:, None, None]
    left = (white - marks).square()
    anywhere = marks.amax(2, keepdim=True) > 0
    best = (left * anywhere).sum((-2, -1)).argmin(-1)
    path = path_coverage(x, y, *ends)[:, :, None]
    saved, whole = (
        (part * path).sum((-2, -1)).gather(2, best[..., None])[..., 0]
        for part in (white.square() - left, marks.square())
    )
    found = saved > PATH_EXPLAINED * whole

    kinds = len(KINDS) - 1
    kind, backward = (1 + best % kinds) * found, best >= kinds
    confidence = saved / whole.clamp(min=1e-6) * found
    both = []
    for values in (kind, confidence):
        matrix = values.new_zeros(len(images), MAX_OBJECTS, MAX_OBJECTS)
        matrix[:, first, second] = values * ~backward
        matrix[:, second, first] = values * backward
        both.append(matrix)
    return both[0], both[1]
