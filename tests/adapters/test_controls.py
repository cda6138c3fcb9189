"""A pipeline's two predictions and its denoiser without control, beside the pipeline's own runs."""

from functools import partial

import pytest
import torch
from adapters import tiny_diffusers as tiny
from adapters.test_paper_systems import interact, migc
from tolerances import assert_equal

from amdm import projective_guidance, sample_ddim
from amdm.diffusers import from_pipeline
from amdm.diffusers.network import NetworkDenoiser
from amdm.diffusers.scheduler import Partners

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
STEPS = 5
TOLERANCE = 5e-6


def made(make, **kwargs):
    return partial(make, tiny.ddim(), num_inference_steps=STEPS, **kwargs)


PIPELINES = {name: made(make) for name, make in tiny.RECIPES.items()} | {
    "two ControlNets": made(tiny.sd_controlnet, several=True),
    "ControlNet in guess mode": made(tiny.sd_controlnet, guess_mode=True),
    "ControlNet that ends": made(tiny.sd_controlnet, control_guidance_end=0.4),
    "ControlNet-XS": made(tiny.sd_controlnet_xs),
    "two prompts": made(tiny.sd, prompt=["a cat", "a dog"], negative_prompt=["fog", "rain"], batch=2),
    "SD3": partial(tiny.sd3, num_inference_steps=STEPS),
}
TWO_IMAGES = {"batch": 2, "num_images_per_prompt": 2}


def drawn(model, prepared):
    x = sample_ddim(model, prepared.x, prepared.sigmas, disable=True)
    return prepared.decode(x).images


class Rows:
    """Counts the rows that a network sees; the network stays itself."""

    def __init__(self, network):
        self.seen = []
        self.hook = network.register_forward_pre_hook(self, with_kwargs=True)

    def __call__(self, network, args, kwargs):
        self.seen.append(len(args[0] if args else kwargs["hidden_states"]))


@pytest.mark.parametrize("name", PIPELINES)
def test_both_predictions_make_the_guided_one(name):
    """At every level; the conditional one alone is the same from half of the rows."""
    pipe, kwargs = PIPELINES[name]()
    prepared = from_pipeline(pipe, **kwargs)
    model, x, rows = prepared.model, prepared.x, Rows(prepared.model.network)
    for sigma in prepared.sigmas[:-1].tolist():
        level = x.new_full((len(x),), sigma)
        uncond, cond = model.both(x, level)
        scale = model.guidance_at(level)
        assert scale == 7.5
        assert_equal(uncond + scale * (cond - uncond), model(x, level), TOLERANCE)
        assert_equal(model.conditional(x, level), cond, TOLERANCE)
    assert rows.seen == [2 * len(x), 2 * len(x), len(x)] * (len(prepared.sigmas) - 1)


@pytest.mark.parametrize("name", ["text", "controlnet", "ip_adapter", "t2i_adapter", "sdxl"])
def test_the_conditional_prediction_of_several_images(name):
    pipe, kwargs = tiny.RECIPES[name](tiny.ddim(), num_inference_steps=STEPS, **TWO_IMAGES)
    if name == "sdxl":
        kwargs |= {"latents": tiny.randn(7, 2, 4, 8, 8)}
    prepared = from_pipeline(pipe, **kwargs)
    level = prepared.x.new_full((2,), 3.0)
    cond = prepared.model.both(prepared.x, level)[1]
    assert_equal(prepared.model.conditional(prepared.x, level), cond, TOLERANCE)
    assert not torch.equal(cond[0], cond[1])


def test_guidance_in_two_calls_has_a_conditional_call():
    """FLUX's true guidance."""
    embeds = {f"negative_{name}": value for name, value in tiny.xl_embeds().items() if "neg" not in name}
    embeds = {name: value + 1 for name, value in embeds.items()}
    pipe, kwargs = tiny.flux(num_inference_steps=STEPS, true_cfg_scale=4.0, **embeds)
    prepared = from_pipeline(pipe, **kwargs)
    model, level = prepared.model, prepared.x.new_full((1,), 3.0)
    uncond, cond = model.both(prepared.x, level)
    assert_equal(uncond + 4.0 * (cond - uncond), model(prepared.x, level), TOLERANCE)
    rows = Rows(model.network)
    assert torch.equal(model.conditional(prepared.x, level), cond) and rows.seen == [1]


def test_without_guidance_there_is_one_prediction():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=STEPS)
    prepared = from_pipeline(pipe, **kwargs | {"guidance_scale": 1.0})
    level = prepared.x.new_full((1,), 3.0)
    assert torch.equal(prepared.model.conditional(prepared.x, level), prepared.model(prepared.x, level))
    assert prepared.model.guidance_at(level) == 1
    with pytest.raises(
        ValueError, match=r"^the model was prepared with guidance_scale 1.0 and has no uncond"
    ):
        prepared.model.both(prepared.x, level)
    rescaled = from_pipeline(pipe, **kwargs, guidance_rescale=0.7).model
    with pytest.raises(ValueError, match=r"^the model was prepared with guidance_rescale 0.7, expected 0"):
        rescaled.both(prepared.x, level)


@pytest.mark.usefixtures("unchecked")
def test_a_prepared_pipeline_in_the_place_of_its_model_is_named():
    pipe, kwargs = tiny.sd_controlnet(tiny.ddim(), num_inference_steps=STEPS)
    prepared = from_pipeline(pipe, **kwargs)
    model = prepared.model
    expected = r" is Prepared, expected its \.model or its \.without_control\(\)"
    run = partial(projective_guidance, [model, model], prepared.x, prepared.sigmas)
    for background, name in ((prepared, "background"), ([prepared], r"background\[0\]")):
        with pytest.raises(TypeError, match=f"^{name}{expected}"):
            run(background=background)
        with pytest.raises(TypeError, match=f"^{name}{expected}"):
            Partners([model], background=background, guidance=7.5)
    for make in (Partners, partial(sample_ddim, x=prepared.x, sigmas=prepared.sigmas)):
        with pytest.raises(TypeError, match=f"^model(s\\[0\\])?{expected}"):
            make([prepared] if make is Partners else prepared)


def test_a_prepared_pipeline_prints_its_shapes():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=STEPS)
    prepared = from_pipeline(pipe, **kwargs)
    first, last = prepared.sigmas[0].item(), prepared.sigmas[-1].item()
    levels = f"{STEPS} steps from sigma {first:.4g} to {last:.4g}"
    assert repr(prepared) == f"Prepared(UNet2DConditionModel, {levels}, x=(1, 4, 8, 8))"


def test_guidance_that_is_a_function_of_the_level():
    network = lambda x, timestep, c: (c * x,)
    sigmas = torch.tensor([0.1, 1.0, 10.0])
    recipe = lambda call: call.with_kwargs(c=torch.tensor([1.0, 1.0, 2.0, 3.0])[:, None])
    model = NetworkDenoiser(network, "sample", sigmas, [recipe], guidance=lambda sigma: sigma)
    x, level = torch.ones(2, 3), torch.tensor([1.0, 2.0])
    uncond, cond = model.both(x, level)
    assert torch.equal(model(x, level), uncond + level[:, None] * (cond - uncond))
    assert torch.equal(model.guidance_at(level), level) and torch.equal(model.conditional(x, level), cond)


# Without control


def scaled(name, value=0.0):
    return lambda pipe, kwargs: kwargs.update({name: value})


OFF = {
    "controlnet": scaled("controlnet_conditioning_scale"),
    "sdxl_controlnet": scaled("controlnet_conditioning_scale"),
    "two ControlNets": scaled("controlnet_conditioning_scale", [0.0, 0.0]),
    "ControlNet in guess mode": scaled("controlnet_conditioning_scale"),
    "ControlNet that ends": scaled("controlnet_conditioning_scale"),
    "ControlNet-XS": scaled("controlnet_conditioning_scale"),
    "t2i_adapter": scaled("adapter_conditioning_scale"),
    "sdxl_t2i_adapter": scaled("adapter_conditioning_scale"),
    "gligen": scaled("gligen_scheduled_sampling_beta"),
    "ip_adapter": lambda pipe, kwargs: pipe.set_ip_adapter_scale(0.0),
    "sdxl_ip_adapter": lambda pipe, kwargs: pipe.set_ip_adapter_scale(0.0),
    "lora": lambda pipe, kwargs: pipe.unet.disable_lora(),
}


@pytest.mark.parametrize("name", OFF)
def test_without_control_it_is_the_pipeline_with_its_control_off(name):
    pipe, kwargs = PIPELINES[name]()
    prepared = from_pipeline(pipe, **kwargs)
    without, controlled = prepared.without_control(), drawn(prepared.model, prepared)
    ours = drawn(without, prepared)
    assert without.network is prepared.model.network and without.guidance == 7.5
    OFF[name](pipe, kwargs)
    assert_equal(ours, pipe(**kwargs).images, TOLERANCE)
    assert_equal(drawn(prepared.model, prepared), controlled, TOLERANCE)  # which it does not change
    assert (ours - controlled).abs().max() > 1e-3
    with pytest.raises(ValueError, match=r"^no control is on that can be switched off: found none"):
        from_pipeline(pipe, **kwargs).without_control()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "name", "off", "tol"),
    [
        (interact, "gligen", {"interactdiffusion_scheduled_sampling_beta": 0.0}, TOLERANCE),
        (migc, "migc", {"MIGCsteps": -1}, 2e-5),
    ],
)
def test_the_papers_systems_without_their_control(make, name, off, tol):
    pipe, kwargs = make()
    prepared = from_pipeline(pipe, **kwargs)
    ours = drawn(prepared.without_control(name), prepared)
    assert_equal(ours, pipe(**kwargs | off).images, tol)
    level = prepared.x.new_full((1,), 5.0)
    cond = prepared.model.both(prepared.x, level)[1]
    assert_equal(prepared.model.conditional(prepared.x, level), cond, tol)


def test_some_of_the_controls():
    pipe, kwargs = tiny.sd_controlnet(tiny.ddim(), num_inference_steps=STEPS)
    kwargs |= tiny.with_ip_adapter(pipe)
    prepared = from_pipeline(pipe, **kwargs)
    images = {
        names: drawn(prepared.without_control(*names), prepared)
        for names in (("controlnet",), ("ip_adapter",), ("controlnet", "ip_adapter"), ())
    }
    assert torch.equal(images[()], images["controlnet", "ip_adapter"])
    off = {**kwargs, "controlnet_conditioning_scale": 0.0}
    assert_equal(images[("controlnet",)], pipe(**off).images, TOLERANCE)
    pipe.set_ip_adapter_scale(0.0)
    assert_equal(images[("ip_adapter",)], pipe(**kwargs).images, TOLERANCE)
    assert_equal(images[()], pipe(**off).images, TOLERANCE)


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_switched_off():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=STEPS)
    with pytest.raises(ValueError, match=r"^no control is on that can be switched off"):
        from_pipeline(pipe, **kwargs).without_control()
    pipe, kwargs = tiny.sd_lora(tiny.ddim(), num_inference_steps=STEPS)
    with pytest.raises(ValueError, match=r"^no gligen is on that can be switched off: found lora"):
        from_pipeline(pipe, **kwargs).without_control("gligen")
    with pytest.raises(ValueError, match=r"^controls has 'loras', expected one of controlnet"):
        from_pipeline(pipe, **kwargs).without_control("loras")
    pipe.unet.fuse_lora(adapter_names=["one"])
    with pytest.raises(ValueError, match=r"^the network's LoRA 'one' is fused into its weights"):
        from_pipeline(pipe, **kwargs).without_control()
