"""Distances between sets of images: KID, FID, precision and recall, by torch-fidelity.

All are of `features`, and of as many others as images. KID (Binkowski et al. 2018) is unbiased: it is taken
in groups, each against every group of the others, so that the mean over groups is what the whole would give
and their spread says how sure it is. FID (Heusel et al. 2017) is biased in small samples: below FID_FROM
images it is not given. Precision is how many images look like one of the others, recall how many of the
others look like one of the images (Kynkaanniemi et al. 2019, 3 neighbours).
"""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from shapes.imports import import_beside_torchvision

FID_FROM = 5000

Features = Float[Tensor, "_ dims"]


def _fidelity(module: str) -> Any:
    import_beside_torchvision("torch_fidelity")
    return import_beside_torchvision(f"torch_fidelity.{module}")


def kid(images: Features, others: Features, groups: int) -> Float[NDArray[np.float64], " groups"]:
    """The kernel inception distance of each group of images: times 1000, as it is often given.

    Raises ValueError unless both sets can be cut into as many groups of one size.
    """
    size = len(images) // groups
    if size < 2 or len(images) % groups or len(others) % size:
        raise ValueError(
            f"images are {len(images)} and others {len(others)}, expected {groups} groups of images and "
            f"any number of others of the same size"
        )
    kernel_mmd = _fidelity("metric_kid").kernel_mmd
    ours, theirs = (
        [part.double().cpu().numpy() for part in torch.split(side, size)] for side in (images, others)
    )
    return np.array([1000 * np.mean([kernel_mmd(one, other) for other in theirs]) for one in ours])


def fid(images: Features, others: Features) -> float:
    """The Frechet inception distance.

    Raises ValueError for fewer than FID_FROM images on either side.
    """
    if min(len(images), len(others)) < FID_FROM:
        raise ValueError(f"images are {len(images)} and others {len(others)}, expected {FID_FROM} or more")
    module = _fidelity("metric_fid")
    statistics = [module.fid_features_to_statistics(side.cpu()) for side in (images, others)]
    distance = module.fid_statistics_to_metric(*statistics, verbose=False)
    return float(distance["frechet_inception_distance"])


def precision_recall(images: Features, others: Features) -> tuple[float, float]:
    """Improved precision and recall, of as many others as images."""
    others = others[: len(images)]
    metric = _fidelity("metric_prc").prc_features_to_metric
    found = metric(images.cpu(), others.cpu(), prc_neighborhood=3, verbose=False)
    return found["precision"], found["recall"]
