"""Angle, distance and norm gap of aggregated models' latents, step by step."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from amdm.plots.style import WIDTH, colours_of, empty, label_lines, plain_log
from amdm.samplers import Aggregation, Step


class Separation(NamedTuple):
    """Differences between the models' latents: the columns of the paper's Table 5, in VP units.

    Row k is after k steps and before the latents are joined; row 0 is the starts. Missing values are
    NaN. The other axes are pairs of models (1 and j) and samples.
    """

    angle: Float[Tensor, "rows *columns"]
    """Radians."""
    distance: Float[Tensor, "rows *columns"]
    norm_gap: Float[Tensor, "rows *columns"]

    @classmethod
    def of(cls, steps: Iterable[Step]) -> "Separation":
        """Record the steps of a run of `amdm`. A generator is run to its end, and no latent is kept.

        Raises:
            ValueError: none of the steps aggregates.
        """
        return cls.stack({step.index + 1: cls.row(step.aggregation) for step in steps if step.aggregation})

    @classmethod
    def row(cls, joined: Aggregation) -> "Separation":
        """Return the `(pairs, batch)` columns of one step, on the host."""
        return cls(joined.angle.cpu(), joined.distance.cpu(), joined.norm_gap.cpu())

    @classmethod
    def stack(cls, rows: Mapping[int, "Separation"]) -> "Separation":
        """Return the steps' rows, by the number of steps taken; missing rows are NaN."""
        if not rows:
            raise ValueError(
                "there is no step that aggregates: nothing to compare. For projective guidance the angles "
                "between the models' controls are in step.record.angle"
            )
        found = {k: torch.stack(list(row)) for k, row in rows.items()}
        unknown = torch.full_like(next(iter(found.values())), math.nan)
        return cls(*torch.stack([found.get(k, unknown) for k in range(max(found) + 1)], dim=1))


Run = Separation | Iterable[Step]


def plot_separation(
    runs: Run | Mapping[str, Run], *, axes: Iterable[Axes] | None = None
) -> Figure | SubFigure:
    """Plot angle, distance and norm gap by step for one run or several: the paper's figures 10 and 11.

    Each line is the mean over samples and pairs; its band spans their minimum and maximum.

    Args:
        runs: the steps of `amdm` (a generator is run to its end), or a `Separation`; or several by name.
        axes: three axes to draw into; by default those of a new figure.
    """
    named = runs if isinstance(runs, Mapping) else {"": runs}
    found = {name: run if isinstance(run, Separation) else Separation.of(run) for name, run in named.items()}
    parts = list(empty(WIDTH, 2.6).subplots(1, 3) if axes is None else axes)
    labels = {"angle": "angle, rad", "distance": "distance, VP", "norm_gap": "norm gap, VP"}
    colours = colours_of(found)
    for part, (column, label) in zip(parts, labels.items(), strict=True):
        lines = {name: _Line.of(getattr(run, column)) for name, run in found.items()}
        floor = _log_from(np.concatenate([line.mean for line in lines.values()]))
        for name, (steps, low, mean, high) in lines.items():
            colour = colours[name] if name else None
            (drawn,) = part.plot(steps, mean, ".-", ms=3, lw=1.2, color=colour, label=name)
            edges = np.maximum(low, floor), np.maximum(high, floor)
            part.fill_between(steps, *edges, alpha=0.2, lw=0, color=drawn.get_color())
        part.set(xlabel="steps taken", ylabel=label)
        part.spines[["top", "right"]].set_visible(False)
        if floor > 0:
            part.set_yscale("log", nonpositive="mask")
            plain_log(part.yaxis)
    if any(found):
        label_lines(parts[-1])
    made: Figure | SubFigure = parts[0].figure
    return made


class _Line(NamedTuple):
    """One line of the plot: the minimum, the mean and the maximum over samples and pairs."""

    steps: np.ndarray
    low: np.ndarray
    mean: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, column: Tensor) -> "_Line":
        rows = column.flatten(1).double().cpu()
        known = ~rows.isnan().all(1)
        rows = rows[known]
        return cls(*(x.numpy() for x in (known.nonzero()[:, 0], rows.amin(1), rows.mean(1), rows.amax(1))))


def _log_from(values: np.ndarray) -> float:
    """Return the least positive value if the values span enough decades for a logarithmic axis, else -inf."""
    positive = values[values > 0]
    decades = len(positive) > 0 and positive.max() > 30 * positive.min()
    return float(positive.min()) if decades else -math.inf
