"""Latents as rows: one vector per sample, in a precision and at a scale that sums can bear."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.checks import as_number, check_floating, check_real, kind_of
from amdm.types import Latent, PerSample, Share, Weight

Rows = Float[Tensor, "batch n"]
SHARE = "a share in [0, 1]"
"""The words for a valid weight, in messages."""


def as_rows(x: Latent) -> Rows:
    """Return `x` as `(batch, n)` in float32 or better: a latent's squared norm overflows float16."""
    return x.reshape(x.shape[0], math.prod(x.shape[1:])).to(torch.promote_types(x.dtype, torch.float32))


def like(rows: Rows, x: Latent) -> Latent:
    """Return `rows` in the shape and dtype of `x`, on its device."""
    return rows.reshape(x.shape).to(x)


def float64(x: Tensor) -> Tensor:
    """Return `x` in float64, which no autocast and no TF32 lowers; on the CPU if its device lacks float64."""
    return x.double() if x.dtype == torch.float64 or has_float64(x) else x.cpu().double()


def has_float64(x: Tensor) -> bool:
    """Return True if the device of `x` supports float64; Apple's GPUs do not."""
    try:
        x.new_empty(0, dtype=torch.float64)
    except (TypeError, RuntimeError):
        return False
    return True


def norms(x: Latent, y: Latent | None = None) -> PerSample:
    """Return the norm of each sample of `x`, or of `x - y`, in float32 or better."""
    return row_norms(as_rows(x) if y is None else as_rows(x) - as_rows(y))


def row_norms(rows: Rows) -> PerSample:
    """Return the norm of each row, correct even if its square is outside the range of the dtype."""
    _, norm, scale = in_range(rows)
    return (norm / scale)[:, 0]


def in_range(rows: Rows) -> tuple[Rows, Float[Tensor, "batch 1"], Float[Tensor, "batch 1"] | float]:
    """Return the rows times a power of two each, their norms, and the powers.

    The scaled rows have squares within the dtype's range. Scaling rounds nothing, and the powers have no
    gradient. On the CPU, where reading values costs no wait, rows with squares in range are left as they are.
    """
    norm: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    tiny = torch.finfo(rows.dtype).tiny
    if _seen_between(norm, tiny**0.25, tiny**-0.25):
        return rows, norm, 1.0
    most = round(-math.log2(tiny))
    largest = rows.detach().abs().amax(1, keepdim=True)
    scale = torch.exp2(-largest.log2().floor().clamp(-most, most))
    rows = rows * scale
    return rows, torch.linalg.vector_norm(rows, dim=1, keepdim=True), scale


def _seen_between(values: Tensor, low: float, high: float) -> bool:
    """Return True if the values can be read without a wait, which vmap forbids, and lie in between."""
    if values.device.type != "cpu":
        return False
    try:
        return all(low < value < high for value in values.flatten().tolist())
    except RuntimeError:
        return False


def column(value: Share) -> Weight | Float[Tensor, "batch 1"] | Rows:
    """Return a number as it is, one per sample as a column that scales rows, one per element as rows."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    return value[:, None] if value.ndim == 1 else value.flatten(1)


def latent_column(value: Share, x: Latent) -> Share:
    """Return a number as it is, one per sample in the shape that multiplies latents, `(batch, 1, ...)`."""
    if not isinstance(value, Tensor) or value.ndim != 1:
        return value
    return value.reshape(-1, *[1] * (x.ndim - 1))


def per_element(value: Share, x: Latent, name: str, expected: str, most: float = math.inf) -> Share:
    """Return one value per element in the shape of `x`, float32 or better on its device; else `per_sample`.

    Raises:
        TypeError, ValueError: as `per_sample`; a tensor of one per element needs as many axes as `x`.
    """
    if not isinstance(value, Tensor) or value.ndim < 2:
        return per_sample(value, x, name, expected, most)
    _check_values(value, x, name, expected if value.dtype != torch.bool else f"{expected} (mask.float())")
    if value.ndim != x.ndim or any(n not in (1, m) for n, m in zip(value.shape, x.shape, strict=True)):
        raise ValueError(
            f"{name} has shape {tuple(value.shape)}, expected a number, one per sample: ({len(x)},), or one "
            f"per element: a tensor with {x.ndim} axes that broadcasts to {tuple(x.shape)}, for example "
            f"{(len(x), 1, *x.shape[2:])}"
        )
    return value.to(x.device, torch.promote_types(x.dtype, torch.float32)).expand(x.shape)


def per_sample(value: Weight, x: Latent, name: str, expected: str, most: float = math.inf) -> Weight:
    """Return a number as a float, or one per sample in float32 or better, on the device of `x`.

    Raises:
        TypeError: neither a number nor a tensor of numbers.
        ValueError: a number that is not from 0 to `most` (tensors are not read), or a tensor that is neither
            0-d nor `(batch,)`, which would broadcast by accident.
    """
    if not isinstance(value, Tensor):
        number = as_number(value, name, expected)
        if not 0 <= number <= most:
            raise ValueError(f"{name} is {number}, expected {expected}")
        return number
    _check_values(value, x, name, expected)
    if value.ndim > 0 and value.shape != x.shape[:1]:
        raise ValueError(
            f"{name} has shape {tuple(value.shape)}, expected a number or one per sample: ({len(x)},)"
        )
    return value.to(x.device, torch.promote_types(x.dtype, torch.float32))


def _check_values(value: Tensor, x: Latent, name: str, expected: str) -> None:
    """Raise unless a tensor has numbers, and values if `x` has."""
    check_real(value, name, expected)
    if value.is_meta and not x.is_meta:
        raise ValueError(f"{name} is on the meta device, which has no values: expected {expected}")


def check_alike(x: Tensor, **others: Tensor) -> None:
    """Raise unless all are floating-point latents of one shape, dtype and device."""
    check_same_shape(x=x, **others)
    for name, y in others.items():
        if y.dtype != x.dtype:
            raise TypeError(f"{name} is {kind_of(y)}, expected x's dtype: {x.dtype}")


def check_same_shape(**latents: Tensor) -> None:
    """Raise unless all latents are floating point and of one shape and device.

    Broadcasting between samples is never meant.
    """
    first, *others = latents.values()
    for name, x in latents.items():
        check_floating(x, name)
        if x.ndim == 0:
            raise ValueError(f"{name} has shape (), expected (batch, *event)")
    if all(x.shape == first.shape and x.device == first.device for x in others):
        return
    if any(x.device != first.device for x in others):
        listed = ", ".join(f"{name} is on {x.device}" for name, x in latents.items())
        raise ValueError(f"expected one device, but {listed}")
    listed = ", ".join(f"{name} has shape {tuple(x.shape)}" for name, x in latents.items())
    raise ValueError(f"expected equal shapes, but {listed}")
