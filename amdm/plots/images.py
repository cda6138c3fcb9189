"""Grids of images, and the preview of a latent."""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure, SubFigure
from PIL import Image
from torch import Tensor

from amdm.plots.style import WIDTH, empty

# SD 1's latents to RGB in [-1, 1], a row per channel: fitted by keturn,
# https://discuss.huggingface.co/t/decoding-latents-to-rgb-without-upscaling/23204/2
SD_RGB = (
    (0.298, 0.207, 0.208),
    (0.187, 0.286, 0.173),
    (-0.158, 0.189, 0.264),
    (-0.184, -0.271, -0.473),
)
"""Linear factors for Stable Diffusion 1's latents, by keturn."""

Images = Any
"""An image or a sequence of them: PIL's, arrays `(height, width, 3)`, tensors `(3, height, width)`.

Their numbers are bytes or lie in [0, 1]. An array or a tensor may have an axis of the batch in front."""


def image_grid(
    images: Mapping[str, Images], *, rows: Sequence[str] = (), axes: Any = None, size: float | None = None
) -> Figure | SubFigure:
    """Show images as a grid with a column per title and a row per image of the column.

    Args:
        images: images by title, equally many for each.
        rows: names of the rows.
        axes: `(rows, columns)` axes to draw into, as `plt.subplots(..., squeeze=False)` makes them.
        size: the width of an image in inches; by default at most two, with all within a page's width.

    Raises:
        ValueError: columns of different lengths.
    """
    columns = {title: pixels_of(column) for title, column in images.items()}
    counts = {title: len(column) for title, column in columns.items()}
    if len(set(counts.values())) != 1:
        raise ValueError(f"images has columns of different lengths: {counts}")
    count = next(iter(counts.values()))
    if size is None:
        size = min(2.0, (WIDTH - 0.2 * bool(rows)) / len(columns))
    titles = {title: wrap(title, max(8, int(size * 14)), break_long_words=False) for title in columns}
    if axes is None:
        height, width = next(iter(columns.values()))[0].shape[:2]
        head = 0.16 * max(len(lines) for lines in titles.values()) + 0.05
        figure = empty(len(columns) * size + 0.2 * bool(rows), count * size * height / width + head, gap=0.02)
        axes = figure.subplots(count, len(columns), squeeze=False)
    for j, (title, column) in enumerate(columns.items()):
        for i, pixels in enumerate(column):
            axes[i, j].imshow(pixels, interpolation="nearest")
            axes[i, j].set(xticks=[], yticks=[])
            axes[i, j].spines[:].set_visible(False)
        axes[0, j].set_title("\n".join(titles[title]), fontsize=8, pad=3)
    for row, name in zip(axes[:, 0], rows, strict=False):
        row.set_ylabel(name, fontsize=8)
    made: Figure | SubFigure = axes[0, 0].get_figure()
    return made


def pixels_of(images: Images) -> list[np.ndarray]:
    """Return images as arrays of bytes `(height, width, 3)`."""
    if isinstance(images, Tensor):
        host = images.detach().movedim(-3, -1).cpu()
        images = (host.float() if host.is_floating_point() else host).numpy()
    if isinstance(images, Image.Image) or (isinstance(images, np.ndarray) and images.ndim == 3):
        images = [images]
    arrays = []
    for image in images:
        if isinstance(image, Tensor):
            arrays += pixels_of(image)
            continue
        array = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
        if array.ndim != 3:
            raise ValueError(f"an image is an array of shape {array.shape}, expected three axes")
        whole = np.issubdtype(array.dtype, np.integer)
        arrays.append(array if whole else np.rint(255 * np.nan_to_num(array).clip(0, 1)).astype(np.uint8))
    return arrays


def latent_to_rgb(
    latent: Float[Tensor, "batch channels height width"], factors: Sequence[Sequence[float]] = SD_RGB
) -> Float[Tensor, "batch 3 height width"]:
    """Return a preview of latents without their decoder, in [0, 1] and at the latents' size.

    Args:
        latent: a latent without noise, such as a step's `denoised`.
        factors: one row for each channel with its red, green and blue in [-1, 1]; by default Stable Diffusion
            1's.

    Raises:
        ValueError: the latents have another number of channels than there are factors.
    """
    matrix = torch.tensor(factors, dtype=torch.float32, device=latent.device)
    if latent.shape[1] != len(matrix):
        raise ValueError(f"latent has {latent.shape[1]} channels, but factors has {len(matrix)} rows")
    return (torch.einsum("bchw,cr->brhw", latent.float(), matrix) / 2 + 0.5).clamp(0, 1)
