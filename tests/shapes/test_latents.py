"""Latents: an orthogonal map and its inverse, constants as said, and Stable Diffusion's schedule."""

import pytest
import torch

from amdm.shapes.denoisers import training_sigmas
from amdm.shapes.imports import import_beside_torchvision
from amdm.shapes.latents import MEAN, SCALE, basis, channel_statistics, decode, encode
from amdm.shapes.world import TRAIN, render, sample_scenes


@pytest.fixture(scope="module")
def images():
    return render(sample_scenes(TRAIN[:2000]))


def test_the_basis_is_orthogonal():
    torch.testing.assert_close(basis() @ basis().T, torch.eye(12, dtype=torch.float64), atol=1e-15, rtol=0)


def test_decoding_undoes_encoding(images):
    assert encode(images).shape == (2000, 12, 16, 16)
    torch.testing.assert_close(decode(encode(images)), images, atol=1e-6, rtol=0)
    double = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(decode(encode(double)), double, atol=1e-14, rtol=0)


def test_distances_are_those_of_images_over_the_scale(images):
    image, other = images[:500].double(), images[500:1000].double()
    between = (encode(image) - encode(other)).flatten(1).norm(dim=1)
    torch.testing.assert_close(between, (image - other).flatten(1).norm(dim=1) / SCALE)


def test_the_constants_are_those_of_training_renders(images):
    """On a tenth of the scenes that they were made from."""
    mean, scale = channel_statistics(images)
    torch.testing.assert_close(mean, torch.tensor(MEAN, dtype=torch.float64), atol=0.02, rtol=0)
    assert scale == pytest.approx(SCALE, rel=0.01)


def test_latents_are_centred_with_unit_variance(images):
    latents = encode(images)
    assert latents.mean((0, 2, 3)).abs().max() < 0.05
    assert latents.square().mean().item() == pytest.approx(1, abs=0.02)


def test_a_flat_image_has_sums_only():
    latents = rotated(torch.full((1, 3, 32, 32), 0.5))
    torch.testing.assert_close(latents[0, 0], torch.full((16, 16), 0.5 * 12**0.5))
    assert latents[0, 1:].abs().max() < 1e-6


def rotated(images):
    """The encoder without its centre and scale."""
    return encode(images) * SCALE + torch.tensor(MEAN)[:, None, None]


def test_the_schedule_is_stable_diffusions():
    schedulers = import_beside_torchvision("diffusers")
    scheduler = schedulers.DDPMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    )
    ours = 1 / (1 + training_sigmas() ** 2)
    assert ours.shape == (1000,) and ours[0].item() == pytest.approx(1 - 0.00085, abs=1e-15)
    torch.testing.assert_close(ours.float(), scheduler.alphas_cumprod, rtol=1e-4, atol=1e-6)
