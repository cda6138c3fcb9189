"""Latents as rows: one vector per sample, in a precision that sums can bear."""

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.types import Latent, PerSample, Share, Weight

Rows = Float[Tensor, "batch n"]


def as_rows(x: Latent) -> Rows:
    """`x` as `(batch, n)`, in float32 or better: a latent's squared norm overflows float16."""
    return x.reshape(x.shape[0], -1).to(torch.promote_types(x.dtype, torch.float32))


def like(rows: Rows, x: Latent) -> Latent:
    """`rows` in the shape and dtype of `x`."""
    return rows.reshape(x.shape).to(x.dtype)


def norms(x: Latent, y: Latent | None = None) -> PerSample:
    """The norm of each sample of `x`, or of `x - y`; float32 or better."""
    rows = as_rows(x) if y is None else as_rows(x) - as_rows(y)
    norm: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return norm


def column(value: Share) -> Weight | Float[Tensor, "batch 1"] | Rows:
    """A number as it is, one per sample as a column that scales rows, one per element as rows."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    return value[:, None] if value.ndim == 1 else value.flatten(1)


def per_element(value: Share, x: Latent, name: str) -> Share:
    """One per element in the shape of `x`, in float32 or better and on its device; else `per_sample`.

    Raises:
        ValueError: a tensor that is none of these; one per element has as many axes as `x`.
    """
    if not isinstance(value, Tensor) or value.ndim < 2:
        return per_sample(value, x, name)
    if value.ndim != x.ndim or any(n not in (1, m) for n, m in zip(value.shape, x.shape, strict=True)):
        raise ValueError(
            f"{name} has shape {tuple(value.shape)}, expected a number, one per sample: ({len(x)},), or one "
            f"per element, which broadcasts to {tuple(x.shape)}"
        )
    return value.to(x.device, torch.promote_types(x.dtype, torch.float32)).expand(x.shape)


def per_sample(value: Weight, x: Latent, name: str) -> Weight:
    """A number as it is, one per sample in float32 or better and on the device of `x`.

    Raises:
        ValueError: a tensor that is neither 0-d nor `(batch,)`, which would broadcast by accident.
    """
    if not isinstance(value, Tensor):
        return value
    if value.ndim > 0 and value.shape != x.shape[:1]:
        raise ValueError(
            f"{name} has shape {tuple(value.shape)}, expected a number or one per sample: ({len(x)},)"
        )
    return value.to(x.device, torch.promote_types(x.dtype, torch.float32))


def check_same_shape(**latents: Tensor) -> None:
    """Raise ValueError unless all latents have one shape: broadcasting between samples is never meant."""
    first, *others = latents.values()
    if any(x.shape != first.shape for x in others):
        listed = ", ".join(f"{name} has shape {tuple(x.shape)}" for name, x in latents.items())
        raise ValueError(f"expected equal shapes, but {listed}")
