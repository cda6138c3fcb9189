"""The metrics of COCO-MIG: every wanted object in its place and colour.

An object counts for a wanted one if it has the wanted shape, like a detection of that class. Of those the box
with the largest overlap is taken; its overlap counts as 0 if the colour is wrong (Appendix G.1; Zhou et al.
2024, MIGC). Success is an overlap of one half and the right colour.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from amdm.shapes.reading import Read
from amdm.shapes.world import Scenes

OVERLAP = 0.5


class Instances(NamedTuple):
    """The metrics of every wanted object; 0 for objects that are not wanted."""

    iou: Float[Tensor, "batch 4"]
    success: Bool[Tensor, "batch 4"]


def instances(seen: Read, scenes: Scenes, *, colours: bool = True) -> Instances:
    """Match the objects seen to the wanted ones; without `colours` only shape and place count."""
    there = seen.present[:, None, :] & (scenes.shapes[:, :, None] == seen.shapes[:, None, :])
    overlap, best = (box_iou(scenes.boxes, seen.boxes) * there).max(dim=2)
    right = scenes.present
    if colours:
        right = right & (seen.colours.gather(1, best) == scenes.colours)
    iou = overlap * right
    return Instances(iou, iou >= OVERLAP)


def box_iou(one: Float[Tensor, "batch n 4"], other: Float[Tensor, "batch m 4"]) -> Float[Tensor, "batch n m"]:
    """Return the intersection over union of boxes (x0, y0, x1, y1)."""
    low = torch.maximum(one[:, :, None, :2], other[:, None, :, :2])
    high = torch.minimum(one[:, :, None, 2:], other[:, None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (one, other)]
    return shared / (areas[0][:, :, None] + areas[1][:, None, :] - shared)
