"""What is in an image, wherever it is: no boxes are given, they are found."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from shapes import detectors, world
from shapes.finding import find_objects
from shapes.world import Image


class Read(NamedTuple):
    """Objects with their boxes, in no order that means anything, and what they do; -1 for no style at all.

    Attributes, interactions and confidences of objects that are not there are to be ignored.
    """

    boxes: Float[Tensor, "batch 4 4"]
    present: Bool[Tensor, "batch 4"]
    shapes: Int[Tensor, "batch 4"]
    colours: Int[Tensor, "batch 4"]
    interactions: Int[Tensor, "batch 4 4"]
    """Kinds at [image, subject, object], 0 for none."""
    confidences: Float[Tensor, "batch 4 4"]
    """How much of an interaction's mark is there: above 0.5, 1 for all of it; 0 for none."""
    styles: Int[Tensor, " batch"]


def read(images: Image) -> Read:
    """Find the objects of images and read all about them, from the pixels alone."""
    boxes, present = find_objects(images)
    fitted = detectors.fit(images, boxes)
    interactions, confidences = detectors.interactions_of(images, boxes)
    pairs = present[:, :, None] & present[:, None, :]
    styles = detectors.styles_of(fitted, present).masked_fill(~present.any(dim=1), -1)
    return Read(
        boxes,
        present,
        detectors.shapes_of(fitted),
        detectors.colours_of(fitted),
        interactions * pairs,
        confidences * pairs,
        styles,
    )


def said(seen: Read) -> Bool[Tensor, "batch words"]:
    """Which words of the vocabulary, without the empty one, hold of the images: their captions as seen."""
    first_colour = len(world.SHAPES)
    first_kind = first_colour + len(world.COLOURS)
    first_style = first_kind + len(world.KINDS) - 1
    spoken = torch.zeros(len(seen.styles), len(world.VOCABULARY) - 1, device=seen.boxes.device)
    there = seen.present.float()
    spoken.scatter_add_(1, seen.shapes, there)
    spoken.scatter_add_(1, first_colour + seen.colours, there)
    kinds = seen.interactions.flatten(1)
    spoken.scatter_add_(1, first_kind + (kinds - 1).clamp(min=0), (kinds > 0).float())
    styles = seen.styles[:, None]
    spoken.scatter_add_(1, first_style + styles.clamp(min=0), (styles >= 0).float())
    return spoken > 0
