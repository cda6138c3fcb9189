"""Folding N latents into one: eq. (7) for more than two models, and what it is compared with.

Every fold is `fold(xs, weights)`: N latents, N - 1 weights, each the share of the *later* argument, from
left to right: m_1 = x_1, m_k = merge(m_{k-1}, x_k, w_{k-1}).

The spherical fold is computed in Gram form. Every m_k is a combination of the x_i, so the fold is scalar
work on inner products between one pass over the latents and one weighted sum. The products are those of
(x_1, x_2 - x_1, ..., x_N - x_1): differences keep small angles exact in float32, where the plain Gram
matrix is 1e-3 off at 0.015 rad and worthless below 3e-4.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.geometry.rows import as_rows, check_same_shape, column, like, per_sample
from amdm.geometry.sphere import arc_coefficients
from amdm.types import Latent, PerSample, Weight

Basis = Float[Tensor, "batch models n"]
Coefficients = Float[Tensor, "batch models"]
Gram = Float[Tensor, "batch models models"]


def slerp_fold(xs: Sequence[Latent], weights: Sequence[Weight]) -> Latent:
    """Spherical aggregation, eq. (7), as a left fold over N latents.

    `slerp_fold([x], [])` is `x` itself; equal latents come back bit for bit. The order matters:
    `karcher_mean` is the mean that does not depend on it. Zero vectors and antipodal pairs are merged as
    in `slerp`; one that is 3 sqrt(eps) of the other or shorter (1e-3 in float32) counts as zero. Toward
    antipodal pairs the Gram form loses digits as eps/(pi - theta)^2, `slerp` as eps/(pi - theta): at 3 rad
    2e-13 of the norm in float64, 2e-4 in float32 at SD's size. In float32 norms up to 4e9 do not overflow.

    Args:
        xs: N latents `(batch, *event)`.
        weights: N - 1, in [0, 1], each a number or one per sample; w_k is the share of x_{k+1} against
            everything before it (`fold_shares`).

    Returns:
        `(batch, *event)`, in the dtype of the first. NaN where the input has one.

    Raises:
        ValueError: not N - 1 weights, no latent, or shapes that do not fit.

    >>> quarter_turn = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])]
    >>> slerp_fold(quarter_turn, [0.5])
    tensor([[0.7071, 0.7071]])
    """
    weights = checked_weights(xs, weights)
    if len(xs) == 1:
        return xs[0]
    basis = difference_basis(xs)
    gram = basis @ basis.mT
    # The first merge needs no products but the matrix's own: it is the whole fold of two.
    total, share = arc_of_products(gram[:, 0, 0], gram[:, 0, 1], gram[:, 1, 1], weights[0])
    merged = torch.stack([total, share] + [torch.zeros_like(total)] * (len(xs) - 2), dim=1)
    if len(xs) > 2:
        for latent, weight in zip(in_basis(gram)[2:], weights[1:], strict=True):
            merged = merge(gram, merged, latent, weight)
    return combine(merged, basis, xs[0])


def lerp_fold(xs: Sequence[Latent], weights: Sequence[Weight]) -> Latent:
    """Linear aggregation `(1-w) m + w x` as a left fold: the paper's linear ablation (section 4.2).

    Arguments, result and errors as in `slerp_fold`. It shortens latents that disagree: two independent
    ones of norm r give r/sqrt(2) at w = 0.5.
    """
    weights = checked_weights(xs, weights)
    rows = [as_rows(x) for x in xs]
    merged = rows[0]
    for share, row in zip(fold_shares(weights)[1:], rows[1:], strict=True):
        merged = merged + column(share) * (row - rows[0])
    return like(merged, xs[0])


def orthogonal_mix(xs: Sequence[Latent], weights: Sequence[Weight]) -> Latent:
    """`w m + sqrt(1 - w^2) x` as a left fold: what the authors' published code computes, for comparison.

    It is *not* eq. (7). It is a point of the great circle only when the two are orthogonal, and there its
    weight is the cosine of the angle from the *accumulated* latent: w = 0.5 is eq. (7) at a share of 2/3.
    Nearly parallel latents come back 1.366 times as long at w = 0.5. For three models the published code
    scales the third by a further sqrt(1 - w_1^2), so its squared coefficients do not sum to one
    (github.com/Hammour-steak/AMDM, dba837a); this fold keeps them at one.

    Arguments, result and errors as in `slerp_fold`, but for the meaning of the weights.
    """
    weights = checked_weights(xs, weights)
    merged = as_rows(xs[0])
    for weight, x in zip(weights, xs[1:], strict=True):
        merged = column(weight) * merged + column((1 - weight * weight) ** 0.5) * as_rows(x)
    return like(merged, xs[0])


def fold_shares(weights: Sequence[Weight]) -> tuple[Weight, ...]:
    """The N shares that a fold with N - 1 weights gives its arguments at small angles; they sum to one.

    Equal shares for N models need the weights 1/2, 1/3, ..., read from the left: w_k = 1/(k+1).

    >>> tuple(round(share, 3) for share in fold_shares([0.5, 0.65]))
    (0.175, 0.175, 0.65)
    """
    shares: tuple[Weight, ...] = (1.0,)
    for weight in weights:
        shares = (*(share * (1 - weight) for share in shares), weight)
    return shares


def difference_basis(xs: Sequence[Latent]) -> Basis:
    """(x_1, x_2 - x_1, ..., x_N - x_1) as rows."""
    basis = torch.stack([as_rows(x) for x in xs], dim=1)
    basis[:, 1:] -= basis[:, :1]
    return basis


def in_basis(gram: Gram) -> tuple[Coefficients, ...]:
    """The coefficients of x_1, ..., x_N in their difference basis."""
    latents = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    latents[1:, 0] = 1
    return latents.expand(gram.shape).unbind(1)


def combine(coefficients: Coefficients, basis: Basis, x: Latent) -> Latent:
    """The combination of the basis with these coefficients, in the shape and dtype of `x`."""
    return like((coefficients[:, None] @ basis)[:, 0], x)


def merge(gram: Gram, a: Coefficients, b: Coefficients, weight: Weight) -> Coefficients:
    """One slerp between two vectors given by their coefficients."""
    d = b - a
    pair = torch.stack([a, d], dim=1)
    norm2_a, along, _, norm2_d = (pair @ gram @ pair.mT).flatten(1).unbind(1)
    total, share = arc_of_products(norm2_a, along, norm2_d, weight)
    return total[:, None] * a + share[:, None] * d


def arc_of_products(
    norm2_a: PerSample, along: PerSample, norm2_d: PerSample, weight: Weight
) -> tuple[PerSample, PerSample]:
    """The coefficients of eq. (7), as `arc_coefficients`, from |a|^2, <a, d> and |d|^2 with d = b - a."""
    # theta = atan2(|a x b|, <a, b>), and |a x b|^2 = |a x d|^2 = |a|^2 |d|^2 - <a, d>^2 (Lagrange).
    # The floor keeps the infinite slope of sqrt at 0 away.
    info = torch.finfo(norm2_a.dtype)
    area2 = (norm2_a * norm2_d - along * along).clamp(min=info.tiny)
    inner = norm2_a + along
    theta = torch.atan2(area2.sqrt(), inner)
    # One of them is zero to rounding: no direction, no angle.
    theta = theta * (torch.minimum(norm2_a, inner + along + norm2_d) >= 8 * info.eps * norm2_d)
    return arc_coefficients(theta, weight)


def checked_weights(xs: Sequence[Latent], weights: Sequence[Weight]) -> list[Weight]:
    """The weights, ready for rows; raise ValueError unless they are N - 1 for N latents of one shape."""
    if not xs or len(weights) != len(xs) - 1:
        raise ValueError(
            f"weights has {len(weights)} entries but there are {len(xs)} latents: expected N - 1"
        )
    check_same_shape(**{f"xs[{i}]": x for i, x in enumerate(xs)})
    return [per_sample(weight, xs[0], f"weights[{i}]") for i, weight in enumerate(weights)]
