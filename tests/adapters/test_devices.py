"""A device without float64, as Apple's GPUs: emulated."""

from itertools import pairwise

import pytest
import torch
from adapters import tiny_diffusers as tiny
from ambient import NoFloat64
from diffusers import EulerDiscreteScheduler, StableDiffusionImg2ImgPipeline
from tolerances import assert_equal

from amdm.diffusers import from_pipeline, sigmas_from_scheduler
from amdm.diffusers.scheduler import AggregatingScheduler, Partners

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def on_device(pipe, kwargs):
    """Put a pipeline's latents, and its scheduler's tensors as `set_timesteps` leaves them, on the device."""
    scheduler = pipe.scheduler
    set_timesteps = scheduler.set_timesteps

    def moved(*args, **options):
        set_timesteps(*args, **options)
        for name in ("timesteps", "sigmas", "alphas_cumprod"):
            if hasattr(scheduler, name):
                setattr(scheduler, name, getattr(scheduler, name).as_subclass(NoFloat64))

    scheduler.set_timesteps = moved
    if "latents" in kwargs:
        kwargs["latents"] = kwargs["latents"].as_subclass(NoFloat64)
    return pipe, kwargs


BETAS = {key: tiny.SD_SCHEDULE[key] for key in ("beta_start", "beta_end", "beta_schedule")}
PIPELINES = {
    "ddim": lambda: tiny.sd(tiny.ddim(), num_inference_steps=4),
    "euler": lambda: tiny.sd(EulerDiscreteScheduler(**BETAS), num_inference_steps=4),
    "flow": lambda: tiny.sd3(num_inference_steps=4),
}


@pytest.mark.parametrize("kind", PIPELINES)
def test_a_pipeline_without_float64_is_the_one_with_it(kind):
    pipe, kwargs = PIPELINES[kind]()
    expected = pipe(**kwargs).images
    pipe, kwargs = on_device(*PIPELINES[kind]())
    prepared = from_pipeline(pipe, **kwargs)
    x, sigmas = prepared.x.as_subclass(NoFloat64), prepared.sigmas.as_subclass(NoFloat64)
    for sigma, sigma_next in pairwise(sigmas):
        denoised = prepared.model(x, sigma.expand(1))
        x = denoised + sigma_next / sigma * (x - denoised)
    assert isinstance(x, NoFloat64) and x.dtype == torch.float32
    assert_equal(prepared.decode(x).images.cpu(), expected, 5e-6)


def test_an_image_leaves_the_products_of_alphas_on_the_device():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=4)
    parts = {name: part for name, part in pipe.components.items() if name != "image_encoder"}
    del kwargs["latents"]
    pipe = tiny.quiet(StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False))
    pipe, kwargs = on_device(pipe, kwargs)
    assert len(from_pipeline(pipe, **kwargs, image=tiny.image_of(64), strength=0.5).sigmas) == 3
    assert sigmas_from_scheduler(pipe.scheduler, 4).dtype == torch.float64


def test_the_scheduler_without_float64_is_the_one_with_it():
    pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=4)
    partner = from_pipeline(pipe, **kwargs).model
    images = []
    for on in (lambda *both: both, on_device):
        pipe, kwargs = tiny.sd(tiny.ddim(), num_inference_steps=4)
        pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([partner], window=0.5))
        pipe, kwargs = on(pipe, kwargs)
        images.append(pipe(**kwargs, eta=0.5, generator=torch.Generator().manual_seed(1)).images)
    assert isinstance(images[1], NoFloat64) and torch.equal(images[1].cpu(), images[0])
