"""Compositions against closed forms: what a plain sampler draws from them, exactly, without sampling.

For Gaussians a composed denoiser is affine in x and so is every step: the law of the result follows from two
trajectories and the steps' variances.
"""

import math

import numpy as np
import pytest
import torch
from samplers.models import Recorder, karras
from scipy.integrate import quad
from tolerances import assert_equal

from amdm.denoisers import GaussianMixture, Guided, compose, conjunction, linear, projective
from amdm.samplers import ddim, dpmpp_2m_sde, heun, sample_heun

HIGH = 80.0


def gaussian(mean, variance):
    return GaussianMixture(torch.tensor([[mean]]).double(), torch.tensor([variance]).double())


def law(model, sigmas, sampler, variance, **options):
    """Mean and variance of a sampler's result in one dimension from N(0, variance)."""
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    silent = lambda sigma, sigma_next: torch.zeros_like(x)
    for step in sampler(model, x, sigmas, noise_sampler=silent, **options):
        slope = (step.x_next[1] - step.x_next[0]) / (step.x[1] - step.x[0])
        variance = variance * slope.item() ** 2 + step.std**2
    return step.x_next[0].item(), variance


def law_of_the_sde(model):
    """Of the reverse SDE; its steps are of first order: extrapolated to none from two numbers of steps."""
    few, many = (np.array(law(model, karras(n, HIGH, 0.002), ddim, HIGH**2, eta=1.0)) for n in (125, 250))
    return 2 * many - few


def predicted(gaussians, exponents, eps, variance):
    """The law of x' = x + (1 + eps^2)/2 Delta S + eps sqrt(Delta) z in the limit, S = sum beta_i s_i.

    lambda = sigma^2 runs from L to 0; solved with an integrating factor.
    """
    c, top = (1 + eps**2) / 2, HIGH**2

    def factor(lam):
        return math.prod((v + lam) ** (c * beta) for (_, v), beta in zip(gaussians, exponents, strict=True))

    def pull(lam):
        terms = zip(gaussians, exponents, strict=True)
        return sum(c * beta * m / (v + lam) for (m, v), beta in terms) / factor(lam)

    def integral(f):  # over log lambda, where the integrand is smooth
        return quad(lambda u: f(math.exp(u)) * math.exp(u), math.log(1e-12), math.log(top), limit=500)[0]

    mean = factor(0) * integral(pull)
    spread = variance / factor(top) ** 2 + eps**2 * integral(lambda lam: factor(lam) ** -2)
    return mean, factor(0) ** 2 * spread


PAIR = [(-1.0, 1.0), (1.0, 0.5)]
CASES = {
    "linear": (linear, PAIR, [0.5, 0.5]),
    "linear, other coordinate": (linear, [(0.5, 0.5), (1.0, 2.0)], [0.5, 0.5]),
    "equal covariances": (linear, [(-1.0, 0.7), (2.0, 0.7)], [0.3, 0.7]),
    "sum": (compose, [(0.0, 1.0), (0.0, 1.0)], [1.0, 1.0]),
    "guidance 3": (None, [(0.0, 4.0), (1.0, 1.0)], [-2.0, 3.0]),
    "negation": (None, [(0.0, 4.0), (1.0, 1.0), (-1.0, 2.0)], [0.5, 1.0, -0.5]),
}


def made(name):
    how, gaussians, exponents = CASES[name]
    models = [gaussian(*g) for g in gaussians]
    if how is not None:
        return how(models, exponents), gaussians, exponents
    return conjunction(models[0], models[1:], exponents[1:]), gaussians, exponents


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_probability_flow_has_the_law_of_the_score_sum(name):
    model, gaussians, exponents = made(name)
    mean, variance = law(model, karras(400, HIGH, 0.002), heun, HIGH**2)
    expected = predicted(gaussians, exponents, 0.0, HIGH**2)
    assert mean == pytest.approx(expected[0], abs=2e-3)
    assert variance == pytest.approx(expected[1], rel=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_reverse_sde_has_the_law_of_the_score_sum(name):
    model, gaussians, exponents = made(name)
    expected = predicted(gaussians, exponents, 1.0, HIGH**2)
    mean, variance = law_of_the_sde(model)
    assert mean == pytest.approx(expected[0], abs=2e-3)
    assert variance == pytest.approx(expected[1], rel=5e-3)


def test_known_laws():
    """Not the product's or the geometric mean's: those are (1/3, 2/3), (1.2, 0.4) and (0, 1/2)."""
    for name, expected in {
        "linear": (0.1716, 0.6931),
        "linear, other coordinate": (0.6665, 0.9242),
        "equal covariances": (0.3 * -1 + 0.7 * 2, 0.7),
        "sum": (0.0, 1 / 3),
        "guidance 3": (1.3125, 0.2664),
    }.items():
        _, gaussians, exponents = made(name)
        assert predicted(gaussians, exponents, 1.0, HIGH**2) == pytest.approx(expected, abs=2e-3), name
    assert predicted(PAIR[:1] * 2, [1.0, 1.0], 0.0, HIGH**2 / 2)[1] == pytest.approx(7.8e-5, rel=0.01)


def test_projective_is_exact_for_factors_of_their_own_coordinates():
    """N(0, I) in three dimensions; one model changes the first coordinate, another the second; rotated."""
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double())[0]

    def model(mean, variances):
        """N(mean, diag(variances)), rotated, as noise along axes: variances are 0.01 + factors."""
        factors = torch.diag((torch.tensor(variances).double() - 0.01).sqrt()) @ rotation
        mean = torch.tensor([mean]).double() @ rotation
        return GaussianMixture(mean, torch.tensor([0.01]).double(), factors=factors[None])

    background = model([0.0, 0.0, 0.0], [1.0, 1.0, 1.0])
    first, second = model([3.0, 0.0, 0.0], [0.25, 1.0, 1.0]), model([0.0, 3.0, 0.0], [1.0, 0.25, 1.0])
    both = model([3.0, 3.0, 0.0], [0.25, 0.25, 1.0])
    x = 5 * torch.randn(64, 3, generator=torch.Generator().manual_seed(1)).double()
    for sigma in (0.1, 1.0, 10.0):
        assert_equal(
            projective(background, [first, second])(x, x.new_full((64,), sigma)), both(x, sigma), 1e-10
        )


def test_projective_of_overlapping_factors_is_not_the_product():
    """p_1 p_2/p_b has mean 2.857 and variance 0.143; a plain sampler draws something else."""
    background, gaussians = (0.0, 1.0), [(2.0, 0.25), (3.0, 0.25)]
    model = projective(gaussian(*background), [gaussian(*g) for g in gaussians])
    mean, variance = law_of_the_sde(model)
    expected = predicted([background, *gaussians], [-1.0, 1.0, 1.0], 1.0, HIGH**2)
    assert (mean, variance) == pytest.approx(expected, rel=5e-3)
    assert abs(mean - 2.857) > 0.2 and variance < 0.13


@pytest.mark.parametrize("count", [1, 2, 5])
def test_of_equal_models_the_mean_is_the_model_and_projective_sharpens(count, rng):
    q = gaussian(0.7, 0.5)
    x = torch.randn(16, 1, generator=rng, dtype=torch.float64)
    sigma = torch.full((16,), 0.6, dtype=torch.float64)
    assert_equal(linear([q] * count)(x, sigma), q(x, sigma), 1e-12)
    assert_equal(conjunction(q, [q] * count, 7.5)(x, sigma), q(x, sigma), 1e-12)
    assert_equal(projective(q, [q] * count)(x, sigma), q(x, sigma), 1e-12)
    wide = gaussian(0.7, 2.0)
    scores = [(model(x, sigma) - x) / sigma[:, None] ** 2 for model in (q, wide)]
    sharper = projective(wide, [q] * count)(x, sigma)
    assert_equal((sharper - x) / 0.36, count * scores[0] - (count - 1) * scores[1], 1e-10)


def test_one_condition_is_classifier_free_guidance(rng):
    def network(x, sigma, *, label):
        return torch.tanh(label) * x / (1 + sigma[:, None] ** 2)

    x, given, without = torch.randn(3, 4, 6, generator=rng, dtype=torch.float64)
    sigma = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    guided = Guided(network, 3.0)(x, sigma, cond={"label": given}, uncond={"label": without})
    composed = conjunction(network, [network], 3.0, [{"label": without}, {"label": given}])
    assert_equal(composed(x, sigma), guided, 1e-12)


def test_every_model_is_called_once_with_its_own_arguments(rng):
    models = [Recorder(gaussian(0.0, 1.0)) for _ in range(3)]
    composed = conjunction(models[0], models[1:], [2.0, -1.0], [{"a": 0}, None, {"a": 2, "b": 9}])
    x = torch.randn(4, 1, generator=rng, dtype=torch.float64)
    composed(x, torch.ones(4, dtype=torch.float64), b=1)
    assert [model.extra_args for model in models] == [[{"a": 0, "b": 1}], [{"b": 1}], [{"a": 2, "b": 9}]]
    for model in models:
        model.assert_nothing_was_modified()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_sums_are_made_in_float32_and_come_back_in_their_dtype(dtype, rng):
    """Large weights of opposite signs: 15 of the same, minus 14."""
    x = torch.randn(8, 5, generator=rng).to(dtype)
    same = lambda x, sigma: (0.9 * x.float()).to(x.dtype)
    result = conjunction(same, [same, same], 7.5)(x, torch.ones(8, dtype=dtype))
    assert result.dtype == dtype
    torch.testing.assert_close(result, same(x, None), rtol=2e-3 if dtype == torch.float16 else 1e-2, atol=0)


def test_any_sampler_runs_them_and_k_diffusions_own(k_diffusion):
    model = linear([gaussian(0.0, 1.0), gaussian(1.0, 1.0)], [0.5, 0.5])
    sigmas = karras(20)
    x = sigmas[0] * torch.ones(2, 1, dtype=torch.float64)
    assert_equal(
        sample_heun(model, x, sigmas, disable=True),
        k_diffusion.sampling.sample_heun(model, x, sigmas, disable=True),
        1e-12,
    )
    assert list(dpmpp_2m_sde(model, x, sigmas))[-1].x_next.isfinite().all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda q: compose([], []), "models is empty"),
        (lambda q: linear([q, q], [0.5, 0.6]), "sum 1"),
        (lambda q: linear([q, q], [1.0]), "weights has 1 entries but there are 2 models"),
        (lambda q: compose([q], [float("nan")]), r"exponents\[0\] is nan"),
        (lambda q: compose([q, 3], [1, 1]), r"models\[1\] is int"),
        (lambda q: compose([q], ["1"]), r"exponents\[0\] is str"),
        (lambda q: linear([]), "models is empty"),
        (lambda q: conjunction(q, []), "models is empty"),
        (lambda q: conjunction(q, [q, q], [1.0]), "weights has 1 entries but there are 2 models"),
        (lambda q: conjunction(q, [q, q], [1.0, float("nan")]), r"weights\[1\] is nan"),
        (lambda q: projective(q, [q], [{}, {}, {}]), "extra_args has 3 entries"),
        (lambda q: conjunction(q, [q], 1.0, [{}, 5]), r"extra_args\[1\] is int"),
    ],
)
def test_arguments_that_make_no_sense_are_named(call, message, unchecked):
    with pytest.raises((TypeError, ValueError), match=message):
        call(gaussian(0.0, 1.0))


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        (
            lambda value: value.mean(),
            r"models\[1\] of the composition returned shape \(\), expected that of x: \(3, 1\)",
        ),
        (lambda value: value[:1], r"models\[1\] of the composition returned shape \(1, 1\)"),
        (lambda value: value.long(), r"models\[1\] of the composition returned a torch.int64 tensor"),
    ],
)
def test_what_models_return_is_not_broadcast(slip, message, unchecked):
    q = gaussian(0.0, 1.0)
    model = linear([q, lambda x, sigma: slip(q(x, sigma))])
    with pytest.raises((TypeError, ValueError), match=message):
        model(torch.ones(3, 1).double(), torch.ones(3).double())


def test_a_number_of_numpy_is_a_weight(unchecked):
    q = gaussian(0.0, 1.0)
    assert conjunction(q, [q, q], np.float32(1.5)).exponents == (-2.0, 1.5, 1.5)
