"""Predictions that are not finite: named, and read from the device when it is time."""

import math

import pytest
import torch
from samplers.models import karras, mixture
from strategies import randn
from tolerances import assert_equal

from amdm.samplers import fkc, mcmc, sample_fkc, sample_mcmc, sample_superdiff, superdiff
from amdm.samplers.markov import Place, metropolis

SIGMAS = karras(6)
X = 20 * randn(0, 4, 6)
CASES = [
    (fkc, sample_fkc, {}),
    (fkc, sample_fkc, {"particles": 2, "resample": 0.5}),
    (superdiff, sample_superdiff, {"combine": "or"}),
    (superdiff, sample_superdiff, {"combine": "and"}),
    (superdiff, sample_superdiff, {"eta": 0.5, "unconditional": mixture(2), "guidance": 2.0}),
    (mcmc, sample_mcmc, {"kernel": "ula", "moves": 2}),
    (mcmc, sample_mcmc, {"kernel": "hmc", "moves": 2, "acceptance": 0.6}),
]


def broken(model, levels, value=math.nan, sample=1):
    """`model`, but for one entry of one sample at these levels."""

    def denoise(x, sigma):
        denoised = model(x, sigma)
        hit = torch.zeros_like(x, dtype=torch.bool)
        hit[sample, 2] = sigma[0].item() in levels
        return torch.where(hit, value, denoised)

    return denoise


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("model", [0, 1])
@pytest.mark.parametrize(("generator", "function", "options"), CASES)
def test_it_is_named_at_the_schedules_end(generator, function, options, model, value):
    models = [mixture(0), mixture(1)]
    models[model] = broken(models[model], SIGMAS[3:].tolist(), value)
    steps = generator(models, X, SIGMAS, **options)
    message = rf"models\[{model}\] returned NaN or infinity for sample 1, first at step 3 \(sigma = "
    assert [next(steps).index for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(FloatingPointError, match=message):
        next(steps)
    with pytest.raises(FloatingPointError, match=message):
        function(models, X, SIGMAS, disable=True, **options)


@pytest.mark.parametrize(("generator", "function", "options"), CASES)
def test_with_debug_nans_it_is_named_at_its_step(generator, function, options):
    models = [mixture(0), broken(mixture(1), SIGMAS[2:].tolist())]
    steps = generator(models, X, SIGMAS, debug_nans=True, **options)
    assert [next(steps).index for _ in range(2)] == [0, 1]
    with pytest.raises(FloatingPointError, match=r"models\[1\] .* sample 1, first at step 2"):
        next(steps)
    with pytest.raises(FloatingPointError, match=r"first at step 2"):
        function(models, X, SIGMAS, disable=True, debug_nans=True, **options)


def test_the_unconditional_model_has_its_name():
    unconditional = broken(mixture(2), SIGMAS.tolist())
    with pytest.raises(FloatingPointError, match=r"^unconditional returned NaN or infinity for sample 1"):
        sample_superdiff([mixture(0)] * 2, X, SIGMAS, disable=True, unconditional=unconditional, guidance=2.0)


@pytest.mark.parametrize(("generator", "function", "options"), CASES)
def test_a_generator_that_is_closed_early_raises_nothing(generator, function, options):
    steps = generator([mixture(0), broken(mixture(1), SIGMAS.tolist())], X, SIGMAS, **options)
    next(steps)
    steps.close()


def after(model, calls, sample=1):
    """`model`, but for one entry of one sample after so many calls."""
    count = iter(range(10**6))

    def denoise(x, sigma):
        denoised = model(x, sigma).clone()
        if next(count) >= calls:
            denoised[sample, 2] = math.nan
        return denoised

    return denoise


def test_of_moves_that_reject_nothing_every_prediction_counts():
    """The third call at the last level is the second move's: the latent is lost there."""
    models = [mixture(0), after(mixture(1), calls=3 * 5 + 2)]
    with pytest.raises(FloatingPointError, match=r"models\[1\] .* sample 1, first at step 5"):
        sample_mcmc(models, X, SIGMAS, disable=True, kernel="ula", moves=2)


@pytest.mark.parametrize("energies", [False, True])
def test_a_proposal_that_is_not_finite_is_rejected(energies):
    """Of that sample alone, and its step size goes on adapting: by -0.1 times the probability asked for."""
    models, good = [mixture(0), after(mixture(1), calls=1)], [mixture(0), mixture(1)]
    options = {
        "kernel": "mala",
        "moves": 2,
        "step_size": lambda sigma, sigma_next: 1.0,
        "acceptance": 0.6,
        "log_densities": [model.log_density for model in good] if energies else None,
        "eta": 0.0,
        "debug_nans": True,
    }
    step, other = (
        next(mcmc(m, X, SIGMAS, generator=torch.Generator().manual_seed(0), **options))
        for m in (models, good)
    )
    assert step.record.acceptance[1] == 0
    assert step.record.step_size[1].item() == pytest.approx(math.exp(-0.1 * 0.6))
    stayed = next(mcmc(good, X, SIGMAS, moves=0, eta=0.0))
    assert_equal(step.x_next[1], stayed.x_next[1])
    assert torch.equal(step.x_next[[0, 2, 3]], other.x_next[[0, 2, 3]])


def test_a_ratio_that_is_nan_is_a_rejection():
    start, end = torch.zeros(3, 2).double(), torch.ones(3, 2).double()
    v, u = randn(0, 3, 2), torch.zeros(3).double()
    ratio = torch.tensor([0.0, math.nan, math.inf]).double()
    place, velocity, acceptance = metropolis(Place(start, start), Place(end, end), v, v, ratio, u)
    assert acceptance.tolist() == [1, 0, 1] and place.x[:, 0].tolist() == [1, 0, 1]
    assert torch.equal(velocity[1], -v[1])
