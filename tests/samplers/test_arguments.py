"""Wrong arguments of the samplers of several models on one latent: named, with what was expected."""

import re

import numpy as np
import pytest
import torch
from samplers.models import karras, mixture
from strategies import randn

from amdm.samplers import fkc, fkc_log_weight, mcmc, rne_log_ratio, smc_log_weight, superdiff

pytestmark = pytest.mark.usefixtures("unchecked")

MODELS, X, SIGMAS = [mixture(0), mixture(1)], randn(0, 4, 6), karras(5)
SAMPLERS = [fkc, mcmc, superdiff]


@pytest.mark.parametrize(
    ("sampler", "options", "message"),
    [
        (mcmc, {"step_size": "0.1"}, "step_size is str, expected a positive share of sigma^2 or a function"),
        (mcmc, {"step_size": None}, "step_size is None, expected a positive share"),
        (mcmc, {"damping": "x"}, "damping is str, expected a part in [0, 1)"),
        (mcmc, {"kernel": "hmc", "acceptance": "0.6"}, "acceptance is str, expected a probability in (0, 1)"),
        (mcmc, {"moves": 2.5}, "moves is 2.5, expected a whole number of 0 or more, or a function"),
        (mcmc, {"exponents": 2.0}, "exponents is float, expected a list of 2, one per model"),
        (mcmc, {"kernel": "hmc", "log_densities": 3}, "log_densities is int, expected a list of 2"),
        (fkc, {"exponents": 2.0}, "exponents is float, expected a list of 2, one per model"),
        (fkc, {"exponents": torch.tensor(1.0)}, "exponents is a torch.float32 tensor, expected a list of 2"),
        (fkc, {"log_densities": 3}, "log_densities is int, expected a list of 2, one per model"),
        (fkc, {"resample": "1"}, "resample is str, expected a part in [0, 1]"),
        (fkc, {"particles": "2"}, "particles is '2', expected a divisor of the batch size 4"),
        (
            superdiff,
            {"combine": "or", "weights": 0.5},
            "weights is float, expected a list of 2, one per model",
        ),
        (superdiff, {"combine": "or", "temperature": "1"}, "temperature is str, expected a finite number"),
    ],
)
def test_of_one_sampler(sampler, options, message):
    with pytest.raises(TypeError, match=f"^{re.escape(message)}"):
        sampler(MODELS, X, SIGMAS, **options)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_of_all(sampler):
    with pytest.raises(TypeError, match=r"^generator is int, expected a torch.Generator or None"):
        sampler(MODELS, X, SIGMAS, generator=3)
    with pytest.raises(TypeError, match=r"^extra_args\[1\] is int, expected a dictionary or None"):
        sampler(MODELS, X, SIGMAS, [{}, 3])
    with pytest.raises(TypeError, match=r"^extra_args is int, expected a dictionary or None"):
        sampler(MODELS, X, SIGMAS, 3)


@pytest.mark.parametrize("count", [-1, 2.5, None])
def test_a_function_that_returns_no_number_of_moves_is_told(count):
    message = rf"^moves returned {count} at sigma = 20, expected a whole number of 0 or more"
    with pytest.raises(ValueError, match=message):
        next(mcmc(MODELS, X, SIGMAS, moves=lambda sigma, sigma_next: count))


def test_a_function_that_returns_no_number_for_a_step_size_is_told():
    with pytest.raises(ValueError, match=r"^step_size returned '0.1' at sigma = 20, expected a positive"):
        next(mcmc(MODELS, X, SIGMAS, step_size=lambda sigma, sigma_next: "0.1"))


def test_numpys_whole_numbers_are_whole():
    same = torch.Generator().manual_seed(0)
    one = next(fkc(MODELS, X, SIGMAS, particles=np.int64(2), noise_sampler=lambda *_: X, generator=same))
    other = next(
        fkc(MODELS, X, SIGMAS, particles=2, noise_sampler=lambda *_: X, generator=same.manual_seed(0))
    )
    assert torch.equal(one.x_next, other.x_next)
    counts = {"moves": np.int64(1), "leaps": np.int64(2), "points": np.int64(2)}
    assert next(mcmc(MODELS, X, SIGMAS, kernel="hmc", **counts)).x_next.shape == X.shape


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: fkc_log_weight(X, [X, X], [1.0, 1.0, 1.0], 1.0, 0.5),
            "exponents has 3 entries but there are 2 models",
        ),
        (
            lambda: fkc_log_weight(X, [X], [1.0], 0.5, 1.0),
            "sigma_next is 1.0, expected a level in [0, sigma = 0.5)",
        ),
        (
            lambda: rne_log_ratio(X, X[:1], X, 1.0, 0.5),
            "expected equal shapes, but x has shape (4, 6), x_next has",
        ),
        (
            lambda: rne_log_ratio(X, X, X[:1], 1.0, 0.5),
            "expected equal shapes, but x has shape (4, 6), x_next has",
        ),
        (
            lambda: rne_log_ratio(X, X, X, 0.5, 1.0, (0.0, 1.0)),
            "sigma_next is 1.0, expected a level in [0, sigma",
        ),
        (lambda: rne_log_ratio(X, X, X, 0.0, 0.0), "sigma is 0.0, expected a finite level above 0"),
        (lambda: smc_log_weight(X[:, 0], X, X, X, 0.1, 0.5, 1.0), "sigma_next is 1.0, expected a level in"),
    ],
)
def test_of_weights_and_ratios(call, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        call()


def test_inference_mode_is_told_where_gradients_are_needed():
    with torch.inference_mode():
        with pytest.raises(
            ValueError, match=r"torch\.inference_mode\(\) keeps no gradients: expected torch\.no_grad"
        ):
            next(superdiff(MODELS, X, SIGMAS, eta=0.0))
        assert next(superdiff(MODELS, X, SIGMAS)).x_next.shape == X.shape
        inside = X.clone()
    one, other = (
        next(superdiff(MODELS, x, SIGMAS, eta=0.0, generator=torch.Generator().manual_seed(0)))
        for x in (inside, X)
    )
    assert torch.equal(one.x_next, other.x_next)
