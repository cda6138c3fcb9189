"""The boxes of the objects in an image, found from its pixels alone.

Every cell of the world, a quarter of the image, holds at most one object. In each cell all shapes, flat and
outlined, are fitted in boxes of all sizes and places half a pixel apart. As in `detectors` the fit is by
least squares, in a colour of any hue and strength, without the pixels of marks.
"""

from functools import cache

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from amdm.shapes.world import (
    BACKGROUND,
    BOX_SIDES,
    CELL,
    MARGIN,
    Image,
    brightness,
    coverage,
    shape_distances,
    to_pixels,
)

STEP = 0.5  # pixels
# A pixel this white belongs to a mark; objects reach 0.08, noise of 0.1 has a standard deviation of 0.06.
MARKED = 0.25
# The squared residual that an object takes away: on training renders at least 17, nothing at most 0.3.
THERE = 4.0


def whiteness(images: Image) -> Float[Tensor, "batch 32 32"]:
    """Return the part of every pixel that a white mark covers: only marks are bright in every channel."""
    dark = 2 * min(BACKGROUND) - 1
    return ((images.amin(1) - dark) / (1 - dark)).clamp(0, 1)


def find_objects(images: Image) -> tuple[Float[Tensor, "batch 4 4"], Bool[Tensor, "batch 4"]]:
    """Return the best box in every cell, row by row as in `world.Scenes`, and whether it has an object."""
    boxes, inside, template = (part.to(images.device) for part in _candidates())
    ground = to_pixels([BACKGROUND], images.device)[0]
    weight = (_cells(whiteness(images)) < MARKED).float()
    added = weight[:, None] * _cells(images - ground[:, None, None])
    squared = weight @ template.square().T
    taken = torch.zeros_like(squared)
    for channel, light in enumerate(ground + 1):
        # An object hides the ground: |added|^2 - min_c |added + light inside - c template|^2, expanded.
        y = added[:, channel]
        along = y @ template.T + light * (weight @ (inside * template).T)
        hidden = 2 * light * (y @ inside.T) + light**2 * (weight @ inside.square().T)
        taken += along**2 / squared.clamp(min=1e-3) - hidden
    most, best = taken.max(dim=1)
    corner = CELL * torch.tensor([[0, 0, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [1, 1, 1, 1]]).to(boxes)
    return rearrange(boxes[best], "(b k) xy -> b k xy", k=4) + corner, rearrange(
        most > THERE, "(b k) -> b k", k=4
    )


def _cells(maps: Float[Tensor, "batch *channels 32 32"]) -> Float[Tensor, "cells *channels pixels"]:
    return rearrange(maps, "b ... (r h) (c w) -> (b r c) ... (h w)", h=CELL, w=CELL)


@cache
def _candidates() -> tuple[
    Float[Tensor, "candidates 4"], Float[Tensor, "candidates pixels"], Float[Tensor, "candidates pixels"]
]:
    """Return boxes within a cell, how much of every pixel a shape in them covers, and its light there."""
    first, last = BOX_SIDES
    corners = [
        (MARGIN + STEP * i, MARGIN + STEP * j, MARGIN + STEP * i + side, MARGIN + STEP * j + side)
        for side in torch.arange(first, last + STEP / 2, STEP).tolist()
        for i in range(int((CELL - 2 * MARGIN - side) / STEP) + 1)
        for j in range(int((CELL - 2 * MARGIN - side) / STEP) + 1)
    ]
    boxes, centres = torch.tensor(corners), torch.arange(CELL) + 0.5
    distance = shape_distances(centres[None, :], centres[:, None], boxes)
    # Stripes depend on where the cell is; flat templates find striped objects as well.
    light = brightness(centres[None, :], centres[:, None], distance)[:, :, :2]
    inside = coverage(distance)[:, :, None].expand_as(light)
    flat = [rearrange(part, "k s t h w -> (k s t) (h w)") for part in (inside, inside * light)]
    return boxes.repeat_interleave(len(flat[0]) // len(boxes), dim=0), flat[0], flat[1]
