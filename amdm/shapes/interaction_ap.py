"""The metrics of HICO-DET: mean average precision of interactions, Full and Rare, Default and Known Object.

A category is a kind of interaction and the shape of its object. A detection is right if both its boxes
overlap those of a wanted interaction of its category, in the same image, by one half, and no detection of
more confidence has taken that one already. Full is the mean over all categories, Rare over those of the kinds
that are rare in training. Default counts all images, Known Object those that have an object of the category's
shape (Chao et al. 2018, "Learning to detect human-object interactions"). Average precision is VOC 2007's: the
mean over recalls 0, 0.1, .. 1 of the best precision at that recall or beyond.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from amdm.shapes.instances import OVERLAP, box_iou
from amdm.shapes.reading import Read
from amdm.shapes.world import KIND_WEIGHTS, KINDS, SHAPES, Scenes

CATEGORIES = [(kind, shape) for kind in range(1, len(KINDS)) for shape in range(len(SHAPES))]
COMMON = 0.1  # of the interactions in training; rarer kinds are rare
RARE = [i for i, (kind, _) in enumerate(CATEGORIES) if KIND_WEIGHTS[kind - 1] < COMMON]

Weights = Float[np.ndarray, "draws images"]


class Judged(NamedTuple):
    """Detections and wanted interactions of one category."""

    images: Int[np.ndarray, " detections"]
    """The image of each, by falling confidence."""
    right: Bool[np.ndarray, " detections"]
    wanted: Int[np.ndarray, " images"]
    """The number that each image should have."""
    known: Bool[np.ndarray, " images"]
    """True for images with an object of the category's shape."""


def judge(seen: Read, scenes: Scenes) -> list[Judged]:
    """Return all categories, in the order of CATEGORIES."""
    overlap = box_iou(scenes.boxes, seen.boxes) >= OVERLAP
    image, subject, target = seen.interactions.nonzero(as_tuple=True)
    confidence = seen.confidences[image, subject, target]
    order = confidence.argsort(descending=True, stable=True)
    image, subject, target = (index[order] for index in (image, subject, target))
    kind, shape = seen.interactions[image, subject, target], seen.shapes[image, target]

    kinds, *ends = scenes.links.unbind(-1)
    wanted_shapes = scenes.shapes.gather(1, ends[1])
    fits = kinds[image] == kind[:, None]
    fits &= wanted_shapes[image] == shape[:, None]
    for end, index in zip(ends, (subject, target), strict=True):
        fits &= overlap[image].gather(1, end[image][..., None].expand(-1, -1, overlap.shape[-1]))[
            torch.arange(len(image)), :, index
        ]
    right = _first_come(fits, image, len(kinds))
    judged = []
    for wanted_kind, wanted_shape in CATEGORIES:
        mine = (kind == wanted_kind) & (shape == wanted_shape)
        wanted = ((kinds == wanted_kind) & (wanted_shapes == wanted_shape)).sum(1)
        known = ((scenes.shapes == wanted_shape) & scenes.present).any(1)
        judged.append(Judged(*(part.cpu().numpy() for part in (image[mine], right[mine], wanted, known))))
    return judged


def _first_come(
    fits: Bool[Tensor, "detections links"], image: Int[Tensor, " detections"], images: int
) -> Bool[Tensor, " detections"]:
    """Assign each wanted interaction to the first detection that fits it, at most one to each detection."""
    taken = torch.zeros(images, fits.shape[1], dtype=torch.bool)
    right = torch.zeros(len(fits), dtype=torch.bool)
    for i in fits.any(1).nonzero()[:, 0].tolist():
        free = (fits[i] & ~taken[image[i]]).nonzero()
        if len(free):
            taken[image[i], free[0, 0]] = right[i] = True
    return right


def mean_ap(
    judged: list[Judged], weights: Weights, *, rare: bool = False, known: bool = False
) -> Float[np.ndarray, " draws"]:
    """Return the mean average precision, with images counted as often as each row of weights says.

    Each row is a bootstrap draw. Categories that no image of a draw wants are left out of its mean.
    """
    rows = []
    for i, category in enumerate(judged):
        if rare and i not in RARE:
            continue
        rows.append(average_precision(category, weights * category.known if known else weights))
    mean: NDArray[np.float64] = np.nanmean(np.stack(rows), axis=0)
    return mean


def average_precision(category: Judged, weights: Weights) -> Float[np.ndarray, " draws"]:
    """Return VOC 2007's average precision, NaN if nothing is wanted."""
    counts = weights[:, category.images]
    hits = (counts * category.right).cumsum(1)
    total = counts.cumsum(1)
    wanted = weights @ category.wanted
    precision = np.divide(hits, total, out=np.zeros_like(total), where=total > 0)
    recall = np.divide(hits, wanted[:, None], out=np.zeros_like(total), where=wanted[:, None] > 0)
    levels = np.linspace(0, 1, 11)
    # Sums of weights reach a recall such as 0.3 but for rounding.
    best = [np.where(recall >= level - 1e-9, precision, 0).max(1, initial=0) for level in levels]
    return np.where(wanted > 0, np.mean(best, axis=0), np.nan)
