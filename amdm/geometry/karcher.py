"""The mean on the sphere that does not depend on the order of the models."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.geometry.fold import checked_weights, fold_shares
from amdm.geometry.rows import as_rows, float64, in_range, like, norms
from amdm.geometry.sphere import slerp
from amdm.types import Latent, Share, Weight

Points = Float[Tensor, "batch models n"]
Shares = Float[Tensor, "batch models"]
Mean = Float[Tensor, "batch n"]

ITERATIONS = 24
"""Float64 rounding at right angles, where a step leaves 0.2 of the error; smaller angles need fewer."""
ALL_ROUND = 1e-3
"""Radians from the antipode within which a latent's pull fades to nothing: it comes from all sides there."""
NO_DIRECTION = 1e-6
"""The length of a sum of unit vectors that is too short to have a direction."""
DEPENDENT = 1e-14
"""The length of what is left of a unit vector when it lies in the space of the ones before."""


def karcher_mean(xs: Sequence[Latent], weights: Sequence[Share]) -> Latent:
    """Return the mean on the sphere, independent of the models' order, with the shares of a fold.

    Its direction minimises the sum of share_i * angle(x_i, m)^2 over the sphere (Karcher 1977; on spheres
    Buss & Fillmore 2001, "Spherical averages and applications to spherical splines"), its norm is the sum
    of share_i |x_i|. For two latents that is the slerp of their directions, in closed form, and for two
    of one norm `slerp` itself. For more it is computed in float64 by a fixed number of gradient steps in the
    space that they span. The mean is unique within an open half sphere. Beyond that the result is finite and
    of that norm: a latent opposite to the mean does not pull, and if the weighted sum of the directions
    vanishes, the steps begin at the latent with the largest share. Zero vectors have no direction and count
    in the norm only.

    Args:
        xs: N latents `(batch, *event)`.
        weights: N - 1, as for `slerp_fold` but not one per element: the shares are `fold_shares(weights)`.

    Returns:
        `(batch, *event)`, in the dtype of the first. NaN where the input has one.

    Raises:
        ValueError: not N - 1 weights, no latent, or shapes that do not fit.

    >>> karcher_mean([torch.eye(3)[[i]] for i in range(3)], [1 / 2, 1 / 3])
    tensor([[0.5774, 0.5774, 0.5774]])
    """
    weights = checked_weights(xs, weights, per_pixel=False)
    if len(xs) == 1:
        return xs[0]
    if len(xs) == 2:
        return _mean_of_two(xs[0], xs[1], weights[0])
    rows = float64(torch.stack([as_rows(x) for x in xs], dim=1))
    scaled, lengths, scale = in_range(rows.flatten(0, 1))
    scaled, lengths, sizes = (t.reshape(*rows.shape[:2], -1) for t in (scaled, lengths, lengths / scale))
    sizes = sizes[..., 0]
    weights = [float64(weight) if isinstance(weight, Tensor) else weight for weight in weights]
    shares = torch.stack([s * torch.ones_like(sizes[:, 0]) for s in fold_shares(weights)], dim=1)
    norm, shares = (shares * sizes).sum(1, keepdim=True), shares * (sizes != 0)
    units = scaled / lengths.masked_fill(lengths == 0, math.inf)
    axes = _axes(units)
    points = units @ axes.mT
    mean = _first(points, shares)
    for _ in range(ITERATIONS - 1):
        mean = _descend(points, shares, mean)
    # The last step is taken by the latents themselves: what they do not share an axis with has its gradient.
    mean = _descend(units, shares, (mean[:, None] @ axes)[:, 0])
    return like(norm * mean, xs[0])


def _mean_of_two(a: Latent, b: Latent, weight: Weight) -> Latent:
    """Return the slerp of the two directions, with the mean norm: the closed form."""
    norm_a, norm_b = norms(a), norms(b)
    unit_a, unit_b = (
        as_rows(x) / norm.masked_fill(norm == 0, math.inf)[:, None] for x, norm in ((a, norm_a), (b, norm_b))
    )
    return like(slerp(unit_a, unit_b, weight) * ((1 - weight) * norm_a + weight * norm_b)[:, None], a)


def _axes(units: Points) -> Points:
    """Return orthonormal axes of the space that unit vectors span; surplus axes are zeros.

    Two passes of Gram-Schmidt, which are enough.
    """
    axes = units[:, :0]
    for unit in units.unbind(1):
        rest = unit[:, None]
        for _ in range(2):
            rest = rest - (rest @ axes.mT) @ axes
        length = torch.linalg.vector_norm(rest, dim=2, keepdim=True)
        axes = torch.cat([axes, rest / length.masked_fill(length <= DEPENDENT, math.inf)], dim=1)
    return axes


def _first(points: Points, shares: Shares) -> Mean:
    """Return the direction of the weighted sum; if that is zero, of the vector with the largest share."""
    total = (shares[:, None] @ points)[:, 0]
    length = torch.linalg.vector_norm(total, dim=1, keepdim=True)
    largest = torch.take_along_dim(points, shares.argmax(1)[:, None, None], dim=1)[:, 0]
    return torch.where(length <= NO_DIRECTION, largest, total / length.masked_fill(length == 0, math.inf))


def _descend(points: Points, shares: Shares, mean: Mean) -> Mean:
    """Take one gradient step of length one: the exponential map of the mean of the logarithms at `mean`."""
    tiny, eps = torch.finfo(points.dtype).tiny, torch.finfo(points.dtype).eps
    d = points - mean[:, None]
    chord2 = d.square().sum(2).clamp(tiny, 4 * (1 - eps))
    half = torch.asin(chord2.sqrt() / 2)
    # log(u) = theta/sin(theta) (u - cos(theta) m), with 1 - cos(theta) = chord^2/2 and theta/sin(theta) =
    # 1/(sinc(theta/2) cos(theta/2)), whose pole at the antipode is cut off.
    cosine = half.cos()
    pull = shares * cosine / (torch.sinc(half / math.pi) * cosine.square().clamp(min=(ALL_ROUND / 2) ** 2))
    v = (pull[..., None] * (d + chord2[..., None] / 2 * mean[:, None])).sum(1)
    length = torch.linalg.vector_norm(v, dim=1, keepdim=True).clamp(min=tiny)
    moved = torch.cos(length) * mean + torch.sinc(length / math.pi) * v
    length = torch.linalg.vector_norm(moved, dim=1, keepdim=True)
    stepped: Tensor = moved / length.masked_fill(length == 0, math.inf)
    return stepped
