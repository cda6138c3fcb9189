"""Reading of an image without given boxes: they are found."""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor

from amdm.shapes import detectors, world
from amdm.shapes.finding import find_objects
from amdm.shapes.world import Image


class Read(NamedTuple):
    """Objects with their boxes, in arbitrary order, and their interactions; style -1 if there is none.

    Ignore attributes, interactions and confidences of objects that are not present.
    """

    boxes: Float[Tensor, "batch 4 4"]
    present: Bool[Tensor, "batch 4"]
    shapes: Int[Tensor, "batch 4"]
    colours: Int[Tensor, "batch 4"]
    interactions: Int[Tensor, "batch 4 4"]
    """Kinds at [image, subject, object], 0 for none."""
    confidences: Float[Tensor, "batch 4 4"]
    """The part of an interaction's mark that is there: above 0.5, 1 for all of it; 0 for none."""
    styles: Int[Tensor, " batch"]


def read(images: Image) -> Read:
    """Find the objects of images and read everything about them, from the pixels alone."""
    boxes, present = find_objects(images)
    fitted = detectors.fit(images, boxes)
    interactions, confidences = detectors.interactions_of(images, boxes)
    pairs = present[:, :, None] & present[:, None, :]
    return Read(
        boxes,
        present,
        detectors.shapes_of(fitted),
        detectors.colours_of(fitted),
        interactions * pairs,
        confidences * pairs,
        detectors.styles_of(fitted, present),
    )


def said(seen: Read) -> Bool[Tensor, "batch words"]:
    """Return the words of the vocabulary, without the empty one, that apply to images: captions as seen."""
    return world.word_set(seen.shapes, seen.colours, seen.present, seen.interactions.flatten(1), seen.styles)
