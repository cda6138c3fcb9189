"""DPM-Solver++(2M) and its SDE form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from amdm.checks import as_level, as_step
from amdm.geometry.rows import check_alike
from amdm.samplers.ddim import Level
from amdm.samplers.heun import check_deterministic
from amdm.samplers.march import At, Rule, Start, of_one_model
from amdm.samplers.step import Step
from amdm.types import Latent


def dpmpp_2m_step(
    x: Latent,
    denoised: Latent,
    previous: Latent | None,
    sigma: Level,
    sigma_next: Level,
    sigma_previous: Level | None,
    eta: float = 0.0,
) -> tuple[Latent, float]:
    """Return the step of DPM-Solver++(2M), or for eta > 0 of its SDE form by the midpoint rule.

    With h = log(sigma/sigma_next): mean = D + k (x - D), k = exp(-h - eta h), std = sigma_next
    sqrt(1 - exp(-2 eta h)), where D = denoised + (denoised - previous) h / (2 h_previous) extrapolates to
    the middle of the step. Without `previous`, or at `sigma_next = 0`, D = denoised: a first-order step.

    Args:
        x: `(batch, *event)`, the latent at `sigma`, VE.
        denoised: the prediction at `x`.
        previous: the prediction of the step before, or None.
        sigma: the level of `x`, positive.
        sigma_next: the level to go to, in [0, sigma).
        sigma_previous: the level of the step before, above sigma; None where `previous` is.
        eta: the share of fresh noise, 0 or more; 1 is the reverse SDE. Not DDIM's eta.

    Returns:
        The mean `(batch, *event)` and the standard deviation, VE.

    References:
        Lu et al. 2022, "DPM-Solver++", arXiv:2211.01095, algorithm 2; k-diffusion's `sample_dpmpp_2m` and
        `sample_dpmpp_2m_sde` (solver_type "midpoint").
    """
    check_alike(x, denoised=denoised, **({} if previous is None else {"previous": previous}))
    sigma, sigma_next, eta = as_step(sigma, sigma_next, eta)
    before = None if previous is None else as_level(sigma_previous, "sigma_previous")
    if before is not None and before <= sigma:
        raise ValueError(f"sigma_previous is {before}, expected a level above sigma = {sigma}")
    return dpmpp_2m_formula(x, denoised, previous, sigma, sigma_next, before, eta)


def dpmpp_2m_formula(
    x: Latent,
    denoised: Latent,
    previous: Latent | None,
    sigma: float,
    sigma_next: float,
    sigma_previous: float | None,
    eta: float,
) -> tuple[Latent, float]:
    """Return `dpmpp_2m_step` without its checks, which the loop has made."""
    if sigma_next == 0:
        return denoised, 0.0
    h = math.log(sigma / sigma_next)
    if previous is not None and sigma_previous is not None:
        h_previous = math.log(sigma_previous / sigma)
        denoised = denoised + (denoised - previous) * (h / (2 * h_previous))
    std = sigma_next * math.sqrt(-math.expm1(-2 * eta * h))
    return torch.lerp(denoised, x, sigma_next / sigma * math.exp(-eta * h)), std


class History(NamedTuple):
    """The memory of a two-step method: the last level and the prediction there."""

    sigma: float | None = None
    denoised: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class DPMpp2MSDE(Rule):
    """DPM-Solver++(2M) SDE: k-diffusion's `sample_dpmpp_2m_sde` with the midpoint rule.

    `noise_sampler=None` draws independent noise for every step, equal in law to k-diffusion's default, a
    Brownian tree. To get the tree's draws pass its `BrownianTreeNoiseSampler`.

    Args:
        eta: the share of fresh noise, as the SDE defines it: 1 is the reverse SDE, 0 is `dpmpp_2m`.

    Returns:
        A generator of `Step`s. Each step costs one model evaluation.

    Raises:
        TypeError, ValueError, FloatingPointError: as for `ddim`.
    """

    eta: float = 1.0

    def step(self, at: At, x: Tensor, memory: History | None) -> tuple[Step, History]:
        """Take one step with the last step's prediction, if there is one."""
        denoised, before = at.denoise[0](x, at.sigma), memory or History()
        mean, std = dpmpp_2m_formula(
            x, denoised, before.denoised, at.sigma, at.sigma_next, before.sigma, float(self.eta)
        )
        return at.step(x, denoised, mean, std), History(at.sigma, denoised)


@dataclass(frozen=True, kw_only=True)
class DPMpp2M(DPMpp2MSDE):
    """DPM-Solver++(2M): k-diffusion's `sample_dpmpp_2m`, second order with one evaluation per step.

    Args:
        eta: must be 0: the method is deterministic.

    Returns:
        A generator of `Step`s. One model evaluation a step.

    Raises:
        TypeError, ValueError, FloatingPointError: as for `ddim`.
    """

    eta: float = 0.0

    def begin(self, xs: Sequence[Tensor], levels: Sequence[float], num_models: int) -> Start:
        """Check the options; raise unless eta is 0."""
        check_deterministic("dpmpp_2m", self.eta)
        return super().begin(xs, levels, num_models)


dpmpp_2m, sample_dpmpp_2m = of_one_model("dpmpp_2m", DPMpp2M)
dpmpp_2m_sde, sample_dpmpp_2m_sde = of_one_model("dpmpp_2m_sde", DPMpp2MSDE)
