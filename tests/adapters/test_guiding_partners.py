"""Projective guidance from an unmodified pipeline call: `sample_projective_guidance`, to rounding."""

import math

import pytest
import torch
from adapters import tiny_diffusers as tiny
from tolerances import assert_equal

from amdm import sample_projective_guidance
from amdm.diffusers import from_pipeline
from amdm.diffusers.scheduler import AggregatingScheduler, Partners

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
STEPS = 10


def generator():
    return torch.Generator().manual_seed(3)


def partner(make):
    pipe, kwargs = make(tiny.ddim(), num_inference_steps=STEPS)
    return from_pipeline(pipe, **kwargs)


def both_ways(lead, partners, starts=None, eta=0.0, prediction="epsilon", **options):
    """The pipeline's call with the scheduler, and the sampler with the same models; VP."""
    pipe, kwargs = lead(tiny.ddim(prediction_type=prediction), num_inference_steps=STEPS)
    prepared = from_pipeline(pipe, **kwargs)
    scale = math.sqrt(1 + prepared.sigmas[0].item() ** 2)
    source = generator()
    background = options.pop("background")
    weights = options.pop("weights", 1.0)
    expected = sample_projective_guidance(
        [prepared.model, *partners],
        prepared.x if starts is None else [prepared.x, *(scale * start for start in starts)],
        prepared.sigmas,
        background=background,
        weights=weights,
        eta=eta,
        noise_sampler=lambda sigma, sigma_next: torch.randn(prepared.x.shape, generator=source),
        disable=True,
        **options,
    )
    joining = Partners(
        partners, starts, background=background, guidance=7.5, control_weights=weights, **options
    )
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, joining)
    found = pipe(**kwargs, eta=eta, generator=generator()).images
    assert torch.equal(pipe(**kwargs, eta=eta, generator=generator()).images, found), (
        "a second call is the first"
    )
    assert pipe.scheduler.aggregation is None
    return found, expected / math.sqrt(1 + prepared.sigmas[-1].item() ** 2)


STARTS = [tiny.randn(21, 1, 4, 8, 8)]


@pytest.mark.parametrize(
    ("starts", "window", "eta", "window_eta", "prediction"),
    [
        (None, 4, 0.0, 1.0, "epsilon"),
        (None, (2, 5), 0.6, None, "v_prediction"),
        (STARTS, (2, 5), 0.6, 0.3, "epsilon"),
        (STARTS, 4, 0.6, 0.0, "sample"),
        (STARTS, 1.0, 0.0, None, "epsilon"),
        (STARTS, 1, 0.0, None, "epsilon"),
    ],
)
def test_it_is_the_sampler_to_rounding(starts, window, eta, window_eta, prediction):
    """A ControlNet's pipeline leads; GLIGEN's network without its boxes is the background."""
    other = partner(tiny.sd_gligen)
    options = {"background": other.without_control(), "window": window, "eta": eta, "prediction": prediction}
    options["window_eta"] = window_eta
    lead = tiny.sd if prediction == "sample" else tiny.sd_controlnet
    found, expected = both_ways(lead, [other.model], starts, **options)
    assert_equal(found, expected, 5e-5 if prediction == "sample" else 5e-6)


def test_two_partners_with_a_background_each_and_weights():
    others = [partner(tiny.sd_gligen), partner(tiny.sd_ip_adapter)]
    region = torch.linspace(0, 1, 8)[None, None, None]
    found, expected = both_ways(
        tiny.sd_controlnet,
        [each.model for each in others],
        [tiny.randn(21, 1, 4, 8, 8), tiny.randn(22, 1, 4, 8, 8)],
        background=[each.without_control() for each in others],
        weights=[0.5, region],
        window=4,
    )
    assert_equal(found, expected, 5e-6)


def test_equal_models_change_nothing():
    """A partner whose control does nothing."""
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=STEPS)
    alone, model = pipe(**kwargs).images, from_pipeline(pipe, **kwargs).model
    pipe.scheduler = AggregatingScheduler.of(
        pipe.scheduler, Partners([model], background=model, guidance=7.5)
    )
    assert_equal(pipe(**kwargs).images, alone, 5e-6)


def test_outside_a_mask_the_pipeline_is_alone():
    pipe, kwargs = tiny.sd(tiny.ddim(timestep_spacing="trailing"), num_inference_steps=1)
    alone, other = pipe(**kwargs).images, partner(tiny.sd_gligen)
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :3] = 1
    options = {"background": other.without_control(), "guidance": 7.5, "window": 1}
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([other.model], mask=mask, **options))
    changed = (pipe(**kwargs).images - alone).abs().amax(1)[0] > 1e-4
    assert bool(changed[:, :3].all()) and not bool(changed[:, 3:].any())


@pytest.mark.usefixtures("unchecked")
def test_what_is_refused():
    model = lambda x, sigma: x
    with pytest.raises(
        TypeError, match=r"^guidance is None, expected a finite number with a background: the"
    ):
        Partners([model], background=model)
    with pytest.raises(ValueError, match=r"^background has 2 entries but there are 2 models: expected 1"):
        Partners([model], background=[model, model], guidance=7.5)
    with pytest.raises(TypeError, match=r"^background is int, expected a callable"):
        Partners([model], background=3, guidance=7.5)
    options = {"background": model, "guidance": 7.5}
    with pytest.raises(ValueError, match=r"^window_eta is -1, expected a finite number of 0 or more, or"):
        Partners([model], window_eta=-1, **options)
    with pytest.raises(
        ValueError, match=r"^control_weights has 2 entries but there are 2 models: expected 1, one for each"
    ):
        Partners([model], control_weights=[1.0, 1.0], **options)
    with pytest.raises(
        ValueError, match=r"^control_weights\[0\] is nan for sample 1, expected a finite number"
    ):
        Partners([model], control_weights=[torch.tensor([1.0, math.nan])], **options)
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=4)
    partners = Partners([model], control_weights=[torch.ones(3)], **options)
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, partners)
    with pytest.raises(ValueError, match=r"^control_weights\[0\] has shape \(3,\), expected a number or one"):
        pipe(**kwargs)


def test_a_background_that_returns_nan_is_named():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=STEPS)
    model = from_pipeline(pipe, **kwargs).model
    options = {"background": lambda x, sigma: x * math.nan, "guidance": 7.5, "window": 3}
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([model], **options))
    with pytest.raises(
        FloatingPointError, match=r"^background returned NaN or infinity for sample 0, first at step 0"
    ):
        pipe(**kwargs)


@pytest.mark.parametrize("starts", [None, STARTS])
def test_a_window_counts_the_steps_that_the_pipeline_takes(starts):
    """SDXL's base, which stops before its refiner."""
    pipe, kwargs = tiny.sdxl(tiny.ddim(), num_inference_steps=STEPS)
    kwargs["denoising_end"] = 0.5
    prepared, other = (
        from_pipeline(pipe, **kwargs),
        tiny.sdxl_ip_adapter(tiny.ddim(), num_inference_steps=STEPS),
    )
    partner = from_pipeline(other[0], **other[1], denoising_end=0.5)
    options = {"background": partner.without_control(), "window": 0.4}
    scale = math.sqrt(1 + prepared.sigmas[0].item() ** 2)
    x = prepared.x if starts is None else [prepared.x, scale * starts[0]]
    models = [prepared.model, partner.model]
    expected = sample_projective_guidance(models, x, prepared.sigmas, **options, disable=True)
    guidance = prepared.model.guidance
    joining = Partners([partner.model], starts, guidance=guidance, **options)
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, joining)
    assert_equal(pipe(**kwargs).images, prepared.decode(expected).images, 5e-6)
