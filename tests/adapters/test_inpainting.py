"""Inpainting with partners: in a pipeline that writes the known region, and of models of `from_pipeline`."""

import math

import pytest
import torch
from adapters import tiny_diffusers as tiny
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from tolerances import assert_equal

from amdm import Known, sample_amdm, sample_ddim
from amdm.diffusers import from_pipeline
from amdm.diffusers.scheduler import AggregatingScheduler, Partners
from amdm.geometry import angle, radial_correct, slerp_fold

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
STEPS = 6
MASK = torch.zeros(1, 1, 8, 8)
MASK[..., :4] = 1  # the right half is known
FREE, HELD = (..., slice(0, 4)), (..., slice(4, 8))


def generator():
    return torch.Generator().manual_seed(0)


def plain(prompt="a cat on a mat"):
    pipe, kwargs = tiny.sd(tiny.ddim(set_alpha_to_one=True), num_inference_steps=STEPS)
    return pipe, {**kwargs, "prompt": prompt}


def inpainting():
    """Stable Diffusion's inpainting pipeline of a plain network, and what it prepares when it is called."""
    parts, kwargs = plain()
    modules = {name: part for name, part in parts.components.items() if name != "image_encoder"}
    pipe = tiny.quiet(StableDiffusionInpaintPipeline(**modules, requires_safety_checker=False))
    del kwargs["latents"]
    mask = MASK.repeat_interleave(8, 2).repeat_interleave(8, 3)
    prepared, prepare = {}, pipe.prepare_latents

    def spied(*args, **kwargs):
        made = prepare(*args, **{**kwargs, "return_noise": True, "return_image_latents": True})
        prepared.update(zip(("latents", "noise", "image"), made, strict=True))
        return made

    pipe.prepare_latents = spied
    image = 2 * tiny.image_of(64) - 1
    return pipe, {**kwargs, "image": image, "mask_image": mask, "height": 64, "width": 64}, prepared


def other():
    pipe, kwargs = plain("a dog")
    return from_pipeline(pipe, **kwargs).model


@pytest.mark.parametrize("starts", [None, tiny.randn(21, 1, 4, 8, 8)], ids=["shared", "own"])
def test_partners_see_the_known_region(starts):
    pipe, kwargs, _ = inpainting()
    lead, partner = [], []
    model = other()

    def spied(x, sigma):
        partner.append(x / (1 + sigma[0] ** 2) ** 0.5)
        return model(x, sigma)

    options = {"latents": starts, "window": (2, STEPS), "correction": 0.0}
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([spied], **options))
    step = pipe.scheduler.step
    pipe.scheduler.step = lambda output, t, sample, **more: (
        lead.append(sample.clone()),
        step(output, t, sample, **more),
    )[1]
    pipe(**kwargs, generator=generator())
    assert len(lead) == len(partner) == STEPS
    for a, b in zip(lead[1:], partner[1:], strict=True):
        assert_equal(b[HELD], a[HELD], 1e-6)
    for a, b in zip(lead[1:3], partner[1:3], strict=True):  # before they meet each goes on alone
        assert (a[FREE] - b[FREE]).abs().max() > 1e-3


def test_it_is_algorithm_1_on_the_region_that_is_drawn():
    """Written out in VP, with diffusers' DDIM steps: the fold and the correction of the left half alone."""
    pipe, kwargs, prepared = inpainting()
    model, start = other(), tiny.randn(21, 1, 4, 8, 8)
    base, arguments = plain()
    own = from_pipeline(base, **arguments).model
    length, last, records = 0.2, STEPS - 1, []
    partners = Partners([model], latents=start, weights=0.4, correction=length, window=1.0)
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, partners)
    keep = lambda pipe, i, t, more: records.append(pipe.scheduler.aggregation) or {}
    actual = pipe(**kwargs, generator=generator(), callback_on_step_end=keep).images

    scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(STEPS)
    z = [prepared["latents"], start]
    for i, t in enumerate(scheduler.timesteps):
        sigma = ((1 - scheduler.alphas_cumprod[t]) / scheduler.alphas_cumprod[t]).sqrt()
        x = [each * (1 + sigma**2).sqrt() for each in z]
        outputs = [(each - m(each, sigma[None])) / sigma for m, each in zip((own, model), x, strict=True)]
        means = [scheduler.step(o, t, each).prev_sample for o, each in zip(outputs, z, strict=True)]
        part = FREE if i > 0 else ...  # at the first step it has not written anything
        merged = slerp_fold([mean[part] for mean in means], [0.4])
        assert_equal(records[i].angle[0], angle(*[mean[part] for mean in means]), 1e-4)
        z = [mean.clone() for mean in means]
        for k in range(2):
            z[k][part] = radial_correct(merged, means[k][part], length)
        known = prepared["image"]
        if i < last:
            known = scheduler.add_noise(known, prepared["noise"], scheduler.timesteps[i + 1][None])
        z = [(1 - MASK) * known + MASK * each for each in z]
    assert_equal(actual, z[0], 1e-4)


def test_a_given_mask_acts_from_the_first_step():
    pipe, kwargs, _ = inpainting()
    records = []
    partners = Partners([other()], latents=tiny.randn(21, 1, 4, 8, 8), window=1.0, mask=MASK)
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, partners)
    keep = lambda pipe, i, t, more: records.append(pipe.scheduler.aggregation) or {}
    pipe(**kwargs, generator=generator(), callback_on_step_end=keep)
    for record in records:
        assert not record.merged[HELD].any() and record.merged[FREE].all()
        assert_equal(record.lengths[0], torch.tensor([0.3 * math.sqrt(4 * 32 / 16384)]), 1e-6)


def test_a_network_that_sees_the_known_image_leads_partners_that_do_not():
    """It writes nothing into the latents: outside the given mask the partner has its latents."""
    parts, kwargs = plain()
    unet = tiny.seeded(UNet2DConditionModel, **{**tiny.SD_UNET, "in_channels": 9})
    modules = {name: part for name, part in parts.components.items() if name != "image_encoder"}
    pipe = tiny.quiet(
        StableDiffusionInpaintPipeline(**{**modules, "unet": unet}, requires_safety_checker=False)
    )
    del kwargs["latents"]
    mask = MASK.repeat_interleave(8, 2).repeat_interleave(8, 3)
    image = {"image": 2 * tiny.image_of(64) - 1, "mask_image": mask, "height": 64, "width": 64}
    lead, partner, model = [], [], other()

    def spied(x, sigma):
        partner.append(x / (1 + sigma[0] ** 2) ** 0.5)
        return model(x, sigma)

    options = {"latents": tiny.randn(21, 1, 4, 8, 8), "window": (2, STEPS), "mask": MASK}
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([spied], **options))
    keep = lambda pipe, i, t, more: lead.append(more["latents"]) or {}
    pipe(**kwargs, **image, generator=generator(), callback_on_step_end=keep)
    for a, b in zip(lead, partner[1:], strict=False):
        assert_equal(b[HELD], a[HELD], 1e-6)
    assert len(partner) == STEPS and (partner[1][FREE] - lead[0][FREE]).abs().max() > 1e-3


def test_with_itself_as_its_partner_it_is_the_pipeline():
    pipe, kwargs, _ = inpainting()
    base, arguments = plain()
    alone = pipe(**kwargs, generator=generator()).images
    model = from_pipeline(base, **arguments).model
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([model], window=1.0, correction=0.0))
    assert_equal(pipe(**kwargs, generator=generator()).images, alone, 2e-5)


@pytest.mark.parametrize("times", [1, 2])
def test_models_of_from_pipeline_inpaint_as_the_pipeline_does(times):
    """From the noised image: from pure noise the pipeline puts the known region in after its first step."""
    pipe, kwargs, prepared = inpainting()
    base, arguments = plain()
    expected = pipe(**kwargs, strength=0.9, generator=generator()).images
    ready = from_pipeline(base, **arguments)
    sigmas = ready.sigmas[1:]
    x = prepared["image"] + sigmas[0] * prepared["noise"]
    for noise in (prepared["noise"], None):
        known = Known(prepared["image"], MASK, noise)
        actual = sample_amdm(
            [ready.model] * times, x, sigmas, known=known, correction=0.0, window=1.0, disable=True
        )
        assert_equal(actual, expected, 1e-4)


def test_a_mask_per_step_is_differential_diffusion():
    """A pixel that is drawn in the last half only comes from the image's, and is drawn from there."""
    base, arguments = plain()
    ready = from_pipeline(base, **arguments)
    image, noise = tiny.randn(30, 1, 4, 8, 8), tiny.randn(31, 1, 4, 8, 8)
    change = torch.full((1, 1, 8, 8), 0.5)
    masks = [change > 1 - (i + 1) / STEPS for i in range(STEPS)]
    actual = sample_amdm(
        [ready.model, other()],
        ready.x,
        ready.sigmas,
        known=Known(image, masks, noise),
        window=2,
        disable=True,
    )
    half = STEPS // 2
    start = image + ready.sigmas[half] * noise
    assert_equal(actual, sample_ddim(ready.model, start, ready.sigmas[half:], disable=True), 1e-4)


def test_a_callback_that_writes_all_of_the_latents_leaves_all_to_be_joined():
    pipe, kwargs = plain()
    records = []

    def shrink(pipe, i, t, more):
        records.append(pipe.scheduler.aggregation)
        return {"latents": 0.9 * more["latents"]}

    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([other()], window=3))
    pipe(**kwargs, callback_on_step_end=shrink)
    for record in records[:3]:
        assert record.merged.all()


@pytest.mark.parametrize("how", ["torch", "numpy"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_latents_that_are_written_in_place_are_noticed(how, mode):
    def run(in_place):
        pipe, kwargs = plain()
        seen = []
        model = other()
        spied = lambda x, sigma: (seen.append(x / (1 + sigma[0] ** 2) ** 0.5), model(x, sigma))[1]

        def write(pipe, i, t, more):
            latents = more["latents"] if in_place else more["latents"].clone()
            (latents.numpy() if how == "numpy" else latents)[HELD] = float(i)
            return {"latents": latents}

        pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([spied], window=4))
        with mode():
            return pipe(**kwargs, callback_on_step_end=write).images, seen

    (images, seen), (expected, _) = run(True), run(False)
    assert torch.equal(images, expected)
    assert [x[HELD].round(decimals=4).unique().tolist() for x in seen[1:]] == [[0.0], [1.0], [2.0]]


def test_a_mask_of_another_shape_is_refused():
    pipe, kwargs = plain()
    for mask, message in (
        (torch.ones(1, 1, 64, 64), r"mask has shape \(1, 1, 64, 64\), expected .* \(1, 4, 8, 8\)"),
        ([MASK] * 2, f"mask has 2 entries but there are {STEPS} steps"),
    ):
        pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([other()], mask=mask))
        with pytest.raises(ValueError, match=message):
            pipe(**kwargs)
