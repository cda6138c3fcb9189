"""Exact models of one caption and N controls with adjustable dependence.

Given the caption, x0 has a block of coordinates for each control and one more, turned by a rotation that no
model knows. A block has two modes, + and -, with covariances of their own; other captions have others.
A control is a noisy reading of x0 along a direction, or the name of a block's mode.
"""

from itertools import product
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.denoisers import GaussianMixture
from amdm.types import Latent, PerSample

Kind = Literal["data", "readings", "modes", "labels"]
"""The cause of the first two controls' dependence. "data": modes of the two blocks occur together.
"readings": the readings have similar directions. "modes": the modes differ in similar directions, and
controls name a mode. "labels": modes occur together, and controls name them."""
SIZE = 3
"""Coordinates of a block."""
NOISE = 0.3
"""The standard deviation of a reading's noise."""
DISTANCE = 1.0
"""The distance from a block's centre to its modes; x0 has a variance of about 1 per coordinate."""
Matrices = Float[Tensor, "components n n"]


class Models(NamedTuple):
    """The denoisers of one world, and the controls that they know."""

    empty: GaussianMixture
    """The model without caption and controls."""
    other: GaussianMixture
    """The same for a model that was trained on other frequencies of the captions."""
    caption: GaussianMixture
    told: tuple[GaussianMixture, ...]
    """The models with the caption and one control each."""
    joint: GaussianMixture
    """The model with the caption and all controls."""
    readings: Float[Tensor, "controls n"]
    values: Float[Tensor, " controls"]
    """The values of the readings."""
    blocks: Float[Tensor, "controls n size"]
    """An orthonormal basis of each control's block."""


def models(
    kind: Kind = "data", dependence: float = 0.0, controls: int = 2, seed: int = 0, device: str = "cpu"
) -> Models:
    """Return the models of a world, float64.

    Args:
        kind: the cause of the first two controls' dependence.
        dependence: from 0, for independent blocks, to 1. For "data" and "labels" the correlation of the two
            blocks' modes, else the cosine between the readings or between the modes' directions.
        controls: the number of controls, 2 or more.
        seed: the seed of the world.
        device: the device of the models.
    """
    n = SIZE * (controls + 1)
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)

    basis = torch.linalg.qr(randn(n, n))[0].T.reshape(controls + 1, SIZE, n)
    directions = torch.einsum("bs,bsn->bn", _unit(randn(controls, SIZE)), basis[:-1])
    turned = directions.clone()
    turned[1] = dependence * directions[0] + (1 - dependence**2) ** 0.5 * directions[1]
    apart = DISTANCE * (turned if kind == "modes" else directions)
    signs = torch.tensor(list(product((1.0, -1.0), repeat=controls))).to(basis)
    centres = 0.5 * torch.einsum("ybs,bsn->yn", randn(2, controls + 1, SIZE), basis)
    means = centres[:, None] + signs @ apart
    spread = randn(2, controls + 1, 2, SIZE, SIZE) / SIZE**0.5
    within = 0.1 * torch.eye(SIZE).to(basis) + 0.3 * spread @ spread.mT
    mode = torch.cat([signs < 0, signs[:, :1] * 0 > 0], dim=1).long()  # the last block has one mode
    of_block = within[:, torch.arange(controls + 1), mode]
    covariances = torch.einsum("bsn,ycbst,btm->ycnm", basis, of_block, basis)
    weights = 1 + (dependence if kind in ("data", "labels") else 0.0) * signs[:, 0] * signs[:, 1]

    def of(share: float) -> GaussianMixture:
        both = torch.stack([share * weights, (1 - share) * weights]).flatten()
        kept = both > 0
        return mixture(means.flatten(0, 1)[kept], covariances.flatten(0, 1)[kept], both[kept])

    empty, other, caption = of(0.3), of(0.8), of(1.0)
    readings = turned if kind == "readings" else directions
    values = readings @ means[0, 0]
    if kind in ("modes", "labels"):
        told = tuple(caption.restrict(caption.weights * (sign > 0)) for sign in signs.T)
        joint = caption.restrict(caption.weights * (signs > 0).all(dim=1))
    else:
        told = tuple(observed(caption, *pair) for pair in zip(readings, values, strict=True))
        joint = caption
        for pair in zip(readings, values, strict=True):
            joint = observed(joint, *pair)
    return Models(empty, other, caption, told, joint, readings, values, basis[:-1].mT)


def mixture(
    means: Float[Tensor, "components n"], covariances: Matrices, weights: Float[Tensor, " components"]
) -> GaussianMixture:
    """Return the mixture with these covariance matrices, which `GaussianMixture` takes as factors."""
    eigenvalues, axes = torch.linalg.eigh(covariances)
    least = eigenvalues[:, 0] / 2
    factors = (eigenvalues - least[:, None]).sqrt()[..., None] * axes.mT
    return GaussianMixture(means, least, weights, factors)


def covariances_of(model: GaussianMixture) -> Matrices:
    """Return the covariance matrix of each component of a model with factors."""
    assert model.factors is not None
    unit = torch.eye(model.means.shape[1]).to(model.means)
    return model.variances[:, None, None] * unit + model.factors.mT @ model.factors


def observed(
    model: GaussianMixture, reading: Float[Tensor, " n"], value: Float[Tensor, ""]
) -> GaussianMixture:
    """Return the model with one more known control: `reading` . x0 + NOISE xi is `value`."""
    covariance = covariances_of(model)
    along = covariance @ reading
    variance, off = along @ reading + NOISE**2, value - model.means @ reading
    weights = model.weights * (-(off**2 / variance + variance.log()) / 2).exp()
    left = covariance - along[:, :, None] * along[:, None] / variance[:, None, None]
    return mixture(model.means + (off / variance)[:, None] * along, left, weights)


def log_likelihood(
    model: GaussianMixture,
    x: Latent,
    sigma: float,
    readings: Float[Tensor, "controls n"],
    values: Float[Tensor, " controls"],
) -> PerSample:
    """Return log p_sigma(values | x) up to a constant, by the posterior of x0 given x.

    The model was not told the values.
    """
    covariance, unit = covariances_of(model), torch.eye(x.shape[1]).to(x)
    noisy = covariance + sigma**2 * unit
    gain = torch.linalg.solve(noisy, covariance).mT
    offset = x[:, None] - model.means
    posterior_means = model.means + torch.einsum("knm,bkm->bkn", gain, offset)
    spread = readings @ (covariance - gain @ covariance) @ readings.T
    variance = spread + NOISE**2 * torch.eye(len(values)).to(x)
    log_share = model.weights.log() + _log_normal(offset, noisy)
    read = _log_normal(values - posterior_means @ readings.T, variance)
    return torch.logsumexp(log_share.log_softmax(dim=1) + read, dim=1)


def mean_of(model: GaussianMixture) -> Float[Tensor, " n"]:
    """Return E[x0]."""
    return model.weights @ model.means


class Weighted:
    """The denoiser E[x0 | x] of weighted `data`.

    Args:
        data: `(size, n)`.
        weights: `(size,)`, positive, of any sum.
    """

    def __init__(self, data: Float[Tensor, "size n"], weights: Float[Tensor, " size"]) -> None:
        self.data, self.weights = data, weights

    def __call__(self, x: Latent, sigma: PerSample) -> Latent:
        """Return the posterior mean at VE noise level `sigma`, one per sample."""
        return self.posterior(x, float(sigma[0])) @ self.data

    def posterior(self, x: Latent, sigma: float) -> Float[Tensor, "batch size"]:
        """Return the probability of each of the data given `x`."""
        return self._log_joint(x, sigma).softmax(dim=1)

    def log_density(self, x: Latent, sigma: float) -> PerSample:
        """Return the log-density of x0 + sigma noise, without the normal density's constant."""
        return torch.logsumexp(self._log_joint(x, sigma), dim=1)

    def _log_joint(self, x: Latent, sigma: float) -> Float[Tensor, "batch size"]:
        distances = (x[:, None] - self.data).square().sum(-1)
        return (self.weights / self.weights.sum()).log() - distances / (2 * sigma**2)


def _log_normal(
    offset: Float[Tensor, "batch components d"], covariance: Float[Tensor, "components d d"]
) -> Tensor:
    """Return log-densities of N(0, covariance) at the offsets, `(batch, components)`, up to a constant."""
    quadratic = torch.einsum("bkd,kde,bke->bk", offset, torch.linalg.inv(covariance), offset)
    return -(quadratic + torch.logdet(covariance)) / 2


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows, dim=-1)
