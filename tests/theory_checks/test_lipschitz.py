"""Lipschitz constants in VP: closed forms, full Jacobians, and estimates that agree with both."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import jacrev, vmap

from amdm.denoisers import GaussianMixture
from theory_checks.lipschitz import (
    lipschitz_estimate,
    noise_lipschitz,
    noise_slopes,
    spectral_norm,
    step_lipschitz,
    step_lipschitz_estimate,
)
from theory_checks.pair import conditionals
from theory_checks.schedule import coefficients


def points(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def jacobians(function, x):
    """`(samples, n, n)`, of a function of batches."""
    n = x[0].numel()
    return vmap(jacrev(lambda one: function(one[None])[0]))(x).reshape(len(x), n, n)


def test_the_spectral_norm_of_a_matrix_that_is_not_symmetric():
    matrix = points(6, 6)
    norms = spectral_norm(lambda x: x @ matrix, points(3, 6, seed=1))
    assert norms.tolist() == pytest.approx([float(torch.linalg.matrix_norm(matrix, 2))] * 3)


def test_estimates_are_from_below():
    matrix = points(6, 6)
    few = spectral_norm(lambda x: x @ matrix, points(100, 6, seed=1), iterations=1)
    assert (few <= torch.linalg.matrix_norm(matrix, 2) * (1 + 1e-12)).all() and few.std() > 1e-3


def test_one_gaussian_has_a_constant_slope():
    # eps_VE = sigma x / (v + sigma^2), and K_VP = sqrt(1 + sigma^2) K_VE.
    c = coefficients(10, 0.5)
    model = GaussianMixture(points(1, 5), torch.tensor([0.25]).double())
    slope = math.sqrt(1 + c.sigma**2) * c.sigma / (0.25 + c.sigma**2)
    x, y = points(2, 4, 5, seed=1)
    assert noise_slopes(model, c.sigma) == pytest.approx((slope, slope))
    for how in ("certified", "estimated"):
        assert noise_lipschitz(how, model, x, y, c.sigma) == pytest.approx([slope] * 4)
        assert step_lipschitz(how, model, x, y, c) == pytest.approx([c.a + c.b * slope] * 4)


def test_between_two_modes_the_certified_constants_are_attained():
    c = coefficients(10, 0.0)
    model, _ = conditionals(8, c.sigma, separation=2.5)
    middle = torch.zeros(1, 8, dtype=torch.float64)
    # q = 1/(1 + 1/4); the posterior means are 5 q sigma apart.
    steepest = (
        math.sqrt(1 + c.sigma**2) / c.sigma * (0.8 * 2.5) ** 2 - math.sqrt(1 + c.sigma**2) / c.sigma * 0.8
    )
    assert noise_lipschitz("certified", model, middle, middle, c.sigma)[0] == pytest.approx(steepest)
    assert lipschitz_estimate(model, middle, c.sigma).item() == pytest.approx(steepest)
    assert step_lipschitz("certified", model, middle, middle, c)[0] == pytest.approx(c.a - c.b * steepest)
    assert step_lipschitz_estimate(model, middle, c).item() == pytest.approx(c.a - c.b * steepest)


@pytest.mark.parametrize("separation", [0.0, 0.5, 1.0, 2.5])
def test_slopes_enclose_the_jacobians_eigenvalues_and_agree_with_the_mixtures_bound(separation):
    sigma = 1.3
    model, _ = conditionals(3, sigma, separation)
    scale = math.sqrt(1 + sigma**2)
    x = 2 * points(50, 3)
    eigenvalues = scale * torch.linalg.eigvalsh(jacobians(lambda part: model.eps(part, sigma), x))
    low, high = noise_slopes(model, sigma)
    assert eigenvalues.min() >= low - 1e-12 and eigenvalues.max() <= high + 1e-12
    assert max(-low, high) == pytest.approx(scale * model.lipschitz_bound(sigma))


def test_slopes_need_one_covariance():
    model = GaussianMixture(points(2, 3), torch.tensor([1.0, 2.0]).double())
    with pytest.raises(ValueError, match="components of several covariances, expected v I for one v"):
        noise_slopes(model, 1.0)


def test_a_certified_constant_of_a_segment_holds_all_along_it():
    # Narrow and wide about the same point: steepest where the one gives way to the other, not in the middle.
    zeros = torch.zeros(2, 2, dtype=torch.float64)
    model = GaussianMixture(zeros, torch.tensor([0.01, 25.0]).double(), torch.tensor([1e4, 1.0]).double())
    end = torch.tensor([[6.0, 0.0]]).double()
    along = torch.cat([torch.lerp(end, -end, share) for share in np.linspace(0, 1, 25)])
    steepest = lipschitz_estimate(model, along, 0.7).max().item()
    assert noise_lipschitz("certified", model, 0 * end, 0 * end, 0.7).item() < 0.7 * steepest
    assert noise_lipschitz("certified", model, end, -end, 0.7).item() >= steepest


def test_the_estimate_for_a_segment_looks_at_its_middle():
    model, _ = conditionals(3, 1.0, separation=2.5)
    end = torch.tensor([[3.0, 0.0, 0.0]]).double()
    middle = lipschitz_estimate(model, 0 * end, 1.0).item()
    assert lipschitz_estimate(model, end, 1.0).item() < 0.7 * middle
    assert noise_lipschitz("estimated", model, end, -end, 1.0).item() == pytest.approx(middle)


class Network(nn.Module):
    """A convolution, attention over pixels and a head: what U-Nets are made of."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

    def forward(self, x, sigma):
        h = torch.tanh(self.inner(x / (1 + sigma[:, None, None, None])))
        tokens = h.flatten(2).transpose(1, 2)
        h = h + nn.functional.scaled_dot_product_attention(tokens, tokens, tokens).transpose(1, 2).reshape(
            h.shape
        )
        return self.outer(h)


@pytest.mark.slow
def test_estimates_of_a_network_agree_with_its_jacobian():
    torch.manual_seed(0)
    network, c = Network().double(), coefficients(30, 0.5)
    x = points(3, 2, 4, 4)
    plain = jacobians(lambda part: (part - network(part, part.new_full((1,), c.sigma))) / c.sigma, x)
    vp = math.sqrt(1 + c.sigma**2) * plain
    for estimate, jacobian in (
        (lipschitz_estimate(network, x, c.sigma, iterations=200), vp),
        (step_lipschitz_estimate(network, x, c, iterations=200), c.a * torch.eye(32) + c.b * vp),
    ):
        # Never above; the second singular value is close, so the iteration is slow.
        share = estimate / torch.linalg.matrix_norm(jacobian, 2)
        assert (share > 0.99).all() and (share <= 1 + 1e-9).all()
    with pytest.raises(ValueError, match="model is a Network, of which no Lipschitz constant is certified"):
        noise_lipschitz("certified", network, x, x, c.sigma)
