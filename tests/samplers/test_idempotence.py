"""What the methods make of equal models: the one model again, or a power of it.

Aggregation is for models that are nearly equal, so this tells the methods apart.
"""

import copy
import math

import pytest
import torch
from samplers.models import gaussian, karras, mixture, noises, product
from strategies import randn
from tolerances import assert_equal

from amdm.denoisers import linear
from amdm.samplers import (
    sample_amdm,
    sample_ddim,
    sample_fkc,
    sample_mcmc,
    sample_projective_guidance,
    sample_superdiff,
)

MODEL, SIGMAS = mixture(0), karras(12)
X = 20 * randn(0, 30, 6)


def plain():
    return {"disable": True, "noise_sampler": noises(0, *X.shape)}


def random():
    """Moves, signs and resampling too."""
    return plain() | {"generator": torch.Generator().manual_seed(0)}


def shares(models):
    return {"exponents": [1 / len(models)] * len(models)}


RETURN = {
    "linear": lambda models: sample_ddim(linear(models), X, SIGMAS, eta=1.0, **plain()),
    "amdm": lambda models: sample_amdm(models, [X] * len(models), SIGMAS, window=6, disable=True),
    "projective guidance": lambda models: sample_projective_guidance(
        models, X, SIGMAS, background=MODEL, window=6, disable=True
    ),
    "or": lambda models: sample_superdiff(models, X, SIGMAS, combine="or", **random()),
    "and": lambda models: sample_superdiff(models, X, SIGMAS, combine="and", **random()),
    "and, deterministic": lambda models: sample_superdiff(models, X, SIGMAS, eta=0.0, **random()),
    "fkc, geometric mean": lambda models: sample_fkc(models, X, SIGMAS, **shares(models), **random()),
    "mcmc, geometric mean": lambda models: sample_mcmc(
        models, X, SIGMAS, kernel="hmc", moves=3, **shares(models), **random()
    ),
}


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("method", RETURN)
def test_methods_that_return_the_one_model(method, count):
    """Draw for draw what it is alone."""
    sample = RETURN[method]
    assert_equal(sample([copy.copy(MODEL) for _ in range(count)]), sample([MODEL]), 1e-9)


POWER = {
    "fkc": lambda models, x, sigmas, g: sample_fkc(models, x, sigmas, disable=True, generator=g),
    "mcmc": lambda models, x, sigmas, g: sample_mcmc(
        models,
        x,
        sigmas,
        disable=True,
        kernel="mala",
        step_size=lambda sigma, sigma_next: 0.2 * (0.5 + sigma**2),
        generator=g,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", POWER)
def test_products_sharpen(method):
    """q^3 of N(0.7, 0.5): variance 1/6. Of 10,000 samples three standard errors are 0.012 and 4.2%.

    FKC's samples, drawn from each other at every step, are worth a quarter as many.
    """
    models = [gaussian([0.7], [0.5])] * 3
    mean, variance = product(models, [1.0] * 3, 10.0)
    start = math.sqrt(3) * (mean + math.sqrt(variance) * randn(0, 10_000, 1))
    torch.manual_seed(0)
    sigmas = karras(200 if method == "fkc" else 20, 10.0, 0.002)  # weights are of first order, moves not
    errors = 2 if method == "fkc" else 1
    x = POWER[method](models, start, sigmas, torch.Generator().manual_seed(0))
    assert x.mean().item() == pytest.approx(0.7, abs=errors * 0.012)
    assert x.var().item() == pytest.approx(1 / 6, rel=errors * 0.042)
