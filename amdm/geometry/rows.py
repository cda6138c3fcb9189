"""Latents as rows: one vector per sample, in a precision that sums can bear."""

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.types import Latent, Weight

Rows = Float[Tensor, "batch n"]


def as_rows(x: Latent) -> Rows:
    """`x` as `(batch, n)`; half precision becomes float32: a squared norm overflows float16."""
    rows = x.reshape(x.shape[0], -1)
    return rows.float() if rows.dtype in (torch.float16, torch.bfloat16) else rows


def like(rows: Rows, x: Latent) -> Latent:
    """`rows` in the shape and dtype of `x`."""
    return rows.reshape(x.shape).to(x.dtype)


def column(value: Weight) -> Weight | Float[Tensor, "batch 1"]:
    """A float as it is, a value per sample as a column that scales rows."""
    return value[:, None] if isinstance(value, Tensor) and value.ndim == 1 else value


def check_same_shape(**latents: Tensor) -> None:
    """Raise ValueError unless all latents have one shape: broadcasting between samples is never meant."""
    first, *others = latents.values()
    if any(x.shape != first.shape for x in others):
        listed = ", ".join(f"{name} has shape {tuple(x.shape)}" for name, x in latents.items())
        raise ValueError(f"expected equal shapes, but {listed}")
