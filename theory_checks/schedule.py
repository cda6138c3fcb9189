"""The coefficients of eq. (4) on Stable Diffusion's grid, in VP, and their other name."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Coefficients(NamedTuple):
    """Eq. (4): z_next = a z + b eps + s xi. `sigma`, `sigma_next` are the levels in VE."""

    a: float
    b: float
    s: float
    sigma: float
    sigma_next: float


def betas() -> Float[Tensor, "1000"]:
    """Stable Diffusion's, scaled-linear: their roots are evenly spaced from 0.00085^(1/2) to 0.012^(1/2)."""
    return torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square()


def coefficients(index: int, eta: float, steps: int = 50) -> Coefficients:
    """Of step `index` = 0, 1, ... of DDIM with this eta, on the grid of diffusers (leading, offset 1).

    The last step ends at abar = 1. The letters are the paper's, eq. (4).
    """
    grid = [*(1 - betas()).cumprod(0)[torch.arange(steps).flip(0) * (1000 // steps) + 1].tolist(), 1.0]
    if not 0 <= index < steps:
        raise ValueError(f"index must lie in 0 to {steps - 1}, got {index}")
    now, after = grid[index], grid[index + 1]
    s = eta * ((1 - after) / (1 - now)) ** 0.5 * (1 - now / after) ** 0.5
    b = (1 - after - s**2) ** 0.5 - (after * (1 - now) / now) ** 0.5
    return Coefficients((after / now) ** 0.5, b, s, (1 / now - 1) ** 0.5, (1 / after - 1) ** 0.5)
