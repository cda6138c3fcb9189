"""Stable Diffusion's DDIM grid, against diffusers' own scheduler."""

import pytest
import torch
from diffusers import DDIMScheduler
from samplers.models import mixture
from strategies import randn
from tolerances import assert_equal

from amdm.samplers import sample_ddim


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("set_alpha_to_one", [False, True])
def test_is_diffusers_ddim_on_sds_schedule(set_alpha_to_one, eta):
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=set_alpha_to_one,
        steps_offset=1,
        timestep_spacing="leading",
    )
    scheduler.set_timesteps(50)
    assert scheduler.timesteps[0] == 981 and scheduler.timesteps[-1] == 1
    denoiser, start = mixture(), randn(0, 3, 6, dtype=torch.float32)
    draws = [randn(1 + k, 3, 6, dtype=torch.float32) for k in range(50)]

    abar = scheduler.alphas_cumprod.double()
    level = lambda abar: ((1 - abar) / abar) ** 0.5
    z = start
    for t, noise in zip(scheduler.timesteps, draws, strict=True):
        sigma = level(abar[t])
        x = z.double() * (1 + sigma**2) ** 0.5
        eps = ((x - denoiser(x, sigma.expand(3))) / sigma).float()
        z = scheduler.step(eps, t, z, eta=eta, variance_noise=noise).prev_sample

    sigmas = torch.cat(
        [level(abar[scheduler.timesteps]), level(scheduler.final_alpha_cumprod.double())[None]]
    )
    assert sigmas[0] == pytest.approx(13.120, abs=1e-3)
    assert sigmas[-1] == pytest.approx(0.0 if set_alpha_to_one else 0.0292, abs=1e-4)
    queue = iter(draws)
    x = sample_ddim(
        denoiser,
        start.double() * (1 + sigmas[0] ** 2) ** 0.5,
        sigmas,
        disable=True,
        eta=eta,
        noise_sampler=lambda sigma, sigma_next: next(queue),
    )
    # diffusers runs in float32; its last step draws noise even at sigma 0.0292, ours too.
    assert_equal((x / (1 + sigmas[-1] ** 2) ** 0.5).float(), z, 2e-6)
