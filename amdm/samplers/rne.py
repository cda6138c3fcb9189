"""Radon-Nikodym estimators: densities and weights from the kernels of single steps.

The noising from sigma_next up to sigma is q(x | x') = N(x', Delta) with Delta = sigma^2 - sigma_next^2 (VE).
Its exact reversal r has p_sigma_next(x')/p_sigma(x) = r(x' | x)/q(x | x'). A denoiser gives the mean of r.
"""

import math
from collections.abc import Sequence

import torch

from amdm.checks import (
    check_callable,
    check_extra_args,
    check_finite,
    check_floating,
    check_holds,
    check_latent,
    check_levels,
    check_model,
    check_number,
    check_sigmas,
    check_whole,
)
from amdm.geometry.rows import as_rows, check_same_shape, float64
from amdm.samplers.march import Watch, Watched, draw
from amdm.samplers.scores import log_normal, score
from amdm.types import Denoiser, ExtraArgs, Latent, NoiseSampler, PerSample, Sigmas

Reference = tuple[float, float]
"""Mean and variance, VE, of all coordinates of a Gaussian that stands for the data."""


def rne_log_ratio(
    x: Latent,
    x_next: Latent,
    denoised: Latent,
    sigma: float,
    sigma_next: float,
    reference: Reference | None = None,
) -> PerSample:
    """Estimate log p_sigma_next(x_next) - log p_sigma(x) from one step between the two levels; float64.

    Without a reference the reversal has Euler's variance Delta, and the estimate is s.(x' - x) - Delta
    |s|^2/2. It is right to first order along paths of the SDE. With a reference N(m, v) the reversal has the
    variance of the reference's exact reversal, Delta (v + sigma_next^2)/(v + sigma^2), and the reference's
    own ratio is known. It is then right for any step if p is a Gaussian of variance v, whatever its mean.

    Args:
        x: `(batch, *event)` at level `sigma`.
        x_next: `(batch, *event)` at `sigma_next`.
        denoised: the model's prediction at `x`.
        sigma: the level of `x`, VE.
        sigma_next: the lower level; 0 is allowed.
        reference: None, or the mean and variance of the data's coordinates.

    References:
        He et al. 2025, "RNE: plug-and-play diffusion inference-time control and energy-based training",
        arXiv:2506.05668. The form with a reference is the authors' too: their later code has it for N(0, I)
        and credits this paper. Only the variance of the reference's exact reversal is ours.
    """
    check_levels(sigma, sigma_next)
    check_same_shape(x=x, x_next=x_next, denoised=denoised)
    if reference is not None:
        check_reference(reference)
    s, delta = score(x, denoised, sigma), sigma**2 - sigma_next**2
    step = float64(as_rows(x_next)) - float64(as_rows(x))
    if reference is None:
        return (s * step).sum(1) - delta / 2 * s.square().sum(1)
    (mean, variance), std = reference, _reversal_std(reference, sigma, sigma_next)
    own = (mean - float64(as_rows(x))) / (variance + sigma**2)
    by_kernels = log_normal(step - delta * s, std) - log_normal(step - delta * own, std)
    ends = [(x_next, sigma_next), (x, sigma)]
    below, above = (
        log_normal(float64(as_rows(y)) - mean, math.sqrt(variance + level**2)) for y, level in ends
    )
    return by_kernels + below - above


def smc_log_weight(
    log_ratio: PerSample,
    x: Latent,
    x_next: Latent,
    mean: Latent,
    std: float,
    sigma: float,
    sigma_next: float,
) -> PerSample:
    """Return the increment of a target's log-weights for a step drawn from N(mean, std^2); float64.

    The increment is log_ratio - log N(x_next; mean, std^2) + log N(x; x_next, Delta): the target's ratio
    against the proposal and the noising that leads back. It is exact for any step if `log_ratio` is, as
    computed from the target's energies: energy-based sequential Monte Carlo. With sum_i beta_i
    `rne_log_ratio` of the parts it is RNE's control weight, which equals `fkc_log_weight` if all kernels are
    Euler's.

    Args:
        log_ratio: log pi_sigma_next(x_next) - log pi_sigma(x) of the target, up to a constant.
        x: `(batch, *event)` at level `sigma`.
        x_next: the latent that was drawn.
        mean: `(batch, *event)`, the proposal's mean, as in a `Step`.
        std: the proposal's standard deviation, VE, above 0, as in a `Step`.
        sigma: the level of `x`, VE.
        sigma_next: the lower level.

    References:
        Thornton et al. 2025, "Composition and control with distilled energy diffusion models and sequential
        Monte Carlo", arXiv:2502.12786; He et al. 2025, arXiv:2506.05668.
    """
    check_levels(sigma, sigma_next)
    check_number(std, "std", "more than 0: a step without noise has no density", lambda std: std > 0)
    check_same_shape(x=x, x_next=x_next, mean=mean)
    check_floating(log_ratio, "log_ratio")
    if log_ratio.shape != (len(x),):
        raise ValueError(f"log_ratio has shape {tuple(log_ratio.shape)}, expected one number per sample of x")
    end = float64(as_rows(x_next))
    back = log_normal(end - float64(as_rows(x)), math.sqrt(sigma**2 - sigma_next**2))
    return float64(log_ratio) + back - log_normal(end - float64(as_rows(mean)), std)


@torch.no_grad()
def rne_log_density(
    model: Denoiser,
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | None = None,
    *,
    reference: Reference = (0.0, 1.0),
    paths: int = 1,
    noise_sampler: NoiseSampler | None = None,
) -> PerSample:
    """Estimate the log-density of `x` under a model, along noised paths; float64.

    The mean of the paths' densities is an unbiased estimate of the density of the sampler with steps N(x +
    Delta s, Delta (v + sigma_next^2)/(v + sigma^2)), started from the reference noised to `sigmas[0]`. Its
    logarithm is too low on average. For a Gaussian of the reference's mean and variance one path is exact.
    With another mean it is exact but for the first level, whose law is not quite the reference's.

    Args:
        model: the denoiser.
        x: `(batch, *event)` at `sigmas[-1]`, VE.
        sigmas: `(steps + 1,)`, decreasing, finite; ending in 0 for the density of the data.
        extra_args: passed to the model.
        reference: the mean and variance of the data's coordinates, VE.
        paths: the number of paths; each costs one evaluation per step.
        noise_sampler: the noise of the noising; None draws `randn_like(x)`.

    Raises:
        TypeError, ValueError: an argument is not as above.
        FloatingPointError: the model or the noise was not finite.

    References:
        He et al. 2025, arXiv:2506.05668, as in `rne_log_ratio` with a reference.
    """
    check_latent(x)
    levels = check_sigmas(sigmas)
    check_holds(x, levels[0])
    check_extra_args(extra_args)
    mean, variance = check_reference(reference)
    check_whole(paths, "paths", "a whole number of 1 or more", lambda count: count >= 1)
    check_model(model, "model")
    if noise_sampler is not None:
        check_callable(noise_sampler, "noise_sampler", "noise_sampler(sigma, sigma_next)")
    watch = Watch()
    denoise, totals = Watched(model, "model", watch, extra_args or {}), []
    for _ in range(paths):
        total, x_next = float64(x.new_zeros(len(x))), x
        for k in reversed(range(len(levels) - 1)):
            sigma, sigma_next = levels[k], levels[k + 1]
            watch.i, watch.sigma = k, sigma
            noise = draw(noise_sampler, sigmas[k + 1], sigmas[k], x, watch)
            above = x_next + math.sqrt(sigma**2 - sigma_next**2) * noise
            total += rne_log_ratio(above, x_next, denoise(above, sigma), sigma, sigma_next, reference)
            x_next = above
        start = log_normal(float64(as_rows(x_next)) - mean, math.sqrt(variance + levels[0] ** 2))
        totals.append(total + start)
    watch.read()
    return torch.stack(totals).logsumexp(0) - math.log(paths)


def check_reference(reference: object) -> Reference:
    """Return the mean and the variance; raise unless they are finite numbers and the variance is positive."""
    if not isinstance(reference, Sequence) or len(reference) != 2:
        raise TypeError(f"reference is {reference!r}, expected (mean, variance)")
    mean, variance = reference
    check_finite(mean, "reference's mean")
    check_number(variance, "reference's variance", "a positive number", lambda variance: variance > 0)
    return mean, variance


def _reversal_std(reference: Reference, sigma: float, sigma_next: float) -> float:
    """Return the standard deviation of a Gaussian's exact step back."""
    _, variance = reference
    return math.sqrt((sigma**2 - sigma_next**2) * (variance + sigma_next**2) / (variance + sigma**2))
