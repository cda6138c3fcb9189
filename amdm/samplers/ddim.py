"""DDIM: Euler's method on the probability flow, or with fresh noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from amdm.checks import as_step
from amdm.geometry.rows import check_alike
from amdm.samplers.march import At, Rule, of_one_model
from amdm.samplers.step import Step
from amdm.types import Latent

Level = float | Tensor


def ddim_step(
    x: Latent, denoised: Latent, sigma: Level, sigma_next: Level, eta: float = 0.0
) -> tuple[Latent, float]:
    """Return DDIM's step, eq. (4): mean = denoised + (sigma_down/sigma) (x - denoised), std = sigma_up.

    In VE coordinates this is k-diffusion's ancestral Euler step: sigma_up = min(sigma_next, eta
    sqrt(sigma_next^2 (sigma^2 - sigma_next^2)/sigma^2)), sigma_down^2 = sigma_next^2 - sigma_up^2. In the
    paper's letters s_t sqrt(1 + sigma_next^2) = sigma_up and |b_t| sqrt(1 + sigma_next^2) = sigma -
    sigma_down. eta = 0 is Euler's method on the probability flow, eta = 1 is DDPM. `sigma_next = 0` gives
    `denoised` exactly.

    Args:
        x: `(batch, *event)`, the latent at `sigma`, VE.
        denoised: `(batch, *event)`, the model's prediction there.
        sigma: the level of `x`, positive; a 0-d tensor is read on the host.
        sigma_next: the level to go to, in [0, sigma).
        eta: DDIM's share of fresh noise, 0 or more; beyond sigma/sqrt(sigma^2 - sigma_next^2) it has no
            further effect.

    Returns:
        The mean `(batch, *event)` and the standard deviation, VE.

    Raises:
        TypeError, ValueError: a level or eta that is not as above.

    References:
        Song, Meng, Ermon 2021, "Denoising diffusion implicit models", arXiv:2010.02502, eq. (12).
    """
    check_alike(x, denoised=denoised)
    return ddim_formula(x, denoised, *as_step(sigma, sigma_next, eta))


def ddim_formula(
    x: Latent, denoised: Latent, sigma: float, sigma_next: float, eta: float
) -> tuple[Latent, float]:
    """Return `ddim_step` without its checks, which the loop has made."""
    std, sigma_down = ddim_noise(sigma, sigma_next, eta)
    return torch.lerp(denoised, x, sigma_down / sigma), std


def ddim_noise(sigma: float, sigma_next: float, eta: float) -> tuple[float, float]:
    """Return sigma_up, the noise of a step, and sigma_down, the level that it goes to before the noise."""
    std = min(sigma_next, eta * sigma_next * math.sqrt((sigma - sigma_next) * (sigma + sigma_next)) / sigma)
    return std, math.sqrt((sigma_next - std) * (sigma_next + std))


@dataclass(frozen=True, kw_only=True)
class DDIM(Rule):
    """DDIM, eq. (4): k-diffusion's `sample_euler` for eta = 0, `sample_euler_ancestral` for eta > 0.

    Args:
        eta: DDIM's share of fresh noise; 0 is deterministic and draws nothing.

    Returns:
        A generator of `Step`s. Each step costs one model evaluation. The only wait for the device is at the
        last step.

    Raises:
        TypeError, ValueError: an argument is not as above (at the call), or a model or noise sampler returned
            another shape (at the step).
        FloatingPointError: a tensor was not finite. The message names it, the sample and the first such step.
            It is raised at the last step; with `debug_nans` at the step itself.
    """

    eta: float = 0.0

    @property
    def holds_slope(self) -> bool:
        """Return True for eta = 0: Euler's method makes its slope before the callback."""
        return self.eta == 0

    def step(self, at: At, x: Tensor, memory: None) -> tuple[Step, None]:
        """Take one step by eq. (4)."""
        denoised = at.denoise[0](x, at.sigma)
        return at.step(
            x, denoised, *ddim_formula(x, denoised, at.sigma, at.sigma_next, float(self.eta))
        ), None


ddim, sample_ddim = of_one_model("ddim", DDIM)
