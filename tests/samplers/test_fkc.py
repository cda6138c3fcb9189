"""Feynman-Kac correctors against the products of Gaussians, and against the score sum they correct."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from samplers.models import Recorder, gaussian, karras, noises, product
from strategies import randn
from tolerances import assert_equal

from amdm import Restart
from amdm.denoisers import compose
from amdm.samplers import ddim_step, fkc, fkc_log_weight, sample_fkc

PAIR = [gaussian([-1.0, 0.5], [1.0, 0.5]), gaussian([1.0, 1.0], [0.5, 2.0])]
FIRST = [gaussian([-1.0], [1.0]), gaussian([1.0], [0.5])]
SECOND = [gaussian([0.5], [0.5]), gaussian([1.0], [2.0])]
CASES = {
    "product": (FIRST, [1.0, 1.0]),
    "another product": (SECOND, [1.0, 1.0]),
    "geometric mean": (FIRST, [0.5, 0.5]),
    "another geometric mean": (SECOND, [0.5, 0.5]),
    "guidance 3": ([gaussian([0.0], [4.0]), gaussian([1.0], [1.0])], [-2.0, 3.0]),
    "annealing 3": ([gaussian([1.0], [1.0])], [3.0]),
}


def sampled(models, exponents, steps, samples=20_000, seed=0, sigma_max=10.0, **options):
    """From the product's own law at the first level."""
    sigmas = karras(steps, sigma_max, 0.002)
    mean, variance = product(models, exponents, sigma_max)
    start = mean + math.sqrt(variance) * randn(seed, samples, 1)
    x = sample_fkc(
        models,
        math.sqrt(sum(exponents)) * start,
        sigmas,
        disable=True,
        exponents=exponents,
        noise_sampler=noises(1000 + seed, samples, 1),
        generator=torch.Generator().manual_seed(seed),
        **options,
    )
    return x.mean().item(), x.var().item()


def of_infinitely_many(models, exponents, steps, sigma_max, eta):
    """Mean and variance after the same weights and steps of Gaussians on the line, whose law stays one."""
    mean, variance = product(models, exponents, sigma_max)
    for sigma, sigma_next in pairwise(karras(steps, sigma_max, 0.002).tolist()):
        parts = [
            (beta, model.means.item(), 1 / (model.variances.item() + sigma**2))
            for beta, model in zip(exponents, models, strict=True)
        ]
        slope, offset = sum(b * p for b, _, p in parts), sum(b * p * m for b, m, p in parts)
        delta = sigma**2 - sigma_next**2
        precision = 1 / variance - delta * (slope**2 - sum(b * p**2 for b, _, p in parts))
        shift = delta * (sum(b * p**2 * m for b, m, p in parts) - offset * slope)
        mean, variance = (mean / variance + shift) / precision, 1 / precision
        factor = (1 - eta**2) * sigma * (sigma - sigma_next) + eta**2 * delta
        mean = mean + factor * (offset - slope * mean)
        variance = (1 - factor * slope) ** 2 * variance + (eta**2 * delta if sigma_next > 0 else 0)
    return mean, variance


@pytest.mark.parametrize("name", CASES)
def test_infinitely_many_particles_approach_the_product(name):
    """What the samplers are compared with, itself compared with the closed form."""
    models, exponents = CASES[name]
    expected = product(models, exponents, 0.0)
    for steps, tol in ((100, 0.08), (1600, 0.005)):
        assert of_infinitely_many(models, exponents, steps, 10.0, 1.0) == pytest.approx(expected, rel=tol)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_samples_follow_the_product(name):
    """The mean over 8 runs of 10,000 particles and 100 steps.

    Between runs means have a spread of 0.043 at most and variances of 6% (measured): the tolerances are
    three standard errors about what infinitely many particles give.
    """
    models, exponents = CASES[name]
    limit = of_infinitely_many(models, exponents, 100, 10.0, 1.0)
    found = np.mean([sampled(models, exponents, 100, 10_000, seed) for seed in range(8)], axis=0)
    assert found[0] == pytest.approx(limit[0], abs=0.05)
    assert found[1] == pytest.approx(limit[1], rel=0.07)


@pytest.mark.slow
def test_without_weights_they_do_not():
    """The same steps, never resampled: the score sum's law, variance v/(2B - 1) for equal models."""
    same = [gaussian([0.0], [1.0])] * 2
    corrected, plain = (sampled(same, [1.0, 1.0], 200, 10_000, resample=part)[1] for part in (1.0, 0.0))
    assert corrected == pytest.approx(1 / 2, rel=0.07)
    assert plain == pytest.approx(1 / 3, rel=0.07)


@pytest.mark.slow
def test_the_variances_bias_shrinks_with_the_steps():
    """Of first order: 1/3 for the product; the mean over 8 seeds."""
    models, exponents = CASES["product"]
    bias = [
        sum(sampled(models, exponents, steps, 5000, seed)[1] for seed in range(8)) / 8 - 1 / 3
        for steps in (25, 100)
    ]
    assert bias[0] > 0.02 and abs(bias[1]) < bias[0] / 2


@pytest.mark.slow
def test_with_less_noise_from_a_low_level_samples_follow_the_product():
    """The mean over 8 runs of 20,000 particles and 100 steps.

    Between runs means have a spread of 0.017 and variances of 0.014 (measured): the tolerances are three
    standard errors about what infinitely many particles give, which is within 0.011 of 1/3.
    """
    models, exponents = CASES["product"]
    limit = of_infinitely_many(models, exponents, 100, 1.0, 0.5)
    assert limit == pytest.approx((1 / 3, 1 / 3), abs=0.012)
    runs = [sampled(models, exponents, 100, seed=seed, sigma_max=1.0, eta=0.5) for seed in range(8)]
    found = np.mean(runs, axis=0)
    assert found[0] == pytest.approx(limit[0], abs=0.018)
    assert found[1] == pytest.approx(limit[1], abs=0.015)


@pytest.mark.slow
def test_with_less_noise_from_a_high_level_variances_come_out_too_small():
    """As documented, where B (1 - eta^2) is above 1: 0.19 for 1/3, whose spread between runs is 0.02."""
    models, exponents = CASES["product"]
    runs = [sampled(models, exponents, 200, 5000, seed, eta=0.5) for seed in range(4)]
    assert np.mean(runs, axis=0)[1] < 0.25


def test_errors_grow_with_less_noise_unless_the_exponents_are_small():
    """Of infinitely many particles after 200 steps from sigma = 10, relative to the variance 1/3."""
    models = CASES["product"][0]
    error = lambda eta, sigma_max: of_infinitely_many(models, [1.0, 1.0], 200, sigma_max, eta)[1] * 3 - 1
    assert error(0.5, 10.0) < -0.2 and abs(error(0.5, 1.0)) < 0.02
    assert abs(error(1.0, 10.0)) < 0.04 and abs(error(0.8, 10.0)) < 0.04


def test_one_model_has_no_weights():
    x, sigma = 3 * randn(0, 50, 2), 1.5
    denoised = [PAIR[0](x, sigma)]
    assert fkc_log_weight(x, denoised, [1.0], sigma, 0.7).abs().max() < 1e-10


def test_factors_of_their_own_coordinates_have_no_weights():
    background = gaussian([0.0, 0.0], [1.0, 1.0])
    models = [background, gaussian([3.0, 0.0], [0.25, 1.0]), gaussian([0.0, 3.0], [1.0, 0.25])]
    x = 3 * randn(0, 50, 2)
    for sigma, sigma_next in pairwise(karras(20).tolist()[:-1]):
        denoised = [model(x, sigma) for model in models]
        assert fkc_log_weight(x, denoised, [-1.0, 1.0, 1.0], sigma, sigma_next).abs().max() < 1e-10
    overlapping = [background, gaussian([2.0, 0.0], [0.25, 1.0]), gaussian([3.0, 0.0], [0.25, 1.0])]
    denoised = [model(x, 1.0) for model in overlapping]
    assert fkc_log_weight(x, denoised, [-1.0, 1.0, 1.0], 1.0, 0.9).std() > 0.1


@pytest.mark.parametrize(
    ("exponents", "expected"), [([1.0, 1.0], 1.0), ([-1.0, 2.0], 1.0), ([0.5, 0.5], -0.125)]
)
def test_special_cases_of_the_weight(exponents, expected):
    """Product: Delta s1.s2; guidance and geometric mean: Delta w(w - 1)/2 |s1 - s2|^2."""
    x, sigma, sigma_next = randn(0, 8, 2), 1.3, 0.9
    denoised = [model(x, sigma) for model in PAIR]
    s1, s2 = ((each - x) / sigma**2 for each in denoised)
    size = (s1 * s2).sum(1) if sum(exponents) == 2 else (s1 - s2).square().sum(1)
    weight = fkc_log_weight(x, denoised, exponents, sigma, sigma_next)
    assert_equal(weight, expected * (sigma**2 - sigma_next**2) * size, 1e-12)


def test_a_step_is_the_score_sums_euler_step_from_a_shorter_start():
    models, sigmas = PAIR, karras(6)
    x, noise = sigmas[0] * randn(0, 4, 2), randn(1, 4, 2)
    step = next(fkc(models, x, sigmas, resample=0.0, noise_sampler=lambda sigma, sigma_next: noise))
    assert_equal(step.x, x / math.sqrt(2))
    sigma, sigma_next = sigmas[0].item(), sigmas[1].item()
    score = sum(model.score(step.x, sigma) for model in models)
    delta = sigma**2 - sigma_next**2
    assert_equal(step.x_next, step.x + delta * score + math.sqrt(delta) * noise)
    assert_equal(step.denoised, compose(models, [1.0, 1.0])(step.x, torch.full((4,), sigma).double()))


def test_without_noise_and_weights_it_is_ddim():
    x, sigmas = 10 * randn(0, 4, 2), karras(20, 10.0, 0.1)
    y = x
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        y = ddim_step(y, PAIR[0](y, sigma), sigma, sigma_next)[0]
    assert_equal(sample_fkc(PAIR[:1], x, sigmas, disable=True, eta=0.0), y)


def test_groups_are_independent():
    """What happens in one does not change another, and copies stay in theirs."""
    models, sigmas = PAIR, karras(10)
    noises = [randn(10 + i, 12, 2) for i in range(10)]

    def run(x):
        draws = iter(noises)
        noise = lambda sigma, sigma_next: next(draws)
        g = torch.Generator().manual_seed(0)
        return sample_fkc(models, x, sigmas, disable=True, particles=4, noise_sampler=noise, generator=g)

    x = sigmas[0] * randn(0, 12, 2)
    other = torch.cat([x[:4], 3 * x[4:8], x[8:]])
    one, two = run(x), run(other)
    assert torch.equal(one[:4], two[:4]) and torch.equal(one[8:], two[8:])
    assert not torch.equal(one[4:8], two[4:8])


def test_weights_are_kept_until_resampling_and_restart():
    models, sigmas = PAIR, karras(6)
    x = sigmas[0] * randn(0, 8, 2)
    kept = list(fkc(models, x, sigmas, resample=0.0))
    total = torch.stack([step.record.increment for step in kept]).sum(0)
    assert_equal(kept[-1].record.log_weights, total)
    always = list(fkc(models, x, sigmas))
    for step in always:
        assert torch.equal(step.record.log_weights, step.record.increment)
    steps = fkc(models, x, sigmas, resample=0.0)
    first = next(steps)
    second = steps.send(Restart(first.x_next))
    assert torch.equal(second.record.log_weights, second.record.increment)


def written_out(x, sigma, sigma_next, eta, exponents, noise):
    """One step's mean, standard deviation and unresampled end; of the models of `PAIR`."""
    score = sum(b * model.score(x, sigma) for b, model in zip(exponents, PAIR, strict=True))
    delta = sigma**2 - sigma_next**2
    mean = x + ((1 - eta**2) * sigma * (sigma - sigma_next) + eta**2 * delta) * score
    return mean, eta * math.sqrt(delta), mean + eta * math.sqrt(delta) * noise


@pytest.mark.parametrize("energies", [False, True])
def test_a_step_and_its_weights_written_out(energies):
    """With eta 0.5 and unequal exponents; weights of where the step began, copies by `ancestors`."""
    exponents, sigmas, eta = [0.7, 0.6], torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64), 0.5
    models, x, noise = [Recorder(model) for model in PAIR], 3 * randn(0, 12, 2), randn(1, 12, 2)
    steps = fkc(
        models,
        x,
        sigmas,
        exponents=exponents,
        particles=6,
        eta=eta,
        log_densities=[model.log_density for model in PAIR] if energies else None,
        noise_sampler=lambda sigma, sigma_next: noise,
        generator=torch.Generator().manual_seed(0),
    )
    for step, (sigma, sigma_next) in zip(steps, [(3.0, 2.0), (2.0, 1.0)], strict=True):
        mean, std, drawn = written_out(step.x, sigma, sigma_next, eta, exponents, noise)
        if energies:
            log_pi = lambda x, sigma: sum(
                b * model.log_density(x, sigma) for b, model in zip(exponents, PAIR, strict=True)
            )
            normal = lambda mean, std, x: torch.distributions.Normal(mean, std).log_prob(x).sum(1)
            increment = log_pi(drawn, sigma_next) - log_pi(step.x, sigma)
            increment += normal(drawn, math.sqrt(sigma**2 - sigma_next**2), step.x) - normal(mean, std, drawn)
        else:
            scores = [model.score(step.x, sigma) for model in PAIR]
            total = sum(b * s for b, s in zip(exponents, scores, strict=True)).square().sum(1)
            apart = sum(b * s.square().sum(1) for b, s in zip(exponents, scores, strict=True))
            increment = (sigma**2 - sigma_next**2) / 2 * (total - apart)
        assert_equal(step.mean, mean)
        assert step.std == pytest.approx(std)
        assert_equal(step.record.increment, increment, 1e-10)
        assert_equal(step.x_next, drawn[step.record.ancestors])
    assert torch.equal(step.record.ancestors, torch.arange(12))
    for model in models:
        assert model.sigmas == [3.0, 2.0]


def test_ancestors_are_of_their_own_group():
    """All weight on one particle: the others of its group, and only they, become its copies."""
    sigmas = torch.tensor([1.0, 0.5, 0.0]).double()
    x = torch.tensor([[1.0], [1.0], [1.0], [1.0], [60.0], [1.0]]).double()
    step = next(fkc(FIRST, x, sigmas, particles=3, generator=torch.Generator().manual_seed(0)))
    assert step.record.ancestors.tolist() == [0, 1, 2, 4, 4, 4]
    assert (
        step.record.ancestors.tolist() != next(fkc(FIRST, x, sigmas, particles=1)).record.ancestors.tolist()
    )
    kept = next(fkc(FIRST, x, sigmas, resample=0.0)).record
    assert torch.equal(kept.ancestors, torch.arange(6))


@pytest.mark.parametrize("end", [0.5, 0.0])
def test_the_last_step_is_not_resampled_wherever_it_ends(end):
    sigmas, x = torch.tensor([2.0, 1.0, end]).double(), 3 * randn(0, 8, 2)
    first, last = fkc(PAIR, x, sigmas, noise_sampler=lambda sigma, sigma_next: torch.zeros_like(x))
    assert not torch.equal(first.x_next, first.mean)
    assert torch.equal(last.x_next, last.mean)
    assert torch.equal(last.record.ancestors, torch.arange(8))


def test_one_particle_is_never_replaced_and_has_no_variance():
    x = 3 * randn(0, 4, 2)
    for step in fkc(PAIR, x, karras(4), particles=1):
        assert torch.equal(step.record.ancestors, torch.arange(4))
        assert step.record.variance.tolist() == [0.0] * 4 and step.record.increment.abs().max() > 0


def test_it_resamples_where_few_particles_count():
    """By a threshold between the effective numbers of two groups, the one below."""
    models, sigmas = PAIR, karras(6)
    x = sigmas[0] * torch.cat([0.01 * randn(0, 8, 2), 3 * randn(1, 8, 2)])
    noise = lambda sigma, sigma_next: torch.zeros_like(x)
    options = {"particles": 8, "noise_sampler": noise}
    free = next(fkc(models, x, sigmas, resample=0.0, **options))
    high, low = free.record.effective.tolist()
    assert high > low
    step = next(fkc(models, x, sigmas, resample=(high + low) / 16, **options))
    assert torch.equal(step.x_next[:8], free.x_next[:8]) and not torch.equal(step.x_next[8:], free.x_next[8:])
    assert {tuple(row) for row in step.x_next[8:].tolist()} <= {
        tuple(row) for row in free.x_next[8:].tolist()
    }
    assert step.record.variance[1] > step.record.variance[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exponents": [1.0]}, "exponents has 1 entries but there are 2 models"),
        ({"exponents": [1.0, -1.0]}, "exponents has the sum 0"),
        ({"exponents": [1.0, float("inf")]}, r"exponents\[1\] is inf"),
        ({"resample": 1.5}, "resample is 1.5"),
        ({"particles": 3}, "particles is 3, expected a divisor of the batch size 4"),
        ({"particles": 2.0}, "particles is 2.0, expected a divisor"),
        ({"eta": -1.0}, "eta is -1"),
    ],
)
def test_arguments_that_make_no_sense_are_named(options, message, unchecked):
    with pytest.raises((TypeError, ValueError), match=message):
        fkc(PAIR, randn(0, 4, 2), karras(5), **options)
