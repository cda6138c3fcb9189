"""Feynman-Kac correctors: samples of prod_i q_i^beta_i, weighted and resampled on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from amdm.checks import (
    check_count,
    check_exponents,
    check_finite,
    check_generator,
    check_levels,
    check_log_densities,
    check_number,
    check_whole,
    kind_of,
)
from amdm.geometry.rows import check_same_shape, float64
from amdm.samplers.march import At, Rule, Start, of_models
from amdm.samplers.particles import effective_samples, systematic_resample
from amdm.samplers.rne import smc_log_weight
from amdm.samplers.scores import LogDensity, composed_log_density, narrowed, pull, score, score_step
from amdm.samplers.step import Step
from amdm.schedules import check_no_infinite_level
from amdm.types import Latent, PerSample

LARGEST = 1e300
"""The size of a log-weight that stands for infinity: differences of such are not NaN."""


class Particles(NamedTuple):
    """`Step.record` of `fkc`: the weights after the step, before any resampling, and its ancestors."""

    log_weights: Float[Tensor, " batch"]
    """Natural, since the last resampling, float64. A NaN, for whose cause the run raises at its end, is a
    weight of 0 and leaves the others of the group alone."""
    increment: Float[Tensor, " batch"]
    """The increment of this step."""
    effective: Float[Tensor, " groups"]
    """Kish's effective number of particles."""
    ancestors: Int[Tensor, " batch"]
    """The index in the batch that each sample is a copy of: `x_next` is (mean + std noise)[ancestors]."""

    @property
    def variance(self) -> Float[Tensor, " groups"]:
        """Return the variance of this step's increments within a group; 0 for a single particle.

        This diagnoses `fkc_log_weight`: it is 0 if the composition is right without correction. The weights
        from `log_densities` also correct the step's own error, so they vary even then.
        """
        grouped = self.increment.reshape(len(self.effective), -1)
        return grouped.var(1, correction=min(1, grouped.shape[1] - 1))


def fkc_log_weight(
    x: Latent, denoised: Sequence[Latent], exponents: Sequence[float], sigma: float, sigma_next: float
) -> PerSample:
    """Return the increment of the samples' log-weights for a step to sigma_next, whatever its noise.

    The increment is (sigma^2 - sigma_next^2)/2 (|sum_i beta_i s_i|^2 - sum_i beta_i |s_i|^2), with the scores
    s_i = (D_i - x)/sigma^2 (VE), summed over the event in float64. It is 0 for one model with exponent 1, and
    wherever the diffused densities' product is the product's diffusion.

    References:
        Skreta et al. 2025, "Feynman-Kac correctors in diffusion", arXiv:2503.02819.
    """
    check_levels(sigma, sigma_next)
    if not isinstance(denoised, Sequence):
        raise TypeError(f"denoised is {kind_of(denoised)}, expected a list of predictions, one per model")
    check_count(exponents, len(denoised), "exponents")
    for i, exponent in enumerate(exponents):
        check_finite(exponent, f"exponents[{i}]")
    for i, each in enumerate(denoised):
        check_same_shape(**{"x": x, f"denoised[{i}]": each})
    scores = [score(x, each, sigma) for each in denoised]
    total = torch.stack([beta * s for beta, s in zip(exponents, scores, strict=True)]).sum(0)
    apart = sum(beta * s.square().sum(1) for beta, s in zip(exponents, scores, strict=True))
    return (sigma - sigma_next) * (sigma + sigma_next) / 2 * (total.square().sum(1) - apart)


@dataclass(frozen=True, kw_only=True)
class FKC(Rule):
    """Draw weighted samples that follow prod_i q_i^beta_i at every level, by Feynman-Kac correctors.

    A step is x' = x + ((1 - eta^2) sigma (sigma - sigma_next) + eta^2 Delta) S + eta sqrt(Delta) noise, with
    S = sum_i beta_i s_i and Delta = sigma^2 - sigma_next^2 (VE). The weights undo this step's error in law.
    They are of first order: with eta = 1 variances are too large by a part that shrinks with the number of
    steps. With less noise, errors of the steps and of finitely many particles persist: relative to the
    variances they change as (v + sigma^2)^(1 - B (1 - eta^2)), B the sum of the exponents, so they grow as
    sigma falls unless B (1 - eta^2) < 1. For a product of two Gaussians from sigma = 10 with eta = 0.5,
    20,000 particles after 400 steps have a variance of 0.19 instead of 1/3.

    With `log_densities` the weights are the exact ratios of the steps' kernels. This is energy-based
    sequential Monte Carlo, right at any number of steps. Both assume exact denoisers. With few particles in
    many dimensions only one ancestor survives.

    Args:
        x: `(batch, *event)` at `sigmas[0]`, VE, as for one model. It is multiplied by 1/sqrt(B), B the sum
            of the exponents, which gives the start of the product.
        exponents: beta, N numbers of sum B > 0; None for a product, all 1. (1/N, ...) is the geometric mean,
            (1 - w, w) guidance by w of the second, (beta,) annealing.
        particles: the number of consecutive samples of the batch that form a group, such as one prompt's.
            Resampling stays within a group. None for the whole batch.
        resample: resample a group if its effective number of particles is at most this fraction of all: 1 at
            every step, 0 never. The last step is never resampled; its weights are in its record.
        log_densities: N functions `(x, sigma) -> log q_i` for the exact weights: one number per sample, up to
            constants in x. None for `fkc_log_weight`. A last step to 0, which draws no noise, then adds
            nothing.
        eta: the share of fresh noise, 0 or more; 1 is the reverse SDE, and less is biased as above. Near 0
            resampled copies of a particle stay close together.
        generator: for the resampling's uniform numbers, on the CPU; None for the global one.

    Returns:
        A generator of `Step`s with a `Particles` as record; `denoised` is that of S. Each step costs N
        evaluations, and two of each of `log_densities`. A `Restart` sets the weights to 1.

    Raises:
        TypeError, ValueError: an argument is not as above; a schedule begins at the level that stands for an
            infinite one (flows, zero terminal SNR) and eta > 0 or B is not 1.
        FloatingPointError: as for `ddim`; a function of `log_densities` is named too.

    References:
        Skreta et al. 2025, "Feynman-Kac correctors in diffusion", arXiv:2503.02819; with `log_densities`
        Thornton et al. 2025, "Composition and control with distilled energy diffusion models and sequential
        Monte Carlo", arXiv:2502.12786.
    """

    exponents: Sequence[float] | None = None
    particles: int | None = None
    resample: float = 1.0
    log_densities: Sequence[LogDensity] | None = None
    eta: float = 1.0
    generator: torch.Generator | None = None

    def begin(self, xs: Sequence[Tensor], levels: Sequence[float], num_models: int) -> Start:
        """Check and resolve the options. The start is that of the product."""
        super().begin(xs, levels, num_models)
        (x,) = xs
        exponents = check_exponents(self.exponents, num_models)
        if self.eta > 0 or sum(exponents) != 1:
            check_no_infinite_level(levels, "fkc with noise, or exponents whose sum is not 1,")
        check_log_densities(self.log_densities, num_models)
        if self.log_densities is not None and self.eta == 0:
            raise ValueError(
                "eta is 0, expected more than 0 with log_densities: steps without noise have no density"
            )
        check_number(self.resample, "resample", "a part in [0, 1]", lambda part: 0 <= part <= 1)
        particles = len(x) if self.particles is None else self.particles
        divisor = f"a divisor of the batch size {len(x)}"
        check_whole(particles, "particles", divisor, lambda count: count > 0 and len(x) % count == 0)
        check_generator(self.generator)
        return Start(replace(self, exponents=exponents, particles=int(particles)), narrowed(x, exponents))

    def step(self, at: At, x: Tensor, memory: PerSample | None) -> tuple[Step, PerSample]:
        """Take one step along the summed score, weight it and resample. The memory is the log-weights."""
        exponents = cast("Sequence[float]", self.exponents)
        predictions = [denoise(x, at.sigma) for denoise in at.denoise]
        towards = pull(x, predictions, exponents)
        factor, std = score_step(at.sigma, at.sigma_next, self.eta)
        mean = (x + factor / at.sigma**2 * towards).to(x.dtype)
        x_next = mean + std * at.noise[0](x) if std > 0 else mean
        if self.log_densities is None:
            increment = fkc_log_weight(x, predictions, exponents, at.sigma, at.sigma_next)
        elif std > 0:
            log_pi = partial(composed_log_density, self.log_densities, exponents, watch=at.watch)
            log_ratio = log_pi(x_next, at.sigma_next) - log_pi(x, at.sigma)
            increment = smc_log_weight(log_ratio, x, x_next, mean, std, at.sigma, at.sigma_next)
        else:
            increment = float64(x.new_zeros(len(x)))
        log_weights = increment if memory is None else memory + increment
        log_weights = log_weights.nan_to_num(nan=-LARGEST, posinf=LARGEST, neginf=-LARGEST)
        particles, log_weights = self._resampled(log_weights, increment, 0.0 if at.last else self.resample)
        x_next = x_next[particles.ancestors.to(x.device)]
        return at.step(x, (x + towards).to(x.dtype), mean, std, x_next, record=particles), log_weights

    def _resampled(
        self, log_weights: PerSample, increment: PerSample, resample: float
    ) -> tuple[Particles, PerSample]:
        """Return the record, and the log-weights to continue with."""
        grouped = log_weights.reshape(-1, cast("int", self.particles))
        groups, size = grouped.shape
        effective, ancestors = effective_samples(grouped), torch.arange(groups * size, device=grouped.device)
        if resample > 0:
            device = "cpu" if self.generator is None else self.generator.device
            u = torch.rand(groups, dtype=torch.float64, generator=self.generator, device=device).to(grouped)
            due = (effective <= resample * size * (1 + 1e-9))[:, None]
            places = ancestors.reshape(groups, size)
            chosen = places.gather(1, systematic_resample(grouped, u))
            ancestors = torch.where(due, chosen, places).flatten()
            log_weights = torch.where(due, 0.0, grouped).flatten()
        return Particles(grouped.flatten(), increment, effective, ancestors), log_weights


fkc, sample_fkc = of_models("fkc", FKC)
