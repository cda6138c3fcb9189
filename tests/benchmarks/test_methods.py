"""Methods: what they draw against the library's own samplers, and how often they call their models."""

from collections import Counter
from dataclasses import replace

import pytest
import torch
from tolerances import assert_equal

from amdm import sample_amdm, sample_ddim, sample_dpmpp_2m
from amdm.geometry import lerp_fold, slerp_fold
from amdm.samplers import ddim_step
from amdm.shapes import denoisers, latents, world
from benchmarks import methods, stages, table10
from benchmarks.dilution import Halved
from benchmarks.methods import Method, levels, starts_of

pytestmark = pytest.mark.slow
STEPS = 5
SIGMAS = denoisers.sigmas(STEPS)


@pytest.fixture(scope="module")
def scenes():
    return world.sample_scenes(world.TEST[:2], uniform_kinds=True)


@pytest.fixture
def calls(monkeypatch):
    """How often models are called, by name."""
    counted = Counter()
    load = methods.model.__wrapped__

    def model(name, guidance, device):
        denoiser = load(name, guidance, device)

        def call(*args, **kwargs):
            counted[name] += 1
            return denoiser(*args, **kwargs)

        return call

    for module in (methods, stages, table10):
        monkeypatch.setattr(module, "model", model)
    return counted


def expected(names, scenes, seed=0, guidance=3.0, **options):
    """A method's images, written out."""
    x = sample_amdm(
        [denoisers.load(name, guidance) for name in names],
        options.pop("x", starts_of(names, scenes, seed, SIGMAS[0])),
        options.pop("sigmas", SIGMAS),
        [denoisers.extra_args(name, scenes) for name in names],
        disable=True,
        **options,
    )
    return latents.decode(x)


def test_one_model_is_ddim_alone(scenes):
    noise = starts_of(["layout"], scenes, 1, SIGMAS[0])[0]
    x = sample_ddim(
        denoisers.load("layout"), noise, SIGMAS, denoisers.extra_args("layout", scenes), disable=True
    )
    assert_equal(Method(("layout",), steps=STEPS).draw(scenes, 1), latents.decode(x), 1e-6)
    assert not torch.equal(Method(("layout",), steps=STEPS).draw(scenes, 0), latents.decode(x))


def test_two_models_are_amdm_with_the_defaults_of_the_library(scenes):
    names = ("layout", "attribute")
    assert_equal(Method(names, steps=STEPS).draw(scenes, 0), expected(names, scenes), 1e-6)


def test_settings_reach_the_sampler(scenes):
    names = ("attribute", "layout")
    method = Method(names, steps=STEPS, window=(1, 3), weights=0.3, correction=0.2, fold="lerp", guidance=2.0)
    written_out = expected(
        names, scenes, window=(1, 3), weights=0.3, correction=0.2, fold=lerp_fold, guidance=2.0
    )
    assert_equal(method.draw(scenes, 0), written_out, 1e-6)
    noise = starts_of(["layout"], scenes, 0, SIGMAS[0])[0]
    alone = sample_dpmpp_2m(
        denoisers.load("layout"), noise, SIGMAS, denoisers.extra_args("layout", scenes), disable=True
    )
    method = Method(("layout",), steps=STEPS, sampler="dpmpp_2m")
    assert_equal(method.draw(scenes, 0), latents.decode(alone), 1e-6)


def test_a_part_of_the_way_is_the_mean_at_one_and_nothing_at_zero(scenes):
    names = ("layout", "attribute")
    whole = Method(names, steps=STEPS, correction=1.0, unit="part").draw(scenes, 0)
    assert_equal(whole, expected(names, scenes, correction=1e9), 1e-5)
    none = Method(names, steps=STEPS, correction=0.0, unit="part").draw(scenes, 0)
    assert_equal(none, expected(names, scenes, correction=0.0), 1e-6)


def test_shared_and_scaled_starts(scenes):
    names = ("layout", "attribute")
    noise = starts_of(["layout"], scenes, 0, SIGMAS[0])[0]
    shared = Method(names, steps=STEPS, starts="shared").draw(scenes, 0)
    assert_equal(shared, expected(names, scenes, x=[noise, noise]), 1e-6)
    short = Method(("layout",), steps=STEPS, start_scale=0.7).draw(scenes, 0)
    assert_equal(short, expected(names[:1], scenes, x=[0.7 * noise]), 1e-6)


def test_only_the_first_fold_is_scaled():
    xs = [torch.ones(1, 4), torch.tensor([[1.0, 0.0, 2.0, 0.0]])]
    fold = methods.scaled_at_first(slerp_fold, 0.5)
    once, again = fold(xs, [0.5]), fold(xs, [0.5])
    assert_equal(once, 0.5 * again, 1e-7)
    assert_equal(again, slerp_fold(xs, [0.5]), 1e-7)


def test_the_rescaled_linear_fold_has_the_mean_norm_and_the_linear_direction():
    xs = [torch.tensor([[3.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 5.0], [0.0, 1.0]])]
    merged = methods.lerp_rescaled(xs, [0.5])
    assert_equal(merged.norm(dim=1), torch.tensor([4.0, 1.0]), 1e-6)
    linear = lerp_fold(xs, [0.5])
    assert_equal(torch.cosine_similarity(merged, linear), torch.ones(2), 1e-6)


def test_a_late_partner_begins_from_the_leads_latent(scenes):
    names = ("layout", "attribute")
    noise = starts_of(["layout"], scenes, 0, SIGMAS[0])[0]
    x = sample_ddim(
        denoisers.load("layout"), noise, SIGMAS[:3], denoisers.extra_args("layout", scenes), disable=True
    )
    method = Method(names, steps=STEPS, window=(2, 4), partners="from the lead")
    assert_equal(
        method.draw(scenes, 0), expected(names, scenes, x=[x, x], sigmas=SIGMAS[2:], window=(0, 2)), 1e-6
    )


def test_partners_from_the_lead_at_the_first_step_share_its_start(scenes):
    shared = Method(("layout", "attribute"), steps=STEPS, starts="shared")
    assert_equal(
        replace(shared, starts="own", partners="from the lead").draw(scenes, 0), shared.draw(scenes, 0), 0
    )


def test_all_of_the_way_to_the_means_is_the_lead_alone(scenes):
    """A deterministic step ends in its mean: x'' is what the model had before the fold, up to rounding."""
    whole = Method(("layout", "attribute"), steps=STEPS, correction=1.0, unit="part")
    assert_equal(whole.draw(scenes, 0), Method(("layout",), steps=STEPS).draw(scenes, 0))


@pytest.mark.parametrize(
    "method",
    [
        Method(("layout",), steps=STEPS),
        Method(("layout", "attribute"), steps=STEPS),
        Method(("layout", "attribute"), steps=STEPS, window=(0, 0)),
        Method(("layout", "attribute"), steps=STEPS, window=(2, 4)),
        Method(("layout", "attribute"), steps=STEPS, window=(2, 4), partners="from the lead"),
        Method(("layout", "attribute", "style"), steps=STEPS, weights=(0.5, 0.65), say_style=False),
        stages.Exchanged("layout", "boxes", 2, steps=STEPS),
        table10.ByIndex("layout", "attribute_edm", steps=STEPS, window=2),
    ],
)
def test_models_are_called_as_often_as_methods_say(method, scenes, calls):
    method.draw(scenes, 0)
    assert calls == +method.calls


def test_shifted_levels_spend_more_steps_on_noise_and_keep_the_range():
    plain, shifted = levels("ddim", 50), levels("shifted", 50)
    assert plain.shape == shifted.shape and shifted[-1] == 0
    assert bool((shifted[:-1].diff() < 0).all()) and bool((shifted[1:-1] > plain[1:-1]).all())
    # The 25th step is at the 502nd of 1000 levels: t = 0.502 goes to 3 t/(1 + 2 t) = 0.7515.
    below, above = denoisers.training_sigmas()[750:752]
    assert plain[24] == denoisers.training_sigmas()[501].float()
    assert below < shifted[24] < above


def test_what_is_told_from_step_0_on_is_all_that_counts_and_nothing_from_the_last(scenes):
    for what in ("attributes", "boxes"):
        first = stages.Exchanged("layout", what, 0, steps=STEPS).draw(scenes, 0)
        last = stages.Exchanged("layout", what, STEPS, steps=STEPS).draw(scenes, 0)
        unsaid = Method(("layout",), steps=STEPS, say_style=False)
        assert_equal(last, unsaid.draw(scenes, 0), 1e-6)
        assert_equal(first, unsaid.draw(stages.other(scenes, what), 0), 1e-6)


def test_another_scene_shares_no_attribute(scenes):
    changed = stages.other(scenes, "attributes")
    for name in ("shapes", "colours", "styles"):
        assert not bool((getattr(changed, name) == getattr(scenes, name)).any())
    linked = scenes.links[..., 0] > 0
    assert bool(((changed.links[..., 0] > 0) == linked).all())
    assert not bool((changed.links[..., 0] == scenes.links[..., 0])[linked].any())
    mirrored = stages.other(scenes, "boxes").boxes
    assert_equal(mirrored[..., 0] + scenes.boxes[..., 2], torch.full_like(mirrored[..., 0], world.SIZE), 1e-6)


def test_few_steps_of_linspace_and_karras_have_the_range_of_fifty():
    fifty = levels("ddim", 50)
    assert torch.equal(levels("linspace", 50), fifty)
    for schedule in ("linspace", "karras"):
        few = levels(schedule, 10)
        assert few.shape == (11,) and few[-1] == 0 and bool((few.diff() < 0).all())
        torch.testing.assert_close(few[[0, -2]], fifty[[0, -2]])
    # Eq. (5) of Karras et al. 2022: even in the 7th root.
    roots = levels("karras", 10)[:-1].double() ** (1 / 7)
    torch.testing.assert_close(roots.diff(), roots.diff()[:1].expand(9), rtol=1e-4, atol=0)


def test_half_the_guidance_ends_with_the_window(scenes):
    sigmas, args = levels("ddim", 2), methods.extra_args("layout", scenes, "cpu")
    x = 0.7 * starts_of(["layout"], scenes, 0, sigmas[0])[0]
    for g, sigma, sigma_next in zip((1.5, 3.0), sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        denoised = denoisers.load("layout", g)(x, torch.full((len(x),), sigma), **args)
        x, _ = ddim_step(x, denoised, sigma, sigma_next)
    assert_equal(Halved(0.7, window=1, steps=2).draw(scenes, 0), latents.decode(x), 1e-5)
