"""One reverse step of two models side by side: z_i = mean_i + s xi_i, eq. (4), in VP.

This module has the means, from models or made up, and the draws.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from amdm.denoisers import GaussianMixture
from amdm.geometry import angle
from amdm.types import Denoiser, Latent
from theory_checks.draws import normals, normals_at_once
from theory_checks.schedule import Coefficients

Geometry = Literal["random", "worst"]
Points = Float[Tensor, "starts n"]
Numbers = Float[ndarray, " samples"]
NOISE = 10**6
"""Added to a seed for the noise: starts that were drawn with the same seed are independent of it."""
BATCH = 64
"""Latents that a model sees at once."""


class Pair(NamedTuple):
    """The steps of two models from each of several starts, and the statement about them; VP lengths."""

    mean_1: Points
    mean_2: Points
    s: float
    between: Float[ndarray, " starts"]
    """An upper bound on |mean_1 - mean_2|, by the statement."""
    s_bound: float
    """The s that the statement's bound is made with: `s`, but 0 where the models share their noise."""


class Outcomes(NamedTuple):
    """The norms |z_1|, |z_2| (VP) and the angle between z_1 and z_2 (radians), one per draw."""

    norm_1: Numbers
    norm_2: Numbers
    theta: Numbers

    @property
    def gap(self) -> Numbers:
        """Return the norm gap ||z_1| - |z_2|| (VP)."""
        return np.asarray(np.abs(self.norm_1 - self.norm_2))

    @property
    def least(self) -> Numbers:
        """Return min(|z_1|, |z_2|) (VP)."""
        return np.minimum(self.norm_1, self.norm_2)


def outcomes(pair: Pair, samples: int, seed: int, *, shared: bool = False) -> Outcomes:
    """Return draws of both steps, from the starts in turn: sample k is from start k modulo their number.

    With `shared`, both steps get the same noise.
    """
    starts, n = pair.mean_1.shape
    pieces: list[Tensor] = []
    done = 0
    for xi in normals(samples, n, seed + NOISE, pair.mean_1.device, copies=1 if shared else 2):
        row = torch.arange(done, done + xi.shape[1], device=xi.device) % starts
        z_1, z_2 = pair.mean_1[row] + pair.s * xi[0], pair.mean_2[row] + pair.s * xi[-1]
        pieces.append(torch.stack([z_1.norm(dim=1), z_2.norm(dim=1), angle(z_1, z_2)]))
        done += xi.shape[1]
    return Outcomes(*torch.cat(pieces, dim=1).cpu().numpy())


def made_up(
    geometry: Geometry,
    axis: int,
    n: int,
    c: Coefficients,
    delta_eps: float,
    starts: int,
    seed: int,
    device: torch.device | str = "cpu",
) -> tuple[Points, Points, Points]:
    """Return common starts z and two noise predictions `delta_eps` apart, without a model: z, eps_1, eps_2.

    random: z and eps_1 are standard normal, eps_2 - eps_1 has a random direction.
    worst: z is ten times as long as the noise; eps_2 - eps_1 is along z (`axis` 0: it changes the norms only)
    or across it (`axis` 1: equal norms, it changes the angle only); eps_1 + eps_2 = 0.
    """
    first, second, third = normals_at_once(starts, n, seed, device, copies=3)
    along = first / first.norm(dim=1, keepdim=True)
    across = second - (second * along).sum(1, keepdim=True) * along
    across = across / across.norm(dim=1, keepdim=True)
    if geometry == "random":
        return first, third, third + delta_eps * (second / second.norm(dim=1, keepdim=True))
    z = (math.sqrt(n) * max(1.0, 10 * c.s / c.a) + delta_eps) * along
    half = delta_eps / 2 * (along, across)[axis]
    return z, -half, half


def conditionals(
    n: int,
    sigma: float,
    separation: float = 1.0,
    centre: float = 0.0,
    axis: int = 0,
    device: torch.device | str = "cpu",
) -> tuple[GaussianMixture, GaussianMixture]:
    """Return two exact models: one mixture of two modes under two conditions, of weights 1 : 1 and 1 : 9.

    The modes are `separation` times sigma to both sides of the centre along `axis`, N(mode, (sigma/2)^2 I);
    the centre is `centre` along axis 0 (VE lengths).
    """
    means = torch.zeros(2, n, dtype=torch.float64, device=device)
    means[:, 0] = centre
    means[:, axis] += torch.tensor([separation * sigma, -separation * sigma]).to(means)
    mixture = GaussianMixture(means, means.new_full((2,), sigma**2 / 4))
    return mixture, mixture.restrict([0.1, 0.9])


def predict_noise(model: Denoiser, x: Latent, sigma: float) -> Points:
    """Return eps = (x - D(x, sigma))/sigma at VE latents x `(starts, *event)`, in float64, in batches."""
    pieces = []
    with torch.no_grad():
        for part in torch.split(x, BATCH):
            denoised = model(part, part.new_full((len(part),), sigma))
            pieces.append((part.double() - denoised.double()).flatten(1) / sigma)
    return torch.cat(pieces)


def to_vp(x: Latent, sigma: float) -> Points:
    """Return VE latents as rows of VP, float64."""
    return x.double().flatten(1) / math.sqrt(1 + sigma**2)


def step_mean(z: Points, eps: Points, c: Coefficients) -> Points:
    """Return the mean of eq. (4): a z + b eps."""
    return c.a * z + c.b * eps


def stepped(z: Points, eps_1: Points, eps_2: Points, c: Coefficients) -> Pair:
    """Return both steps from z (VP), with means |b| |eps_1 - eps_2| apart."""
    between = abs(c.b) * distances(eps_1, eps_2)
    return Pair(step_mean(z, eps_1, c), step_mean(z, eps_2, c), c.s, between, c.s)


def model_mean(model: Denoiser, x: Latent, c: Coefficients) -> Points:
    """Return the mean of the model's step from VE latents `x` at c.sigma."""
    return step_mean(to_vp(x, c.sigma), predict_noise(model, x, c.sigma), c)


def sampled(model: GaussianMixture, samples: int, sigma: float, seed: int) -> Latent:
    """Return samples of the model's own law at a level, VE."""
    generator = torch.Generator(model.means.device).manual_seed(seed)
    return model.sample(samples, sigma, generator=generator)


def distances(a: Points, b: Points) -> Float[ndarray, " starts"]:
    """Return |a - b| per row."""
    return np.asarray((a - b).norm(dim=1).cpu())
