"""Noise levels, against k-diffusion's and diffusers' own."""

import pytest
import torch
from adapters import tiny_diffusers  # noqa: F401 (imports diffusers beside torchvision)
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from tolerances import assert_equal

from amdm import schedules as s

TABLE = s.sigmas_from_betas(s.stable_diffusion_betas())


@pytest.mark.parametrize("steps", [1, 2, 50])
@pytest.mark.parametrize("rho", [7.0, 1.0])
def test_karras_sigmas_are_k_diffusions(k_diffusion, steps, rho):
    theirs = k_diffusion.sampling.get_sigmas_karras(steps, 0.03, 14.6, rho)
    assert_equal(s.karras_sigmas(steps, 0.03, 14.6, rho), theirs.double(), 1e-5)


@pytest.mark.parametrize("steps", [1, 7, 20, 50, 999])
@pytest.mark.parametrize(
    ("spacing", "offset"), [("leading", 1), ("leading", 0), ("trailing", 1), ("linspace", 1)]
)
def test_ddim_sigmas_are_diffusers(steps, spacing, offset):
    scheduler = DDIMScheduler(
        1000, 0.00085, 0.012, "scaled_linear", timestep_spacing=spacing, steps_offset=offset
    )
    scheduler.set_timesteps(steps)
    abar = scheduler.alphas_cumprod.double()[scheduler.timesteps]
    ours = s.ddim_sigmas(TABLE, steps, spacing, offset)
    assert_equal(ours[:-1], ((1 - abar) / abar).sqrt(), 1e-4)
    assert ours.shape == (steps + 1,) and ours[-1] == 0


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 4, 28])
def test_flow_times_are_diffusers(shift, steps):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    assert_equal(s.flow_times(steps, shift), scheduler.sigmas.double(), 1e-6)


def test_betas_with_zero_terminal_snr_have_a_finite_table():
    assert s.sigmas_from_betas(torch.tensor([0.5, 1.0])).tolist() == [1.0, 1e6]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: s.karras_sigmas(0, 0.1, 1.0),
            ValueError,
            "steps is 0, expected a whole number of 1 or more",
        ),
        (lambda: s.karras_sigmas(3, 0.0, 1.0), ValueError, "sigma_min is 0.0, expected a positive level"),
        (lambda: s.karras_sigmas(3, 2.0, 1.0), ValueError, "sigma_max is 1.0, expected a level above 2.0"),
        (lambda: s.ddim_sigmas(TABLE, 5.0), TypeError, "steps is 5.0, expected a whole number"),
        (lambda: s.ddim_sigmas(TABLE, 5, "even"), ValueError, "spacing is 'even', expected 'leading'"),
        (lambda: s.ddim_sigmas(TABLE, 1000), ValueError, "steps is 1000, which begins at training step 1000"),
        (lambda: s.flow_times(3, 0.0), ValueError, "shift is 0.0, expected a positive number"),
    ],
)
def test_wrong_arguments_are_named(make, error, message, unchecked):
    with pytest.raises(error, match=f"^{message}"):
        make()
