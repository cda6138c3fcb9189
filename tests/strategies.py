"""Hypothesis strategies: tensors from drawn seeds (hypothesis does not manage torch's generators)."""

import math

import torch
from hypothesis import strategies as st
from torch import Tensor

seeds = st.integers(0, 2**32 - 1)
shares = st.floats(0, 1)
angles = st.one_of(st.sampled_from([0.0, 1e-8, 1e-4, 0.01, math.pi / 2]), st.floats(1e-4, 3.0))
dtypes = st.sampled_from([torch.float64, torch.float32])


def randn(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def pair_at(
    theta: float, seed: int = 0, n: int = 48, batch: int = 2, norm: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Two latents of one norm at this angle, float64."""
    a, b = randn(seed, 2, batch, n)
    a = a / a.norm(dim=1, keepdim=True)
    b = b - (a * b).sum(1, keepdim=True) * a
    b = b / b.norm(dim=1, keepdim=True)
    return norm * a, norm * (math.cos(theta) * a + math.sin(theta) * b)


@st.composite
def latents(draw: st.DrawFn, num: int | None = None, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """N latents of any size and relation: independent, nearly equal, of very different norms."""
    num = draw(st.integers(1, 5)) if num is None else num
    shape = draw(st.sampled_from([(1, 2), (3, 5), (2, 4, 3, 3)]))
    seed, spread = draw(seeds), draw(st.sampled_from([1e-6, 1e-3, 1e-2, 1.0]))
    scale = draw(st.sampled_from([1e-6, 1.0, 1e6]))
    first, *others = randn(seed, num, *shape)
    return [(scale * x).to(dtype) for x in (first, *(first + spread * other for other in others))]
