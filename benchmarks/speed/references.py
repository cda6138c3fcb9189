"""What amdm is measured against: the arithmetic of the authors' published code."""

from collections.abc import Sequence

import torch
from torch import Tensor


def published_aggregation(
    xs: Sequence[Tensor],
    previous: Sequence[Tensor],
    eps: Sequence[Tensor],
    *,
    omega: float = 0.5,
    pull: float = 0.3,
) -> list[Tensor]:
    """What the authors' published code computes at an aggregated step, for timing and comparison only.

    The mixture has the coefficients omega^(N-1), then products of sqrt(1 - omega^2) and omega (for N = 2
    and 3 theirs, beyond that continued); every model then moves by `pull` toward a one-training-step DDPM
    mean of its previous latent and prediction, divided by a norm over the whole batch
    (github.com/Hammour-steak/AMDM, dba837a, written here anew).
    """
    rest = (1 - omega**2) ** 0.5
    num = len(xs)
    coefficients = [omega ** (num - 1)] + [rest**k * omega ** (num - 1 - k) for k in range(1, num)]
    mixed = sum(c * x for c, x in zip(coefficients, xs, strict=True))
    assert isinstance(mixed, Tensor)
    corrected = []
    alpha, alpha_bar = torch.tensor(0.99), torch.tensor(0.1)  # 0-d tensors, as a scheduler holds them
    for x, noise in zip(previous, eps, strict=True):
        mean = 1 / alpha**0.5 * x - (1 - alpha) / ((1 - alpha_bar) ** 0.5 * alpha**0.5) * noise
        corrected.append(mixed - pull * (mixed - mean) / torch.norm(mixed - mean))
    return corrected
