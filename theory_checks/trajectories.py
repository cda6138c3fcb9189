"""Angle, distance and norm gap of two models' latents, step by step (Table 5, figures 10, 11)."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from amdm import Denoiser, ddim
from amdm.plots import Separation
from amdm.samplers import Aggregation, join
from amdm.types import ExtraArgs

TABLE_5 = Path(__file__).parent / "paper" / "table_5.csv"


def paper_rows() -> Separation:
    """Return Table 5 of arXiv:2410.01262: InteractDiffusion(+MIGC), n = 16384, one sample, float16.

    Its angles are arccos of float16 cosines, in steps of 2^-11 of the cosine, and below 0.05 rad they are
    rounding; its norm gaps have steps of 1/16. The distances can be compared.
    """
    with TABLE_5.open(newline="") as file:
        lines = list(csv.DictReader(file))
    return Separation(*(torch.tensor([[float(line[name])] for line in lines]) for name in Separation._fields))


def rows_of(
    models: Sequence[Denoiser],
    xs: Sequence[Float[Tensor, "batch *event"]],
    sigmas: Float[Tensor, " levels"],
    extra_args: Sequence[ExtraArgs | None] = (None, None),
    *,
    window: int = 20,
    length: float | Literal["auto"] = "auto",
) -> Separation:
    """Return both latents after every step of DDIM, before aggregation, with partners that never stop.

    Own arguments:
        xs: the starts `(batch, *event)`, VE.
        length: eq. (8)'s length, VP, as `join` takes it.

    Returns:
        `steps + 1` rows; row 0 is the starts, the later ones are the latents at `sigmas[1:]`, in VP.
    """
    runs = [ddim(*args) for args in zip(models, xs, [sigmas, sigmas], extra_args, strict=True)]
    steps = [next(run) for run in runs]
    rows = [_row(join([x.double() for x in xs], [x.double() for x in xs], sigmas[0].item()))]
    while True:
        latents, means = [step.x_next.double() for step in steps], [step.mean.double() for step in steps]
        joined = join(latents, means, steps[0].sigma_next, correction=length)
        rows.append(_row(joined))
        sent = joined.corrected if steps[0].index < window else latents
        try:
            steps = [run.send(x.to(start)) for run, x, start in zip(runs, sent, xs, strict=True)]
        except StopIteration:
            return Separation(*torch.stack(rows, dim=1))


def _row(joined: Aggregation) -> Float[Tensor, "columns batch"]:
    return torch.stack([joined.angle[0], joined.distance[0], joined.norm_gap[0]])
