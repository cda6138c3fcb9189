"""Denoisers with known answers, and one that records how it was called."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from amdm.denoisers import GaussianMixture
from amdm.types import NoiseSampler


def mixture(seed: int = 0, components: int = 3, n: int = 6, spread: float = 2.0) -> GaussianMixture:
    """A mixture in n dimensions, float64."""
    g = torch.Generator().manual_seed(seed)
    means = spread * torch.randn(components, n, generator=g, dtype=torch.float64)
    variances = 0.05 + torch.rand(components, n, generator=g, dtype=torch.float64)
    return GaussianMixture(means, variances)


def gaussian(means: Sequence[float], variances: Sequence[float] | float) -> GaussianMixture:
    """Of independent coordinates, float64."""
    centres = torch.tensor([means], dtype=torch.float64)
    return GaussianMixture(centres, torch.tensor([variances], dtype=torch.float64))


def product(
    models: Sequence[GaussianMixture], exponents: Sequence[float], sigma: float
) -> tuple[float, float]:
    """Mean and variance of prod_i q_i^beta_i of Gaussians on the line, each diffused to sigma."""
    precision = sum(b / (m.variances + sigma**2) for m, b in zip(models, exponents, strict=True))
    pull = sum(b * m.means / (m.variances + sigma**2) for m, b in zip(models, exponents, strict=True))
    return (pull / precision).item(), (1 / precision).item()


def noises(seed: int, *shape: int) -> NoiseSampler:
    """Normal draws of one seed, float64."""
    g = torch.Generator().manual_seed(seed)
    return lambda sigma, sigma_next: torch.randn(shape, generator=g, dtype=torch.float64)


def karras(
    steps: int, sigma_max: float = 20.0, sigma_min: float = 0.02, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Karras et al. 2022, eq. (5), rho = 7, and a final 0."""
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    levels = (sigma_max ** (1 / 7) + ramp * (sigma_min ** (1 / 7) - sigma_max ** (1 / 7))) ** 7
    return torch.cat([levels, levels.new_zeros(1)]).to(dtype)


class Recorder:
    """A denoiser that remembers its calls and checks that nobody changed its inputs or outputs."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.sigmas: list[float] = []
        self.extra_args: list[dict[str, Any]] = []
        self._seen: list[tuple[Tensor, Tensor]] = []

    def __call__(self, x: Tensor, sigma: Tensor, **extra_args: Any) -> Tensor:
        assert sigma.shape == (len(x),) and sigma.dtype == x.dtype and bool((sigma == sigma[0]).all())
        self.sigmas.append(float(sigma[0]))
        self.extra_args.append(extra_args)
        denoised = self.model(x, sigma)
        self._seen += [(x, x.clone()), (denoised, denoised.clone())]
        return denoised

    def assert_nothing_was_modified(self) -> None:
        assert self._seen and all(torch.equal(tensor, copy) for tensor, copy in self._seen)
