"""Angles and arcs between two latents: eq. (7) of the paper, one pair at a time."""

import math

import torch
from torch import Tensor

from amdm.geometry.rows import SHARE, as_rows, check_same_shape, column, in_range, like, per_element
from amdm.types import Latent, PerSample, Share


def angle(a: Latent, b: Latent) -> PerSample:
    """Return the angle between `a` and `b` in radians, one per sample.

    The half-angle form theta = 2 atan2(|u - v|, |u + v|), with unit vectors u and v, is exact to rounding
    from 0 to pi; the arccos of a cosine loses everything below 3e-4 in float32 (Kahan, "How futile are
    mindless assessments of roundoff", section 12). A zero vector has no direction: its angle and its gradient
    are 0.

    Args:
        a: `(batch, *event)`.
        b: `(batch, *event)`.

    Returns:
        `(batch,)`, in [0, pi]; float32 for half-precision input. NaN where the input has one. Norms may be as
        small as 1e-45 and as large as 1e38.

    Raises:
        TypeError: not floating-point tensors.
        ValueError: the shapes differ.

    >>> angle(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
    tensor([1.5708])
    """
    check_same_shape(a=a, b=b)
    (rows_a, norm_a, _), (rows_b, norm_b, _) = in_range(as_rows(a)), in_range(as_rows(b))
    some_a, some_b, tiny = norm_a.sign(), norm_b.sign(), torch.finfo(rows_a.dtype).tiny
    # Unit vectors, but both zero if one of them is.
    u = rows_a * (some_b / norm_a.clamp(min=tiny))
    v = rows_b * (some_a / norm_b.clamp(min=tiny))
    apart, together = torch.linalg.vector_norm(u - v, dim=1), torch.linalg.vector_norm(u + v, dim=1)
    # The gradient of atan2(0, 0) is NaN: atan2(0, 1) where one of them is zero.
    return 2 * torch.atan2(apart, together + (1 - some_a * some_b)[:, 0])


def slerp(a: Latent, b: Latent, weight: Share) -> Latent:
    """Interpolate on the sphere, eq. (7): `sin((1-w) theta)/sin(theta) a + sin(w theta)/sin(theta) b`.

    `weight` is the share of the *second* argument: 0 gives `a`, 1 gives `b`. The formula is homogeneous, so
    it is the same in VP and VE coordinates. It also holds for unequal norms, and the result has the norm
    sqrt(A^2 |a|^2 + B^2 |b|^2 + 2 A B |a||b| cos theta). With a zero vector it is (1-w) a + w b. For
    an antipodal pair a, -a it is cos(w pi) a to sqrt(eps), the average over all arcs that join them;
    antipodal vectors of unequal norms get coefficients of up to 1/(2 sqrt(eps)).

    Args:
        a: `(batch, *event)`.
        b: `(batch, *event)`.
        weight: in [0, 1]: a number, one per sample, or one per element, such as `(batch, 1, height, width)`.
            The angle is that of the whole latents; only the share of it varies by element. Tensors are not
            read: a weight outside [0, 1] leaves the arc.

    Returns:
        `(batch, *event)`, in `a`'s dtype. NaN where the input has one.

    Raises:
        TypeError: not floating-point tensors, or a weight that is not a number.
        ValueError: the shapes do not fit, or a number outside [0, 1].

    >>> slerp(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), 0.5)
    tensor([[0.7071, 0.7071]])
    """
    theta, weight = angle(a, b), per_element(weight, a, "weight", SHARE, 1.0)
    eps = torch.finfo(theta.dtype).eps
    theta = theta.clamp(eps, math.pi - 2 * eps**0.5)  # at pi the coefficients are infinite
    if isinstance(weight, Tensor) and weight.ndim > 1:
        theta, weight = theta[:, None], weight.flatten(1)
    # A a + B b as (A + B) a + B (b - a): of equal vectors this is a to the last bit.
    share = torch.sin(weight * theta) / torch.sin(theta)
    total = torch.cos((0.5 - weight) * theta) / torch.cos(0.5 * theta)
    rows_a, rows_b = as_rows(a), as_rows(b)
    return like(column(total) * rows_a + column(share) * (rows_b - rows_a), a)
