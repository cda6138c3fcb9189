"""Standard normal draws: in pieces that fit the memory, or all at once."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

NUMBERS = 2**22  # in one piece


def normals(
    samples: int, dimension: int, seed: int, device: torch.device | str = "cpu", *, copies: int = 1
) -> Iterator[Float[Tensor, "copies samples dimension"]]:
    """Yield `samples` times `copies` independent draws from N(0, I) in float64, a function of the seed."""
    generator = torch.Generator(device).manual_seed(seed)
    rows = max(1, NUMBERS // (copies * dimension))
    for start in range(0, samples, rows):
        size = (copies, min(rows, samples - start), dimension)
        yield torch.randn(size, generator=generator, device=device, dtype=torch.float64)


def normals_at_once(
    samples: int, dimension: int, seed: int, device: torch.device | str = "cpu", *, copies: int = 1
) -> Float[Tensor, "copies samples dimension"]:
    """Return the same draws in one tensor."""
    return torch.cat(list(normals(samples, dimension, seed, device, copies=copies)), dim=1)
