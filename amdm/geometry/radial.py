"""Movement of a latent along the ray toward a mean, eq. (8) of the paper, and the shell it aims at."""

import math
from typing import Any

import torch
from torch import Tensor

from amdm.checks import check_number, check_switch, check_whole
from amdm.geometry.rows import as_rows, check_same_shape, like, per_sample, row_norms
from amdm.types import Latent, Weight


def radial_correct(
    x: Latent, mean: Latent, length: Weight, *, radius: Weight | None = None, clip: bool = True
) -> Latent:
    """Move `x` by `length` toward `mean`, each sample by its own distance: deviation optimisation, eq. (8).

    x'' = x - step (x - mean) / |x - mean|, with

    * step = min(length, |x - mean|) by default: the mean is the target (Corollary 3.3) and is not overshot.
      Models that agree differ by rounding only, which a step of exactly `length` would amplify.
    * a target `radius`: step = clip(|x - mean| - radius, -length, length), toward the shell of that radius
      about the mean, from either side and never past it. `shell_radius(n, std)` is the shell of Prop. 3.2.
    * `clip=False`: step = `length`, eq. (8) to the letter, past the mean if `length` is larger.

    At x = mean there is no direction, and x is returned.

    Args:
        x: `(batch, *event)`, the aggregated latent x'.
        mean: `(batch, *event)`, the mean of model i's step.
        length: eq. (8)'s eta, not negative, in the units of `x`: multiply the paper's VP lengths by
            sqrt(1 + sigma^2) for VE latents at sigma. A number, or one per sample.
        radius: not negative, in the units of `x`. A number, or one per sample.
        clip: False for eq. (8) to the letter; `radius` is then not used.

    Returns:
        `(batch, *event)`, in `x`'s dtype. NaN where the input has one.

    Raises:
        TypeError: not floating-point tensors, or a length or radius that is not a number.
        ValueError: the shapes do not fit, or a number is negative (tensors are not read).

    >>> radial_correct(torch.tensor([[5.0, 0.0]]), torch.zeros(1, 2), 1.0)
    tensor([[4., 0.]])
    """
    check_same_shape(x=x, mean=mean)
    check_switch(clip, "clip")
    length = per_sample(length, x, "length", "0 or more")
    if radius is not None:
        radius = per_sample(radius, x, "radius", "0 or more")
    if not clip and not isinstance(length, Tensor) and length == math.inf:
        raise ValueError("length is inf, expected a finite one with clip=False")
    rows = as_rows(x)
    rows_mean = as_rows(mean).to(rows)
    distance: Any = row_norms(rows - rows_mean)
    if not clip:
        step = length
    elif radius is None:
        step = distance.clamp(max=length)
    else:
        step = (distance - radius).clamp(-length, length)
    # The sign is 0 where x = mean: no direction, no step, and not 0/0.
    some = distance.sign()
    fraction = step * some / (distance + (1 - some))
    return like(torch.lerp(rows, rows_mean, fraction[:, None]), x)


def shell_radius(n: int, std: float) -> float:
    """Return sqrt(n) std: the radius at which an n-dimensional Gaussian has its mass, in the units of `std`.

    It is the shell of Proposition 3.2.

    >>> shell_radius(16384, 0.5)
    64.0
    """
    check_whole(n, "n", "a whole number from 1 to 2^63", lambda n: 1 <= n < 2**63)
    check_number(std, "std", "a finite number of 0 or more", lambda std: std >= 0)
    return math.sqrt(n) * std
