"""MCMC's moves against the stationary laws of Gaussians, and the sampler around them."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from samplers.models import Recorder, gaussian, karras, mixture, noises
from strategies import randn
from tolerances import assert_equal

from amdm import Restart
from amdm.denoisers import GaussianMixture, compose
from amdm.samplers import ddim_step, mcmc, sample_mcmc
from amdm.samplers.markov import Place, leapfrog, line_integral, metropolis, move

MEAN, VARIANCE = 0.7, 0.5
KINDS = {"ula": (1, 0.0, False), "mala": (1, 0.0, True), "uhmc": (3, 0.5, False), "hmc": (3, 0.5, True)}


def score(x, variance=VARIANCE):
    return (MEAN - x) / variance


def log_density(x, variance=VARIANCE):
    return -((x - MEAN) ** 2).sum(1) / (2 * variance)


def normal(g, samples=40_000):
    return torch.randn(samples, 1, generator=g, dtype=torch.float64)


def walked(x, g, kind, h, moves, energy=True, variance=VARIANCE):
    """Where independent chains on N(MEAN, variance) come to."""
    leaps, damping, adjusted = KINDS[kind]
    s, log_pi = partial(score, variance=variance), partial(log_density, variance=variance)
    place, velocity = Place(x, s(x)), normal(g, len(x))
    for _ in range(moves):
        place, velocity, _ = move(
            s,
            log_pi if energy else None,
            place,
            velocity,
            torch.full((len(x),), h, dtype=torch.float64),
            leaps=leaps,
            damping=damping,
            adjusted=adjusted,
            points=2,
            noise=normal(g, len(x)),
            u=torch.rand(len(x), generator=g, dtype=torch.float64),
        )
    return place.x


@pytest.mark.parametrize(
    ("kind", "h", "variance"),
    [
        ("ula", 0.3, VARIANCE / (1 - 0.3 / VARIANCE / 2)),
        ("mala", 0.3, VARIANCE),
        ("uhmc", 0.32, VARIANCE / (1 - 0.8**2 / VARIANCE / 4)),
        ("hmc", 0.32, VARIANCE),
    ],
)
@pytest.mark.parametrize("energy", [True, False])
def test_stationary_laws_of_a_gaussian(kind, h, variance, energy):
    """ULA 1/(P(1 - hP/2)), UHMC 1/(P(1 - delta^2 P/4)), delta^2 = 2h; the adjusted ones exact.

    40,000 chains: three standard errors of a variance are 2.1%, of a mean 0.013. With the energy and with
    the line integral's two points, which are exact here.
    """
    g = torch.Generator().manual_seed(0)
    x = walked(2 + 0.1 * normal(g), g, kind, h, moves=60, energy=energy)  # from far off
    assert x.mean().item() == pytest.approx(MEAN, abs=0.015)
    assert x.var().item() == pytest.approx(variance, rel=0.03)


def published(slip, h, moves=60, samples=40_000):
    """Chains of MALA or HMC written out, with one of the slips of published implementations."""
    g = torch.Generator().manual_seed(0)
    draw = lambda f, *shape: f(*shape, generator=g, dtype=torch.float64)
    x, delta = MEAN + VARIANCE**0.5 * draw(torch.randn, samples, 1), math.sqrt(2 * h)
    v = draw(torch.randn, samples, 1)
    for _ in range(moves):
        mala = slip in ("2h^2 for 4h", "none, mala")
        v = draw(torch.randn, samples, 1) if mala else 0.5 * v + 0.75**0.5 * draw(torch.randn, samples, 1)
        y, w = x, v
        for _ in range(1 if mala else 3):
            w = w + delta / 2 * score(y)
            y = y + delta * w
            w = w + delta / 2 * score(y)
        ratio = log_density(y) - log_density(x)
        if mala:
            forth, back = ((b - a - h * score(a)).square().sum(1) for a, b in ((x, y), (y, x)))
            ratio = ratio + (forth - back) / (2 * h**2 if slip == "2h^2 for 4h" else 4 * h)
        elif slip != "the potential alone":
            ratio = ratio + (v.square() - w.square()).sum(1) / 2
        accepted = (draw(torch.rand, samples).log() < ratio)[:, None]
        v = torch.where(accepted, w, v if slip == "no turning round" else -v)
        x = torch.where(accepted, y, x)
    return x.var().item()


@pytest.mark.parametrize(
    ("slip", "h"),
    [("2h^2 for 4h", 0.05), ("the potential alone", 0.32), ("no turning round", 0.32)],
)
def test_published_slips_have_other_laws(slip, h):
    """Each is off by far more than the 3% within which ours are right."""
    assert abs(published(slip, h) / VARIANCE - 1) > 0.1


@pytest.mark.parametrize(("slip", "h"), [("none, mala", 0.3), ("none", 0.32)])
def test_without_a_slip_they_have_not(slip, h):
    assert published(slip, h) == pytest.approx(VARIANCE, rel=0.03)


def reversed_and_moved(at):
    """The variance after DDPM's steps, each then moved by HMC on a level's density: 0 the old, 1 the new."""
    g = torch.Generator().manual_seed(0)
    x = MEAN + (VARIANCE + 4) ** 0.5 * normal(g)
    for levels in pairwise([2.0, 1.0, 0.5, 0.0]):
        denoised = x + levels[0] ** 2 * score(x, VARIANCE + levels[0] ** 2)
        mean, std = ddim_step(x, denoised, *levels, eta=1.0)
        variance = VARIANCE + levels[at] ** 2
        x = walked(mean + std * normal(g), g, "hmc", 0.3 * variance, moves=40, variance=variance)
    return x.var().item()


def test_moves_on_the_level_that_was_left_leave_its_noise():
    """The published script for images moves what has come to t - 1 on the density of t."""
    assert reversed_and_moved(at=1) == pytest.approx(VARIANCE, rel=0.03)
    assert reversed_and_moved(at=0) == pytest.approx(VARIANCE + 0.5**2, rel=0.03)


def test_every_sample_is_decided_by_itself():
    """One bad proposal does not keep the others from theirs."""
    start = torch.zeros(3, 2).double()
    end = torch.ones(3, 2).double()
    v = randn(0, 3, 2)
    u = torch.full((3,), 0.5).double()
    ratio = torch.tensor([0.0, -100.0, 3.0]).double()
    place, velocity, acceptance = metropolis(Place(start, start), Place(end, end), v, v, ratio, u)
    assert place.x[:, 0].tolist() == [1, 0, 1]
    assert_equal(acceptance, torch.tensor([1.0, math.exp(-100), 1.0]).double())
    assert torch.equal(velocity[1], -v[1]) and torch.equal(velocity[0], v[0])


def test_one_leap_is_langevins_step_and_has_its_acceptance():
    x, z, h = randn(0, 20, 2), randn(1, 20, 2), 0.2
    start = Place(x, score(x))
    end, v = leapfrog(score, start, z, torch.full((20,), h, dtype=torch.float64), 1)
    assert_equal(end.x, x + h * score(x) + math.sqrt(2 * h) * z)
    ratio = log_density(end.x) - log_density(x)
    forth, back = ((b - a - h * score(a)).square().sum(1) / (4 * h) for a, b in ((x, end.x), (end.x, x)))
    _, _, acceptance = metropolis(start, end, z, v, ratio, torch.zeros(20).double())
    assert_equal(acceptance, (ratio + forth - back).clamp(max=0).exp(), 1e-9)


def test_leapfrogs_return():
    x, v = randn(0, 5, 2), randn(1, 5, 2)
    step = torch.full((5,), 0.1).double()
    there, w = leapfrog(score, Place(x, score(x)), v, step, 7)
    back, u = leapfrog(score, there, -w, step, 7)
    assert_equal(back.x, x, 1e-12)
    assert_equal(-u, v, 1e-12)


def test_the_line_integral():
    """Exact on a quadratic with 2 points; on a mixture of 2 modes, within 0.2 nats with 5."""
    x, y = randn(0, 9, 3), randn(1, 9, 3)
    assert_equal(
        line_integral(score, Place(x, score(x)), Place(y, score(y)), 2),
        log_density(y) - log_density(x),
        1e-12,
    )
    modes = GaussianMixture(
        torch.tensor([[-1.0], [1.0]]).double(), torch.full((2,), 0.09, dtype=torch.float64)
    )
    x = torch.linspace(-2, 2, 400).double()[:, None]
    y = x + 0.2
    s = lambda x: modes.score(x, 0.0)
    worst = {}
    for points in (2, 3, 5, 10):
        found = line_integral(s, Place(x, s(x)), Place(y, s(y)), points)
        worst[points] = (found - modes.log_density(y) + modes.log_density(x)).abs().max().item()
    assert worst[5] < 0.2 and worst[10] < 0.05 and worst[2] > worst[3] > worst[5] > worst[10]


PAIR = [gaussian([-1.0], [1.0]), gaussian([1.0], [0.5])]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "energies"), [("ula", False), ("mala", True), ("mala", False), ("uhmc", False), ("hmc", True)]
)
def test_samples_follow_the_product(kernel, energies):
    """Mean and variance 1/3: 3 standard errors of 10,000 samples are 0.017 and 4.2%.

    Of ULA and UHMC with h P = 0.1 the variance is 5% larger, as their stationary laws have it.
    """
    x = sample_mcmc(
        PAIR,
        10 * randn(0, 10_000, 1),
        karras(20, 10.0, 0.05),
        disable=True,
        kernel=kernel,
        moves=20,
        step_size=lambda sigma, sigma_next: 0.1 / (1 / (1 + sigma**2) + 1 / (0.5 + sigma**2)),
        log_densities=[model.log_density for model in PAIR] if energies else None,
        generator=torch.Generator().manual_seed(0),
        noise_sampler=noises(1, 10_000, 1),
    )
    assert x.mean().item() == pytest.approx(1 / 3, abs=0.017)
    assert x.var().item() == pytest.approx(1 / 3 * (1.05 if kernel in ("ula", "uhmc") else 1.0), rel=0.042)


@pytest.mark.slow
def test_without_moves_they_do_not():
    """DDPM's steps on a score sum alone end too narrow: v/(2B - 1) for equal models, where v/B is right."""
    x = sample_mcmc(
        [PAIR[0]] * 2,
        10 * randn(0, 10_000, 1),
        karras(800, 10.0, 0.002),
        disable=True,
        moves=0,
        noise_sampler=noises(1, 10_000, 1),
    )
    assert x.var().item() == pytest.approx(1 / 3, rel=0.06)


def test_a_step_is_the_moves_and_then_ddims_step():
    models, sigmas = [mixture(0), mixture(1)], karras(6)
    x, exponents = 20 * randn(0, 4, 6), [0.7, 0.6]
    composed = compose(models, exponents)
    g, same = (torch.Generator().manual_seed(3) for _ in range(2))
    options = {"exponents": exponents, "moves": 1, "step_size": 0.2, "eta": 0.0, "generator": same}
    steps = mcmc(models, x, sigmas, **options)
    step = next(steps)
    sigma, sigma_next = sigmas[:2].tolist()
    level = torch.full((4,), sigma).double()
    assert_equal(step.x, x / math.sqrt(1.3))
    torch.randn(4, 6, generator=g, dtype=torch.float64)  # the first momentum, of which ULA keeps nothing
    z, h = torch.randn(4, 6, generator=g, dtype=torch.float64), 0.2 * sigma**2
    moved = step.x + h * (composed(step.x, level) - step.x) / sigma**2 + math.sqrt(2 * h) * z
    assert_equal(step.denoised, composed(moved, level), 1e-9)
    assert_equal(step.x_next, ddim_step(moved, step.denoised, sigma, sigma_next)[0], 1e-9)


@pytest.mark.parametrize(
    ("kernel", "energies", "evaluations"),
    [
        ("ula", False, 1 + 4),
        ("uhmc", False, 1 + 4 * 3),
        ("mala", True, 1 + 4),
        ("hmc", False, 1 + 4 * (3 + 3)),
    ],
)
def test_evaluations(kernel, energies, evaluations):
    models = [Recorder(mixture(seed)) for seed in range(2)]
    log_densities = [model.model.log_density for model in models] if energies else None
    args, x = [{"cond": 0}, {"cond": 1}], 20 * randn(0, 2, 6)
    options = {"kernel": kernel, "moves": 4, "log_densities": log_densities}
    sample_mcmc(models, x, karras(3), args, disable=True, **options)
    for model, arg in zip(models, args, strict=True):
        assert len(model.sigmas) == 3 * evaluations and model.extra_args == [arg] * len(model.sigmas)
        model.assert_nothing_was_modified()


@pytest.mark.slow
def test_steps_adapt_to_the_acceptance_asked_for():
    """Every sample by itself: what the others do has no part in it."""
    models, sigmas = [mixture(0), mixture(1)], karras(25, 20.0, 1.0)[:-1]
    x = 20 * randn(0, 200, 6)
    records = [
        step.record
        for step in mcmc(models, x, sigmas, kernel="mala", moves=20, step_size=2.0, acceptance=0.6)
    ]
    assert records[0].acceptance.mean() < 0.4
    assert records[-1].acceptance.mean().item() == pytest.approx(0.6, abs=0.05)
    assert records[-1].step_size.std() > 0


def test_the_step_size_told_is_the_one_that_was_used():
    """Of one move from a known place: the noise's factor."""
    model, sigmas = gaussian([0.0], [1.0]), karras(6)
    x, g = 20 * randn(0, 4, 1), torch.Generator().manual_seed(3)
    step = next(mcmc([model], x, sigmas, kernel="mala", moves=1, step_size=0.2, acceptance=0.6, generator=g))
    assert_equal(step.record.step_size, torch.full((4,), 0.2 * sigmas[0].item() ** 2).double())


@pytest.mark.parametrize("h", [0.0, -1.0, float("nan")])
def test_a_function_that_returns_no_step_size_is_told(h):
    with pytest.raises(ValueError, match=rf"step_size returned {h} at sigma = 20, expected a positive"):
        next(mcmc([mixture(0)], randn(0, 4, 6), karras(5), step_size=lambda sigma, sigma_next: h))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_moves_of_latents_in_half_precision(dtype):
    """From sigma = 1000, where h is beyond float16's numbers. What is left is the model's rounding."""
    x = sample_mcmc(
        PAIR,
        (1000 * randn(0, 4000, 1)).to(dtype),
        karras(30, 1000.0, 0.05),
        disable=True,
        moves=20,
        step_size=lambda sigma, sigma_next: 0.1 / (1 / (1 + sigma**2) + 1 / (0.5 + sigma**2)),
        generator=torch.Generator().manual_seed(0),
    )
    assert x.dtype == dtype
    assert x.double().mean().item() == pytest.approx(1 / 3, abs=0.05)
    assert x.double().var().item() == pytest.approx(1 / 3, rel=0.15)


def test_a_restart_renews_the_step_sizes():
    models, sigmas = [mixture(0), mixture(1)], karras(6)
    steps = mcmc(models, 20 * randn(0, 4, 6), sigmas, kernel="mala", moves=1, acceptance=0.9)
    first = next(steps)
    second = steps.send(Restart(first.x_next))
    base = 0.1 * second.sigma**2
    assert ((second.record.step_size / base).log().abs() < 0.1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": "nuts"}, "kernel is 'nuts'"),
        ({"moves": -1}, "moves is -1, expected a whole number of 0 or more"),
        ({"leaps": 0}, "leaps is 0"),
        ({"points": 1}, "points is 1, expected a whole number of 2 or more"),
        ({"step_size": 0.0}, "step_size is 0.0"),
        ({"damping": 1.0}, "damping is 1.0"),
        ({"acceptance": 1.0}, "acceptance is 1.0"),
        ({"kernel": "hmc", "log_densities": []}, "log_densities has 0 entries but there are 2 models"),
        ({"kernel": "hmc", "log_densities": [1, 2]}, r"log_densities\[0\] is int, expected a callable"),
        ({"acceptance": 0.6}, "acceptance is given, expected none: kernel is 'ula', which rejects nothing"),
        ({"kernel": "uhmc", "log_densities": [abs, abs]}, "log_densities is given, expected none: kernel is"),
        ({"exponents": [1.0, -1.0]}, "exponents has the sum 0"),
        ({"eta": -1.0}, "eta is -1"),
    ],
)
def test_arguments_that_make_no_sense_are_named(options, message, unchecked):
    with pytest.raises((TypeError, ValueError), match=message):
        mcmc([mixture(0), mixture(1)], randn(0, 4, 6), karras(5), **options)


@pytest.mark.parametrize("energies", [True, False])
def test_a_move_of_mala_written_out(energies):
    """At the step's own level, with unequal exponents: the acceptance, and who moved."""
    models, exponents, h, sigma = PAIR, [0.7, 0.6], 1.5, 2.0
    sigmas, x = torch.tensor([sigma, 0.5, 0.0], dtype=torch.float64), 2 * randn(0, 9, 1)
    options = {"exponents": exponents, "kernel": "mala", "moves": 1, "points": 2, "eta": 0.0}
    options |= {"step_size": lambda sigma, sigma_next: h, "generator": torch.Generator().manual_seed(3)}
    log_densities = [model.log_density for model in models] if energies else None
    step = next(mcmc(models, x, sigmas, log_densities=log_densities, **options))
    g = torch.Generator().manual_seed(3)
    torch.randn(9, 1, generator=g, dtype=torch.float64)  # the first momentum, of which MALA keeps nothing
    z = torch.randn(9, 1, generator=g, dtype=torch.float64)
    u = torch.rand(9, generator=g, dtype=torch.float64)
    total = lambda values: sum(b * value for b, value in zip(exponents, values, strict=True))
    s = lambda x: total([model.score(x, sigma) for model in models])
    log_pi = lambda x: total([model.log_density(x, sigma) for model in models])
    start = x / math.sqrt(1.3)
    end = start + h * s(start) + math.sqrt(2 * h) * z
    forth, back = ((b - a - h * s(a)).square().sum(1) / (4 * h) for a, b in ((start, end), (end, start)))
    acceptance = (log_pi(end) - log_pi(start) + forth - back).clamp(max=0).exp()
    assert 0 < (u < acceptance).sum() < 9 and acceptance.min() < 0.95
    assert_equal(step.record.acceptance, acceptance, 1e-9)
    moved = torch.where((u < acceptance)[:, None], end, start)
    assert_equal(step.denoised, moved + sigma**2 * s(moved), 1e-9)


def test_a_part_of_the_momentum_is_kept_from_move_to_move_and_from_level_to_level():
    """UHMC with one leap and damping 0.5, written out over two moves at each of two levels."""
    model, sigmas, h = PAIR[1], torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64), 0.3
    options = {"kernel": "uhmc", "moves": 2, "leaps": 1, "damping": 0.5, "eta": 0.0}
    options |= {"step_size": lambda sigma, sigma_next: h, "generator": torch.Generator().manual_seed(3)}
    steps = list(mcmc([model], 2 * randn(0, 5, 1), sigmas, **options))
    g = torch.Generator().manual_seed(3)
    draw = lambda: torch.randn(5, 1, generator=g, dtype=torch.float64)
    x, v, delta = steps[0].x, draw(), math.sqrt(2 * h)
    for step in steps:
        assert_equal(step.x, x, 1e-9)
        for _ in range(2):
            v = 0.5 * v + math.sqrt(0.75) * draw()
            torch.rand(5, generator=g, dtype=torch.float64)  # of a decision, which UHMC does not take
            v = v + delta / 2 * model.score(x, step.sigma)
            x = x + delta * v
            v = v + delta / 2 * model.score(x, step.sigma)
        x = ddim_step(x, model(x, step.sigma), step.sigma, step.sigma_next)[0]
        assert_equal(step.x_next, x, 1e-9)
