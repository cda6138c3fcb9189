"""The mean on the sphere that does not depend on the order of the models."""

import math
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.geometry.fold import checked_weights, fold_shares
from amdm.geometry.rows import as_rows, like, norms
from amdm.geometry.sphere import slerp
from amdm.types import Latent, Weight

Basis = Float[Tensor, "batch models n"]
Coefficients = Float[Tensor, "batch models"]
Gram = Float[Tensor, "batch models models"]

ITERATIONS = 24
"""Float64 rounding at right angles, where a step leaves 0.2 of the error; smaller angles need fewer."""


def karcher_mean(xs: Sequence[Latent], weights: Sequence[Weight]) -> Latent:
    """The order-independent mean on the sphere, with the shares that a fold with these weights has.

    Its direction minimises the sum of share_i * angle(x_i, m)^2 over the sphere (Karcher 1977; on spheres
    Buss & Fillmore 2001, "Spherical averages and applications to spherical splines"), its norm is the sum
    of share_i |x_i|. For two latents that is the slerp of their directions, in closed form, and for two
    of one norm `slerp` itself; for more, a fixed number of gradient steps on inner products, so that the
    latents are touched twice as in `slerp_fold`. It is unique within an open half sphere. Zero vectors,
    which have no direction, give a finite result without this meaning.

    Args:
        xs: N latents `(batch, *event)`.
        weights: N - 1, as for `slerp_fold`: the shares are `fold_shares(weights)`.

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
    basis = torch.stack([as_rows(x) for x in xs], dim=1)
    basis[:, 1:] -= basis[:, :1]
    kind = basis.device.type
    with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
        return like((_mean(basis, weights)[:, None] @ basis)[:, 0], xs[0])


def _mean_of_two(a: Latent, b: Latent, weight: Weight) -> Latent:
    """The slerp of their directions, of the mean norm: the closed form."""
    norm_a, norm_b = norms(a), norms(b)
    tiny = torch.finfo(norm_a.dtype).tiny
    unit_a, unit_b = (as_rows(x) / norm.clamp(min=tiny)[:, None] for x, norm in ((a, norm_a), (b, norm_b)))
    return like(slerp(unit_a, unit_b, weight) * ((1 - weight) * norm_a + weight * norm_b)[:, None], a)


def _mean(basis: Basis, weights: Sequence[Weight]) -> Coefficients:
    """The coefficients of the mean in the basis (x_1, x_2 - x_1, ..., x_N - x_1).

    Differences keep small angles exact in float32, where the products of the latents themselves are 1e-3 off
    at 0.015 rad and worthless below 3e-4.
    """
    gram = basis @ basis.mT
    latents = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    latents[1:, 0] = 1
    latents = latents.expand(gram.shape)
    sizes = _inner(gram, latents, latents).clamp(min=0).sqrt()
    directions = latents * (sizes.sign() / sizes.clamp(min=torch.finfo(gram.dtype).tiny))[..., None]
    shares = torch.stack([s * torch.ones_like(sizes[:, 0]) for s in fold_shares(weights)], dim=1)
    mean = _unit(gram, (shares[..., None] * directions).sum(1))
    for _ in range(ITERATIONS):
        mean = _descend(gram, directions, shares, mean)
    return mean * (shares * sizes).sum(1, keepdim=True)


def _descend(
    gram: Gram, directions: Float[Tensor, "batch models models"], shares: Coefficients, mean: Coefficients
) -> Coefficients:
    """One gradient step of length one: the exponential map of the mean of the logarithms at `mean`."""
    tiny, eps = torch.finfo(gram.dtype).tiny, torch.finfo(gram.dtype).eps
    d = directions - mean[:, None]
    chord2 = _inner(gram, d, d).clamp(tiny, 4 * (1 - eps))
    theta = 2 * torch.asin(chord2.sqrt() / 2)
    # log(u) = theta/sin(theta) (u - cos(theta) m), with 1 - cos(theta) = chord^2/2.
    pull = shares * theta / torch.sin(theta)
    v = (pull[..., None] * (d + chord2[..., None] / 2 * mean[:, None])).sum(1)
    length = _inner(gram, v, v).clamp(min=tiny).sqrt()[:, None]
    return _unit(gram, torch.cos(length) * mean + torch.sinc(length / math.pi) * v)


def _inner(
    gram: Gram, a: Float[Tensor, "batch *rows models"], b: Float[Tensor, "batch *rows models"]
) -> Tensor:
    """<a, b> of vectors given by their coefficients."""
    return torch.einsum("b...i,bij,b...j->b...", a, gram, b)


def _unit(gram: Gram, a: Coefficients) -> Coefficients:
    """`a` scaled to unit length; a zero vector stays zero."""
    norm = _inner(gram, a, a).clamp(min=0).sqrt()
    return a / norm.clamp(min=torch.finfo(gram.dtype).tiny)[:, None]
