"""The score, its divergence, and the step along it, for the samplers of composed scores."""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.checks import check_result
from amdm.geometry.rows import as_rows, float64
from amdm.samplers.march import Watch
from amdm.types import Latent, PerSample

Scores = Float[Tensor, "batch n"]
LogDensity = Callable[[Latent, PerSample], PerSample]
"""`log_density(x, sigma)`: of a model at VE levels sigma, one per sample, up to a constant per level."""


def score(x: Latent, denoised: Latent, sigma: float) -> Scores:
    """Return the score (D - x)/sigma^2 (VE) as rows, float64 (on the CPU if x's device has none)."""
    return as_rows(float64(denoised) - float64(x)) / sigma**2


def pull(x: Latent, predictions: Sequence[Latent], exponents: Sequence[float]) -> Latent:
    """Return sum_i beta_i (D_i - x), which is sigma^2 times the composed score, in float32 or better."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    first, *rest = (beta * (each - wide) for beta, each in zip(exponents, predictions, strict=True))
    return sum(rest, start=first)


def log_normal(rows: Scores, std: float) -> PerSample:
    """Return the log-density of N(0, std^2) at each row."""
    n = rows.shape[1]
    return -rows.square().sum(1) / (2 * std**2) - n * math.log(std * math.sqrt(2 * math.pi))


def narrowed(x: Latent, exponents: Sequence[float]) -> Latent:
    """Return x/sqrt(B), the product's start from one model's start; B is the sum of the exponents."""
    total = math.sqrt(sum(exponents))
    return x if total == 1 else x / total


def composed_log_density(
    log_densities: Sequence[LogDensity],
    exponents: Sequence[float],
    x: Latent,
    sigma: float,
    watch: Watch | None = None,
) -> PerSample:
    """Return sum_i beta_i log q_i at level sigma, float64. With a `watch` each is recorded to be finite."""
    level, total = x.new_full((len(x),), sigma), float64(x.new_zeros(len(x)))
    for i, (beta, log_density) in enumerate(zip(exponents, log_densities, strict=True)):
        log_q = log_density(x, level)
        check_result(log_q, x, (len(x),), f"log_densities[{i}]")
        if watch is not None:
            watch.finite(log_q, f"log_densities[{i}] returned")
        total = total + beta * float64(log_q)
    return total


def score_step(sigma: float, sigma_next: float, eta: float) -> tuple[float, float]:
    """Return factor and std of a step along the score: x' = x + factor S + std noise (VE).

    `eta` interpolates between the probability flow (0) and the reverse SDE (1). The flow's part is Euler's
    method in sigma, which is DDIM; the SDE's part is Euler's method in sigma^2. The last step, to 0, goes to
    the prediction and draws no noise.
    """
    flow = sigma * (sigma - sigma_next)
    delta = (sigma - sigma_next) * (sigma + sigma_next)
    std = eta * delta**0.5 if sigma_next > 0 else 0.0
    return (1 - eta**2) * flow + eta**2 * delta, std


def divergence(denoised: Tensor, x: Tensor, probe: Latent, sigma: float) -> PerSample | None:
    """Return Hutchinson's estimate of the score's divergence, by one vector-Jacobian product; float64.

    With entries +-1 in the probe it is exact if the Jacobian is diagonal, else in expectation. `denoised`
    must have been computed from `x` with gradients, sample by sample; the result is None if it was not.
    """
    if not denoised.requires_grad:
        return None
    (pulled,) = torch.autograd.grad(denoised, x, probe, allow_unused=True)
    if pulled is None:
        return None
    n = x[0].numel()
    return ((float64(as_rows(pulled)) * float64(as_rows(probe))).sum(1) - n) / sigma**2
