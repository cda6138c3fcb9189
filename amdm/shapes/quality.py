"""Distances between sets of images: KID, FID, precision and recall, by torch-fidelity.

All compare `features` of images with those of other images. KID (Binkowski et al. 2018) is unbiased for any
number of others; the jackknife over groups of both sets gives its interval. Precision, recall and FID need as
many others as images. FID (Heusel et al. 2017) is biased in small samples and is not given below FID_FROM
images. Precision is the fraction of images that look like one of the others, recall the fraction of the
others that look like one of the images (Kynkaanniemi et al. 2019, 3 neighbours).
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from amdm.shapes.imports import import_beside_torchvision

FID_FROM = 5000

Features = Float[Tensor, "_ dims"]
Sums = Float[NDArray[np.float64], "groups groups"]


def _fidelity(module: str) -> Any:
    import_beside_torchvision("torch_fidelity")
    return import_beside_torchvision(f"torch_fidelity.{module}")


class Kid(NamedTuple):
    """The kernel inception distance, times 1000 as is common."""

    value: float
    pseudo: Float[NDArray[np.float64], " groups"]
    """The jackknife's pseudo-values: the error of their mean is that of the value."""


def kid(images: Features, others: Features, groups: int) -> Kid:
    """Return the kernel inception distance of all images to all others, with its jackknife over groups.

    Group k of the images is left out together with group k of the others, so the spread covers the draw of
    the images and that of the others.

    Raises ValueError unless there are two groups or more, and both sets can be cut into so many of one size.
    """
    if groups < 2 or any(len(side) % groups or len(side) < groups for side in (images, others)):
        raise ValueError(
            f"images are {len(images)}, others {len(others)} and groups {groups}, expected two groups or "
            "more, and multiples of their number"
        )
    sums = [_within(images, groups), _within(others, groups), _across(images, others, groups)]
    sizes = len(images) // groups, len(others) // groups

    def of(kept: list[int]) -> float:
        """Return the unbiased squared discrepancy of some groups."""
        n, m = (size * len(kept) for size in sizes)
        ours, theirs, across = (part[np.ix_(kept, kept)].sum() for part in sums)
        return float(1000 * (ours / (n * (n - 1)) + theirs / (m * (m - 1)) - 2 * across / (n * m)))

    every = list(range(groups))
    whole = of(every)
    without = np.array([of([k for k in every if k != left_out]) for left_out in every])
    return Kid(whole, groups * whole - (groups - 1) * without)


@lru_cache(maxsize=2)  # the others are the same for many rows
def _within(features: Features, groups: int) -> Sums:
    """Return the kernel's sum between each two groups of one set, without any image beside itself."""
    parts = _kernel_rows(features, features, groups)
    for k, part in enumerate(parts):
        np.fill_diagonal(part[:, k], 0)
    return np.stack([part.sum((0, 2)) for part in parts])


def _across(images: Features, others: Features, groups: int) -> Sums:
    """Return the kernel's sum between each group of images and each of the others."""
    return np.stack([part.sum((0, 2)) for part in _kernel_rows(images, others, groups)])


def _kernel_rows(images: Features, others: Features, groups: int) -> list[Float[np.ndarray, "size groups _"]]:
    """Return, for each group of images, the kernel of each image with each of the others in their groups."""
    ours, theirs = (side.double().cpu().numpy() for side in (images, others))
    kernel = _fidelity("metric_kid").kernel_poly
    return [kernel(part, theirs).reshape(len(part), groups, -1) for part in np.split(ours, groups)]


def fid(images: Features, others: Features) -> float:
    """Return the Frechet inception distance.

    Raises ValueError for fewer than FID_FROM images on either side.
    """
    if min(len(images), len(others)) < FID_FROM:
        raise ValueError(f"images are {len(images)} and others {len(others)}, expected {FID_FROM} or more")
    module = _fidelity("metric_fid")
    statistics = [module.fid_features_to_statistics(side.cpu()) for side in (images, others)]
    distance = module.fid_statistics_to_metric(*statistics, verbose=False)
    return float(distance["frechet_inception_distance"])


def precision_recall(images: Features, others: Features) -> tuple[float, float]:
    """Return improved precision and recall, for as many others as images."""
    others = others[: len(images)]
    metric = _fidelity("metric_prc").prc_features_to_metric
    found = metric(images.cpu(), others.cpu(), prc_neighborhood=3, verbose=False)
    return found["precision"], found["recall"]
