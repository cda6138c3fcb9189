"""The conservative projection against the Lyapunov equation that a linear score's has."""

import pytest
import torch
from scipy.linalg import solve_continuous_lyapunov
from strategies import randn

from amdm.denoisers import GaussianMixture, conservative_projection

PAIRS = torch.triu_indices(3, 3)


def quadratics(x):
    """x_i x_j, i <= j, each counted as x^T P x / 2 counts them."""
    i, j = PAIRS
    return x[:, i] * x[:, j] * torch.where(i == j, 0.5, 1.0)


def symmetric(theta):
    i, j = PAIRS
    matrix = torch.zeros(3, 3).double()
    matrix[i, j] = matrix[j, i] = theta
    return matrix


@pytest.mark.parametrize("white", [True, False])
def test_a_linear_score_that_is_no_gradient(white):
    """s = -A x: P solves S P + P S = A S + S A^T, S the samples' second moments; S = 1 gives (A + A^T)/2."""
    x, a = randn(0, 500, 3), randn(1, 3, 3)
    if white:
        x = x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / len(x))).T
    found = symmetric(conservative_projection(quadratics, x, -x @ a.T))
    moments = x.T @ x / len(x)
    expected = torch.from_numpy(
        solve_continuous_lyapunov(moments.numpy(), (moments @ a.T + a @ moments).numpy())
    )
    assert (found - expected).abs().max() < 1e-8
    assert bool(((expected - (a + a.T) / 2).abs().max() < 1e-8) == white)


def test_a_score_that_is_a_gradient_is_found():
    """A Gaussian's, from its energy's features; one feature too many, and a constant, change nothing."""
    model, x = GaussianMixture(torch.tensor([[0.5, -1.0]]), torch.tensor([[0.5, 2.0]])), randn(0, 50, 2)
    features = lambda x: torch.cat([x, x**2 / 2, x[:, :1] ** 3, torch.ones_like(x[:, :1])], 1)
    theta = conservative_projection(features, x, model.score(x, 0.0).double())
    expected = torch.tensor([-0.5 / 0.5, 1.0 / 2.0, 1 / 0.5, 1 / 2.0, 0.0, 0.0]).double()
    assert (theta - expected).abs().max() < 1e-6


def test_shapes_that_do_not_fit_are_named(unchecked):
    with pytest.raises(ValueError, match=r"score has shape \(5, 2\), expected x's, two axes: \(4, 2\)"):
        conservative_projection(quadratics, randn(0, 4, 2), randn(0, 5, 2))
    with pytest.raises(TypeError, match=r"score is a torch\.int64 tensor, expected a floating-point tensor"):
        conservative_projection(quadratics, randn(0, 4, 2), torch.ones(4, 2, dtype=torch.int64))
