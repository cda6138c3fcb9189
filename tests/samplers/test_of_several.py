"""What the samplers of several models on one latent have in common."""

import pytest
import torch
from samplers.models import karras, mixture
from strategies import randn
from tolerances import assert_equal

from amdm.samplers import fkc, mcmc, sample_fkc, sample_mcmc, sample_superdiff, superdiff

MODELS, SIGMAS = [mixture(0), mixture(1)], karras(8)
PAIRS = [(fkc, sample_fkc), (mcmc, sample_mcmc), (superdiff, sample_superdiff)]
X = 20 * randn(0, 5, 6)


def fixed(sigma, sigma_next):
    return torch.ones(5, 6, dtype=torch.float64)


def seeded():
    return {"noise_sampler": fixed, "generator": torch.Generator().manual_seed(0)}


@pytest.mark.parametrize(("generator", "function"), PAIRS)
def test_the_function_runs_the_generator(generator, function):
    seen = []
    result = function(MODELS, X, SIGMAS, callback=seen.append, disable=True, **seeded())
    *_, last = generator(MODELS, X, SIGMAS, **seeded())
    assert torch.equal(result, last.x_next) and [info["i"] for info in seen] == list(range(8))
    assert torch.equal(seen[-1]["denoised"], last.denoised)


@pytest.mark.parametrize(("generator", "function"), PAIRS)
def test_what_is_sent_is_gone_on_from(generator, function):
    steps = generator(MODELS, X, SIGMAS, **seeded())
    next(steps)
    assert torch.equal(steps.send(2 * X).x, 2 * X)
    with pytest.raises(ValueError, match=r"sent a latent of shape \(2, 6\)"):
        steps.send(X[:2])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("generator", "function"), PAIRS)
def test_latents_come_back_in_their_dtype(generator, function, dtype):
    """Near what float64 gives while the levels are such that half precision can."""
    sigmas = torch.tensor([20.0, 10.0, 5.0], dtype=torch.float64)
    options = {fkc: {"resample": 0.0}, mcmc: {"moves": 0}, superdiff: {"combine": "or"}}[generator]
    exact, found = (
        function(MODELS, x, sigmas, disable=True, noise_sampler=fixed, **options) for x in (X, X.to(dtype))
    )
    assert found.dtype == dtype
    assert_equal(found.double(), exact, {torch.float16: 0.01, torch.bfloat16: 0.05}.get(dtype, 1e-3))


@pytest.mark.parametrize(("generator", "function"), PAIRS[:2])
@pytest.mark.parametrize(
    "wrong",
    [
        (lambda value: value.sum(), r"returned shape \(\), expected \(5,\)"),
        (lambda value: value[:, None], r"returned shape \(5, 1\), expected \(5,\)"),
        (lambda value: value.long(), "returned a torch.int64 tensor"),
    ],
)
def test_log_densities_are_one_number_per_sample(generator, function, wrong):
    """A sum over the batch, as in published code, would decide for all samples at once."""
    slip, message = wrong
    densities = [MODELS[0].log_density, lambda x, sigma: slip(MODELS[1].log_density(x, sigma))]
    options = {mcmc: {"kernel": "hmc"}}.get(generator, {})
    with pytest.raises((TypeError, ValueError), match=rf"log_densities\[1\] {message}"):
        function(MODELS, X, SIGMAS, disable=True, log_densities=densities, **options)


@pytest.mark.parametrize(("generator", "function"), PAIRS)
def test_no_global_random_numbers_are_drawn_but_those_asked_for(generator, function):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    function(MODELS, X, SIGMAS, disable=True, **seeded())
    assert torch.equal(torch.get_rng_state(), before)
