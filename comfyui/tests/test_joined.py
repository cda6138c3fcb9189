"""A lead and partners are amdm's own functions, called directly on the networks."""

from functools import partial

import pytest
import torch

import amdm
from amdm.schedules import flow_sigmas
from comfyui.guider import AMDMGuider, Window, merge_shares, noise_seed
from comfyui.tests import host

CASES = [
    ("eps", "euler", amdm.ddim),
    ("eps", "heun", amdm.heun),
    ("eps", "dpmpp_2m", amdm.dpmpp_2m),
    ("v", "ddim", amdm.ddim),
    ("flow", "euler", amdm.ddim),
    ("flow", "dpmpp_2m", amdm.dpmpp_2m_flow),
]
OFF = 2e-5


class Case:
    """Two networks, each with two guiders, as guiders and as denoisers."""

    def __init__(self, kind, batch=1, told=((1, 2, 4.0), (3, 4, 3.0), (5, 6, 2.0), (7, 8, 1.0))):
        one, other = (host.KINDS[kind].make(seed) for seed in (0, 1))
        self.flow, self.made = host.KINDS[kind].flow, [one, other, one, other]
        self.guiders = [host.cfg_guider(m, *more) for m, more in zip(self.made, told, strict=True)]
        self.models = [host.direct(m, *more) for m, more in zip(self.made, told, strict=True)]
        self.sigmas, self.image = host.schedule(one), host.latent(one, batch)
        self.levels = flow_sigmas(self.sigmas) if self.flow else self.sigmas
        seeds = [noise_seed(5, i) for i in range(4)]
        self.noises = [host.noise_like(self.image, seed) for seed in seeds]
        scale = 1 + self.levels[0] if self.flow else (1 + self.levels[0] ** 2) ** 0.5
        self.starts = [noise * scale for noise in self.noises]

    def out(self, x):
        """The latent as the host returns it."""
        return self.made[0].model.process_latent_out(x)

    def direct(self, sample, models, starts, **options):
        with torch.no_grad():
            return self.out(sample(models, starts, self.levels, disable=True, validate=False, **options))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("kind", "sampler", "generator"), CASES)
def test_one_and_three_partners_are_sample_amdm(kind, sampler, generator, batch):
    case = Case(kind, batch)
    lead, *partners = case.guiders
    options = {"window": 0.5, "sampler": generator}
    got = host.run(AMDMGuider(lead, partners[:1], window=Window(0, 0.5)), sampler, case.sigmas, case.image)
    want = case.direct(amdm.sample_amdm, case.models[:2], case.starts[:2], **options)
    assert host.off(got, want) < OFF
    assert host.off(got, host.run(lead, sampler, case.sigmas, case.image)) > 1e-3
    guider = AMDMGuider(
        lead, partners, [1.0, 0.5, 2.0], window=Window(0, 0.5), correction=0.01, fold=amdm.lerp_fold
    )
    got = host.run(guider, sampler, case.sigmas, case.image)
    options |= {"weights": [1 / 2, 0.5 / 2.5, 2 / 4.5], "correction": 0.01, "fold": amdm.lerp_fold}
    assert host.off(got, case.direct(amdm.sample_amdm, case.models, case.starts, **options)) < OFF


@pytest.mark.parametrize("kind", ["eps", "flow"])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
def test_uni_pc_ends_at_the_hosts_last_sigma(kind, variant):
    case = Case(kind)
    guider = AMDMGuider(case.guiders[0], case.guiders[1:2], window=Window(0, 0.5))
    got = host.run(guider, "uni_pc" if variant == "bh1" else "uni_pc_bh2", case.sigmas, case.image)
    last = case.sigmas.new_tensor([0.001])
    case.levels = torch.cat([case.levels[:-1], flow_sigmas(last) if case.flow else last])
    sampler = partial(amdm.uni_pc_flow if case.flow else amdm.uni_pc, variant=variant)
    want = case.direct(amdm.sample_amdm, case.models[:2], case.starts[:2], window=0.5, sampler=sampler)
    assert host.off(got, want) < 2 * OFF  # its coefficients amplify rounding


@pytest.mark.parametrize("kind", host.KINDS)
def test_shared_noise_is_one_start(kind):
    case = Case(kind)
    guider = AMDMGuider(*case.guiders[:1], case.guiders[1:2], noise="shared", window=Window(0.2, 0.8))
    got = host.run(guider, "euler", case.sigmas, case.image)
    want = case.direct(amdm.sample_amdm, case.models[:2], case.starts[0], window=(1, 5))
    assert host.off(got, want) < OFF


@pytest.mark.parametrize("noise", ["independent", "shared"])
def test_each_model_has_the_hosts_draws_by_a_seed_of_its_own(noise):
    import comfy.k_diffusion.sampling as sampling

    case = Case("eps")
    guider = AMDMGuider(case.guiders[0], case.guiders[1:2], noise=noise)
    got = host.run(guider, "euler_ancestral", case.sigmas, case.image)
    draws = [sampling.default_noise_sampler(x, seed=noise_seed(5, i)) for i, x in enumerate(case.starts[:2])]
    starts = case.starts[:2]
    if noise == "shared":
        draws, starts = amdm.shared_noise(draws[0], 2), case.starts[0]
    want = case.direct(amdm.sample_amdm, case.models[:2], starts, eta=1.0, noise_sampler=draws)
    assert host.off(got, want) < OFF


@pytest.mark.parametrize("kind", host.KINDS)
@pytest.mark.parametrize("noise", ["independent", "shared"])
def test_projective_guidance_takes_the_predictions_apart(kind, noise):
    case = Case(kind)
    lead, partner, *_ = case.guiders
    background = host.basic_guider(case.made[0], 7)
    options = {"guidance": 2.0, "window_eta": 0.0}
    guider = AMDMGuider(lead, [partner], [0.7], background=background, noise=noise, **options)
    got = host.run(guider, "euler", case.sigmas, case.image)
    starts = case.starts[:2] if noise == "independent" else case.starts[0]
    plain = host.direct(case.made[0], 7, 7, 1.0)
    want = case.direct(
        amdm.sample_projective_guidance,
        case.models[:2],
        starts,
        weights=[0.7],
        background=plain.conditional,
        **options,
    )
    assert host.off(got, want) < OFF
    own = AMDMGuider(lead, [partner], background=background, noise=noise)  # the lead's own scale
    got = host.run(own, "euler", case.sigmas, case.image)
    want = case.direct(amdm.sample_projective_guidance, case.models[:2], starts, background=plain.conditional)
    assert host.off(got, want) < OFF


def test_a_window_of_sigmas_is_the_hosts_sigmas():
    for kind, (start, end) in {"eps": (14.0, 1.0), "flow": (0.9, 0.3)}.items():
        case = Case(kind)
        guider = AMDMGuider(case.guiders[0], case.guiders[1:2], window=Window(start, end, sigmas=True))
        host.run(guider, "euler", case.sigmas, case.image)
        sigmas = case.sigmas[:-1].tolist()
        joined = [i for i, sigma in enumerate(sigmas) if end <= sigma <= start]
        assert [row.step for row in guider.report.rows] == joined != []
        assert [row.sigma for row in guider.report.rows] == pytest.approx([sigmas[i] for i in joined])


def test_weights_count_beside_the_lead():
    assert merge_shares([1, 1, 1]) == pytest.approx([1 / 2, 1 / 3])
    shares = torch.stack([torch.as_tensor(share) for share in amdm.fold_shares(merge_shares([1, 0.5, 2]))])
    assert (shares.flatten() - torch.tensor([1, 0.5, 2]) / 3.5).abs().max() < 1e-6


def test_a_latent_that_is_noisy_already_starts_all_models():
    """DisableNoise gives no noise: independent noise would then be added to the partner alone."""
    case = Case("eps")
    guider = AMDMGuider(case.guiders[0], case.guiders[1:2])
    import comfy.samplers

    noisy = host.latent(case.made[0], seed=3) * 14
    with torch.inference_mode():
        got = guider.sample(
            torch.zeros_like(noisy), noisy, comfy.samplers.sampler_object("euler"), case.sigmas, seed=5
        )
    start = case.made[0].model.process_latent_in(noisy)
    want = case.direct(amdm.sample_amdm, case.models[:2], start)
    assert host.off(got, want) < OFF
