"""Denoisers of several models at once: weighted sums of their scores, for any sampler.

Scores and denoised predictions are affine in each other, D = x + sigma^2 s (VE), so that sum_i beta_i s_i is
the score of D = x + sum_i beta_i (D_i - x). At sigma = 0 it is that of prod_i q_i^beta_i. At other levels it
is not that of the product's diffusion but in special cases: models that differ in separate coordinates only,
or the mean of Gaussians of equal covariances. Elsewhere a plain sampler draws neither the product of the
densities nor their mean.

The models share a latent space; each is called once per call of the composition. `extra_args` are passed to
them: one dictionary for all, or one each in their order. Arguments are checked when the composition is made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from amdm.checks import (
    check_callable,
    check_count,
    check_extra_args,
    check_finite,
    check_model,
    check_models,
    check_result,
    is_list,
    per_model,
    with_own_name,
)
from amdm.types import Denoiser, ExtraArgs, Latent, PerSample


@dataclass(frozen=True)
class Composed:
    """A denoiser whose score is sum_i exponents_i score_i; `compose` makes it.

    Attributes:
        models: N denoisers.
        exponents: beta, N numbers.
        extra_args: N dictionaries; arguments of the call go to all models, and these override them.
    """

    models: tuple[Denoiser, ...]
    exponents: tuple[float, ...]
    extra_args: tuple[ExtraArgs, ...]

    def __call__(self, x: Latent, sigma: PerSample, **extra_args: Any) -> Latent:
        """Return the composed prediction at VE noise level `sigma`, one per sample."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        composed = (1 - sum(self.exponents)) * wide
        parts = zip(self.models, self.exponents, self.extra_args, strict=True)
        for i, (model, beta, own) in enumerate(parts):
            denoised = model(x, sigma, **{**extra_args, **own})
            check_result(denoised, x, tuple(x.shape), with_own_name(model, f"models[{i}] of the composition"))
            composed = composed + beta * denoised.to(wide.dtype)
        return composed.to(x.dtype)


def compose(
    models: Sequence[Denoiser],
    exponents: Sequence[float],
    extra_args: ExtraArgs | Sequence[ExtraArgs | None] | None = None,
) -> Composed:
    """Return the denoiser whose score is sum_i exponents_i score_i.

    If the exponents sum to 1, one density is diffused and the start is the models' own. With another sum B
    the first level's law is narrower by sqrt(B): start at x/sqrt(B), x being a start for one model.
    `sample_fkc` and `sample_mcmc` do that themselves, a sampler of one denoiser does not.

    Args:
        models: N denoisers.
        exponents: N finite numbers, negative ones included.
        extra_args: one dictionary, or N.
    """
    check_models(models)
    for i, model in enumerate(models):
        check_callable(model, f"models[{i}]", "model(x, sigma, **extra_args)")
    _check_numbers(exponents, "exponents", len(models))
    args = per_model(extra_args, len(models), "extra_args")
    for i, arg in enumerate(args):
        check_extra_args(arg, f"extra_args[{i}]")
    return Composed(tuple(models), tuple(map(float, exponents)), tuple(arg or {} for arg in args))


def linear(
    models: Sequence[Denoiser],
    weights: Sequence[float] | None = None,
    extra_args: ExtraArgs | Sequence[ExtraArgs | None] | None = None,
) -> Composed:
    """Return the denoiser that averages the models' scores.

    The mean of the scores is also that of the noise predictions and of the denoised predictions.

    For Gaussians of equal covariances the result has the mean of their means; for others it is not the
    geometric mean of the densities, prod_i q_i^weights_i.

    Args:
        models: N denoisers.
        weights: N numbers of sum 1; None for equal ones.
        extra_args: one dictionary, or N.

    References:
        Liu et al. 2022, "Compositional visual generation with composable diffusion models",
        arXiv:2206.01714; the "linear aggregation" of the paper's section 4 with one latent for all.

    >>> one, other = (lambda x, sigma: 0 * x), (lambda x, sigma: 0 * x + 1)
    >>> linear([one, other], [0.75, 0.25])(torch.zeros(1, 2), torch.ones(1))
    tensor([[0.2500, 0.2500]])
    """
    check_models(models)
    return compose(models, mean_weights(weights, len(models)), extra_args)


def conjunction(
    unconditional: Denoiser,
    models: Sequence[Denoiser],
    weights: Sequence[float] | float = 1.0,
    extra_args: ExtraArgs | Sequence[ExtraArgs | None] | None = None,
) -> Composed:
    """Return the denoiser that satisfies all conditions at once: s = s_u + sum_i weights_i (s_i - s_u).

    A negative weight steers away from a condition (negation). With one model this is classifier-free
    guidance. The models may be one network with N conditions.

    Args:
        unconditional: the denoiser of the density that the conditions are relative to.
        models: N denoisers, one per condition.
        weights: N numbers or one for all; the published scripts have 7.5.
        extra_args: one dictionary, or N + 1, the unconditional one's first.

    References:
        Liu et al. 2022, arXiv:2206.01714: concept conjunction and negation.
    """
    check_model(unconditional, "unconditional")
    check_models(models)
    weights = list(weights) if is_list(weights) else [weights] * len(models)  # type: ignore[arg-type,list-item]
    _check_numbers(weights, "weights", len(models))
    return compose([unconditional, *models], [1 - sum(weights), *weights], extra_args)


def projective(
    background: Denoiser,
    models: Sequence[Denoiser],
    extra_args: ExtraArgs | Sequence[ExtraArgs | None] | None = None,
) -> Composed:
    """Return the projective composition: `conjunction` with unit weights, the score of p_b prod_i p_i/p_b.

    It is exact at every level, so that plain samplers draw from it, if each model differs from the background
    only in its own coordinates, independent of the rest, possibly after a rotation. Elsewhere the weights
    of `amdm.fkc` measure how far it is from exact.

    Args:
        background: the denoiser of p_b, which decides everything that the models leave open.
        models: N denoisers, one per factor.
        extra_args: one dictionary, or N + 1, the background's first.

    References:
        Bradley et al. 2025, "Mechanisms of projective composition of diffusion models", arXiv:2502.04549.
    """
    check_model(background, "background")
    return conjunction(background, models, 1.0, extra_args)


def mean_weights(weights: Sequence[float] | None, num_models: int) -> list[float]:
    """Return the weights of a mean: N finite numbers of sum 1, equal weights for None."""
    weights = [1 / num_models] * num_models if weights is None else weights
    _check_numbers(weights, "weights", num_models)
    if abs(sum(weights) - 1) > 1e-6:
        raise ValueError(f"weights is {list(weights)}, expected numbers of sum 1")
    return list(weights)


def _check_numbers(values: Sequence[float], name: str, num_models: int) -> None:
    """Raise unless there are N finite numbers."""
    check_count(values, num_models, name)
    for i, value in enumerate(values):
        check_finite(value, f"{name}[{i}]")
