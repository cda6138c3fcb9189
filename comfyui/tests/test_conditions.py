"""Conditions of every kind act as in the host: alone, and on a partner."""

import pytest
import torch

import amdm
from amdm.schedules import flow_sigmas
from comfyui.guider import AMDMGuider, Window, noise_seed
from comfyui.tests import host
from comfyui.tests.conftest import REAL

pytestmark = pytest.mark.skipif(not REAL, reason="needs COMFYUI_PATH")


def with_ranges(kind, make):
    """Two conditions, each for a part of the steps."""
    from nodes import ConditioningSetTimestepRange

    ranged = ConditioningSetTimestepRange().set_range
    return ranged(make(11), 0.0, 0.5)[0] + ranged(make(13), 0.5, 1.0)[0]


def with_area(kind, make):
    """A condition for the whole and one for a corner."""
    from nodes import ConditioningSetArea

    return make(11) + ConditioningSetArea().append(make(13), 32, 32, 32, 0, 0.8)[0]


def with_mask(kind, make):
    """A condition for the whole and one for a region by mask."""
    from nodes import ConditioningSetMask

    mask = torch.zeros(1, 64, 64)
    mask[:, 16:48, :32] = 1
    return make(11) + ConditioningSetMask().append(make(13), mask, "default", 0.8)[0]


def with_control(kind, make):
    return real().with_control(make(11), 4, 0.7, 0.1, 0.6)


def with_boxes(kind, make):
    return real().with_boxes(make(11), host.KINDS[kind].make(0), 4)


def real():
    from comfyui.tests import real

    return real


CASES = [(kind, made) for kind in host.KINDS for made in (with_ranges, with_area, with_mask)]
CASES += [(kind, made) for kind in ("eps", "v") for made in (with_control, with_boxes)]


@pytest.mark.parametrize(("kind", "told"), CASES)
def test_conditions_of_lead_and_partner(kind, told):
    one, other = (host.KINDS[kind].make(seed) for seed in (0, 1))
    sigmas, image = host.schedule(one), host.latent(one, 2)
    conditions = told(kind, host.conditioning)
    guider = host.cfg_guider(one, conditions, 2, 3.0)
    plain = host.cfg_guider(other, 3, 4, 2.0)
    alone = host.run(guider, "euler", sigmas, image)
    assert host.off(host.run(AMDMGuider(guider), "euler", sigmas, image), alone) < 1e-5
    without = host.run(host.cfg_guider(one, 11, 2, 3.0), "euler", sigmas, image)
    assert host.off(without, alone) > 1e-3  # the condition acts
    levels = flow_sigmas(sigmas) if host.KINDS[kind].flow else sigmas
    scale = 1 + levels[0] if host.KINDS[kind].flow else (1 + levels[0] ** 2) ** 0.5
    starts = [host.noise_like(image, noise_seed(5, i)) * scale for i in range(2)]
    for guiders in ([guider, plain], [plain, guider]):
        got = host.run(AMDMGuider(guiders[0], guiders[1:], window=Window(0, 0.7)), "euler", sigmas, image)
        models = [host.Oracle(each, sigmas, image) for each in guiders]
        want = amdm.sample_amdm(models, starts, levels, window=0.7, disable=True, validate=False)
        assert host.off(got, guiders[0].model_patcher.model.process_latent_out(want)) < 2e-5


def test_the_last_load_is_for_all_models():
    """So that on a small GPU the lead's load does not push out a partner's network or its ControlNet."""
    control = with_control("eps", host.conditioning)
    lead, seen = host.cfg_guider(host.sd15(0)), []
    partners = [host.cfg_guider(host.sd15(1), control), host.cfg_guider(host.lora(lead.model_patcher, 1))]
    guider = AMDMGuider(lead, partners)
    note = lambda *_: seen.append({each.model for each in guider.guiders[0].loaded_models})
    host.run(
        guider, "euler", host.schedule(lead.model_patcher), host.latent(lead.model_patcher), callback=note
    )
    (patcher,) = control[0][1]["control"].get_models()
    assert seen[0] == {partners[0].model_patcher.model, patcher.model}
    assert guider.model_patcher.get_additional_models() == []


def test_one_guider_may_be_lead_partner_and_background():
    guider = host.cfg_guider(host.sd15(0), with_control("eps", host.conditioning))
    sigmas, image = host.schedule(guider.model_patcher), host.latent(guider.model_patcher)
    want = host.run(guider, "euler", sigmas, image)
    got = host.run(AMDMGuider(guider, [guider], background=guider, noise="shared"), "euler", sigmas, image)
    assert host.off(got, want) < 1e-5
    got = host.run(AMDMGuider(guider, [guider], correction=0.0, noise="shared"), "euler", sigmas, image)
    assert host.off(got, want) < 1e-5


def test_guidance_of_two_prompts_and_functions_of_patches():
    """A partner with DualCFGGuider, and one whose patcher rescales its guidance: any guider steps."""
    from comfy_extras.nodes_custom_sampler import Guider_DualCFG
    from comfy_extras.nodes_model_advanced import RescaleCFG

    one, other = host.sd15(0), host.sd15(1)
    dual = Guider_DualCFG(other)
    dual.set_conds(*(host.conditioning(k) for k in (3, 4, 5)))
    dual.set_cfg(3.0, 1.5)
    rescaled = host.cfg_guider(RescaleCFG().patch(other, 0.7)[0], 3, 4, 5.0)
    sigmas, image = host.schedule(one), host.latent(one)
    starts = [host.noise_like(image, noise_seed(5, i)) * (1 + sigmas[0] ** 2) ** 0.5 for i in range(2)]
    for partner in (dual, rescaled):
        guiders = [host.cfg_guider(one), partner]
        got = host.run(AMDMGuider(guiders[0], [partner]), "euler", sigmas, image)
        models = [host.Oracle(each, sigmas, image) for each in guiders]
        want = amdm.sample_amdm(models, starts, sigmas, disable=True, validate=False)
        assert host.off(got, one.model.process_latent_out(want)) < 2e-5
    with pytest.raises(
        ValueError, match="Partner 1 is a Guider_DualCFG, whose predictions cannot be had apart"
    ):
        AMDMGuider(host.cfg_guider(one), [dual], background=host.basic_guider(one))
