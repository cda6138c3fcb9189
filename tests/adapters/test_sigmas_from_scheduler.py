"""Diffusers' schedules as levels, and levels as training steps."""

import pytest
import torch
from adapters import tiny_diffusers as tiny
from diffusers import (
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
)
from strategies import randn
from tolerances import assert_equal

from amdm import sample_ddim
from amdm.denoisers import GaussianMixture
from amdm.diffusers import sigma_to_t, sigmas_from_scheduler, training_sigmas
from amdm.diffusers.scheduler import AggregatingScheduler, Partners


def test_every_training_step_comes_back_from_its_level():
    for scheduler in (tiny.ddim(), tiny.ddim(rescale_betas_zero_snr=True)):
        sigmas = training_sigmas(scheduler)
        assert sigmas.dtype == torch.float64 and bool((sigmas.diff() > 0).all())
        for dtype in (torch.float64, torch.float32):
            t = sigma_to_t(sigmas.to(dtype), sigmas.log().to(dtype))
            assert torch.equal(t, torch.arange(1000, dtype=dtype))


def test_between_steps_it_is_k_diffusions(k_diffusion):
    scheduler = tiny.ddim()
    wrapper = k_diffusion.external.DiscreteSchedule(training_sigmas(scheduler), quantize=False)
    sigma = torch.tensor([0.03, 0.5, 1.7, 14.0], dtype=torch.float64)
    t = sigma_to_t(sigma, training_sigmas(scheduler).log())
    torch.testing.assert_close(t, wrapper.sigma_to_t(sigma), rtol=1e-9, atol=0)
    assert not torch.equal(t, t.round())
    ends = sigma_to_t(torch.tensor([1e-3, 1e3], dtype=torch.float64), training_sigmas(scheduler).log())
    assert ends.tolist() == [0, 999]


def test_stable_diffusions_own_levels():
    sigmas = sigmas_from_scheduler(tiny.ddim(), 50)
    assert sigmas.shape == (51,) and sigmas[0] == pytest.approx(13.120, abs=1e-3)
    assert sigmas[-1] == pytest.approx(0.0292, abs=1e-4)
    assert sigmas_from_scheduler(tiny.ddim(set_alpha_to_one=True), 50)[-1] == 0


def test_the_scheduler_is_left_as_it_is():
    scheduler = tiny.ddim()
    scheduler.set_timesteps(7)
    sigmas_from_scheduler(scheduler, 50)
    assert len(scheduler.timesteps) == 7


def test_partners_of_a_scheduler_are_not_copied():
    class Model:
        def __call__(self, x, sigma):
            return x

        def __deepcopy__(self, memo):
            raise AssertionError("a model of gigabytes is copied")

    scheduler = AggregatingScheduler.of(tiny.ddim(), Partners([Model()]))
    assert torch.equal(sigmas_from_scheduler(scheduler, 50), sigmas_from_scheduler(tiny.ddim(), 50))


def test_a_last_level_that_is_not_left_is_there_once():
    betas = {key: tiny.SD_SCHEDULE[key] for key in ("beta_start", "beta_end", "beta_schedule")}
    scheduler = EulerDiscreteScheduler(**betas, final_sigmas_type="sigma_min", timestep_spacing="linspace")
    sigmas = sigmas_from_scheduler(scheduler, 10)
    assert len(sigmas) == 10 and bool((sigmas.diff() < 0).all()) and sigmas[-1] > 0


def test_others_levels():
    betas = {key: tiny.SD_SCHEDULE[key] for key in ("beta_start", "beta_end", "beta_schedule")}
    for kind in (EulerDiscreteScheduler, DPMSolverMultistepScheduler):
        scheduler = kind(**betas)
        sigmas = sigmas_from_scheduler(scheduler, 10)
        scheduler.set_timesteps(10)
        assert torch.equal(sigmas, scheduler.sigmas.double())
    flow = sigmas_from_scheduler(FlowMatchEulerDiscreteScheduler(shift=3.0), 4)
    assert flow[0] == 1e6 and flow[-1] == 0 and bool((flow.diff() < 0).all())


CASES = [  # spacing, steps, whether its steps meet
    ("leading", 50, True),
    ("leading", 13, True),
    ("trailing", 50, True),
    ("trailing", 13, False),
    ("linspace", 10, False),
    ("linspace", 50, False),
]


@pytest.mark.parametrize(("spacing", "steps", "meets"), CASES)
def test_diffusers_loop_follows_the_levels_exactly_where_its_steps_meet(spacing, steps, meets):
    """DDIM's loop written out, against the levels: equal, or as far off as an error should be raised for."""
    scheduler = tiny.ddim(timestep_spacing=spacing)
    denoiser = GaussianMixture(randn(0, 3, 6), torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64))
    start = randn(1, 2, 6)
    table = training_sigmas(scheduler)
    scheduler.set_timesteps(steps)
    z = start
    for t in scheduler.timesteps:
        x = z * (1 + table[t] ** 2) ** 0.5
        eps = (x - denoiser(x, table[t].expand(2))) / table[t]
        z = scheduler.step(eps, t, z).prev_sample

    sigmas = sigmas_from_scheduler(scheduler, steps, "exact")
    x = sample_ddim(denoiser, start * (1 + sigmas[0] ** 2) ** 0.5, sigmas, disable=True)
    error = ((x / (1 + sigmas[-1] ** 2) ** 0.5 - z).abs().max() / z.abs().max()).item()
    if meets:
        assert torch.equal(sigmas_from_scheduler(scheduler, steps), sigmas)
        assert error < 5e-6
    else:
        assert error > 1e-3
        with pytest.raises(ValueError, match=r"its steps do not end where the next ones begin.*Aggregating"):
            sigmas_from_scheduler(scheduler, steps)


def test_a_step_that_goes_nowhere_is_left_out():
    scheduler = tiny.ddim(steps_offset=0)
    sigmas = sigmas_from_scheduler(scheduler, 10)
    assert len(sigmas) == 10 and sigmas[-1] == training_sigmas(scheduler)[0]
    scheduler.set_timesteps(10)
    z = randn(0, 1, 6)
    assert_equal(scheduler.step(randn(1, 1, 6), scheduler.timesteps[-1], z, eta=1.0).prev_sample, z, 1e-6)


@pytest.mark.parametrize("option", ["clip_sample", "thresholding"])
def test_clipping_is_refused(option):
    scheduler = tiny.ddim(**{option: True})
    with pytest.raises(ValueError, match=r"it clips what is denoised.*AggregatingScheduler"):
        sigmas_from_scheduler(scheduler, 50)
    assert len(sigmas_from_scheduler(scheduler, 50, "exact")) == 51


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused():
    with pytest.raises(ValueError, match="compat is 'both', expected 'diffusers' or 'exact'"):
        sigmas_from_scheduler(tiny.ddim(), 50, "both")
    with pytest.raises(
        ValueError, match="steps is 1000, with which the scheduler begins at step 1000 of 1000"
    ):
        sigmas_from_scheduler(tiny.ddim(), 1000)
    with pytest.raises(ValueError, match="steps is 0, expected 1 or more"):
        sigmas_from_scheduler(tiny.ddim(), 0)
    for scheduler in (PNDMScheduler(), EDMEulerScheduler()):
        with pytest.raises(TypeError, match=f"scheduler is {type(scheduler).__name__}, whose levels"):
            sigmas_from_scheduler(scheduler, 50)
    with pytest.raises(TypeError, match="HeunDiscreteScheduler with 99 timesteps and the levels"):
        sigmas_from_scheduler(HeunDiscreteScheduler(), 50)
