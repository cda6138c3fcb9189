"""Energies from scores: the gradient field nearest to a score."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.checks import check_callable, check_latent, kind_of
from amdm.geometry.rows import float64

Features = Callable[[Float[Tensor, "batch n"]], Float[Tensor, "batch features"]]


def conservative_projection(
    features: Features, x: Float[Tensor, "samples n"], score: Float[Tensor, "samples n"]
) -> Float[Tensor, " features"]:
    """Return the coefficients of the energy E = sum_k theta_k phi_k whose -grad E is nearest to a score.

    The distance is the mean squared error over samples.

    A score that a network predicts need not be a gradient. The loss mean |grad E(x) + s(x)|^2 distils an
    energy from its gradient part only. For linear combinations of features this is linear least squares,
    solved exactly here.

    Args:
        features: phi, a differentiable function of each row by itself, called in float64 (on the CPU if the
            device of `x` has none); a constant feature has no gradient and gets no weight.
        x: the points where the score is known, drawn from the density of the mean: the noised data's.
        score: the score at `x`.

    Returns:
        theta; the shortest solution if the features' gradients are linearly dependent.

    Raises:
        TypeError, ValueError: `x` and `score` are not two floating-point tensors of one shape `(samples, n)`.

    References:
        Thornton et al. 2025, "Composition and control with distilled energy diffusion models and sequential
        Monte Carlo", arXiv:2502.12786: the conservative projection loss.

    >>> x = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]])
    >>> theta = conservative_projection(lambda x: x**2 / 2, x, -x * torch.tensor([1.0, 4.0]))
    >>> [round(value, 4) for value in theta.tolist()]
    [1.0, 4.0]
    """
    check_callable(features, "features", "features(x)")
    check_latent(x)
    check_latent(score, "score")
    for name, given in (("x", x), ("score", score)):
        if given.is_meta:
            raise ValueError(f"{name} is on the meta device, which has no values: expected another device")
    if score.shape != x.shape or x.ndim != 2:
        raise ValueError(f"score has shape {tuple(score.shape)}, expected x's, two axes: {tuple(x.shape)}")

    def of_row(row: Tensor) -> Tensor:
        found: Any = features(row[None])
        if not isinstance(found, Tensor) or found.ndim != 2:
            raise TypeError(f"features returned {kind_of(found)}, expected a tensor of a row for each of x's")
        return found[0]

    gradients: Tensor = torch.func.vmap(torch.func.jacrev(of_row))(float64(x))
    design = gradients.transpose(1, 2).flatten(0, 1)
    # On the CPU, whose least squares alone take features that depend on each other.
    target = -float64(score).flatten()[:, None]
    theta: Tensor = torch.linalg.lstsq(design.cpu(), target.cpu(), driver="gelsd").solution
    return theta[:, 0].to(x)
