"""Inpainting, previews, interruption and repeated runs, and what is refused."""

from types import SimpleNamespace

import pytest
import torch

import amdm
from amdm import Known
from amdm.schedules import flow_sigmas
from comfyui.guider import AMDMGuider, Window, noise_seed
from comfyui.tests import host
from comfyui.tests.conftest import REAL


def half_mask():
    """The left half is known, a column is between."""
    mask = torch.ones(1, 1, 8, 8)
    mask[..., :4], mask[..., 4] = 0, 0.5
    return mask


@pytest.mark.parametrize("kind", host.KINDS)
@pytest.mark.parametrize("sampler", ["euler", "ddim"])
def test_the_fold_leaves_the_known_region_out(kind, sampler):
    one, other = (host.KINDS[kind].make(seed) for seed in (0, 1))
    guiders = [host.cfg_guider(one, 1, 2, 3.0), host.cfg_guider(other, 3, 4, 2.0)]
    sigmas, image, mask = host.schedule(one), host.latent(one, 2, seed=7), half_mask()
    guider = AMDMGuider(guiders[0], guiders[1:], window=Window(0, 0.7))
    got = host.run(guider, sampler, sigmas, image, mask=mask)
    flow = host.KINDS[kind].flow
    levels, known = flow_sigmas(sigmas) if flow else sigmas, one.model.process_latent_in(image)
    noises = [host.noise_like(image, noise_seed(5, i)) for i in range(2)]
    scale = levels[0] if flow else (1 + levels[0] ** 2) ** 0.5
    starts = [known + scale * noise for noise in noises]
    if flow:  # the host's latent at s = 1 is noise alone
        starts = [noise * (1 + levels[0]) for noise in noises]
    fixed = noises[0]
    if sampler == "ddim":
        fixed = torch.randn(image.shape, generator=torch.Generator().manual_seed(6))
    models = [host.Oracle(each, sigmas, image, mask, fixed) for each in guiders]
    region = Known(known, (mask > 0).float(), fixed)
    angles = []
    want = amdm.sample_amdm(
        models,
        starts,
        levels,
        window=0.7,
        known=region,
        disable=True,
        validate=False,
        callback=lambda info: angles.append(info["step"].aggregation),
    )
    want = one.model.process_latent_out(want)
    assert host.off(got, want) < 5e-5
    assert host.off(got[..., :4], image[..., :4]) < 1e-4  # known
    seen = torch.stack([row.angle for row in guider.report.rows])
    assert host.off(seen, torch.stack([joined.angle for joined in angles[:4]])) < 1e-4


def test_inpainting_under_projective_guidance():
    one, other = host.sd15(0), host.sd15(1)
    lead, partner = host.cfg_guider(one, 1, 2, 3.0), host.cfg_guider(other, 3, 4, 2.0)
    sigmas, image, mask = host.schedule(one), host.latent(one, seed=7), half_mask()
    for noise in ("shared", "independent"):
        guider = AMDMGuider(lead, [partner], background=host.basic_guider(one, 7), noise=noise)
        got = host.run(guider, "euler", sigmas, image, mask=mask)
        assert host.off(got[..., :4], image[..., :4]) < 1e-4
        assert host.off(got, host.run(lead, "euler", sigmas, image, mask=mask)) > 1e-3


def test_differential_diffusion():
    if not REAL:
        pytest.skip("needs COMFYUI_PATH")
    from comfy_extras.nodes_differential_diffusion import DifferentialDiffusion

    made = (
        DifferentialDiffusion.execute
        if hasattr(DifferentialDiffusion, "execute")
        else DifferentialDiffusion().apply
    )
    one, other = made(host.sd15(0)), made(host.sd15(1))
    one, other = (each.result[0] if hasattr(each, "result") else each[0] for each in (one, other))
    sigmas, image = host.schedule(one), host.latent(one, seed=7)
    mask = torch.linspace(0, 1, 8).expand(1, 1, 8, 8)
    lead = host.cfg_guider(one)
    want = host.run(lead, "euler", sigmas, image, mask=mask)
    assert host.off(host.run(AMDMGuider(lead), "euler", sigmas, image, mask=mask), want) < 1e-5
    guiders = [lead, host.cfg_guider(other, 3, 4)]
    got = host.run(AMDMGuider(lead, guiders[1:]), "euler", sigmas, image, mask=mask)
    assert host.off(got, want) > 1e-3
    known, noises = (
        one.model.process_latent_in(image),
        [host.noise_like(image, noise_seed(5, i)) for i in range(2)],
    )
    starts = [known + (1 + sigmas[0] ** 2) ** 0.5 * noise for noise in noises]
    models = [host.Oracle(each, sigmas, image, mask, noises[0]) for each in guiders]
    drawn = one.model_options["denoise_mask_function"]
    extra = {"model": SimpleNamespace(inner_model=one.model), "sigmas": sigmas}
    masks = [drawn(sigma.expand(1), mask, extra_options=extra).float() for sigma in sigmas[:-1]]
    region = Known(known, masks, noises[0])
    want = amdm.sample_amdm(models, starts, sigmas, known=region, disable=True, validate=False)
    assert host.off(got, one.model.process_latent_out(want)) < 5e-5


@pytest.mark.parametrize("kind", host.KINDS)
def test_previews_are_the_hosts(kind):
    model = host.KINDS[kind].make(0)
    sigmas, image, seen = host.schedule(model), host.latent(model, seed=3), {}
    for name, guider in {"host": host.cfg_guider(model), "alone": AMDMGuider(host.cfg_guider(model))}.items():
        seen[name] = []
        note = lambda i, x0, x, total, at=seen[name]: at.append((i, x0.clone(), x.clone(), total))
        host.run(guider, "euler", sigmas, image, callback=note)
    for (i, x0, x, total), (own_i, own_x0, own_x, own_total) in zip(*seen.values(), strict=True):
        assert (i, total) == (own_i, own_total)
        assert host.off(own_x0, x0) < 1e-5
        assert host.off(own_x, x) < 1e-5


def test_interruption_leaves_all_as_it_was():
    base, lone = host.sd15(0), host.sd15(0)
    one, other, apart = host.lora(base, 1), host.lora(base, 2), host.lora(lone, 1)
    sigmas, image = host.schedule(base), host.latent(base)
    guider = AMDMGuider(host.cfg_guider(one), [host.cfg_guider(other, 3, 4)], window=Window(0, 0.7))
    want = host.run(guider, "euler", sigmas, image)

    class InterruptedError(Exception):
        """As comfy.model_management.InterruptProcessingException."""

    def interrupt(step, *_):
        if step == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        host.run(guider, "euler", sigmas, image, callback=interrupt)
    assert len(guider.report.rows) == 3
    assert host.off(host.run(guider, "euler", sigmas, image), want) == 0
    alone = host.run(host.cfg_guider(apart), "euler", sigmas, image)
    assert host.off(host.run(host.cfg_guider(one), "euler", sigmas, image), alone) < 1e-6


def test_guiders_that_were_joined_are_unchanged():
    """When a widget changes, a host that caches nodes hands the same guiders to the next AMDM Guider."""
    one, other = host.sd15(0), host.sd15(1)
    lead, partner = host.cfg_guider(one), host.cfg_guider(other, 3, 4)
    sigmas, image = host.schedule(one), host.latent(one)
    alone = [host.run(each, "euler", sigmas, image) for each in (lead, partner)]
    before = [dict(vars(each)) for each in (lead, partner)]
    first = host.run(AMDMGuider(lead, [partner], [0.5]), "euler", sigmas, image)
    other_weight = host.run(AMDMGuider(lead, [partner], [2.0]), "euler", sigmas, image)
    assert host.off(first, other_weight) > 1e-4
    assert host.off(host.run(AMDMGuider(lead, [partner], [0.5]), "euler", sigmas, image), first) == 0
    assert before == [dict(vars(each)) for each in (lead, partner)]
    assert all(
        host.off(host.run(each, "euler", sigmas, image), own) == 0
        for each, own in zip((lead, partner), alone, strict=True)
    )


def test_no_steps():
    guider = AMDMGuider(host.cfg_guider(host.sd15(0)), [host.cfg_guider(host.sd15(1))])
    image = host.latent(guider.model_patcher, seed=3)
    assert host.run(guider, "euler", torch.zeros(0), image) is image


# What is refused, in a sentence


def test_a_sampler_that_cannot_be_stepped():
    guider = AMDMGuider(host.cfg_guider(host.sd15(0)), [host.cfg_guider(host.sd15(1))])
    sigmas, image = host.schedule(guider.model_patcher), host.latent(guider.model_patcher)
    with pytest.raises(
        ValueError, match=r"cannot step the sampler lms of this model, expected one of: euler, ddim, "
    ):
        host.run(guider, "lms", sigmas, image)
    flow = AMDMGuider(host.cfg_guider(host.sd3(0)))
    with pytest.raises(ValueError, match=r"the sampler ddpm of a flow model .* euler, ddim, euler_ancestral"):
        host.run(flow, "ddpm", host.schedule(flow.model_patcher), host.latent(flow.model_patcher))


def test_options_of_samplers_that_amdm_does_not_have():
    import comfy.samplers

    guider = AMDMGuider(host.cfg_guider(host.sd15(0)))
    sigmas, image = host.schedule(guider.model_patcher), host.latent(guider.model_patcher)
    churned = comfy.samplers.sampler_object("euler")
    churned.extra_options = {"s_churn": 3.0}
    with pytest.raises(ValueError, match=r"euler has s_churn = 3.0, which AMDM cannot do, expected 0.0"):
        host.run(guider, churned, sigmas, image)
    scaled = comfy.samplers.sampler_object("euler_ancestral")
    scaled.extra_options = {"eta": 0.7, "s_noise": 1.1}
    want = host.run(host.cfg_guider(host.sd15(0)), scaled, sigmas, image)
    assert host.off(host.run(guider, scaled, sigmas, image), want) < 1e-5


def test_a_partner_of_a_smaller_range():
    lead, other = host.cfg_guider(host.sd15(0)), host.sd15(1)
    small = other.get_model_object("model_sampling")
    if REAL:
        small.set_sigmas(small.sigmas[:500])
    else:
        small.sigma_max = torch.tensor(1.6)
    guider = AMDMGuider(lead, [host.cfg_guider(other)])
    sigmas, image = host.schedule(lead.model_patcher), host.latent(other)
    with pytest.raises(
        ValueError, match=r"Partner 1 knows sigmas up to 1\.6.*, and the schedule begins at 14\.6"
    ):
        host.run(guider, "euler", sigmas, image)
    assert host.run(guider, "euler", sigmas[-3:], image).isfinite().all()


def test_guiders_that_cannot_be_joined():
    lead = host.cfg_guider(host.sd15(0))
    with pytest.raises(ValueError, match=r"Partner 1 and the lead do not share a latent space: SD3 .* SD15"):
        AMDMGuider(lead, [host.cfg_guider(host.sd3(0))])
    with pytest.raises(ValueError, match="Partner 2 is a AMDMGuider, which AMDM cannot step"):
        AMDMGuider(lead, [lead, AMDMGuider(lead)])
    with pytest.raises(ValueError, match=r"The window is from 0.5 to 0.2 of the steps"):
        Window(0.5, 0.2)
    with pytest.raises(ValueError, match="The window is from sigma 1 to 2"):
        Window(1, 2, sigmas=True)


def test_a_model_that_returns_nan_is_named():
    import comfy.samplers

    class Broken(comfy.samplers.CFGGuider):
        def predict_noise(self, x, *args, **more):
            return x * float("nan")

    broken = Broken(host.sd15(1))
    broken.set_conds(host.conditioning(1), host.conditioning(2))
    guider = AMDMGuider(host.cfg_guider(host.sd15(0)), [broken])
    with pytest.raises(FloatingPointError, match=r"partner 1"):
        host.run(guider, "euler", host.schedule(broken.model_patcher), host.latent(broken.model_patcher))
