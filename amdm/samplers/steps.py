"""One reverse step each, in VE coordinates: formulas without loops, models or randomness.

Sigmas are numbers (a 0-d tensor is read on the host): the coefficients are computed once, in double
precision, and no step waits for a device. Every step returns the mean and the standard deviation of the
next latent, eq. (4) of the paper; `sigma_next = 0` gives `denoised` exactly.
"""

import math

import torch
from torch import Tensor

from amdm.types import Latent

Level = float | Tensor


def ddim_step(
    x: Latent, denoised: Latent, sigma: Level, sigma_next: Level, eta: float = 0.0
) -> tuple[Latent, float]:
    """DDIM's step, eq. (4): mean = denoised + (sigma_down/sigma) (x - denoised), std = sigma_up.

    In VE coordinates this is k-diffusion's ancestral Euler step: sigma_up = min(sigma_next, eta
    sqrt(sigma_next^2 (sigma^2 - sigma_next^2)/sigma^2)), sigma_down^2 = sigma_next^2 - sigma_up^2. In the
    paper's letters s_t sqrt(1 + sigma_next^2) = sigma_up and |b_t| sqrt(1 + sigma_next^2) = sigma -
    sigma_down. eta = 0 is Euler's method on the probability flow, eta = 1 is DDPM.

    Args:
        x: `(batch, *event)`, the latent at `sigma`, VE.
        denoised: `(batch, *event)`, the model's prediction there.
        sigma: the level of `x`, positive.
        sigma_next: the level to go to, in [0, sigma).
        eta: DDIM's share of fresh noise, 0 or more; beyond sigma/sqrt(sigma^2 - sigma_next^2) it has no
            further effect.

    Returns:
        The mean `(batch, *event)` and the standard deviation, VE.

    References:
        Song, Meng, Ermon 2021, "Denoising diffusion implicit models", arXiv:2010.02502, eq. (12).
    """
    sigma, sigma_next, eta = float(sigma), float(sigma_next), float(eta)
    std = min(sigma_next, eta * sigma_next * math.sqrt((sigma - sigma_next) * (sigma + sigma_next)) / sigma)
    sigma_down = math.sqrt((sigma_next - std) * (sigma_next + std))
    return torch.lerp(denoised, x, sigma_down / sigma), std


def heun_step(
    x: Latent, denoised: Latent, euler: Latent, denoised_euler: Latent, sigma: Level, sigma_next: Level
) -> Latent:
    """Heun's second-order step: the trapezoidal rule over `x` and its Euler (eta = 0 DDIM) prediction.

    Args:
        x: `(batch, *event)`, the latent at `sigma`, VE.
        denoised: the prediction at `x`.
        euler: `ddim_step(x, denoised, sigma, sigma_next)`.
        denoised_euler: the prediction at `euler`.
        sigma: the level of `x`, positive.
        sigma_next: the level to go to, in (0, sigma).

    Returns:
        The next latent `(batch, *event)`: the step is deterministic.

    References:
        Karras et al. 2022, "Elucidating the design space", arXiv:2206.00364, algorithm 1.
    """
    sigma, sigma_next = float(sigma), float(sigma_next)
    slope = (x - denoised) / sigma + (euler - denoised_euler) / sigma_next
    return x + (sigma_next - sigma) / 2 * slope


def dpmpp_2m_step(
    x: Latent,
    denoised: Latent,
    previous: Latent | None,
    sigma: Level,
    sigma_next: Level,
    sigma_previous: Level | None,
    eta: float = 0.0,
) -> tuple[Latent, float]:
    """DPM-Solver++(2M), and its SDE form by the midpoint rule for eta > 0.

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
    sigma, sigma_next, eta = float(sigma), float(sigma_next), float(eta)
    if sigma_next == 0:
        return denoised, 0.0
    h = math.log(sigma / sigma_next)
    if previous is not None and sigma_previous is not None:
        h_previous = math.log(float(sigma_previous) / sigma)
        denoised = denoised + (denoised - previous) * (h / (2 * h_previous))
    std = sigma_next * math.sqrt(-math.expm1(-2 * eta * h))
    return torch.lerp(denoised, x, sigma_next / sigma * math.exp(-eta * h)), std
