"""Ratios from single kernels: exact for Gaussians, FKC's weight with Euler's kernels, SMC's with energies."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from samplers.models import gaussian, karras, mixture, noises, product
from strategies import randn
from tolerances import assert_equal

from amdm.denoisers import GaussianMixture, compose
from amdm.samplers import fkc_log_weight, rne_log_density, rne_log_ratio, sample_fkc, smc_log_weight

SIGMA, SIGMA_NEXT = 1.3, 0.9
DELTA = SIGMA**2 - SIGMA_NEXT**2


@pytest.mark.parametrize("exponents", [[1.0, 1.0], [-1.0, 2.0], [0.3, 0.3]])
def test_with_eulers_kernels_the_control_weight_is_fkcs(exponents):
    """Wherever the step went: the drawn latent cancels."""
    models, x, x_next = [mixture(0), mixture(1)], randn(0, 20, 6), randn(1, 20, 6)
    denoised = [model(x, SIGMA) for model in models]
    ratios = [rne_log_ratio(x, x_next, each, SIGMA, SIGMA_NEXT) for each in denoised]
    log_ratio = sum(beta * ratio for beta, ratio in zip(exponents, ratios, strict=True))
    pull = compose(models, exponents)(x, torch.full((20,), SIGMA, dtype=torch.float64)) - x
    mean = x + DELTA / SIGMA**2 * pull
    weight = smc_log_weight(log_ratio, x, x_next, mean, math.sqrt(DELTA), SIGMA, SIGMA_NEXT)
    assert_equal(weight, fkc_log_weight(x, denoised, exponents, SIGMA, SIGMA_NEXT), 1e-10)


def test_the_euler_ratio_is_that_of_two_normal_densities():
    model, x, x_next = mixture(0), randn(0, 20, 6), randn(1, 20, 6)
    normal = lambda mean: torch.distributions.Normal(mean, math.sqrt(DELTA))
    expected = normal(x + DELTA * model.score(x, SIGMA)).log_prob(x_next) - normal(x_next).log_prob(x)
    found = rne_log_ratio(x, x_next, model(x, SIGMA), SIGMA, SIGMA_NEXT)
    assert_equal(found, expected.sum(1), 1e-12)


@pytest.mark.parametrize("reference", [(0.7, 0.5), (-3.0, 0.5)])
def test_the_ratio_is_exact_for_gaussians_of_the_references_variance(reference):
    """At 20 levels down to 0, however far the reference's mean."""
    model = gaussian([0.7, -1.0], 0.5)
    x = 30 * randn(0, 50, 2)
    for sigma, sigma_next in pairwise(karras(20).tolist()):
        x_next = x / 2
        expected = model.log_density(x_next, sigma_next) - model.log_density(x, sigma)
        found = rne_log_ratio(x, x_next, model(x, sigma), sigma, sigma_next, reference)
        assert_equal(found, expected, 1e-9)
        x = x_next


def test_the_density_is_exact_for_gaussians():
    """One path, 12 levels, an offset that the reference does not have: that of the start differs alone."""
    model, x = gaussian([0.7, -1.0], 0.5), randn(0, 50, 2)
    sigmas = karras(12, 1000.0)
    found = rne_log_density(model, x, sigmas, reference=(0.7, 0.5), noise_sampler=noises(1000, 50, 2))
    start = 1000 * randn(1, 50, 2)
    wrong = (model.log_density(start, 1000.0) - gaussian([0.7, 0.7], 0.5).log_density(start, 1000.0)).abs()
    assert wrong.max() < 0.02
    assert_equal(found, model.log_density(x), 0.02)
    centred = gaussian([0.7, 0.7], 0.5)
    found = rne_log_density(centred, x, sigmas, reference=(0.7, 0.5), noise_sampler=noises(1000, 50, 2))
    assert_equal(found, centred.log_density(x), 1e-9)


@pytest.mark.slow
def test_the_density_of_a_mixture():
    """It is that of a sampler with Gaussian steps, so it integrates to 1, and nears the mixture's.

    100 paths at each of 100 points; the integral's spread between seeds is under 0.01 (measured).
    """
    model = GaussianMixture(torch.tensor([[-2.0], [1.0]]).double(), torch.tensor([0.3, 1.0]).double())
    x = torch.linspace(-6, 6, 100).double()[:, None]
    worst = {}
    for steps in (10, 60):
        found = rne_log_density(
            model,
            x,
            karras(steps, 40.0, 0.01),
            reference=(0.0, 1.0),
            paths=100,
            noise_sampler=noises(1000, 100, 1),
        ).exp()
        assert torch.trapezoid(found, x[:, 0]).item() == pytest.approx(1, abs=0.03)
        worst[steps] = (found - model.log_density(x).exp()).abs().max().item()
    assert worst[60] < worst[10] / 2 and worst[60] < 0.04


PAIR = [gaussian([-1.0], 1.0), gaussian([1.0], 0.5)]


@pytest.mark.slow
def test_with_energies_few_steps_are_enough():
    """The product of the pair, mean and variance 1/3, at 15 steps, where FKC's own weights are far off.

    The mean of 8 runs, each resampled at every step; between runs means have a spread of 0.045 and variances
    of 0.005 (measured): three standard errors are 0.05 and 0.006.
    """
    start_mean, start_variance = product(PAIR, [1.0, 1.0], 10.0)
    found = {}
    for energies in (True, False):
        runs = []
        for seed in range(8):
            start = start_mean + math.sqrt(start_variance) * randn(seed, 20_000, 1)
            x = sample_fkc(
                PAIR,
                math.sqrt(2) * start,
                karras(15, 10.0, 0.002),
                disable=True,
                log_densities=[model.log_density for model in PAIR] if energies else None,
                noise_sampler=noises(1000 + seed, 20_000, 1),
                generator=torch.Generator().manual_seed(seed),
            )
            runs.append([x.mean().item(), x.var().item()])
        found[energies] = np.mean(runs, axis=0)
    assert found[True][0] == pytest.approx(1 / 3, abs=0.05)
    assert found[True][1] == pytest.approx(1 / 3, abs=0.01)
    assert found[False][1] > 0.45


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: smc_log_weight(x[:, 0], x, x, x, 0.0, 1.0, 0.5), "std is 0.0, expected more than 0"),
        (lambda x: smc_log_weight(x[:, :1], x, x, x, 0.1, 1.0, 0.5), r"log_ratio has shape \(4, 1\)"),
        (lambda x: smc_log_weight(x[:, 0], x, x, x[:1], 0.1, 1.0, 0.5), "mean"),
        (
            lambda x: rne_log_density(mixture(0), x, karras(3), noise_sampler=lambda *_: torch.ones(6)),
            r"noise_sampler returned shape \(6,\)",
        ),
        (lambda x: rne_log_density(mixture(0), x, karras(3), paths=0), "paths is 0"),
        (lambda x: rne_log_density(mixture(0), x, karras(3), reference=(0.0, 0.0)), "variance is 0.0"),
        (lambda x: rne_log_density(mixture(0), x, karras(3).flip(0)), "sigmas"),
    ],
)
def test_arguments_that_make_no_sense_are_named(call, message, unchecked):
    with pytest.raises(ValueError, match=message):
        call(randn(0, 4, 6))


def test_a_density_keeps_no_graph():
    weight = torch.ones(6, dtype=torch.float64, requires_grad=True)
    found = rne_log_density(lambda x, sigma: weight * mixture(0)(x, sigma), randn(0, 4, 6), karras(3))
    assert not found.requires_grad


def test_the_mean_over_paths_is_that_of_their_own_noises():
    """Two paths are the mean, as densities, of the one path of each noise."""
    model, x, sigmas = mixture(0), randn(0, 4, 6), karras(3)
    draws = randn(1, 2, 3, 4, 6)
    density = lambda noise, paths: rne_log_density(
        model, x, sigmas, paths=paths, noise_sampler=lambda sigma, sigma_next: next(noise)
    )
    one, other = (density(iter(each), 1) for each in draws)
    assert not torch.equal(one, other)
    assert_equal(density(iter(draws.flatten(0, 1)), 2), torch.logaddexp(one, other) - math.log(2))
