"""A sampler with partners where k-diffusion's stood."""

import inspect

import pytest
import torch
from samplers.models import mixture
from strategies import randn
from tolerances import assert_equal

from amdm import sample_amdm
from amdm.denoisers import GaussianMixture
from amdm.k_diffusion import sampler_with

SIGMAS = torch.tensor([20.0, 8.0, 3.0, 1.0, 0.3, 0.0], dtype=torch.float64)


def partner():
    return GaussianMixture(torch.ones(1, 6, dtype=torch.float64), torch.ones(1, dtype=torch.float64))


def test_its_signature_is_sample_eulers(k_diffusion):
    theirs = inspect.signature(k_diffusion.sampling.sample_euler).parameters.values()
    ours = inspect.signature(sampler_with([partner()])).parameters.values()
    assert [(p.name, p.default, p.kind) for p in ours] == [(p.name, p.default, p.kind) for p in theirs]


def test_churn_that_acts_is_refused():
    x = 20 * randn(0, 3, 6)
    sample = sampler_with([partner()], window=3)
    plain = sample(mixture(), x, SIGMAS, disable=True)
    said = sample(mixture(), x, SIGMAS, None, None, True, 0.0, 0.05, 50.0, 1.003)
    assert torch.equal(said, plain)
    with pytest.raises(ValueError, match=r"s_churn is 40\.0, expected 0"):
        sample(mixture(), x, SIGMAS, disable=True, s_churn=40.0)


def test_with_no_aggregated_step_it_is_sample_euler(k_diffusion):
    x = 20 * randn(0, 3, 6)
    expected = k_diffusion.sampling.sample_euler(mixture(), x, SIGMAS, disable=True)
    assert_equal(sampler_with([partner()], window=0)(mixture(), x, SIGMAS, disable=True), expected)


def test_with_partners_it_is_sample_amdm_and_a_caller_cannot_tell():
    x, told = 20 * randn(0, 3, 6), []
    other = partner()

    def spied(x, sigma, **extra_args):
        told.append(extra_args)
        return other(x, sigma)

    def lead(x, sigma, scale):
        return scale * mixture()(x, sigma)

    seen = []
    sample = sampler_with([spied], {"cond": "B"}, window=3, weights=0.3)
    actual = sample(lead, x, SIGMAS, {"scale": 1.0}, lambda info: seen.append(info["i"]), True)
    assert_equal(actual, sample_amdm([mixture(), other], x, SIGMAS, window=3, weights=0.3, disable=True))
    assert seen == [0, 1, 2, 3, 4] and told == [{"cond": "B"}] * 3


@pytest.mark.usefixtures("unchecked")
def test_the_partners_arguments_are_checked():
    with pytest.raises(TypeError, match=r"extra_args\[0\] is int"):
        sampler_with([partner()], [3])
    with pytest.raises(ValueError, match="extra_args has 2 entries but there are 1 models"):
        sampler_with([partner()], [None, None])
    with pytest.raises(TypeError, match="partners is GaussianMixture, expected a list of denoisers"):
        sampler_with(partner())
    with pytest.raises(TypeError, match="unexpected keyword argument 'windw'"):
        sampler_with([partner()], windw=3)
