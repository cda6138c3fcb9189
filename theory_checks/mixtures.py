"""Exact models that control one attribute each: the smallest example with the paper's structure."""

import math
from collections.abc import Sequence

import torch

from amdm.denoisers import GaussianMixture

VALUES = 4  # of each attribute


def attribute_pair(
    shape: Sequence[int], radius: float, seed: int = 0
) -> tuple[GaussianMixture, GaussianMixture]:
    """Return two conditional denoisers of one mixture; latents have variance 1 per entry, on average.

    The mixture has 4 x 4 equal modes u_i + v_j, random vectors of length `radius` that stand for values of
    two attributes, and isotropic normal deviations from them. The first model is conditioned on i = 0, the
    second on j = 0.

    Raises ValueError if the radius leaves no variance for the deviations.
    """
    n = math.prod(shape)
    variance = 1 - 2 * radius**2 / n
    if not radius > 0 or variance <= 0:
        raise ValueError(
            f"radius must lie in 0 to {math.sqrt(n / 2):.4g} for the shape {tuple(shape)}, got {radius}"
        )
    generator = torch.Generator().manual_seed(seed)
    u, v = torch.randn(2, VALUES, n, generator=generator) * radius / math.sqrt(n)
    means = (u[:, None] + v[None]).view(VALUES**2, *shape)
    mixture = GaussianMixture(means, torch.full((VALUES**2,), variance))
    chosen = torch.zeros(VALUES, VALUES)
    chosen[0] = 1
    return mixture.restrict(chosen.flatten()), mixture.restrict(chosen.T.flatten())
