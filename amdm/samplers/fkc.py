"""Feynman-Kac correctors: samples of prod_i q_i^beta_i, weighted and resampled on the way."""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.checks import check_exponents, check_finite, check_latent
from amdm.samplers.loop import At, Move, march
from amdm.samplers.particles import effective_samples, systematic_resample
from amdm.samplers.runner import Callback, run
from amdm.samplers.scores import score, score_step
from amdm.types import Denoiser, ExtraArgs, Latent, NoiseSampler, PerSample, Sigmas, Steps


class Particles(NamedTuple):
    """`Step.record` of `fkc`: the weights after the step, before any resampling."""

    log_weights: Float[Tensor, " batch"]
    """Natural, since the last resampling, float64."""
    increment: Float[Tensor, " batch"]
    """What this step added."""
    effective: Float[Tensor, " groups"]
    """Kish's effective number of particles."""

    @property
    def variance(self) -> Float[Tensor, " groups"]:
        """Of this step's increments within a group: 0 where the composition is safe without correction."""
        return self.increment.reshape(len(self.effective), -1).var(1)


def fkc_log_weight(
    x: Latent, denoised: Sequence[Latent], exponents: Sequence[float], sigma: float, sigma_next: float
) -> PerSample:
    """What a step from sigma to sigma_next adds to the log-weight of samples at `x`, whatever its noise.

    (sigma^2 - sigma_next^2)/2 (|sum_i beta_i s_i|^2 - sum_i beta_i |s_i|^2), with the scores s_i = (D_i -
    x)/sigma^2 (VE), summed over the event in float64. It is 0 for one model with exponent 1, and wherever
    the diffused densities' product is the product's diffusion.

    References:
        Skreta et al. 2025, "Feynman-Kac correctors in diffusion", arXiv:2503.02819.
    """
    scores = [score(x, each, sigma) for each in denoised]
    total = torch.stack([beta * s for beta, s in zip(exponents, scores, strict=True)]).sum(0)
    apart = sum(beta * s.square().sum(1) for beta, s in zip(exponents, scores, strict=True))
    return (sigma - sigma_next) * (sigma + sigma_next) / 2 * (total.square().sum(1) - apart)


def fkc(
    models: Sequence[Denoiser],
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | Sequence[ExtraArgs | None] | None = None,
    *,
    exponents: Sequence[float] | None = None,
    particles: int | None = None,
    resample: float = 1.0,
    eta: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
    generator: torch.Generator | None = None,
) -> Steps:
    """Feynman-Kac correctors: a generator whose weighted samples follow prod_i q_i^beta_i at every level.

    x' = x + ((1 - eta^2) sigma (sigma - sigma_next) + eta^2 Delta) S + eta sqrt(Delta) noise, with S =
    sum_i beta_i s_i and Delta = sigma^2 - sigma_next^2 (VE): the score sum's own step, whose error in law the
    weights undo. The steps are of first order: variances come out too large by a part that shrinks with the
    number of steps. Exact denoisers are assumed; few particles in many dimensions leave one ancestor.

    Args:
        models: N denoisers sharing a latent space.
        x: `(batch, *event)` at `sigmas[0]`, VE, as for one model: it is multiplied by 1/sqrt(B), B the sum
            of the exponents, which is the start of the product.
        sigmas: `(steps + 1,)`, decreasing, finite, usually ending in 0.
        extra_args: passed to the models: one dictionary for all, or N.
        exponents: beta, N numbers of sum B > 0; None for a product, all 1. (1/N, ...) is the geometric mean,
            (1 - w, w) guidance by w of the second, (beta,) annealing.
        particles: how many consecutive samples of the batch are a group, within which they are resampled:
            one prompt's. None for the whole batch.
        resample: where the effective number of particles is not above this part of all: 1 at every step,
            0 never. Not after the last step, whose weights are in its record.
        eta: the share of fresh noise, 0 or more; 1 is the reverse SDE. Near 0 copies stay copies.
        noise_sampler: `noise_sampler(sigma, sigma_next)`; None draws `randn_like(x)` as k-diffusion does.
        generator: for the resampling's uniform numbers, on the CPU; None for the global one.

    Returns:
        A generator of `Step`s with a `Particles` as record; `denoised` is that of S. N evaluations a step.
        A `Restart` sets the weights to 1.

    Raises:
        TypeError, ValueError: an argument is not as above.

    References:
        Skreta et al. 2025, "Feynman-Kac correctors in diffusion", arXiv:2503.02819.
    """
    check_latent(x)
    exponents = check_exponents(exponents, len(models))
    check_finite(resample, "resample")
    if not 0 <= resample <= 1:
        raise ValueError(f"resample is {resample}, expected a part in [0, 1]")
    particles = len(x) if particles is None else particles
    if particles < 1 or len(x) % particles:
        raise ValueError(f"particles is {particles}, expected a divisor of the batch size {len(x)}")
    rule = partial(
        _rule,
        exponents=exponents,
        particles=particles,
        resample=float(resample),
        eta=float(eta),
        generator=generator,
    )
    return march(rule, models, x / math.sqrt(sum(exponents)), sigmas, extra_args, eta, noise_sampler)


def sample_fkc(
    models: Sequence[Denoiser],
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | Sequence[ExtraArgs | None] | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    *,
    exponents: Sequence[float] | None = None,
    particles: int | None = None,
    resample: float = 1.0,
    eta: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
    generator: torch.Generator | None = None,
) -> Latent:
    """Run `fkc` and return the last latent. `callback` and `disable` are k-diffusion's."""
    steps = fkc(
        models,
        x,
        sigmas,
        extra_args,
        exponents=exponents,
        particles=particles,
        resample=resample,
        eta=eta,
        noise_sampler=noise_sampler,
        generator=generator,
    )
    return run(steps, x, sigmas, callback, disable)


def _rule(
    at: At,
    log_weights: Tensor | None,
    *,
    exponents: list[float],
    particles: int,
    resample: float,
    eta: float,
    generator: torch.Generator | None,
) -> Move:
    predictions = at.denoise(at.x, at.sigma)
    pull = sum(beta * (each - at.x) for beta, each in zip(exponents, predictions, strict=True))
    assert isinstance(pull, Tensor)
    factor, std = score_step(at.sigma, at.sigma_next, eta)
    mean = at.x + factor / at.sigma**2 * pull
    x_next = mean + std * at.noise() if std > 0 else mean
    increment = fkc_log_weight(at.x, predictions, exponents, at.sigma, at.sigma_next)
    log_weights = increment if log_weights is None else log_weights + increment
    grouped = log_weights.reshape(-1, particles)
    effective = effective_samples(grouped)
    record = Particles(log_weights, increment, effective)
    if resample > 0 and at.sigma_next > 0:
        u = torch.rand(len(grouped), dtype=torch.float64, generator=generator).to(grouped)
        due = (effective <= resample * particles * (1 + 1e-9))[:, None]
        stay = torch.arange(particles, device=grouped.device).expand_as(grouped)
        chosen = torch.where(due, systematic_resample(grouped, u), stay)
        offset = particles * torch.arange(len(grouped), device=grouped.device)[:, None]
        x_next = x_next[(offset + chosen).flatten()]
        log_weights = torch.where(due, 0.0, grouped).flatten()
    return Move(at.x + pull, mean, std, log_weights, x_next, record)
