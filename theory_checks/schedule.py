"""The coefficients of eq. (4) on Stable Diffusion's grid, in VP."""

from typing import NamedTuple

import torch

from amdm.schedules import sigmas_from_betas, stable_diffusion_betas

TRAINED_LEVELS = sigmas_from_betas(stable_diffusion_betas())
"""The VE level of each of Stable Diffusion's 1000 training steps, increasing."""


class Coefficients(NamedTuple):
    """The coefficients of eq. (4): z_next = a z + b eps + s xi. `sigma` and `sigma_next` are levels in VE."""

    a: float
    b: float
    s: float
    sigma: float
    sigma_next: float


def coefficients(index: int, eta: float, steps: int = 50) -> Coefficients:
    """Return the coefficients of DDIM's step `index` = 0, 1, ... on diffusers' grid (leading, offset 1).

    The last step ends at abar = 1. The letters are the paper's, eq. (4).
    """
    if not 0 <= index < steps:
        raise ValueError(f"index must lie in 0 to {steps - 1}, got {index}")
    abar = (1 - stable_diffusion_betas()).cumprod(0)
    grid = [*abar[torch.arange(steps).flip(0) * (1000 // steps) + 1].tolist(), 1.0]
    now, after = grid[index], grid[index + 1]
    s = eta * ((1 - after) / (1 - now)) ** 0.5 * (1 - now / after) ** 0.5
    b = (1 - after - s**2) ** 0.5 - (after * (1 - now) / now) ** 0.5
    return Coefficients((after / now) ** 0.5, b, s, (1 / now - 1) ** 0.5, (1 / after - 1) ** 0.5)
