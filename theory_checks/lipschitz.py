"""Lipschitz constants of a noise prediction and of a step, in VP coordinates.

eps_VP(z) = eps(sqrt(1+sigma^2) z, sigma), so K_VP = sqrt(1+sigma^2) K_VE. The step map z -> a z + b eps_VP(z)
takes VP to VP. Constants are certified for Gaussian mixtures. For other denoisers they are estimated by power
iteration at some points, from below: an estimate is not a bound.
"""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch.func import jvp, vjp
from torch.nn.attention import SDPBackend, sdpa_kernel

from amdm.denoisers import GaussianMixture
from amdm.types import Denoiser, Latent, PerSample
from theory_checks.pair import BATCH, Numbers
from theory_checks.schedule import Coefficients

How = Literal["certified", "estimated"]
ASSUMPTIONS: dict[How, str] = {
    "certified": "Lipschitz constants certified, VP",
    "estimated": "Lipschitz constants estimated at three points of the segment, VP: not bounds",
}


def noise_lipschitz(how: How, model: Denoiser, x: Latent, y: Latent, sigma: float) -> Numbers:
    """Return a Lipschitz constant of eps_VP on each segment from `x` to `y` (VE latents at sigma)."""
    if how == "estimated":
        return _largest(lambda points: lipschitz_estimate(model, points, sigma), x, y)
    middle, radius = (x + y) / 2, (x - y).flatten(1).norm(dim=1) / 2
    bounds = [
        _mixture(model).lipschitz_bound(sigma, float(r), centre)
        for r, centre in zip(radius, middle, strict=True)
    ]
    return math.sqrt(1 + sigma**2) * np.array(bounds)


def step_lipschitz(how: How, model: Denoiser, x: Latent, y: Latent, c: Coefficients) -> Numbers:
    """Return a Lipschitz constant of the step map on each segment from `x` to `y` (VE latents at c.sigma).

    a and b have opposite signs, so this is less than a + |b| K unless eps falls as fast as K somewhere.
    """
    if how == "estimated":
        return _largest(lambda points: step_lipschitz_estimate(model, points, c), x, y)
    slopes = c.a + c.b * np.array(noise_slopes(_mixture(model), c.sigma))
    return np.full(len(x), np.abs(slopes).max())


def noise_slopes(model: GaussianMixture, sigma: float) -> tuple[float, float]:
    """Return the range of all eigenvalues of eps_VP's Jacobian, which is symmetric.

    For components N(m_k, v I) of one variance, and q = sigma^2/(v + sigma^2): the posterior covariance over
    sigma^2 is 1 - q within a component, and the posterior means, q |m_j - m_k| apart, add at most a quarter
    of that distance squared (Popoviciu). The Jacobian is sqrt(1+sigma^2)/sigma times one minus all that.

    Raises:
        ValueError: the components have different covariances.
    """
    v = model.variances.flatten()
    if model.variances.ndim > 1 or model.factors is not None or bool((v != v[0]).any()):
        raise ValueError("model has components of several covariances, expected v I for one v")
    q = sigma**2 / (float(v[0]) + sigma**2)
    means = model.means.flatten(1)
    diameter = float(torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist").max())
    scale = math.sqrt(1 + sigma**2) / sigma
    return scale * (q - (q * diameter / (2 * sigma)) ** 2), scale * q


def lipschitz_estimate(
    model: Denoiser, x: Latent, sigma: float, *, iterations: int = 20, seed: int = 0
) -> PerSample:
    """Estimate, from below, the largest singular value of eps_VP's Jacobian at `x` (VE, at sigma)."""
    norm = spectral_norm(lambda part: _noise(model, part, sigma), x, iterations=iterations, seed=seed)
    return math.sqrt(1 + sigma**2) * norm


def step_lipschitz_estimate(
    model: Denoiser, x: Latent, c: Coefficients, *, iterations: int = 20, seed: int = 0
) -> PerSample:
    """Estimate, from below, the largest singular value of the step map's Jacobian at `x` (VE)."""
    # In VE a z + b eps_VP(z) is a map with the same Jacobian, x -> a x + b sqrt(1+sigma^2) eps(x).
    slope = c.b * math.sqrt(1 + c.sigma**2)
    return spectral_norm(
        lambda part: c.a * part + slope * _noise(model, part, c.sigma), x, iterations=iterations, seed=seed
    )


def spectral_norm(
    function: Callable[[Latent], Latent], x: Latent, *, iterations: int = 20, seed: int = 0
) -> PerSample:
    """Return a lower bound on |J| for the Jacobian J at `x`: |J v| after some power iterations v <- J^T J v.

    v is a unit vector. The result is one per sample: `function` maps a batch sample by sample,
    differentiably.
    """
    generator = torch.Generator(x.device).manual_seed(seed)
    norms = []
    # The fused kernels of attention have no forward derivative.
    with sdpa_kernel(SDPBackend.MATH):
        for part in torch.split(x, BATCH):
            v = torch.randn(part.shape, generator=generator, device=x.device, dtype=x.dtype)
            pull = vjp(function, part)[1]
            for _ in range(iterations):
                (v,) = pull(jvp(function, (part,), (_unit(v),))[1])
            norms.append(_norms(jvp(function, (part,), (_unit(v),))[1]))
    return torch.cat(norms)


def _norms(v: Latent) -> PerSample:
    return v.flatten(1).square().sum(dim=1).sqrt()


def _unit(v: Latent) -> Latent:
    norms = _norms(v).clamp(min=torch.finfo(v.dtype).tiny)
    return torch.div(v, norms.reshape(-1, *[1] * (v.ndim - 1)))


def _noise(model: Denoiser, x: Latent, sigma: float) -> Latent:
    return torch.div(x - model(x, x.new_full((len(x),), sigma)), sigma)


def _largest(estimate: Callable[[Latent], PerSample], x: Latent, y: Latent) -> Numbers:
    """Return the largest of the estimates at the ends and in the middle of each segment."""
    points = torch.cat([x, (x + y) / 2, y])
    return np.asarray(estimate(points).reshape(3, -1).amax(dim=0).double().cpu())


def _mixture(model: Denoiser) -> GaussianMixture:
    if not isinstance(model, GaussianMixture):
        raise ValueError(f"model is a {type(model).__name__}, of which no Lipschitz constant is certified")
    return model
