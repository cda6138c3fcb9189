"""Encoder and decoder between images and latents, by 2 x 2 patches in an orthonormal basis.

The encoder is an orthogonal map, a shift and one factor for all channels. So it keeps angles, and multiplies
all distances by that factor. A latent has 12 x 16 x 16 = 3072 entries.
"""

import math

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from amdm.shapes.world import Image

SHAPE = (12, 16, 16)
Latent = Float[Tensor, "batch 12 16 16"]

# Over the renders of the first 20,000 training seeds: the mean of every channel of the patches, and the root
# mean square distance from it over all channels. `channel_statistics` computes them.
MEAN = (-1.9395, 0.0001, -0.0014, 0.0, -0.104, 0.0001, -0.0001, 0.0, -0.0455, 0.0, 0.0, 0.0)
SCALE = 0.4396


def basis() -> Float[Tensor, "12 12"]:
    """Return the encoder's orthogonal matrix: a row per channel, columns (colour, row, column) of a patch.

    Channels 0 to 3 are the patch's sum, its change from column to column, from row to row and across, all in
    grey; 4 to 7 are the same in red against blue, 8 to 11 in green against both.
    """
    colours = torch.tensor([[1, 1, 1], [1, 0, -1], [-1, 2, -1]], dtype=torch.float64)
    patches = torch.tensor(
        [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=torch.float64
    )
    rows = torch.kron(colours, patches)
    return rows / rows.square().sum(1, keepdim=True).sqrt()


def _rotate(images: Image) -> Latent:
    """Rearrange 2 x 2 patches into channels, in the basis."""
    patches = rearrange(images, "b c (h p) (w q) -> b (c p q) h w", p=2, q=2)
    return torch.einsum("ij,bjhw->bihw", basis().to(images), patches)


def encode(images: Image) -> Latent:
    """Return the latents of images in [-1, 1]: in training of mean 0 per channel and variance 1 in all."""
    return (_rotate(images) - _mean(images)) / SCALE


def decode(latents: Latent) -> Image:
    """Return the images of latents: the inverse of `encode` up to rounding."""
    patches = torch.einsum("ij,bihw->bjhw", basis().to(latents), latents * SCALE + _mean(latents))
    images: Tensor = rearrange(patches, "b (c p q) h w -> b c (h p) (w q)", p=2, q=2)
    return images


def _mean(like: Tensor) -> Float[Tensor, "12 1 1"]:
    return torch.tensor(MEAN, dtype=like.dtype, device=like.device)[:, None, None]


def channel_statistics(images: Image) -> tuple[Float[Tensor, "12"], float]:
    """Return MEAN and SCALE computed from these images."""
    rotated = _rotate(images.double())
    mean = rotated.mean((0, 2, 3))
    return mean, math.sqrt((rotated - mean[:, None, None]).square().mean().item())
