"""Diffusers' pipelines as denoisers: alone each is the stock pipeline, two together a loop written out."""

import contextlib
import dataclasses
import inspect
import re
import threading

import numpy as np
import pytest
import torch
from adapters import tiny_diffusers as tiny
from diffusers import (
    CogView4Pipeline,
    CogView4Transformer2DModel,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    FluxImg2ImgPipeline,
    FluxKontextPipeline,
    LMSDiscreteScheduler,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPAGPipeline,
    StableDiffusionXLImg2ImgPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from tolerances import assert_equal

from amdm import check_same_ecosystem, ddim, dpmpp_2m, sample_amdm, sample_ddim
from amdm.diffusers import from_pipeline, sigmas_from_scheduler
from amdm.geometry import radial_correct, slerp_fold

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
EPS_OR_V, SAMPLE = 5e-6, 2e-5
PREDICTIONS, SPACINGS = ("epsilon", "v_prediction", "sample"), ("leading", "trailing")
# The last steps iterate x -> denoised, and guidance of 7.5 gives random networks' Jacobians eigenvalues
# above 1: a difference of one rounding grows to 9e-6 (median of 24 seeds), 5e-5 at worst. These amplify
# little.
CALM = {"text": 15, "sdxl": 23}


def generator(seed=3):
    return torch.Generator().manual_seed(seed)


def noise_of(x):
    """diffusers' draws from `generator()`, in the latents' dtype."""
    source = generator()
    return lambda sigma, sigma_next: torch.randn(x.shape, generator=source, dtype=x.dtype)


def stock(pipe, kwargs, eta=0.0):
    """What the pipeline returns; those of flows have no eta."""
    extra = {"eta": eta} if "eta" in inspect.signature(pipe.__call__).parameters else {}
    return pipe(**kwargs, **extra, generator=generator()).images


def ours(pipe, kwargs, eta=0.0, **options):
    prepared = from_pipeline(pipe, **kwargs, **options)
    x = sample_ddim(
        prepared.model, prepared.x, prepared.sigmas, disable=True, eta=eta, noise_sampler=noise_of(prepared.x)
    )
    return prepared.decode(x).images


def assert_is_stock(pipe, kwargs, eta=0.0, tol=EPS_OR_V):
    expected = stock(pipe, kwargs, eta)
    assert_equal(ours(pipe, kwargs, eta), expected, tol)
    return expected


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("recipe", tiny.RECIPES)
def test_every_recipe_is_its_pipeline(recipe, spacing):
    pipe, kwargs = tiny.RECIPES[recipe](tiny.ddim(timestep_spacing=spacing), num_inference_steps=8)
    for eta in (0.0, 0.5, 1.0):
        assert_is_stock(pipe, kwargs, eta)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_every_prediction_in_fifty_steps(prediction, spacing):
    scheduler = tiny.ddim(prediction_type=prediction, timestep_spacing=spacing)
    pipe, kwargs = tiny.sd(scheduler, num_inference_steps=50)
    if prediction == "sample":
        pipe.unet = tiny.seeded(UNet2DConditionModel, **tiny.SD_UNET, seed=CALM["text"])
    assert_is_stock(pipe, kwargs, 0.5, SAMPLE if prediction == "sample" else EPS_OR_V)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_other_predictions_of_sdxl(prediction, spacing):
    scheduler = tiny.ddim(prediction_type=prediction, timestep_spacing=spacing)
    pipe, kwargs = tiny.sdxl(scheduler, num_inference_steps=8)
    if prediction == "sample":
        pipe.unet = tiny.seeded(UNet2DConditionModel, **tiny.SDXL_UNET, seed=CALM["sdxl"])
    assert_is_stock(pipe, kwargs, 0.5, SAMPLE if prediction == "sample" else EPS_OR_V)


@pytest.mark.parametrize(
    ("recipe", "prediction"),
    [(recipe, "epsilon") for recipe in tiny.RECIPES]
    + [(recipe, prediction) for recipe in CALM for prediction in ("v_prediction", "sample")],
)
def test_double_networks_and_tables_agree_to_1e_9(recipe, prediction):
    scheduler = tiny.ddim(prediction_type=prediction)
    pipe, kwargs = tiny.RECIPES[recipe](scheduler, num_inference_steps=8)
    pipe.to(torch.float64)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    pipe.scheduler.alphas_cumprod = (1 - betas).cumprod(0)
    pipe.scheduler.final_alpha_cumprod = pipe.scheduler.alphas_cumprod[0]
    expected = assert_is_stock(pipe, as_double(kwargs), eta=0.5, tol=1e-9)
    assert expected.dtype == torch.float64


def as_double(value):
    if isinstance(value, dict):
        return {name: as_double(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [as_double(entry) for entry in value]
    return value.double() if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("eta", [0.0, 0.5])
def test_zero_terminal_snr(eta):
    """Not with eta = 1: diffusers' first step has the root of a rounding there, NaN on some CPUs."""
    scheduler = tiny.ddim(
        rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction"
    )
    pipe, kwargs = tiny.sd(scheduler, num_inference_steps=8)
    assert from_pipeline(pipe, **kwargs).sigmas[0] == 1e6
    assert_is_stock(pipe, kwargs, eta)


@pytest.mark.parametrize(
    ("make", "steps"), [(tiny.sd3, 50), (tiny.flux, 8), (lambda **kwargs: tiny.flux(False, **kwargs), 8)]
)
def test_flows_are_flow_match_euler(make, steps):
    pipe, kwargs = make(num_inference_steps=steps)
    assert_is_stock(pipe, kwargs)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_eulers_scheduler(spacing):
    betas = {key: tiny.SD_SCHEDULE[key] for key in ("beta_start", "beta_end", "beta_schedule")}
    scheduler = EulerDiscreteScheduler(**betas, timestep_spacing=spacing, steps_offset=1)
    pipe, kwargs = tiny.sd(scheduler, num_inference_steps=10)
    assert_is_stock(pipe, kwargs)


BETAS = {key: tiny.SD_SCHEDULE[key] for key in ("beta_start", "beta_end", "beta_schedule")}


def dpm(**config):
    config = {"steps_offset": 1, "timestep_spacing": "leading", **config}
    return DPMSolverMultistepScheduler(**BETAS, **config)


SIGMA_MIN = {"final_sigmas_type": "sigma_min"}


@pytest.mark.parametrize(
    ("scheduler", "steps", "sampler"),
    [
        (tiny.ddim(), 8, ddim),
        (EulerDiscreteScheduler(**BETAS), 8, ddim),
        (EulerDiscreteScheduler(**BETAS, use_exponential_sigmas=True), 8, ddim),
        (dpm(), 8, dpmpp_2m),
        (dpm(timestep_spacing="trailing"), 16, dpmpp_2m),
        (dpm(timestep_spacing="linspace", prediction_type="v_prediction"), 8, dpmpp_2m),
        (dpm(**SIGMA_MIN, lower_order_final=False), 8, dpmpp_2m),
        (dpm(**SIGMA_MIN), 15, dpmpp_2m),
        (dpm(solver_order=1), 8, ddim),
    ],
)
def test_the_sampler_is_the_schedulers(scheduler, steps, sampler):
    pipe, kwargs = tiny.sd(scheduler, num_inference_steps=steps)
    expected = stock(pipe, kwargs)
    prepared = from_pipeline(pipe, **kwargs)
    assert prepared.sampler is sampler
    x = sample_amdm([prepared.model], prepared.x, prepared.sigmas, sampler=prepared.sampler, disable=True)
    assert_equal(prepared.decode(x).images, expected, EPS_OR_V)


@pytest.mark.parametrize(
    ("scheduler", "steps"),
    [
        (dpm(solver_order=3), 8),
        (dpm(solver_type="heun"), 8),
        (dpm(algorithm_type="sde-dpmsolver++"), 8),
        (dpm(use_karras_sigmas=True), 8),
        (dpm(use_exponential_sigmas=True), 8),
        (dpm(thresholding=True), 8),
        (dpm(**SIGMA_MIN), 8),
        (dpm(**SIGMA_MIN, euler_at_final=True), 15),
        (EulerAncestralDiscreteScheduler(**BETAS), 8),
        (LMSDiscreteScheduler(**BETAS), 8),
        (UniPCMultistepScheduler(**BETAS), 8),
    ],
)
def test_the_sampler_of_a_scheduler_that_none_here_equals_says_so(scheduler, steps):
    """Neither ddim nor dpmpp_2m is what the pipeline does, by more than rounding; the levels are known."""
    pipe, kwargs = tiny.sd(scheduler, num_inference_steps=steps)
    expected = stock(pipe, kwargs)
    prepared = from_pipeline(pipe, **kwargs)
    options = {"disable": True}
    with pytest.raises(ValueError, match=rf"scheduler is {type(scheduler).__name__}, .*, expected sampler="):
        sample_amdm([prepared.model], prepared.x, prepared.sigmas, sampler=prepared.sampler, **options)
    for sampler in (ddim, dpmpp_2m):
        x = sample_amdm([prepared.model], prepared.x, prepared.sigmas, sampler=sampler, **options)
        assert (prepared.decode(x).images - expected).abs().max() > 1e-4 * expected.abs().max()


def test_the_sampler_of_a_flow_is_ddim_unless_it_draws_noise():
    pipe, kwargs = tiny.sd3(num_inference_steps=2)
    assert from_pipeline(pipe, **kwargs).sampler is ddim
    pipe.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, stochastic_sampling=True)
    with pytest.raises(ValueError, match="scheduler is FlowMatchEulerDiscreteScheduler, "):
        from_pipeline(pipe, **kwargs).sampler(None, None, None, eta=0.0, noise_sampler=None)


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("gligen", {"beta": 0.3}),
        ("gligen", {"beta": 0.5}),
        ("sdxl_controlnet", {"control_guidance_end": 0.5}),
        ("sdxl_t2i_adapter", {"adapter_conditioning_factor": 0.5}),
    ],
)
def test_a_schedule_whose_last_step_goes_nowhere_has_its_steps_all_the_same(recipe, options):
    """Ten steps and ten levels: what ends at a step ends there, though levels have one step less."""
    pipe, kwargs = tiny.RECIPES[recipe](tiny.ddim(steps_offset=0), num_inference_steps=10, **options)
    assert len(from_pipeline(pipe, **kwargs).sigmas) == 10
    assert_is_stock(pipe, kwargs)


@pytest.mark.parametrize("options", [{}, {"control_guidance_end": 0.4}, {"control_guidance_start": 0.4}])
def test_a_control_inside_the_network_is_switched_with_the_steps(options):
    """ControlNet-XS, which tells its network at every step whether it applies."""
    pipe, kwargs = tiny.sd_controlnet_xs(tiny.ddim(), num_inference_steps=10, **options)
    assert_is_stock(pipe, kwargs)


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("text", {"guidance_scale": 1.0}),
        ("text", {"guidance_rescale": 0.7}),
        (
            "text",
            {"guidance_rescale": 0.7, "prompt": ["a cat", "a dog"], "negative_prompt": None, "batch": 2},
        ),
        ("text", {"prompt": ["a cat", "a dog"], "negative_prompt": None, "batch": 2}),
        ("sdxl", {"guidance_rescale": 0.7}),
        ("lora", {"cross_attention_kwargs": {"scale": 0.5}}),
        ("controlnet", {"guess_mode": True}),
        ("controlnet", {"control_guidance_start": 0.3, "control_guidance_end": 0.7}),
        ("controlnet", {"controlnet_conditioning_scale": 0.4, "guidance_scale": 1.0}),
        ("controlnet", {"several": True}),
        (
            "controlnet",
            {
                "several": True,
                "controlnet_conditioning_scale": [0.5, 0.8],
                "control_guidance_start": [0.0, 0.5],
                "control_guidance_end": [0.4, 1.0],
            },
        ),
        ("sdxl_controlnet", {"guess_mode": True, "control_guidance_end": 0.5}),
        ("sdxl_t2i_adapter", {"adapter_conditioning_factor": 0.5, "adapter_conditioning_scale": 0.6}),
        ("gligen", {"beta": 0.0}),
        ("gligen", {"beta": 1.0}),
        ("gligen", {"beta": 0.55, "guidance_scale": 1.0}),
    ],
)
def test_what_the_arguments_of_the_call_do(recipe, options):
    pipe, kwargs = tiny.RECIPES[recipe](tiny.ddim(), num_inference_steps=10, **options)
    expected = assert_is_stock(pipe, kwargs)
    plain, without = tiny.RECIPES[recipe](tiny.ddim(), num_inference_steps=10)
    if expected.shape == without["latents"].shape:
        assert (expected - stock(plain, without)).abs().max() > 1e-2, "the option does nothing"


def test_images_are_decoded_as_by_the_pipeline():
    for make in (tiny.sd, tiny.sdxl):
        pipe, kwargs = make(tiny.ddim(), num_inference_steps=3)
        kwargs["output_type"] = "np"
        expected, actual = stock(pipe, kwargs), ours(pipe, kwargs)
        assert expected.shape[1:] in ((64, 64, 3), (32, 32, 3)) and np.ptp(expected) > 0.1
        np.testing.assert_allclose(actual, expected, atol=2e-5)


def test_flux_latents_are_unpacked():
    pipe, kwargs = tiny.flux(num_inference_steps=3)
    kwargs["output_type"] = "np"
    np.testing.assert_allclose(ours(pipe, kwargs), stock(pipe, kwargs), atol=2e-5)


def test_the_start_is_the_generators():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=5)
    del kwargs["latents"]
    expected = pipe(**kwargs, generator=generator()).images
    prepared = from_pipeline(pipe, **kwargs, generator=generator())
    images = prepared.decode(sample_ddim(prepared.model, prepared.x, prepared.sigmas, disable=True)).images
    assert_equal(images, expected, EPS_OR_V)


def test_decode_draws_from_nobodys_generator():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=2)
    del kwargs["latents"]
    for given in (None, generator(), [generator()]):
        sources = [torch.default_generator, *(given if isinstance(given, list) else [given] if given else [])]
        before = [source.get_state() for source in sources]
        prepared = from_pipeline(pipe, **kwargs, generator=given)
        after = [source.get_state() for source in sources]
        assert not torch.equal(before[-1], after[-1]), "the start is drawn"
        prepared.decode(prepared.x)
        assert all(
            torch.equal(source.get_state(), state) for source, state in zip(sources, after, strict=True)
        )


def test_offloaded_models_are_put_back_though_the_pipeline_is_stopped():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=2)
    freed = []
    pipe.maybe_free_model_hooks = lambda: freed.append(True)
    from_pipeline(pipe, **kwargs)
    assert freed


def test_a_part_of_the_steps_ends_at_its_level_and_another_pipeline_goes_on():
    """SDXL's base to its refiner: both halves are the stock ones'."""
    pipe, kwargs = tiny.sdxl(tiny.ddim(), num_inference_steps=10)
    base = {**kwargs, "denoising_end": 0.6}
    prepared = from_pipeline(pipe, **base)
    assert len(prepared.sigmas) == 7 and prepared.sigmas[-1] > 0.5
    expected = assert_is_stock(pipe, base)
    assert (expected - stock(pipe, kwargs)).abs().max() > 0.1
    refiner = tiny.quiet(StableDiffusionXLImg2ImgPipeline(**pipe.components, add_watermarker=False))
    rest = {name: value for name, value in kwargs.items() if name != "latents"}
    rest |= {"image": expected, "denoising_start": 0.6}
    assert len(from_pipeline(refiner, **rest).sigmas) == 5
    assert_is_stock(refiner, rest)


def test_another_schedules_last_level_is_told_to_decode():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=4)
    prepared = from_pipeline(pipe, **kwargs)
    x = prepared.x
    assert torch.equal(prepared.decode(x, 0.0).images, x)
    assert_equal(prepared.decode(x, 3.0).images, x / 10**0.5, 1e-6)
    last = prepared.sigmas[-1].item()
    assert last > 0 and torch.equal(prepared.decode(x).images, prepared.decode(x, last).images)


@pytest.mark.parametrize("options", [{"final_sigmas_type": "sigma_min"}, {"use_karras_sigmas": True}])
def test_latents_that_are_ve_are_not_divided(options):
    betas = {key: tiny.SD_SCHEDULE[key] for key in ("beta_start", "beta_end", "beta_schedule")}
    scheduler = EulerDiscreteScheduler(**betas, timestep_spacing="trailing", steps_offset=1, **options)
    pipe, kwargs = tiny.sd(scheduler, num_inference_steps=10)
    assert_is_stock(pipe, kwargs)


def test_the_first_step_is_the_schedulers_though_the_network_is_told_it_rounded():
    """FLUX in bfloat16 rounds its time to 8 bits: 200 steps are nearer to each other than that."""
    pipe, kwargs = tiny.flux(num_inference_steps=200)
    pipe = tiny.quiet(FluxImg2ImgPipeline(**pipe.components)).to(torch.bfloat16)
    kwargs = as_bfloat16({name: value for name, value in kwargs.items() if name != "latents"})
    kwargs |= {"image": tiny.image_of(64), "strength": 0.9}
    prepared = from_pipeline(pipe, **kwargs, generator=generator())
    assert len(prepared.sigmas) == 181


def as_bfloat16(kwargs):
    return {name: v.bfloat16() if isinstance(v, torch.Tensor) else v for name, v in kwargs.items()}


def test_guidance_is_summed_in_the_states_precision():
    """A network in bfloat16 whose two rows nearly agree: their difference times 7.5, not rounded again."""
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=4)
    pipe.to(torch.bfloat16)
    kwargs["latents"] = kwargs["latents"].bfloat16()
    prepared = from_pipeline(pipe, **kwargs)
    rows = []
    hook = pipe.unet.register_forward_hook(lambda module, args, output: rows.append(output[0].float()))
    sigma = prepared.sigmas[:1]
    denoised = prepared.model(prepared.x, sigma)
    hook.remove()
    uncond, cond = rows[0].chunk(2)
    assert_equal(denoised, prepared.x - sigma * (uncond + 7.5 * (cond - uncond)), 1e-6)


def test_from_an_image():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=10)
    parts = {name: part for name, part in pipe.components.items() if name != "image_encoder"}
    pipe = tiny.quiet(StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False))
    del kwargs["latents"]
    kwargs |= {"image": tiny.image_of(64), "strength": 0.6}
    expected = pipe(**kwargs, generator=generator()).images
    prepared = from_pipeline(pipe, **kwargs, generator=generator())
    assert len(prepared.sigmas) == 7
    x = sample_ddim(prepared.model, prepared.x, prepared.sigmas, disable=True)
    assert_equal(prepared.decode(x).images, expected, EPS_OR_V)


def test_a_half_precision_pipeline_keeps_its_state_in_float32():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=10)
    whole = stock(pipe, kwargs)
    pipe.to(torch.bfloat16)
    kwargs["latents"] = kwargs["latents"].bfloat16()
    prepared = from_pipeline(pipe, **kwargs)
    x = sample_ddim(prepared.model, prepared.x, prepared.sigmas, disable=True)
    assert prepared.x.dtype == x.dtype == torch.float32
    half = prepared.decode(x).images
    assert half.dtype == torch.bfloat16
    theirs = stock(pipe, kwargs)
    error = lambda images: (images.float() - whole).norm() / whole.norm()
    assert error(half) < error(theirs) < 0.1


def test_one_network_plays_three_models():
    pipe, kwargs = tiny.sd_lora(tiny.ddim(), num_inference_steps=4)
    expected, prepared = [], []
    for switch in (
        lambda: pipe.unet.set_adapters(["one"], [0.7]),
        lambda: pipe.unet.set_adapters(["other", "one"], [0.3, 0.2]),
        lambda: pipe.unet.disable_lora(),
    ):
        pipe.unet.enable_lora()
        switch()
        expected.append(stock(pipe, kwargs))
        prepared.append(from_pipeline(pipe, **kwargs))
    assert min((a - b).abs().max() for a, b in zip(expected, expected[1:] + expected[:1], strict=True)) > 0.1
    x, sigmas = prepared[0].x, prepared[0].sigmas
    interleaved = [
        [one.model(x, sigma.float().expand(1)) for one in prepared] for sigma in sigmas[:-1]
    ]  # every call after another model's
    for one, images, own in zip(prepared, expected, zip(*interleaved, strict=True), strict=True):
        assert_equal(one.decode(sample_ddim(one.model, x, sigmas, disable=True)).images, images, EPS_OR_V)
        alone = [one.model(x, sigma.float().expand(1)) for sigma in sigmas[:-1]]
        assert all(torch.equal(a, b) for a, b in zip(alone, own, strict=True))


def test_ip_adapter_scales_are_bound():
    pipe, kwargs = tiny.sd_ip_adapter(tiny.ddim(), num_inference_steps=4)
    strong, images = from_pipeline(pipe, **kwargs), stock(pipe, kwargs)
    pipe.set_ip_adapter_scale(0.0)
    off = from_pipeline(pipe, **kwargs)
    assert_equal(
        strong.decode(sample_ddim(strong.model, strong.x, strong.sigmas, disable=True)).images,
        images,
        EPS_OR_V,
    )
    plain, arguments = tiny.sd(tiny.ddim(), num_inference_steps=4)
    x = sample_ddim(off.model, off.x, off.sigmas, disable=True)
    assert_equal(off.decode(x).images, stock(plain, arguments), EPS_OR_V)


def two_add_ons(steps=10):
    """GLIGEN and IP-Adapter, which no stock pipeline stacks."""
    boxes, with_boxes = tiny.sd_gligen(tiny.ddim(), num_inference_steps=steps)
    style, with_style = tiny.sd_ip_adapter(tiny.ddim(), num_inference_steps=steps)
    with_boxes["latents"], with_style["latents"] = tiny.randn(11, 1, 4, 8, 8), tiny.randn(12, 1, 4, 8, 8)
    return (boxes, with_boxes), (style, with_style)


def test_two_add_ons_aggregate_as_a_loop_over_both_pipelines_says():
    """Algorithm 1 in VP latents: networks called as the two stock pipelines call them, DDIM by diffusers."""
    steps, stop = 10, 4
    pairs = two_add_ons(steps)
    prepared = [from_pipeline(pipe, **kwargs) for pipe, kwargs in pairs]
    models, starts = [p.model for p in prepared], [p.x for p in prepared]
    check_same_ecosystem(models, prepared[0].sigmas)
    x = sample_amdm(
        models, starts, prepared[0].sigmas, weights=0.4, correction=[0.3, 0.2], window=stop, disable=True
    )
    actual = prepared[0].decode(x).images

    calls = [[], []]  # what each network is told at every step, seen from outside
    for (pipe, kwargs), seen in zip(pairs, calls, strict=True):
        hook = pipe.unet.register_forward_pre_hook(
            lambda module, args, kw, seen=seen: seen.append((kw, fusers_of(module))), with_kwargs=True
        )
        pipe(**kwargs)
        hook.remove()
    scheduler = tiny.ddim()
    scheduler.set_timesteps(steps)
    z = [kwargs["latents"] for _, kwargs in pairs]
    for i, t in enumerate(scheduler.timesteps):
        for k in range(2 if i < stop else 1):
            pipe, (told, on) = pairs[k][0], calls[k][i]
            set_fusers(pipe.unet, on)
            with torch.no_grad():
                uncond, cond = pipe.unet(torch.cat([z[k]] * 2), t, **{**told, "return_dict": False})[0].chunk(
                    2
                )
            z[k] = scheduler.step(uncond + 7.5 * (cond - uncond), t, z[k]).prev_sample
        if i < stop:
            merged = slerp_fold(z, [0.4])
            z = [radial_correct(merged, own, length) for own, length in zip(z, (0.3, 0.2), strict=True)]
    assert [on for _, on in calls[0]] == [True] * 3 + [False] * 7
    assert_equal(actual, z[0], EPS_OR_V)
    assert (actual - stock(*pairs[0])).abs().max() > 0.1


def fusers_of(network):
    enabled = {module.enabled for module in network.modules() if hasattr(module, "enabled")}
    return enabled.pop() if enabled else None


def set_fusers(network, on):
    for module in network.modules():
        if hasattr(module, "enabled"):
            module.enabled = on


@pytest.mark.slow
def test_a_compiled_network_is_itself():
    pipe, kwargs = tiny.sd_controlnet(tiny.ddim(), num_inference_steps=2)
    expected = stock(pipe, kwargs)
    pipe.unet = torch.compile(pipe.unet, backend="eager")
    pipe.controlnet = torch.compile(pipe.controlnet, backend="eager")
    assert_equal(ours(pipe, kwargs), expected, EPS_OR_V)


def test_k_diffusions_samplers_take_it_as_it_is(k_diffusion):
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=10)
    prepared = from_pipeline(pipe, **kwargs)
    x = k_diffusion.sampling.sample_euler(prepared.model, prepared.x, prepared.sigmas, disable=True)
    assert x.dtype == torch.float32
    assert_equal(prepared.decode(x).images, stock(pipe, kwargs), EPS_OR_V)


def test_a_prepared_pipeline_is_printed_on_a_screen():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=50)
    assert len(repr(from_pipeline(pipe, **kwargs).model)) < 400


def test_sd_and_sdxl_are_no_ecosystem():
    prepared = [
        from_pipeline(pipe, **kwargs, num_inference_steps=4)
        for pipe, kwargs in (tiny.sd(tiny.ddim()), tiny.sdxl(tiny.ddim()))
    ]
    with pytest.raises(ValueError, match=r"models\[0\].*models\[1\].*scaling is 0.18215 and 0.13025"):
        check_same_ecosystem([one.model for one in prepared], prepared[0].sigmas)


def test_levels_of_the_model_are_its_training_levels():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=4)
    prepared = from_pipeline(pipe, **kwargs)
    check_same_ecosystem([prepared.model], prepared.sigmas)
    assert prepared.model.latent_space.scaling == 0.18215 and prepared.model.latent_space.shift is None
    flow, arguments = tiny.sd3(num_inference_steps=4)
    assert from_pipeline(flow, **arguments).model.latent_space.shift == 0.0609
    with pytest.raises(ValueError, match="outside the range"):
        check_same_ecosystem([prepared.model], torch.tensor([80.0, 1.0, 0.0]))


def test_the_pipeline_is_left_as_it_was():
    pipe, kwargs = tiny.sd_controlnet(tiny.ddim(), num_inference_steps=3)
    expected = stock(pipe, kwargs)
    prepared = from_pipeline(pipe, **kwargs)
    prepared.decode(prepared.x)
    assert "forward" not in vars(pipe.unet) and "forward" not in vars(pipe.controlnet)
    assert "step" not in vars(pipe.scheduler)
    assert not pipe.unet._forward_pre_hooks and not pipe.controlnet._forward_pre_hooks
    assert torch.equal(stock(pipe, kwargs), expected)


def test_fusers_are_left_as_they_were():
    pipe, kwargs = tiny.sd_gligen(tiny.ddim(), num_inference_steps=3, beta=0.5)
    for on in (True, False):
        pipe.enable_fuser(on)
        prepared = from_pipeline(pipe, **kwargs)
        assert fusers_of(pipe.unet) is on
        prepared.decode(prepared.x)
        assert fusers_of(pipe.unet) is on


def test_a_pipeline_that_fails_is_left_as_it_was():
    pipe, kwargs = tiny.sd_gligen(tiny.ddim(), num_inference_steps=3)
    pipe.enable_fuser(True)
    for error in (KeyboardInterrupt, ZeroDivisionError):

        def stop(*args, error=error, **kwargs):
            pipe.enable_fuser(False)
            raise error

        pipe.scheduler.scale_model_input = stop
        with pytest.raises(error):
            from_pipeline(pipe, **kwargs)
        del pipe.scheduler.scale_model_input
        assert fusers_of(pipe.unet) is True
        assert "forward" not in vars(pipe.unet) and "step" not in vars(pipe.scheduler)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"eta": 0.5}, "eta is float 0.5, expected none: it is the sampler's"),
        ({"callback_on_step_end": print}, "callback_on_step_end is builtin_function"),
    ],
)
def test_arguments_of_the_loop_are_refused(argument, message):
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=4)
    with pytest.raises(ValueError, match=message):
        from_pipeline(pipe, **kwargs, **argument)


def test_what_mixes_latents_or_calls_again_is_refused_in_one_line():
    for make, argument in (
        (tiny.sd_t2i_adapter, {"callback": print}),
        (tiny.sd_gligen, {"gligen_inpaint_image": tiny.image_of(64)}),
        (lambda scheduler, **kwargs: tiny.sd3(**kwargs), {"skip_guidance_layers": [0, 1]}),
    ):
        pipe, kwargs = make(tiny.ddim(), num_inference_steps=4)
        with pytest.raises(ValueError, match=f"{next(iter(argument))} is .*, expected none: ") as raised:
            from_pipeline(pipe, **kwargs, **argument)
        assert "\n" not in str(raised.value) and len(str(raised.value)) < 150


def flux_negative():
    embeds = tiny.xl_embeds()
    return {
        "negative_prompt_embeds": embeds["negative_prompt_embeds"],
        "negative_pooled_prompt_embeds": embeds["negative_pooled_prompt_embeds"],
    }


def test_the_true_guidance_of_flux_is_two_calls_a_step():
    pipe, kwargs = tiny.flux(num_inference_steps=6)
    plain = stock(pipe, kwargs)
    kwargs |= {**flux_negative(), "true_cfg_scale": 4.0}
    expected = assert_is_stock(pipe, kwargs)
    assert (expected - plain).abs().max() > 0.1
    prepared = from_pipeline(pipe, **kwargs)
    assert prepared.model.guidance == 4.0 and prepared.model.uncond is not None


def test_a_network_that_is_called_three_times_is_refused():
    pipe, kwargs = tiny.flux(num_inference_steps=4)

    class Thrice(type(pipe.transformer)):
        def __call__(self, *args, **kwargs):
            return [super(Thrice, self).__call__(*args, **kwargs) for _ in range(3)][-1]

    pipe.transformer.__class__ = Thrice
    with pytest.raises(ValueError, match="FluxPipeline calls its network 3 times a step"):
        from_pipeline(pipe, **kwargs)


def test_guidance_that_changes_with_the_step_is_the_pipelines_at_each_step():
    """A pipeline whose callback sets another scale at every step, which it takes at the next."""
    scales, steps = [7.5, 7.5, 3.0, 3.0, 1.0, 1.0], 6
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=steps)

    def change(pipe, i, t, tensors):
        pipe._guidance_scale = scales[min(i + 1, steps - 1)] + 1e-9  # at 1 itself its rows would be one
        return tensors

    prepared = from_pipeline(pipe, **kwargs)
    expected = pipe(**kwargs, callback_on_step_end=change).images
    edge = prepared.sigmas.tolist()

    def guidance(sigma):
        at = (sigma[0] - torch.tensor(edge[:-1])).abs().argmin()
        return torch.tensor(scales)[at].expand(len(sigma))

    for given in (guidance, lambda sigma: guidance(sigma)[0].item()):
        model = dataclasses.replace(prepared.model, guidance=given)
        x = sample_ddim(model, prepared.x, prepared.sigmas, disable=True)
        assert_equal(prepared.decode(x).images, expected, EPS_OR_V)


def lumina(**kwargs):
    transformer = tiny.seeded(
        Lumina2Transformer2DModel,
        sample_size=4,
        patch_size=2,
        in_channels=4,
        hidden_size=8,
        num_layers=2,
        num_attention_heads=1,
        num_kv_heads=1,
        multiple_of=16,
        scaling_factor=1.0,
        axes_dim_rope=[4, 2, 2],
        cap_feat_dim=8,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    parts = {"vae": tiny.vae(0.36), "text_encoder": None, "tokenizer": None}
    pipe = Lumina2Pipeline(transformer=transformer, scheduler=scheduler, **parts)
    embeds = {"prompt_embeds": tiny.randn(1, 1, 6, 8), "prompt_attention_mask": torch.ones(1, 6).long()}
    return tiny.quiet(pipe), {**tiny.call(height=64, width=64), **embeds, "guidance_scale": 1.0, **kwargs}


def cogview(**kwargs):
    transformer = tiny.seeded(
        CogView4Transformer2DModel,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=4,
        num_attention_heads=4,
        out_channels=4,
        text_embed_dim=32,
        time_embed_dim=8,
        condition_dim=4,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, time_shift_type="linear")
    parts = {"vae": tiny.vae(0.41), "text_encoder": None, "tokenizer": None}
    pipe = CogView4Pipeline(transformer=transformer, scheduler=scheduler, **parts)
    embeds = {"prompt": None, "prompt_embeds": tiny.randn(1, 1, 16, 32)}
    return tiny.quiet(pipe), {**tiny.call(height=64, width=64), **embeds, "guidance_scale": 1.0, **kwargs}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lumina, "Lumina2Pipeline combines its network's outputs in an unknown way"),
        (cogview, r"at step 1 CogView4Pipeline steps from timestep \d+, expected .*, its level's"),
    ],
)
def test_pipelines_that_tell_their_network_another_time_are_refused(make, message):
    pipe, kwargs = make(num_inference_steps=8)
    with pytest.raises(ValueError, match=message):
        from_pipeline(pipe, **kwargs)


def changed(what):
    """A pipeline whose U-Net is told another time or other latents, or whose output is not used as it is."""
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=4)
    unet = pipe.unet

    class Told(type(unet)):
        def __call__(self, x, t, **kwargs):
            calls.append(t)
            if what == "time reversed":
                t = 1000 - t
            if what == "a later step's time" and len(calls) == 3:
                t = t + 1
            if what == "times of rows":
                t = torch.stack([t, t + 1])
            if what == "latents scaled":
                x = 0.9 * x
            if what == "latents shifted":
                x = x + 0.1
            out = super().__call__(x, t, **kwargs)[0]
            return ((-out if what == "sign" else out[:, :2] if what == "channels" else out),)

    calls = []
    unet.__class__ = Told
    return pipe, kwargs


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("time reversed", "at step 0 StableDiffusionPipeline passes its network the time 249, expected 751"),
        ("a later step's time", "at step 2 .* passes its network the time 252, expected 251"),
        ("times of rows", r"passes its network the times \[751, 752\], expected one for all rows"),
        ("latents scaled", "multiplies its network's latents by 0.9, expected 1, or 0.236"),
        ("latents shifted", "multiplies its network's latents by nan, expected 1, or 0.236"),
        (
            "sign",
            r"outputs in an unknown way .*, expected uncond \+ 7.5 \(cond - uncond\)",
        ),
        ("channels", "combines its network's outputs in an unknown way"),
    ],
)
def test_what_a_pipeline_tells_is_compared_with_what_the_denoiser_will(what, message):
    pipe, kwargs = changed(what)
    with pytest.raises(ValueError, match=message):
        from_pipeline(pipe, **kwargs)


def test_a_pipeline_that_changes_latents_between_steps_is_refused():
    """As mixing in an image does: here by the callback, though it is refused by name."""
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=4)
    call = type(pipe).__call__

    class Mixed(type(pipe)):
        def __call__(self, *args, **kwargs):
            mix = lambda pipe, i, t, tensors: {"latents": tensors["latents"] + 0.1}
            return call(self, *args, **kwargs, callback_on_step_end=mix)

    pipe.__class__ = Mixed
    with pytest.raises(ValueError, match="Mixed changes the latents between its steps"):
        from_pipeline(pipe, **kwargs)


@pytest.mark.parametrize(
    ("make", "option", "steps"),
    [
        (DPMSolverMultistepScheduler, "use_exponential_sigmas", 20),
        (DPMSolverMultistepScheduler, "use_lu_lambdas", 50),
        (UniPCMultistepScheduler, "use_karras_sigmas", 100),
    ],
)
def test_timesteps_that_round_to_one_number_are_steps_of_their_own(make, option, steps):
    scheduler = make(**BETAS, **{option: True})
    pipe, kwargs = tiny.sd(scheduler, num_inference_steps=steps)
    prepared = from_pipeline(pipe, **kwargs)
    scheduler.set_timesteps(steps)
    assert len(set(scheduler.timesteps.tolist())) < steps
    assert_equal(prepared.sigmas, sigmas_from_scheduler(scheduler, steps).float(), 1e-6)
    assert prepared.sigmas[-1] == 0


def test_an_image_whose_first_timestep_comes_twice_starts_where_its_pipeline_does():
    steps = 20
    pipe, kwargs = tiny.sd(
        DPMSolverMultistepScheduler(**BETAS, use_exponential_sigmas=True), num_inference_steps=steps
    )
    parts = {name: part for name, part in pipe.components.items() if name != "image_encoder"}
    pipe = tiny.quiet(StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False))
    del kwargs["latents"]
    for strength, left in ((0.1, 2), (0.05, 1)):
        prepared = from_pipeline(
            pipe, **kwargs, image=tiny.image_of(64), strength=strength, generator=generator()
        )
        assert_equal(prepared.sigmas, pipe.scheduler.sigmas[-left - 1 :], 1e-6)


def test_a_flows_network_under_another_scheduler_is_warned_of_and_advised_its_own():
    pipe, kwargs = tiny.sd3(num_inference_steps=4)
    expected = stock(pipe, kwargs)
    pipe.scheduler = FlowMatchHeunDiscreteScheduler(shift=3.0)
    advice = r"expected (FlowMatchEulerDiscreteScheduler\.from_config\(scheduler\.config, shift=3\.0\))$"
    with pytest.raises(TypeError, match=advice) as raised:
        from_pipeline(pipe, **kwargs)
    scheduler = pipe.scheduler
    pipe.scheduler = eval(re.search(advice, str(raised.value))[1])
    assert_is_stock(pipe, kwargs)
    assert_equal(ours(pipe, kwargs), expected, EPS_OR_V)
    for wrong in (DDIMScheduler.from_config(scheduler.config, clip_sample=False), tiny.ddim()):
        pipe.scheduler = wrong
        with pytest.warns(
            UserWarning, match="StableDiffusion3Pipeline or the scheduler's .*'epsilon', expect"
        ):
            from_pipeline(pipe, **kwargs)


def test_other_guidances_than_the_two_rows_are_refused_and_leave_nothing_behind():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=4)
    expected, processors = stock(pipe, kwargs), pipe.unet.attn_processors
    parts = {name: part for name, part in pipe.components.items() if name != "image_encoder"}
    perturbed = tiny.quiet(StableDiffusionPAGPipeline(**parts, requires_safety_checker=False))
    with pytest.raises(ValueError, match="the network sees 3 rows for 1 latents"):
        from_pipeline(perturbed, **kwargs, pag_scale=3.0)
    with pytest.raises(ValueError, match="the network sees 2 rows for 1 latents"):
        from_pipeline(perturbed, **{**kwargs, "guidance_scale": 1.0}, pag_scale=3.0)
    assert pipe.unet.attn_processors == processors
    assert torch.equal(stock(pipe, kwargs), expected)


def test_networks_that_see_another_image_beside_the_latents_are_refused():
    plain, kwargs = tiny.flux(num_inference_steps=4)
    pipe = tiny.quiet(FluxKontextPipeline(**plain.components))
    kwargs["latents"] = None
    with pytest.raises(ValueError, match=r"network sees \(32, 16\) for a latent of \(16, 16\)"):
        from_pipeline(pipe, **kwargs, image=tiny.image_of(64), max_area=64 * 64, _auto_resize=False)


def test_inpainting_networks_are_refused():
    unet = tiny.seeded(UNet2DConditionModel, **tiny.SD_UNET, in_channels=9)
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=4)
    parts = {name: part for name, part in pipe.components.items() if name != "image_encoder"}
    pipe = tiny.quiet(
        StableDiffusionInpaintPipeline(**{**parts, "unet": unet}, requires_safety_checker=False)
    )
    del kwargs["latents"]
    with pytest.raises(ValueError, match="mask_image"):
        from_pipeline(pipe, **kwargs, image=tiny.image_of(64), mask_image=torch.ones(1, 1, 64, 64))


def test_other_schedulers_and_batches_are_refused():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=4)
    prepared = from_pipeline(pipe, **kwargs)
    with pytest.raises(ValueError, match="x has batch 3, expected that of the conditions: 1"):
        prepared.model(prepared.x.expand(3, -1, -1, -1), torch.ones(3))
    pipe.scheduler = PNDMScheduler.from_config(pipe.scheduler.config)
    with pytest.raises(TypeError, match=r"scheduler is PNDMScheduler.*DDIMScheduler.from_config"):
        from_pipeline(pipe, **kwargs)
    with pytest.raises(TypeError, match="pipe is SimpleNamespace, expected a pipeline with a unet"):
        from_pipeline(__import__("types").SimpleNamespace())


def test_modular_pipelines_are_refused_and_told_the_way():
    pipe, kwargs = tiny.sdxl_modular(tiny.ddim(), num_inference_steps=4)
    message = r"pipe is StableDiffusionXLModularPipeline, expected .*AggregatingScheduler\.of\(pipe\."
    with pytest.raises(TypeError, match=message):
        from_pipeline(pipe, **kwargs)


def test_steps_that_do_not_meet_are_refused_or_taken_as_what_they_approximate():
    pipe, kwargs = tiny.sd(tiny.ddim(timestep_spacing="linspace"), num_inference_steps=10)
    with pytest.raises(ValueError, match="AggregatingScheduler"):
        from_pipeline(pipe, **kwargs)
    exact = from_pipeline(pipe, compat="exact", **kwargs)
    assert len(exact.sigmas) == 10 and exact.sigmas[-1] > 0 and bool((exact.sigmas.diff() < 0).all())
    assert isinstance(pipe.scheduler, DDIMScheduler)


def test_a_pipeline_in_the_place_of_its_denoiser_is_named():
    pipe, _ = tiny.sd(tiny.ddim(), num_inference_steps=2)
    x, sigmas = torch.ones(1, 4, 8, 8), torch.tensor([10.0, 1.0, 0.0])
    message = (
        r"is StableDiffusionPipeline, a pipeline, expected a denoiser: from_pipeline\(pipe, ...\).model$"
    )
    for call in (
        lambda: sample_ddim(pipe, x, sigmas),
        lambda: sample_amdm([pipe, pipe], x, sigmas),
        lambda: check_same_ecosystem([pipe]),
    ):
        with pytest.raises(TypeError, match=message):
            call()


@contextlib.contextmanager
def meanwhile(module, name, work):
    """At the first call of `module.name` another thread works until it calls the same, ends, or has to wait.

    If it called the same, it goes on when the block ends. A thread that has to wait is told by time, from a
    slow one too: what tests compare is right either way.
    """
    result, reached, left = [], threading.Event(), threading.Event()
    original, ready = getattr(module, name), [True]

    def run():
        with torch.no_grad():
            result.append(work())
        reached.set()

    other = threading.Thread(target=run)

    def called(*args, **kwargs):
        if threading.current_thread() is other:
            reached.set()
            left.wait(10)
        elif ready:
            ready.clear()
            other.start()
            reached.wait(0.3)
        return original(*args, **kwargs)

    setattr(module, name, called)
    try:
        yield result
    finally:
        left.set()
        other.join(60)
        delattr(module, name)


@pytest.mark.parametrize("call", ["from_pipeline", "decode"])
def test_a_denoiser_is_right_while_its_pipeline_runs_idle(call):
    pipe, kwargs = tiny.sd_controlnet(tiny.ddim(), num_inference_steps=2)
    prepared = from_pipeline(pipe, **kwargs)
    predict = lambda: prepared.model(prepared.x, prepared.sigmas[:1])
    expected, images = predict(), prepared.decode(prepared.x).images
    with meanwhile(pipe.scheduler, "scale_model_input", predict) as result:
        if call == "decode":
            assert torch.equal(prepared.decode(prepared.x).images, images)
        else:
            assert torch.equal(from_pipeline(pipe, **kwargs).x, prepared.x)
    assert torch.equal(result[0], expected)


@pytest.mark.parametrize("network", ["unet", "controlnet"])
def test_a_network_that_another_thread_calls_itself_is_the_network(network):
    pipe, kwargs = tiny.sd_controlnet(tiny.ddim(), num_inference_steps=2)
    prepared = from_pipeline(pipe, **kwargs)
    extra = {"controlnet_cond": kwargs["image"]} if network == "controlnet" else {}
    text = tiny.randn(1, 1, tiny.TOKENS, tiny.CROSS)
    predict = lambda: getattr(pipe, network)(
        kwargs["latents"], 500, encoder_hidden_states=text, **extra, return_dict=False
    )
    with torch.no_grad():
        expected = predict()
    with meanwhile(pipe.scheduler, "scale_model_input", predict) as result:
        prepared.decode(prepared.x)
    assert torch.equal(result[0][-1], expected[-1])


def test_two_threads_play_two_models_on_one_network():
    pipe, kwargs = tiny.sd_lora(tiny.ddim(), num_inference_steps=2)
    prepared, bound = [], []
    for names in (["one"], ["other"]):
        pipe.unet.set_adapters(names, [0.7])
        prepared.append(from_pipeline(pipe, **kwargs))
    predict = [lambda one=one: one.model(one.x, one.sigmas[:1]) for one in prepared]
    with torch.no_grad():
        expected = [each() for each in predict]
        assert (expected[0] - expected[1]).abs().max() > 1e-2
        with meanwhile(pipe.unet.conv_in, "forward", predict[1]) as result:
            first = predict[0]()
        assert torch.equal(first, expected[0])
        assert torch.equal(result[0], expected[1])
        bind = lambda: bound.append(from_pipeline(pipe, **kwargs))  # while the first model plays
        with meanwhile(pipe.unet.conv_in, "forward", bind):
            predict[0]()
        assert torch.equal(bound[0].model(bound[0].x, bound[0].sigmas[:1]), expected[1])
