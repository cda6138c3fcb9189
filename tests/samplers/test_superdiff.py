"""SuperDiff against mixtures and Gaussians, and against its estimators written out one sample at a time."""

import math
from itertools import pairwise

import pytest
import torch
from samplers.models import Recorder, gaussian, karras, mixture, noises
from strategies import randn
from tolerances import assert_equal

from amdm.samplers import sample_ddim, sample_superdiff, superdiff
from amdm.samplers.scores import divergence

LEFT, RIGHT = gaussian([-2.0], [0.3]), gaussian([1.0], [1.0])


def union(weights, sign, seed=0, samples=20_000, steps=400):
    """OR of LEFT and RIGHT with T = 1 written out, for either sign of the estimator's square."""
    sigmas, draw = karras(steps, 80.0, 0.002), noises(1000 + seed, samples, 1)
    x = 80 * randn(seed, samples, 1)
    log_q = torch.tensor(weights).double().log().expand(samples, 2)
    for sigma, sigma_next in pairwise(sigmas.tolist()):
        scores = torch.cat([model.score(x, sigma) for model in (LEFT, RIGHT)], 1)
        delta = sigma**2 - sigma_next**2
        total = (log_q.softmax(1) * scores).sum(1, keepdim=True)
        moved = delta * total + (delta**0.5 * draw(0, 0) if sigma_next > 0 else 0)
        log_q = log_q + scores * moved + sign * delta / 2 * scores**2
        x = x + moved
    return x


def left_of(x, at=-0.7):
    return (x < at).double().mean().item()


@pytest.mark.slow
@pytest.mark.parametrize(("weights", "mean", "variance"), [((0.5, 0.5), -0.5, 2.9), ((0.8, 0.2), -1.4, 1.88)])
def test_or_draws_from_the_mixture(weights, mean, variance):
    """20,000 samples: three standard errors are 0.011 of a proportion; 400 steps leave 1% of the variance."""
    x = sample_superdiff(
        [LEFT, RIGHT],
        80 * randn(0, 20_000, 1),
        karras(400, 80.0, 0.002),
        disable=True,
        combine="or",
        weights=weights,
        noise_sampler=noises(1000, 20_000, 1),
    )
    normal = torch.distributions.Normal(0.0, 1.0)
    below = (torch.tensor([-0.7, -0.7]) - torch.tensor([-2.0, 1.0])) / torch.tensor([0.3, 1.0]).sqrt()
    expected = (torch.tensor(weights) * normal.cdf(below)).sum().item()
    assert left_of(x) == pytest.approx(expected, abs=0.015)
    assert x.mean().item() == pytest.approx(mean, abs=0.05)
    assert x.var().item() == pytest.approx(variance, rel=0.05)


@pytest.mark.slow
def test_the_published_scripts_sign_does_not():
    """A square that is added, as in the OR branch of the authors' script, prefers the narrow density."""
    assert left_of(union((0.5, 0.5), -1)) == pytest.approx(0.518, abs=0.015)
    assert left_of(union((0.5, 0.5), +1)) > 0.65


def test_or_is_the_estimator_written_out():
    x = sample_superdiff(
        [LEFT, RIGHT],
        80 * randn(0, 50, 1),
        karras(30, 80.0, 0.002),
        disable=True,
        combine="or",
        weights=[0.8, 0.2],
        noise_sampler=noises(1000, 50, 1),
    )
    assert_equal(x, union((0.8, 0.2), -1, samples=50, steps=30), 1e-9)


def test_large_temperatures_choose_one_model():
    x, sigmas = 20 * randn(0, 40, 6), karras(10)
    steps = superdiff([mixture(0), mixture(1)], x, sigmas, combine="or", temperature=1e9)
    next(steps)
    for step in steps:
        assert set(step.record.kappa.flatten().tolist()) == {0.0, 1.0}


def test_and_of_equal_covariances_lands_between():
    """N((+-1, 0), I): no noise along x_0, which every step shrinks by a known factor."""
    models, sigmas = [gaussian([1.0, 0.0], [1.0, 1.0]), gaussian([-1.0, 0.0], [1.0, 1.0])], karras(40)
    start = 20 * randn(0, 30, 2)
    for step in superdiff(models, start, sigmas, noise_sampler=noises(1000, 30, 2)):
        one, other = step.record.log_densities.unbind(1)
        assert (one - other).abs().max() < 1e-9
        assert_equal(step.record.kappa.sum(1), torch.ones(30).double(), 1e-9)
    assert_equal(step.x_next[:, 0], start[:, 0] / (1 + sigmas[0] ** 2), 1e-9)


@pytest.mark.slow
def test_and_of_equal_covariances_leaves_the_other_coordinate_alone():
    """x_1 ~ N(0, 1): 5,000 samples, tolerances of three standard errors and 1% for the steps' bias."""
    models = [gaussian([1.0, 0.0], [1.0, 1.0]), gaussian([-1.0, 0.0], [1.0, 1.0])]
    x = sample_superdiff(
        models,
        20 * randn(0, 5_000, 2),
        karras(400),
        disable=True,
        noise_sampler=noises(1000, 5_000, 2),
    )
    assert x[:, 1].mean().item() == pytest.approx(0, abs=0.045)
    assert x[:, 1].var().item() == pytest.approx(1, rel=0.07)


@pytest.mark.slow
@pytest.mark.parametrize(("eta", "gap", "tolerance"), [(1.0, -0.5 * math.log(2), 0.02), (0.0, 0.0, 0.05)])
def test_and_of_unequal_covariances_ends_a_constant_apart_unless_deterministic(eta, gap, tolerance):
    """log q_1 - log q_2 of N((1, 0), I) and N((-1, 0), I/2): -log(2)/2 with noise, 0 without."""
    models = [gaussian([1.0, 0.0], [1.0, 1.0]), gaussian([-1.0, 0.0], [0.5, 0.5])]
    x = sample_superdiff(
        models,
        80 * randn(0, 200, 2),
        karras(1000, 80.0, 0.002),
        disable=True,
        eta=eta,
        noise_sampler=noises(1000, 200, 2),
        generator=torch.Generator().manual_seed(0),
    )
    found = models[0].log_density(x) - models[1].log_density(x)
    assert found.mean().item() == pytest.approx(gap, abs=tolerance)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_and_changes_all_estimates_alike(count, eta):
    models = [mixture(seed) for seed in range(count)]
    steps = superdiff(models, 20 * randn(0, 5, 6), karras(12), eta=eta, noise_sampler=noises(1, 5, 6))
    for step in steps:
        log_densities = step.record.log_densities
        assert (log_densities - log_densities[:, :1]).abs().max() < 1e-6 * log_densities.abs().max()
        assert_equal(step.record.kappa.sum(1), torch.ones(5).double(), 1e-6)


def test_and_under_guidance_changes_the_unguided_estimates_alike():
    models, background = [mixture(0), mixture(1)], mixture(2)
    x, sigmas = 20 * randn(0, 5, 6), karras(8)
    steps = superdiff(
        models, x, sigmas, unconditional=background, guidance=3.0, noise_sampler=noises(1, 5, 6)
    )
    for step in steps:
        one, other = step.record.log_densities.unbind(1)
        assert (one - other).abs().max() < 1e-8
        sums = [model.score(step.x, step.sigma) for model in models]
        inner = sum(k[:, None] * s for k, s in zip(step.record.kappa.unbind(1), sums, strict=True))
        rest = background.score(step.x, step.sigma)
        total = rest + 3 * (inner - rest)
        assert_equal(step.mean, step.x + (step.sigma**2 - step.sigma_next**2) * total, 1e-9)


def test_one_model_is_its_own_sde():
    model, x, sigmas = mixture(), 20 * randn(0, 4, 6), karras(8)
    for step in superdiff([model], x, sigmas, noise_sampler=noises(1, 4, 6)):
        delta = step.sigma**2 - step.sigma_next**2
        assert_equal(step.mean, step.x + delta * model.score(step.x, step.sigma))
        assert step.std == pytest.approx(math.sqrt(delta) if step.sigma_next > 0 else 0)
        assert_equal(step.denoised, model(step.x, step.sigma), 1e-12)


@pytest.mark.parametrize("combine", ["or", "and"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_models_that_agree_are_one_model(combine, dtype):
    """Up to rounding: then no noise is projected off, and the shares are equal."""
    model, x, sigmas = mixture(), (20 * randn(0, 4, 6)).to(dtype), karras(20, dtype=dtype)
    nearly = lambda x, sigma: model(x, sigma) * (1 + torch.finfo(dtype).eps)
    for step in superdiff([model, nearly, model], x, sigmas, combine=combine, eta=0.0):
        assert_equal(step.record.kappa, torch.full((4, 3), 1 / 3).double(), 1e-3)
    assert_equal(step.x_next, sample_ddim(model, x, sigmas, disable=True), 1e-5)


def test_two_that_agree_do_not_disturb_a_third():
    one, other = mixture(0), mixture(1)
    x, sigmas = 20 * randn(0, 4, 6), karras(8)
    two = sample_superdiff([one, other], x, sigmas, disable=True, noise_sampler=noises(1, 4, 6))
    three = sample_superdiff([one, other, one], x, sigmas, disable=True, noise_sampler=noises(1, 4, 6))
    assert_equal(three, two, 1e-9)


@pytest.mark.slow
def test_the_estimates_are_the_densities():
    """A Gaussian's, along the probability flow with its exact divergence: of first order in the step.

    Compared are the changes: at the first level pure noise is assumed, which is not quite true.
    """
    model, errors = gaussian([0.5, -1.0], [0.5, 2.0]), []
    for steps in (200, 400):
        sigmas = karras(steps, 80.0, 0.02)[:-1]
        first, *_, last = superdiff([model], 80 * randn(0, 50, 2), sigmas, eta=0.0)
        prior = -first.x.square().sum(1) / (2 * 80**2) - math.log(2 * math.pi * 80**2)
        exact = model.log_density(last.x_next, last.sigma_next) - model.log_density(first.x, 80.0)
        errors.append((last.record.log_densities[:, 0] - prior - exact).abs().max().item())
    assert errors[1] < 0.2 and errors[1] == pytest.approx(errors[0] / 2, rel=0.1)


@pytest.mark.slow
def test_the_estimates_error_with_noise_falls_with_the_step():
    """In one dimension its standard deviation is 1.27, 0.57, 0.25 nats after 50, 200, 1000 steps."""
    model, spread = gaussian([0.0], [1.0]), []
    for steps in (50, 200, 1000):
        *_, last = superdiff([model], 80 * randn(0, 2000, 1), karras(steps, 80.0, 0.002)[:-1])
        error = last.record.log_densities[:, 0] - model.log_density(last.x_next, 0.002)
        spread.append(error.std().item())
    assert spread == pytest.approx([1.27, 0.57, 0.25], rel=0.15)


def test_the_divergence_is_exact_where_the_jacobian_is_diagonal():
    model, sigma = gaussian([0.5, -1.0, 2.0], [0.5, 2.0, 1.0]), 1.7
    x = randn(0, 5, 3).requires_grad_()
    probe = (2 * torch.randint(0, 2, (5, 3), generator=torch.Generator().manual_seed(0)) - 1).double()
    found = divergence(model(x, torch.full((5,), sigma, dtype=torch.float64)), x, probe, sigma)
    assert_equal(found, -(1 / (model.variances + sigma**2)).sum().expand(5), 1e-12)


def test_each_model_is_called_once_a_step_with_its_own_arguments():
    models = [Recorder(mixture(seed)) for seed in range(3)]
    args = [{"cond": 0}, {"cond": 1}, {"cond": 2}]
    x, sigmas = 20 * randn(0, 2, 6), karras(5)
    sample_superdiff(
        models[:2], x, sigmas, args, disable=True, unconditional=models[2], guidance=2.0, eta=0.3
    )
    for model, arg in zip(models, args, strict=True):
        assert model.sigmas == sigmas[:-1].tolist() and model.extra_args == [arg] * 5
        model.assert_nothing_was_modified()


def test_it_needs_gradients_for_divergences_only():
    blind = lambda x, sigma: mixture()(x.detach(), sigma)
    x, sigmas = 20 * randn(0, 2, 6), karras(5)
    sample_superdiff([blind, blind], x, sigmas, disable=True)
    bias = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    for model in (blind, lambda x, sigma: blind(x, sigma) + bias):  # one that has weights to train
        with pytest.raises(ValueError, match=r"models\[0\] returned a prediction without a gradient: eta is"):
            sample_superdiff([model, blind], x, sigmas, disable=True, eta=0.5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_and_refuses_half_precision(dtype):
    """16 roundings of a latent at sigma = 20 are more than what two scores differ by."""
    with pytest.raises(ValueError, match=f"x is {dtype}, expected float32 or better for 'and'"):
        superdiff([mixture(0), mixture(1)], randn(0, 4, 6).to(dtype), karras(5))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"combine": "xor"}, "combine is 'xor', expected 'or' or 'and'"),
        ({"combine": "or", "temperature": -1.0}, "temperature is -1.0"),
        ({"combine": "or", "weights": [1.0]}, "weights has 1 entries but there are 2 models"),
        ({"combine": "or", "weights": [1.0, 0.0]}, r"weights\[1\] is 0.0, expected a positive number"),
        ({"weights": [1.0, 2.0]}, r"weights is \[1.0, 2.0\], expected none: combine is 'and'"),
        ({"temperature": 2.0}, "temperature is 2.0, expected none: combine is 'and'"),
        ({"guidance": 2.0}, "guidance is 2.0, expected 1 or"),
        ({"guidance": 0.0, "unconditional": mixture()}, "guidance is 0.0"),
        (
            {"unconditional": mixture(), "extra_args": [{}, {}]},
            "extra_args has 2 entries but there are 2 models and 1 unconditional model: expected 3",
        ),
        ({"unconditional": 3}, "unconditional is int, expected a callable"),
        ({"eta": -1.0}, "eta is -1"),
    ],
)
def test_arguments_that_make_no_sense_are_named(options, message, unchecked):
    with pytest.raises((TypeError, ValueError), match=message):
        superdiff([mixture(0), mixture(1)], randn(0, 4, 6), karras(5), **options)


@pytest.mark.parametrize("combine", ["or", "and"])
def test_a_step_with_half_the_noise_written_out(combine):
    """eta 0.5: the divergences, exact for diagonal covariances, count by 1 - eta^2."""
    models, eta, sigma, sigma_next = (
        [gaussian([-2.0, 0.5], [0.3, 2.0]), gaussian([1.0, 0.0], 1.0)],
        0.5,
        3.0,
        2.0,
    )
    sigmas, x, z = torch.tensor([sigma, sigma_next, 1.0]).double(), 3 * randn(0, 7, 2), randn(1, 7, 2)
    options = {"combine": combine, "eta": eta, "noise_sampler": lambda sigma, sigma_next: z}
    step = next(superdiff(models, x, sigmas, **options))
    scores = torch.stack([model.score(x, sigma) for model in models], 1)
    traces = torch.stack([-(1 / (model.variances + sigma**2)).expand(1, 2).sum() for model in models])
    variance = sigma**2 - sigma_next**2
    factor = (1 - eta**2) * sigma * (sigma - sigma_next) + eta**2 * variance
    delta, std = 2 * factor / (1 + eta**2), eta * math.sqrt(variance)
    squares = scores.square().sum(2) + (1 - eta**2) * traces
    kappa = step.record.kappa
    total = (kappa[:, :, None] * scores).sum(1)
    moved = factor * total + std * z
    start = -x.square().sum(1) / (2 * sigma**2) - math.log(2 * math.pi * sigma**2)
    estimates = start[:, None] + (scores * moved[:, None]).sum(2) - delta / 2 * squares
    if combine == "or":
        assert_equal(kappa, torch.full((7, 2), 0.5).double())
    else:
        assert (estimates[:, 0] - estimates[:, 1]).abs().max() < 1e-9
        assert_equal(kappa.sum(1), torch.ones(7).double())
    assert_equal(step.record.log_densities, estimates, 1e-10)
    assert_equal(step.denoised, x + sigma**2 * total, 1e-10)
    assert_equal(step.mean, x + factor * total, 1e-10)
    assert step.std == pytest.approx(std)
    assert_equal(step.x_next, x + moved, 1e-10)


def full_covariance(x, sigma, covariance):
    """The denoiser of N(0, covariance)."""
    return x @ torch.linalg.solve(covariance + sigma**2 * torch.eye(4).double(), covariance)


def test_the_divergence_averaged_over_all_signs_is_exact():
    """For any covariance: over all 2^4 vectors of signs; one of them alone is not."""
    a, sigma, signs = randn(0, 4, 4), 1.3, torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 4)
    covariance = a @ a.T
    x = randn(1, 16, 4).requires_grad_()
    found = divergence(full_covariance(x, sigma, covariance), x, signs, sigma)
    exact = -torch.linalg.inv(covariance + sigma**2 * torch.eye(4).double()).trace()
    assert found.mean().item() == pytest.approx(exact.item()) and found.std() > 1e-3


@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_the_divergences_signs_are_random_and_the_generators(eta):
    """Of a full covariance, whose estimate depends on the signs."""
    a = randn(0, 4, 4)
    model = lambda x, sigma: full_covariance(x, sigma[0], a @ a.T)
    x, sigmas, z = (
        randn(1, 1, 4).expand(64, 4),
        torch.tensor([2.0, 1.0]).double(),
        torch.zeros(64, 4).double(),
    )
    estimates = []
    for seed in (0, 0, 1):
        steps = superdiff(
            [model] * 2,
            x,
            sigmas,
            combine="or",
            eta=eta,
            noise_sampler=lambda sigma, sigma_next: z,
            generator=torch.Generator().manual_seed(seed),
        )
        estimates.append(next(steps).record.log_densities)
    assert torch.equal(estimates[0], estimates[1]) and not torch.equal(estimates[0], estimates[2])
    assert estimates[0][:, 0].unique().numel() > 4


@pytest.mark.parametrize(("apart", "equal"), [(4.0, True), (64.0, False)])
def test_the_guard_against_rounding_is_at_16_roundings_of_a_latent(apart, equal):
    """Two predictions apart by so many: below it the shares are equal ones, above it they are not."""
    x = torch.zeros(1, 2).double() + torch.tensor([3.0, 4.0]).double()
    shift = apart * torch.finfo(torch.float64).eps * torch.tensor([3.0, 4.0]).double()
    models = [lambda x, sigma: 0 * x, lambda x, sigma: 0 * x + shift]
    sigmas = torch.tensor([2.0, 1.0, 0.5]).double()
    step = next(superdiff(models, x, sigmas, noise_sampler=lambda sigma, sigma_next: x))
    assert ((step.record.kappa - 0.5).abs().max() < 1e-9) == equal
