"""Distances of drawn pictures to photographs: FID (Heusel et al. 2017) and KID (Binkowski et al. 2018).

Features are those of Inception's last pooling (2048) as torch-fidelity has them, and so are both distances:
InteractDiffusion's published numbers on HICO-DET, which the paper's table 1 has as well, are of the command
`fidelity --fid --kid` with photographs resized to 512 x 512 pixels before. Its KID is the mean over 100
random subsets of 1000 pictures; this one is of all pictures and estimates the same number.
"""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL.Image import Image as Picture
from torch import Tensor

from amdm.command_line.arguments import Expected
from amdm.shapes import quality
from amdm.shapes.imports import import_beside_torchvision
from benchmarks.measures import GROUPS, Estimate
from benchmarks.real import measuring
from benchmarks.real.measuring import opened, resized

Features = Float[Tensor, "number 2048"]


def load(weights: Path, device: str = "cpu") -> Any:
    """Return torch-fidelity's Inception, in float32.

    Args:
        weights: torch-fidelity's file, `weights-inception-2015-12-05-6726825d.pth`.
        device: where it computes.

    Raises:
        Expected: there is no such file, or it has anything but tensors.
    """
    measuring.check_weights(weights)
    module = import_beside_torchvision("torch_fidelity.feature_extractor_inceptionv3")
    make = module.FeatureExtractorInceptionV3
    try:
        network = make("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights))
    except RuntimeError as error:
        raise Expected("the weights of torch-fidelity's Inception, found those of another network") from error
    return network.to(device)


@torch.no_grad()
def features(
    files: Sequence[Path],
    inception: Any,
    *,
    device: str = "cpu",
    side: int | None = None,
    batch: int = 64,
    quiet: bool = False,
) -> Features:
    """Return the features of pictures, on the host.

    Args:
        files: the pictures.
        inception: from `load`.
        device: where it computes.
        side: the side in pixels of the square to which pictures are stretched first; None leaves them.
        batch: the number of pictures that the network sees at once, where they are of one size.
        quiet: hides the progress bar.

    Raises:
        Expected: a file is no picture.
    """
    found = []
    for some in measuring.batches(files, batch, "Inception", quiet):
        pictures = [opened(file) if side is None else resized(opened(file), side) for file in some]
        for _, alike in groupby(pictures, key=lambda picture: picture.size):
            found.append(inception(tensor(list(alike)).to(device))[0].cpu())
    return torch.cat(found)


def tensor(pictures: Sequence[Picture]) -> Tensor:
    """Return pictures of one size as bytes, `(number, 3, height, width)`."""
    return torch.from_numpy(np.stack([np.asarray(one) for one in pictures])).permute(0, 3, 1, 2)


def summary(drawn: Features, photographs: Features) -> dict[str, Estimate]:
    """Return "KID", times 1000, with its interval by the jackknife over 10 groups; and "FID", without one.

    For the groups' sake KID leaves out the last pictures, up to 9 of each set. FID is there for 5000 pictures
    or more of each: it is biased, the more the fewer there are.
    """
    ours, theirs = (side[: len(side) // GROUPS * GROUPS] for side in (drawn, photographs))
    value, pseudo = quality.kid(ours, theirs, GROUPS)
    estimates = {"KID": Estimate(value, pseudo, "groups")}
    if min(len(drawn), len(photographs)) >= quality.FID_FROM:
        estimates["FID"] = Estimate(quality.fid(drawn, photographs), np.array([]))
    return estimates
