"""A first level that stands for infinity: right within the schedule's error, or refused at the call."""

import math

import pytest
import torch
from kinds import OF_ONE_MODEL

from amdm import sample_amdm, samplers, start_noise
from amdm.denoisers import GaussianMixture
from amdm.samplers import (
    heun,
    rne_log_density,
    sample_ddim,
    sample_dpmpp_2m,
    sample_dpmpp_2m_sde,
    sample_fkc,
    sample_heun,
    sample_mcmc,
    sample_projective_guidance,
    sample_superdiff,
)
from amdm.schedules import flow_sigmas, flow_times, sigmas_from_betas, stable_diffusion_betas


def zero_snr() -> torch.Tensor:
    """Stable Diffusion's levels, rescaled as by Lin et al. 2023 (arXiv:2305.08891), 50 of them."""
    roots = (1 - stable_diffusion_betas()).cumprod(0).sqrt()
    roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
    abar = roots.square()
    before = torch.cat([torch.ones(1), abar[:-1]])
    table = sigmas_from_betas(1 - abar / before)
    return torch.cat([table[torch.arange(999, 0, -20)], torch.zeros(1)]).float()


FLOW = flow_sigmas(flow_times(28, shift=3.0)).float()
SCHEDULES = {"flow": FLOW, "zero terminal SNR": zero_snr()}
MODEL = GaussianMixture(torch.full((1, 16), 0.5), torch.full((1,), 0.25))
RIGHT = {
    "ddim": lambda x, s, **o: sample_ddim(MODEL, x, s, **o),
    "ddim with noise": lambda x, s, **o: sample_ddim(MODEL, x, s, eta=1.0, **o),
    "dpmpp_2m": lambda x, s, **o: sample_dpmpp_2m(MODEL, x, s, **o),
    "dpmpp_2m_sde": lambda x, s, **o: sample_dpmpp_2m_sde(MODEL, x, s, **o),
    **{
        name: lambda x, s, _name=name, **o: getattr(samplers, f"sample_{_name}")(MODEL, x, s, **o)
        for name in OF_ONE_MODEL
        if name not in ("ddim", "heun", "dpmpp_2m", "dpmpp_2m_sde", "lcm")
    },
    "amdm": lambda x, s, **o: sample_amdm([MODEL] * 2, x, s, **o),
    "projective guidance": lambda x, s, **o: sample_projective_guidance(
        [MODEL] * 2, x, s, background=MODEL, **o
    ),
    "superdiff without noise": lambda x, s, **o: sample_superdiff([MODEL] * 2, x, s, eta=0.0, **o),
    "fkc without noise": lambda x, s, **o: sample_fkc([MODEL], x, s, eta=0.0, particles=4, **o),
    "mcmc": lambda x, s, **o: sample_mcmc([MODEL] * 2, x, s, exponents=[0.5, 0.5], moves=2, **o),
}
REFUSED = {
    "heun": lambda x, s, **o: sample_heun(MODEL, x, s, **o),
    "amdm of heun": lambda x, s, **o: sample_amdm([MODEL] * 2, x, s, sampler=heun, **o),
    "projective guidance of heun": lambda x, s, **o: sample_projective_guidance(
        [MODEL] * 2, x, s, background=MODEL, sampler=heun, **o
    ),
    "superdiff": lambda x, s, **o: sample_superdiff([MODEL] * 2, x, s, **o),
    "superdiff or": lambda x, s, **o: sample_superdiff([MODEL] * 2, x, s, combine="or", eta=0.1, **o),
    "fkc": lambda x, s, **o: sample_fkc([MODEL], x, s, **o),
    "fkc of a product": lambda x, s, **o: sample_fkc([MODEL] * 2, x, s, eta=0.0, **o),
    "fkc with densities": lambda x, s, **o: sample_fkc([MODEL], x, s, log_densities=[MODEL.log_density], **o),
    "mcmc of a product": lambda x, s, **o: sample_mcmc([MODEL] * 2, x, s, **o),
}


def start(sigmas: torch.Tensor) -> torch.Tensor:
    return start_noise(range(500), [16], sigmas[0], 1)[0]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", RIGHT)
def test_samplers_that_take_it_are_right(name, schedule):
    torch.manual_seed(0)
    sigmas = SCHEDULES[schedule]
    assert sigmas[0] == 1e6
    result = RIGHT[name](start(sigmas), sigmas, disable=True)
    assert result.mean().item() == pytest.approx(0.5, abs=0.05)
    assert 0.35 < result.std().item() < 0.75


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", REFUSED)
def test_the_others_refuse_it_at_the_call_and_take_the_rest(name, schedule, dtype):
    sigmas = SCHEDULES[schedule]
    if dtype == torch.bfloat16 and "superdiff" in name:
        return  # refuses half precision
    with pytest.raises(ValueError, match="stands for an infinite level"):
        REFUSED[name](start(sigmas).to(dtype), sigmas.to(dtype), disable=True)


@pytest.mark.parametrize("name", REFUSED)
def test_the_others_take_what_comes_after_it(name):
    sigmas = torch.cat([FLOW[1:-1:3], FLOW[-1:]])
    assert REFUSED[name](start(sigmas), sigmas, disable=True).isfinite().all()


def test_densities_are_right_from_there():
    x = MODEL.sample(50, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    estimate = rne_log_density(MODEL, x, FLOW, reference=(0.5, 0.25))
    assert torch.allclose(estimate, MODEL.log_density(x).double(), atol=1e-3)


@pytest.mark.parametrize("name", [*RIGHT, *REFUSED])
def test_half_precision_that_lacks_the_level_is_refused(name):
    x = torch.randn(2, 16).half()
    with pytest.raises(
        ValueError, match=r"65504 of x, a torch.float16 tensor|infinite level|float32 or better"
    ):
        {**RIGHT, **REFUSED}[name](x, FLOW, disable=True)
    with pytest.raises(ValueError, match=r"sigma is 1e\+06, at which a latent is beyond torch.float16's"):
        start_noise([0], [16], 1e6, 1, dtype=torch.float16)


def test_half_precision_below_its_largest_number_is_taken():
    (x,) = start_noise([0], [16], 1e4, 1, dtype=torch.float16)
    sigmas = torch.tensor([1e4, 10.0, 1.0, 0.0])
    assert math.isfinite(sample_ddim(MODEL, x, sigmas, disable=True).float().sum())
