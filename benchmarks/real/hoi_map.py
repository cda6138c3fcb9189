"""HICO-DET's mean average precision of FGAHOI's detections: Full and Rare, Default and Known Object.

A detection is a person's box, an object's box, a category and a score. It is right if both boxes overlap a
pair of its category in its image by more than one half, and no detection of more confidence has taken that
pair. Default counts all images, Known Object those that have the category's object. Average precision is VOC
2007's.

The numbers are those of FGAHOI's `datasets/hico_eval.py`, to the last bit but for equal scores, whose order
is not defined there. Hence what follows: boxes have their edge pixels (widths are x1 - x0 + 1), recalls are
compared with multiples of 0.1 as floats are, and a category of which there is neither a detection nor a
truth counts as 0. `amdm.shapes.interaction_ap` has the metric for bootstrap draws of the small world, where
none of the three is so.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from amdm.command_line.arguments import Expected
from benchmarks.real.hico import OBJECTS, VERBS, Category, Dataset, Pair, Truth

KEPT = 100
"""Detections of an image that count, those of highest score."""
OVERLAP = 0.5
SAME = 0.5
"""Two detections of one category are one if the product of their boxes' overlaps is more."""
RECALLS = np.arange(0, 1.1, 0.1)
KEYS = ("boxes", "labels", "verb_scores", "sub_ids", "obj_ids")

Boxes = Float[np.ndarray, "boxes 4"]


class Found(NamedTuple):
    """Detections of one category in one image, by falling score."""

    persons: Boxes
    objects: Boxes
    scores: Float[np.ndarray, " detections"]


def read(path: Path) -> dict[str, Mapping[str, Tensor]]:
    """Return FGAHOI's detections by the image's name without ending.

    The file is `torch.save`d: a list with a dictionary for each image, as FGAHOI's `PostProcessHOI` returns
    it, and its `file_name`. There are Q pairs: `boxes` (2 Q, 4), x0, y0, x1, y1 in pixels; `labels` (2 Q),
    from 0; `verb_scores` (Q, 117), times the object's score; `sub_ids` and `obj_ids` (Q), indices of boxes.

    Raises:
        Expected: it is another file, or has more than tensors.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch says of a file that is no checkpoint
        raise Expected(f"a file of torch.save with tensors: {str(error).splitlines()[0]:.80}") from error
    if not isinstance(found, list):
        raise Expected(f"a list with a dictionary for each image, found a {type(found).__name__}")
    for i, one in enumerate(found):
        lacking = [key for key in ("file_name", *KEYS) if key not in one]
        if lacking:
            raise Expected(f"image {i} to have {', '.join(lacking)}")
        pairs = len(one["sub_ids"])
        shapes = {"boxes": (len(one["labels"]), 4), "verb_scores": (pairs, VERBS), "obj_ids": (pairs,)}
        for key, shape in shapes.items():
            if tuple(one[key].shape) != shape:
                raise Expected(f"image {i} to have {key} of shape {shape}, found {tuple(one[key].shape)}")
    return {Path(one["file_name"]).stem: {key: one[key] for key in KEYS} for one in found}


def evaluate(
    detections: Mapping[str, Mapping[str, Tensor]], dataset: Dataset, images: Iterable[str] | None = None
) -> dict[str, float]:
    """Return the mean average precisions in percent, by the names of the paper's table 1.

    Args:
        detections: by image, see `read`.
        dataset: the truth.
        images: the images that count; all test images by default. Those without detections have none.
    """
    names = list(dataset.truth if images is None else images)
    found = {name: detect(detections[name], dataset.categories) for name in names if name in detections}
    truth = {name: dataset.truth[name] for name in names}
    precisions = {
        how: {
            one.id: average_precision(one, found, truth, known=how == "Known") for one in dataset.categories
        }
        for how in ("Default", "Known")
    }
    return {
        f"{how} {which}": 100
        * _mean(ap for key, ap in found.items() if which == "Full" or key in dataset.rare)
        for how, found in precisions.items()
        for which in ("Full", "Rare")
    }


def _mean(values: Iterable[float]) -> float:
    """Return the mean of what is not NaN; NaN if all is."""
    known = [value for value in values if not np.isnan(value)]
    return sum(known) / len(known) if known else float("nan")


def detect(image: Mapping[str, Tensor], categories: Iterable[Category]) -> dict[str, Found]:
    """Return an image's detections by category: the best 100 that are one, without doubles."""
    boxes, labels, scores, persons, objects = (image[key].numpy() for key in KEYS)
    ids = np.full((VERBS, len(OBJECTS)), "", dtype="U8")
    for category in categories:
        ids[category.verb - 1, OBJECTS.index(category.object)] = category.id
    kinds = ids[:, labels[objects]].T  # a row for each pair, a column for each verb
    masked = np.where(kinds == "", 0, scores).ravel()
    best = np.argsort(-masked, kind="stable")[:KEPT]
    found = {}
    for kind in dict.fromkeys(kinds.ravel()[best]):
        mine = best[kinds.ravel()[best] == kind]
        whole = Found(boxes[persons[mine // VERBS]], boxes[objects[mine // VERBS]], masked[mine])
        if kind:
            kept = distinct(whole)
            found[str(kind)] = Found(*(part[kept] for part in whole))
    return found


def distinct(found: Found) -> list[int]:
    """Return the indices of detections that are not doubles of one with a higher score."""
    kept: list[int] = []
    for i in range(len(found.scores)):
        persons, objects = (_ratio(boxes[i], boxes[kept]) for boxes in (found.persons, found.objects))
        with np.errstate(invalid="ignore"):  # boxes turned inside out have no area: NaN is a double
            same = persons[0] / persons[1] * objects[0] / objects[1]
        if (same <= SAME).all():
            kept.append(i)
    return kept


def _ratio(one: Float[np.ndarray, "4"], others: Boxes) -> tuple[Any, Any]:
    """Return intersections and unions of a box and others; boxes that touch have a pixel in common."""
    sides = np.maximum(np.minimum(one[2:], others[:, 2:]) - np.maximum(one[:2], others[:, :2]) + 1, 0)
    common = sides.prod(-1)
    return common, (one[2:] - one[:2] + 1).prod() + (others[:, 2:] - others[:, :2] + 1).prod(-1) - common


def average_precision(
    category: Category, found: Mapping[str, Mapping[str, Found]], truth: Mapping[str, Truth], *, known: bool
) -> float:
    """Return a category's average precision: 0 without detections, else NaN where there is no truth."""
    right: list[bool] = []
    scores: list[float] = []
    wanted = 0
    for name, image in truth.items():
        if known and (image.objects is None or category.object not in image.objects):
            continue
        pairs = image.pairs.get(category.id, ())
        wanted += len(pairs)
        if category.id in found.get(name, {}):
            mine = found[name][category.id]
            right += judge(mine, pairs).tolist()
            scores += mine.scores.tolist()
    if not right:
        return 0.0
    if not wanted:
        return float("nan")
    hits = np.array(right)[np.argsort(-np.array(scores), kind="stable")]
    return interpolated(hits, wanted)


def interpolated(hits: Bool[np.ndarray, " detections"], wanted: int) -> float:
    """Return the mean over recalls 0, 0.1, .. 1 of the best precision at that recall or beyond."""
    count = np.cumsum(hits)
    recall, precision = count / wanted, count / np.arange(1, len(hits) + 1)
    best = [precision[recall >= level].max(initial=0) for level in RECALLS]
    return float(sum(value / len(RECALLS) for value in best))


def judge(found: Found, pairs: Sequence[Pair]) -> Bool[np.ndarray, " detections"]:
    """Return which detections are right: each takes the first pair that fits it and is not taken."""
    right = np.zeros(len(found.scores), dtype=bool)
    if not pairs:
        return right
    persons, objects = (np.array([pair[end] for pair in pairs], dtype=float) for end in (0, 1))
    fits = (_overlaps(found.persons, persons) > OVERLAP) & (_overlaps(found.objects, objects) > OVERLAP)
    free = np.ones(len(pairs), dtype=bool)
    for i, row in enumerate(fits):
        first = np.flatnonzero(row & free)[:1]
        free[first], right[i] = False, bool(len(first))
    return right


def _overlaps(ones: Boxes, others: Boxes) -> Float[np.ndarray, "ones others"]:
    """Return the intersections over unions of boxes; boxes that touch have nothing in common."""
    a, b = ones[:, None].astype(float), others[None].astype(float)
    common = _area(np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:]))
    areas = _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:])
    overlaps: Float[np.ndarray, "ones others"] = common / (areas - common + 1e-6)
    return overlaps


def _area(low: Any, high: Any) -> Any:
    """Return the areas of boxes with their edge pixels, 0 for boxes without one."""
    return np.where((high > low).all(-1), (high - low + 1).prod(-1), 0.0)
