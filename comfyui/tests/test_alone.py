"""A lead without partners is the host's own sampler."""

import pytest
import torch

from comfyui.guider import AMDMGuider
from comfyui.stepping import sampler_names
from comfyui.tests import host
from comfyui.tests.conftest import REAL

SAMPLERS = [(kind, name) for kind in host.KINDS for name in sampler_names(host.KINDS[kind].flow)]


@pytest.mark.parametrize("case", ["txt2img", "img2img", "inpainting", "cut", "partial"])
@pytest.mark.parametrize(("kind", "sampler"), SAMPLERS)
def test_alone_is_the_hosts_sampler(kind, sampler, case, monkeypatch):
    if not REAL and ("dpmpp_2m_sde" in sampler or "uni_pc" in sampler):
        pytest.skip("the stand-in has no Brownian tree and no UniPC")
    model, batch = host.KINDS[kind].make(0), 2 if case == "img2img" else 1
    sigmas, mask = host.schedule(model, host.KINDS[kind].schedules[case in ("img2img", "cut")]), None
    image = host.latent(model, batch, seed=None if case == "txt2img" else 9)
    if case == "inpainting":
        mask = (torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(3)) * 2).clamp(max=1)
        mask[mask < 0.5] = 0  # some of its pixels are known, some drawn, some between
    if case == "cut":
        sigmas = sigmas[:4]
    if case == "partial":
        sigmas = sigmas[-4:]
    guider = host.cfg_guider(model)
    want = host.run(guider, sampler, sigmas.clone(), image, mask=mask)  # uni_pc writes into its schedule
    got = host.run(AMDMGuider(guider), sampler, sigmas, image, mask=mask)
    assert got.shape == want.shape
    off, limit = host.off(got, want), 1e-5
    if "uni_pc" in sampler:  # the host's coefficients lose digits in float32, most at 0.001
        assert off < 1e-3, off
        with_exact_coefficients(monkeypatch)
        off, limit = host.off(got, host.run(guider, sampler, sigmas.clone(), image, mask=mask)), 3e-5
    assert off < limit, off


def with_exact_coefficients(monkeypatch):
    """Compute the coefficients of the host's UniPC in double precision."""
    from comfy.extra_samplers.uni_pc import SigmaConvert

    class Exact(SigmaConvert):
        def marginal_log_mean_coeff(self, sigma):
            return (-0.5 * (sigma.double() ** 2).log1p()).float()

        def marginal_std(self, sigma):
            return (sigma.double() / (1 + sigma.double() ** 2).sqrt()).float()

        def marginal_lambda(self, sigma):
            return -sigma.double().log().float()

    monkeypatch.setattr("comfy.extra_samplers.uni_pc.SigmaConvert", Exact)
