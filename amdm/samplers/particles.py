"""Weighted samples in independent groups: their effective number, and their resampling."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from amdm.geometry.rows import float64

LogWeights = Float[Tensor, "groups particles"]


def effective_samples(log_weights: LogWeights) -> Float[Tensor, " groups"]:
    """Return Kish's number (sum w)^2 / sum w^2 for every group, from 1 to the number of particles."""
    return (2 * log_weights.logsumexp(1) - (2 * log_weights).logsumexp(1)).exp()


def systematic_resample(
    log_weights: LogWeights, u: Float[Tensor, " groups"]
) -> Int[Tensor, "groups particles"]:
    """Return, by systematic resampling, the index of the particle that each particle becomes a copy of.

    Particle j becomes a copy of the one at which the cumulative weight passes (j + u)/particles. So a
    particle's number of copies is its expectation rounded up or down. Equal weights leave all as they are.

    Args:
        log_weights: natural logarithms, up to a constant; each group needs one that is finite.
        u: one number in [0, 1) per group.

    Returns:
        Indices within the group.

    References:
        Kitagawa 1996, "Monte Carlo filter and smoother for non-Gaussian nonlinear state space models".
    """
    count = log_weights.shape[1]
    passed = count * float64(log_weights).softmax(1).cumsum(1)
    places = torch.arange(count, device=passed.device) + float64(u)[:, None]
    chosen = torch.searchsorted(passed, places, right=True)
    return chosen.clamp(max=count - 1)  # the sum may be rounded down to less than the last place
