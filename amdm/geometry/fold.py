"""Folds of N latents into one: eq. (7) for more than two models, and the folds it is compared with.

Every fold is `fold(xs, weights)`: N latents, N - 1 weights, each the share of the *later* argument, from
left to right: m_1 = x_1, m_k = merge(m_{k-1}, x_k, w_{k-1}).
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from amdm.checks import check_number, check_real, is_list, kind_of
from amdm.geometry.rows import (
    SHARE,
    as_rows,
    check_same_shape,
    column,
    latent_column,
    like,
    per_element,
    per_sample,
)
from amdm.geometry.sphere import slerp
from amdm.types import Latent, Share


def slerp_fold(xs: Sequence[Latent], weights: Sequence[Share]) -> Latent:
    """Fold N latents by spherical interpolation, eq. (7): `slerp(slerp(x_1, x_2, w_1), x_3, w_2)`.

    `slerp_fold([x], [])` is `x` itself; equal latents are returned bit for bit. The order matters:
    `karcher_mean` is the mean that does not depend on it. Zero vectors and antipodal pairs are merged as
    in `slerp`.

    Args:
        xs: N latents `(batch, *event)`.
        weights: N - 1, in [0, 1], each a number, one per sample, or one per element as in `slerp`; w_k is
            the share of x_{k+1} against everything before it (`fold_shares`).

    Returns:
        `(batch, *event)`, in the dtype of the first. NaN where the input has one.

    Raises:
        TypeError: not lists of floating-point latents and of numbers.
        ValueError: not N - 1 weights in [0, 1] (tensors are not read), no latent, or shapes that do not fit.

    >>> quarter_turn = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])]
    >>> slerp_fold(quarter_turn, [0.5])
    tensor([[0.7071, 0.7071]])
    """
    weights = checked_weights(xs, weights)
    merged = xs[0].to(torch.promote_types(xs[0].dtype, torch.float32))  # rounded to half precision once
    for x, weight in zip(xs[1:], weights, strict=True):
        merged = slerp(merged, x, weight)
    return merged.to(xs[0].dtype)


def lerp_fold(xs: Sequence[Latent], weights: Sequence[Share]) -> Latent:
    """Fold N latents by `(1-w) m + w x`: the paper's linear ablation (section 4.2).

    Arguments, result and errors are those of `slerp_fold`. It shortens latents that disagree: two independent
    latents of norm r give norm r/sqrt(2) at w = 0.5.
    """
    weights = checked_weights(xs, weights)
    rows = [as_rows(x) for x in xs]
    merged = rows[0]
    for share, row in zip(fold_shares(weights)[1:], rows[1:], strict=True):
        merged = merged + column(share) * (row - rows[0])
    return like(merged, xs[0])


def orthogonal_mix(xs: Sequence[Latent], weights: Sequence[Share]) -> Latent:
    """Fold N latents by `w m + sqrt(1 - w^2) x`: what the authors' published code computes, for comparison.

    It is *not* eq. (7). The result is on the great circle only when the two are orthogonal, and there the
    weight is the cosine of the angle from the *accumulated* latent: w = 0.5 is eq. (7) at a share of 2/3.
    Nearly parallel latents become 1.366 times as long at w = 0.5. For three models the published code
    scales the third by a further sqrt(1 - w_1^2), so its squared coefficients do not sum to one
    (github.com/Hammour-steak/AMDM, dba837a); this fold keeps them at one.

    Arguments, result and errors are those of `slerp_fold`, except for the meaning of the weights.
    """
    weights = checked_weights(xs, weights)
    merged = as_rows(xs[0])
    for weight, x in zip(weights, xs[1:], strict=True):
        merged = column(weight) * merged + column((1 - weight * weight) ** 0.5) * as_rows(x)
    return like(merged, xs[0])


def fold_shares(weights: Sequence[Share]) -> tuple[Share, ...]:
    """Return the N shares that a fold with N - 1 weights gives its arguments at small angles. Their sum is 1.

    Equal shares for N models need the weights 1/2, 1/3, ..., read from the left: w_k = 1/(k+1).

    >>> tuple(round(share, 3) for share in fold_shares([0.5, 0.65]))
    (0.175, 0.175, 0.65)
    """
    if not is_list(weights):
        raise TypeError(f"weights is {kind_of(weights)}, expected a list of shares in [0, 1], one a merge")
    shares: tuple[Share, ...] = (1.0,)
    for i, each in enumerate(weights):
        weight = _share(each, f"weights[{i}]")
        shares = (*(share * (1 - weight) for share in shares), weight)
    return shares


def checked_weights(xs: Sequence[Latent], weights: Sequence[Share], *, per_pixel: bool = True) -> list[Share]:
    """Return the weights in the form that rows need; raise unless N - 1 for N latents of one shape."""
    if not isinstance(xs, Sequence) or isinstance(xs, str | bytes):
        raise TypeError(f"xs is {kind_of(xs)}, expected a list of latents")
    if not is_list(weights):
        raise TypeError(f"weights is {kind_of(weights)}, expected a list of N - 1 shares in [0, 1]")
    if not xs or len(weights) != len(xs) - 1:
        raise ValueError(
            f"weights has {len(weights)} entries but there are {len(xs)} latents: expected N - 1"
        )
    check_same_shape(**{f"xs[{i}]": x for i, x in enumerate(xs)})
    weights = [_of_samples(weight, xs[0]) for weight in weights]
    of = per_element if per_pixel else per_sample
    shares = [of(weight, xs[0], f"weights[{i}]", SHARE, 1.0) for i, weight in enumerate(weights)]
    if any(isinstance(share, Tensor) and share.ndim > 1 for share in shares):
        shares = [latent_column(share, xs[0]) for share in shares]
    return shares


def _of_samples(weight: Share, x: Latent) -> Share:
    """Return one weight per sample in the form that multiplies latents, `(batch, 1, ...)`, as `(batch,)`."""
    if isinstance(weight, Tensor) and weight.ndim > 1 and weight.shape == (len(x), *[1] * (x.ndim - 1)):
        return weight.flatten()
    return weight


def _share(value: object, name: str) -> Share:
    """Return a share: a number as a checked float, a tensor as it is."""
    if isinstance(value, Tensor):
        check_real(value, name, SHARE)
        return value
    check_number(value, name, SHARE, lambda share: 0 <= share <= 1)
    return float(cast("float", value))
