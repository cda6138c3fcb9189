"""How two models' latents lie to each other, step by step (appendices E.2, E.3: Table 5, figures 10, 11)."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from amdm import Denoiser, ddim
from amdm.geometry import angle, radial_correct, slerp
from amdm.samplers.amdm import auto_length
from amdm.types import ExtraArgs

TABLE_5 = Path(__file__).parent / "paper" / "table_5.csv"


class Rows(NamedTuple):
    """As Table 5 has them, the initial noise first: VP lengths, radians, `(rows, batch)`."""

    angle: Float[Tensor, "rows batch"]
    distance: Float[Tensor, "rows batch"]
    norm_gap: Float[Tensor, "rows batch"]


def paper_rows() -> Rows:
    """Table 5 of arXiv:2410.01262: InteractDiffusion(+MIGC), n = 16384, one sample, float16.

    Its angles are arccos of float16 cosines, in steps of 2^-11 of the cosine, and below 0.05 rad they are
    rounding; its norm gaps have steps of 1/16. The distances can be compared.
    """
    with TABLE_5.open(newline="") as file:
        lines = list(csv.DictReader(file))
    return Rows(*(torch.tensor([[float(line[name])] for line in lines]) for name in Rows._fields))


def rows_of(
    models: Sequence[Denoiser],
    xs: Sequence[Float[Tensor, "batch *event"]],
    sigmas: Float[Tensor, " levels"],
    extra_args: Sequence[ExtraArgs | None] = (None, None),
    *,
    window: int = 20,
    length: float | None = None,
) -> Rows:
    """Both latents after every step of DDIM and before they are aggregated, with partners that never stop.

    Args:
        models: two denoisers.
        xs: their starts `(batch, *event)`, VE.
        sigmas: `(steps + 1,)`, decreasing.
        extra_args: for each model.
        window: how many steps aggregate, from the first on.
        length: of eq. (8), VP; by default 0.3 sqrt(n/16384).

    Returns:
        `steps + 1` rows; row 0 is the starts, the later ones are the latents at `sigmas[1:]`, in VP.
    """
    n = xs[0][0].numel()
    length = auto_length(n) if length is None else length
    runs = [ddim(*args) for args in zip(models, xs, [sigmas, sigmas], extra_args, strict=True)]
    seen = [compare(xs[0], xs[1], sigmas[0].item())]
    steps = [next(run) for run in runs]
    while True:
        one, other = steps
        seen.append(compare(one.x_next, other.x_next, one.sigma_next))
        sent: list[Tensor | None] = [None, None]
        if one.index < window:
            joined = slerp(one.x_next, other.x_next, 0.5)
            pull = length * math.sqrt(1 + one.sigma_next**2)
            sent = [radial_correct(joined, step.mean, pull) for step in steps]
        try:
            steps = [run.send(x) for run, x in zip(runs, sent, strict=True)]
        except StopIteration:
            return Rows(*(torch.stack(column) for column in zip(*seen, strict=True)))


def compare(x: Tensor, y: Tensor, sigma: float) -> tuple[Tensor, Tensor, Tensor]:
    """Angle, distance and difference of norms of two latents at one level, per sample; lengths in VP."""
    x, y = (part.flatten(1).double() / math.sqrt(1 + sigma**2) for part in (x, y))
    return angle(x, y), (x - y).norm(dim=1), (x.norm(dim=1) - y.norm(dim=1)).abs()
