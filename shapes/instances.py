"""The metrics of COCO-MIG: every wanted object in its place and colour.

An object counts for a wanted one if it has its shape, as a detector asked for that class would say. Of those
the box that overlaps most is taken, and its overlap counts nothing if the colour is another (Appendix G.1;
Zhou et al. 2024, MIGC). Success is an overlap of one half and the colour.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from shapes.reading import Read
from shapes.world import Scenes

OVERLAP = 0.5


class Instances(NamedTuple):
    """The metrics of every wanted object; 0 for objects that are not wanted."""

    iou: Float[Tensor, "batch 4"]
    success: Bool[Tensor, "batch 4"]


def instances(seen: Read, scenes: Scenes, *, colours: bool = True) -> Instances:
    """Match what is seen to what is wanted; without `colours` only shape and place count."""
    there = seen.present[:, None, :] & (scenes.shapes[:, :, None] == seen.shapes[:, None, :])
    overlap, best = (box_iou(scenes.boxes, seen.boxes) * there).max(dim=2)
    right = scenes.present
    if colours:
        right = right & (seen.colours.gather(1, best) == scenes.colours)
    iou = overlap * right
    return Instances(iou, iou >= OVERLAP)


def box_iou(one: Float[Tensor, "batch n 4"], other: Float[Tensor, "batch m 4"]) -> Float[Tensor, "batch n m"]:
    """The area that boxes (x0, y0, x1, y1) share, as a part of what they cover together."""
    low = torch.maximum(one[:, :, None, :2], other[:, None, :, :2])
    high = torch.minimum(one[:, :, None, 2:], other[:, None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (one, other)]
    return shared / (areas[0][:, :, None] + areas[1][:, None, :] - shared)
