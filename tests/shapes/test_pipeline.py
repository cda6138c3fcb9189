"""The shapes pipeline, and the shipped models through `from_pipeline`: the images of their own loader."""

import pytest
import torch
from tolerances import assert_equal

from amdm import check_same_ecosystem, sample_amdm, sample_ddim, start_noise
from amdm.diffusers import from_pipeline
from amdm.shapes import denoisers, latents, world
from amdm.shapes.imports import import_beside_torchvision

import_beside_torchvision("diffusers")

from shapes_pipeline import ShapesPipeline  # noqa: E402

from amdm.diffusers.scheduler import AggregatingScheduler, Partners  # noqa: E402

STEPS = 6
# One last bit of the start changes layout's images by 2.5e-5 of their range, the other models' by 3e-6.
SAME = 1e-4


@pytest.fixture(scope="module")
def scenes():
    return world.sample_scenes(world.TEST[:2])


def start(scenes, stream=0):
    """VP latents, the same as `start_noise`'s."""
    sigma = denoisers.sigmas(STEPS)[0].item()
    return start_noise(scenes.seeds.tolist(), latents.SHAPE, sigma, 2)[stream] / (1 + sigma**2) ** 0.5


def pipeline(name):
    pipe = ShapesPipeline.of(name)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def prepare(name, scenes, stream=0):
    return from_pipeline(
        pipeline(name), scenes=scenes, num_inference_steps=STEPS, latents=start(scenes, stream)
    )


@pytest.mark.parametrize(
    "name", ["attribute", *(pytest.param(n, marks=pytest.mark.slow) for n in ("base", "layout", "style"))]
)
def test_images_are_those_of_the_loader(name, scenes):
    prepared = prepare(name, scenes)
    sigmas = denoisers.sigmas(STEPS)
    assert_equal(prepared.sigmas.float(), sigmas, 1e-6)
    images = prepared.decode(sample_ddim(prepared.model, prepared.x, prepared.sigmas, disable=True)).images
    x = start(scenes) * (1 + sigmas[0] ** 2) ** 0.5
    own = sample_ddim(denoisers.load(name), x, sigmas, denoisers.extra_args(name, scenes), disable=True)
    assert_equal(images, latents.decode(own), SAME)
    stock = pipeline(name)(scenes, num_inference_steps=STEPS, latents=start(scenes)).images
    assert_equal(images, stock, SAME)


@pytest.mark.slow
def test_two_of_them_together_are_those_of_the_loader_and_of_the_scheduler(scenes):
    prepared = [prepare(name, scenes, i) for i, name in enumerate(["layout", "attribute"])]
    models, starts = [one.model for one in prepared], [one.x for one in prepared]
    check_same_ecosystem(models, prepared[0].sigmas)
    x = sample_amdm(models, starts, prepared[0].sigmas, window=3, disable=True)
    images = prepared[0].decode(x).images

    names = ["layout", "attribute"]
    own = sample_amdm(
        [denoisers.load(name) for name in names],
        starts,
        denoisers.sigmas(STEPS),
        [denoisers.extra_args(name, scenes) for name in names],
        window=3,
        disable=True,
    )
    assert_equal(images, latents.decode(own), SAME)

    pipe = pipeline("layout")
    partners = Partners([models[1]], latents=start(scenes, 1), window=3)
    pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, partners)
    assert_equal(pipe(scenes, num_inference_steps=STEPS, latents=start(scenes)).images, images, SAME)


def test_it_is_a_pipeline(scenes):
    pipe = pipeline("base")
    generator = torch.Generator().manual_seed(0)
    options = {"num_inference_steps": 2, "output_type": "latent"}
    one = pipe(scenes, **options, eta=1.0, generator=generator, guidance_scale=1.0).images
    assert one.shape == (2, *latents.SHAPE)
    generator.manual_seed(0)
    assert torch.equal(pipe(scenes, **options, eta=1.0, generator=generator, guidance_scale=1.0).images, one)
    for name in ("attribute_edm", "nothing"):
        with pytest.raises(ValueError, match="name must be one of base, layout, attribute, style, got"):
            ShapesPipeline.of(name)
