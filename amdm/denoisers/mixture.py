"""Gaussian mixtures: the denoiser, the score and the density in closed form, in any dimension."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from amdm.checks import check_floating, check_latent, check_number, check_whole, kind_of
from amdm.geometry.rows import float64
from amdm.types import Latent, PerSample

Level = float | Float[Tensor, ""] | PerSample


class GaussianMixture:
    """The exact denoiser of a mixture of K Gaussians, `model(x, sigma) -> denoised` as in k-diffusion.

    Component k is N(means_k, C_k), where C_k is diagonal, or `variances_k I + factors_k^T factors_k`. At
    noise level sigma its covariance is C_k + sigma^2 I (VE coordinates). Everything is computed in the
    wider of the dtypes of `x` and of the mixture, with factors in float64 (on the CPU if the device of `x`
    has none), and returned in the dtype of `x`.

    Args:
        means: `(components, *event)`, floating point.
        variances: positive; `(components,)`, or `(components, *event)` for diagonal covariances.
        weights: `(components,)`, positive, of any sum; None for equal weights.
        factors: `(components, rank, *event)` to add `factors_k^T factors_k`; the variances are then one
            per component.

    Raises:
        TypeError: not floating-point tensors.
        ValueError: shapes that do not fit, a mean that is not finite, or a variance or weight that is not
            positive.

    >>> model = GaussianMixture(torch.zeros(1, 2), torch.ones(1))
    >>> model(torch.tensor([[2.0, 4.0]]), torch.tensor([1.0]))
    tensor([[1., 2.]])
    """

    def __init__(
        self,
        means: Float[Tensor, "components *event"],
        variances: Float[Tensor, "components *_"],
        weights: Float[Tensor, " components"] | None = None,
        factors: Float[Tensor, "components rank *event"] | None = None,
    ) -> None:
        _check_numbers(means, variances=variances, weights=weights, factors=factors)
        weights = torch.ones_like(means.flatten(1)[:, 0]) if weights is None else weights
        if not bool((weights > 0).all() & weights.isfinite().all()):
            raise ValueError(f"weights is {weights.tolist()}, expected positive, finite numbers")
        if weights.shape != means.shape[:1]:
            raise ValueError(f"weights has shape {tuple(weights.shape)}, expected {tuple(means.shape[:1])}")
        if not bool((variances > 0).all() & variances.isfinite().all()):
            raise ValueError(
                f"variances has the minimum {variances.min().item()}, expected positive, finite numbers"
            )
        isotropic = variances.shape == means.shape[:1]
        if not isotropic and (factors is not None or variances.shape != means.shape):
            or_else = "beside factors" if factors is not None else f"or {tuple(means.shape)}"
            raise ValueError(
                f"variances has shape {tuple(variances.shape)}, expected ({len(means)},) {or_else}"
            )
        self.means, self.variances, self.factors = means, variances, factors
        self.weights = weights / weights.sum()
        self._rest = variances[:, None] if isotropic else variances.flatten(1)
        self._axes, self._spread = _principal_axes(means, factors)

    def __call__(self, x: Latent, sigma: Level) -> Latent:
        """Return the posterior mean E[x0 | x] at VE noise level `sigma`, a number or one per sample."""
        posterior = self._posterior(x, sigma)
        denoised = (posterior.responsibilities[..., None] * posterior.means).sum(1)
        return denoised.reshape(x.shape).to(x)

    def score(self, x: Latent, sigma: Level) -> Latent:
        """Return the gradient of `log_density` at `x`, VE."""
        posterior = self._posterior(x, sigma)
        score = -(posterior.responsibilities[..., None] * posterior.whitened).sum(1)
        return score.reshape(x.shape).to(x)

    def eps(self, x: Latent, sigma: Level) -> Latent:
        """Return the noise prediction (x - denoised)/sigma = -sigma score."""
        wide = self._wide(x)
        scale = beside(sigma, wide).reshape(-1, *[1] * (x.ndim - 1))
        return (-scale * self.score(wide, sigma)).to(x)

    def log_density(self, x: Latent, sigma: Level = 0.0) -> PerSample:
        """Return the log-density of x0 + sigma noise at `x` (VE), natural log."""
        return torch.logsumexp(self._posterior(x, sigma).log_joint, dim=1).to(x)

    def sample(
        self, num_samples: int, sigma: float = 0.0, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "num_samples *event"]:
        """Draw x0 + sigma noise, in the mixture's dtype; `generator` lives on its device."""
        check_number(sigma, "sigma", "a finite level of 0 or more", lambda level: level >= 0)
        _, x = self.sample_components(num_samples, generator=generator)
        return x + sigma * _randn(x, x.shape, generator)

    def sample_components(
        self, num_samples: int, *, generator: torch.Generator | None = None
    ) -> tuple[Int[Tensor, " num_samples"], Float[Tensor, "num_samples *event"]]:
        """Draw components, and x0 from each; return both."""
        check_whole(num_samples, "num_samples", "a whole number of 1 or more", lambda count: count >= 1)
        k = torch.multinomial(self.weights, num_samples, replacement=True, generator=generator)
        means = self.means.flatten(1)[k]
        x = means + self._rest[k].sqrt() * _randn(means, means.shape, generator)
        along = _randn(means, (num_samples, self._spread.shape[1]), generator)
        x = x + ((along * self._spread[k].sqrt())[..., None] * self._axes[k]).sum(1)
        return k, x.reshape(num_samples, *self.means.shape[1:])

    def restrict(self, weights: Float[Tensor, " components"] | Sequence[float]) -> "GaussianMixture":
        """Return a conditional model: the components with other weights, without those of weight 0."""
        weights = torch.as_tensor(weights, dtype=self.means.dtype, device=self.means.device)
        if weights.shape != self.weights.shape or not bool((weights >= 0).all() & (weights.sum() > 0)):
            raise ValueError(
                f"weights is {weights.tolist()}, expected {len(self.means)} numbers of 0 or more, not all 0"
            )
        kept = weights > 0
        factors = None if self.factors is None else self.factors[kept]
        return GaussianMixture(self.means[kept], self.variances[kept], weights[kept], factors)

    def lipschitz_bound(
        self, sigma: float, radius: float = math.inf, center: Float[Tensor, "*event"] | None = None
    ) -> float:
        """Bound the Lipschitz constant of `eps(., sigma)` in VE coordinates (VP: times sqrt(1+sigma^2)).

        The Jacobian of eps is (I - Cov[x0|x]/sigma^2)/sigma. Within a component Cov/sigma^2 has the
        eigenvalues l/(l + sigma^2), l those of C_k; the posterior means of the components, M apart at
        most, add a covariance of at most M^2/4 (Popoviciu). Equal covariances make M a constant and the
        bound global; otherwise M grows with |x|, and the bound holds within `radius` of `center` (the
        origin by default): infinite without a radius, as the true constant can be.
        """
        eigenvalues = self._spread + self._rest[:, :1]
        if eigenvalues.shape[1] < self.means[0].numel():
            eigenvalues = torch.cat([eigenvalues, self._rest], dim=1)
        low, high = float(eigenvalues.min()), float(eigenvalues.max())
        # The eigenvalues of (I - Cov/sigma^2) within the components: sigma^2/(l + sigma^2).
        least, most = sigma**2 / (high + sigma**2), sigma**2 / (low + sigma**2)
        center = torch.zeros_like(self.means[0]) if center is None else center
        means = self._posterior(center[None].to(self.means), sigma).means[0]
        apart = float(torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist").max())
        if high > low and not all(bool((t == t[:1]).all()) for t in (self._rest, self._spread, self._axes)):
            # Between any two components' gains C (C + sigma^2)^-1, in operator norm: most - least at most.
            apart += radius * (high - low) * least * most / sigma**2
        return max(most, apart**2 / (4 * sigma**2) - least) / sigma

    def _posterior(self, x: Latent, sigma: Level) -> "_Posterior":
        """Return the posterior of every component at `x`, from which everything else is computed."""
        check_event(x, self.means)
        check_level(sigma, x)
        x = self._wide(x)
        means, rest, axes, spread = (
            beside(t, x) for t in (self.means.flatten(1), self._rest, self._axes, self._spread)
        )
        noise = beside(sigma, x).reshape(-1, 1, 1) ** 2
        offset = x.reshape(len(x), 1, means.shape[-1]) - means
        along = torch.einsum("bkn,krn->bkr", offset, axes)
        across = offset - torch.einsum("bkr,krn->bkn", along, axes)
        total_rest, total_axes = rest + noise, rest[:, :1] + spread + noise
        # C (C + sigma^2)^-1 and (C + sigma^2)^-1 applied to x - mean: across the axes, then along them.
        gained, lost = (rest[:, :1] + spread) / total_axes * along, along / total_axes
        posterior_means = means + rest / total_rest * across + torch.einsum("bkr,krn->bkn", gained, axes)
        whitened = across / total_rest + torch.einsum("bkr,krn->bkn", lost, axes)
        n = means.shape[1]
        copies = n / total_rest.shape[-1]  # an isotropic variance is stored once
        log_volume = (total_axes / total_rest[..., :1]).log().sum(-1) + copies * total_rest.log().sum(-1)
        quadratic = (across**2 / total_rest).sum(-1) + (along**2 / total_axes).sum(-1)
        log_weights = beside(self.weights, x).log()
        log_joint = log_weights - (n * math.log(2 * math.pi) + log_volume + quadratic) / 2
        return _Posterior(log_joint, log_joint.softmax(dim=1), posterior_means, whitened)

    def _wide(self, x: Latent) -> Latent:
        """Return `x` in the dtype for computing: float64 for matrix products, which no mode lowers."""
        dtype = torch.promote_types(x.dtype, self.means.dtype)
        return float64(x) if dtype == torch.float64 or self.factors is not None else x.to(dtype)


def beside(value: float | Tensor, x: Tensor) -> Tensor:
    """Return `value` as a tensor of the dtype of `x`, on its device."""
    if isinstance(value, Tensor) and x.dtype == torch.float64:
        value = float64(value)
    return torch.as_tensor(value, dtype=x.dtype, device=x.device)


def check_event(x: Latent, data: Tensor) -> None:
    """Raise unless `x` is floating point and has the event shape of `data`."""
    check_floating(x, "x")
    if x.shape[1:] != data.shape[1:]:
        raise ValueError(f"x has the event shape {tuple(x.shape[1:])}, expected {tuple(data.shape[1:])}")


def check_level(sigma: object, x: Latent, *, zero: bool = True) -> None:
    """Raise unless `sigma` is one level or one per sample; only plain numbers have their value checked."""
    if not isinstance(sigma, Tensor):
        expected = "a finite level of 0 or more" if zero else "a finite level above 0"
        check_number(sigma, "sigma", expected, lambda level: level >= 0 if zero else level > 0)
    elif sigma.dtype == torch.bool or sigma.is_complex() or sigma.is_meta > x.is_meta:
        raise TypeError(f"sigma is {kind_of(sigma)} on {sigma.device}, expected a level")
    elif sigma.ndim > 0 and sigma.shape != x.shape[:1]:
        raise ValueError(f"sigma has shape {tuple(sigma.shape)}, expected one per sample: ({len(x)},)")


class _Posterior(NamedTuple):
    log_joint: Float[Tensor, "batch components"]
    responsibilities: Float[Tensor, "batch components"]
    means: Float[Tensor, "batch components n"]
    whitened: Float[Tensor, "batch components n"]


def _check_numbers(means: Tensor, **others: Tensor | None) -> None:
    """Raise unless all are floating-point tensors with values, and the means and factors are finite."""
    check_latent(means, "means")
    check_floating(others["variances"], "variances")
    for name, value in {"means": means, **others}.items():
        if value is None:
            continue
        check_floating(value, name)
        if value.is_meta:
            raise ValueError(f"{name} is on the meta device, which has no values: expected numbers")
        if name in ("means", "factors") and not bool(value.isfinite().all()):
            raise ValueError(f"{name} has NaN or infinity, expected finite numbers")


def _principal_axes(means: Tensor, factors: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return orthonormal axes `(components, rank, n)` of factors^T factors, and the variances along them."""
    if factors is None:
        means = means.flatten(1)
        return means.new_zeros(len(means), 0, means.shape[1]), means.new_zeros(len(means), 0)
    if (factors.shape[:1] + factors.shape[2:]) != means.shape:
        raise ValueError(
            f"factors has shape {tuple(factors.shape)}, expected (components, rank, *event) for means of "
            f"shape {tuple(means.shape)}"
        )
    _, singular, axes = torch.linalg.svd(factors.flatten(2), full_matrices=False)
    return axes, singular**2


def _randn(like: Tensor, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
    return torch.randn(shape, dtype=like.dtype, device=like.device, generator=generator)
