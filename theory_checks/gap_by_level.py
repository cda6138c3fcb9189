"""Projective guidance's gap by level and dependence, as a table and a picture."""

import csv
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from amdm import plots
from theory_checks.controls import Kind, models
from theory_checks.projective_guidance import relative_gap
from theory_checks.record import Size
from theory_checks.schedule import coefficients

OURS, MEAN = plots.COLOURS["vermilion"], plots.COLOURS["blue"]
DEPENDENCES = (0.0, 0.1, 0.3, 0.6, 0.9)
TITLES: dict[Kind, str] = {
    "data": "Correlated data: blocks' modes occur together\n(label: their correlation)",
    "readings": "Both controls read one thing in part\n(label: the cosine of the readings)",
    "modes": "Controls name modes that overlap\n(label: the cosine of the modes' directions)",
}


class Line(NamedTuple):
    """One row of the table: means over worlds."""

    kind: Kind
    dependence: float
    step: int
    sigma: float
    gap: float
    """|D_a - D|/|D_a - c_0|, of projective guidance."""
    gap_of_mean: float
    """The same of the mean of the models' predictions."""


def table(size: Size = "default", seed: int = 0) -> list[Line]:
    """Return the gap at steps of Stable Diffusion's grid, over worlds drawn from this seed on."""
    steps = {"small": [0, 20, 49], "default": [*range(0, 50, 5), 49], "thorough": list(range(50))}[size]
    worlds = 1 if size == "small" else 10
    lines = []
    for kind, dependence in product(TITLES, DEPENDENCES):
        drawn = [models(kind, dependence, seed=seed + k) for k in range(worlds)]
        for step in steps:
            sigma = coefficients(step, 0.0).sigma
            gaps = [relative_gap(world, sigma, seed=seed + k) for k, world in enumerate(drawn)]
            lines.append(Line(kind, dependence, step, sigma, *np.mean(gaps, axis=0).tolist()))
    return lines


def picture(lines: Sequence[Line]) -> Figure:
    """Return a picture of the gap against the step, a panel per kind of dependence, and the mean's gap."""
    figure = plots.empty(plots.WIDTH, 7.0)
    figure.suptitle(
        "Independent blocks: no gap at any step\n"
        "Dependent data or readings spare late steps, overlapping modes early ones",
        fontsize=11,
    )
    grid = figure.subplots(2, 2, sharey=True)
    *panels, last = grid.flat
    for axes, kind in zip(panels, TITLES, strict=True):
        draw_kind(axes, [line for line in lines if line.kind == kind])
    draw_first_step(last, [line for line in lines if line.kind == "data" and line.step == 0])
    for axes in grid[:, 0]:
        axes.set_ylabel("gap |D_a - D| as a share of |D_a - c_0|")
    return figure


def draw_kind(axes: Axes, lines: Sequence[Line]) -> None:
    """Draw one kind of dependence: a line per strength, labelled at its end if the ends are apart."""
    end, x, side = (-1, 51, "left") if lines[0].kind == "modes" else (0, -2, "right")
    for dependence in DEPENDENCES:
        own = [line for line in lines if line.dependence == dependence]
        axes.plot([line.step for line in own], [line.gap for line in own], color=OURS, lw=2)
        axes.annotate(f"{dependence:g}", (x, own[end].gap), ha=side, va="center", color=OURS)
    axes.axvspan(0, 20, color="0.93", zorder=0)
    axes.annotate("window of\n20 steps", (10, 1.0), ha="center", va="center", color="0.4")
    ticks = [0, 10, 20, 30, 40, 49]
    axes.set_xticks(ticks, [f"{step}\n{coefficients(step, 0.0).sigma:.2g}" for step in ticks])
    axes.set(xlim=(-9, 58), ylim=(-0.03, 1.08), xlabel="step, and its level sigma")
    axes.set_title(TITLES[lines[0].kind], fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)


def draw_first_step(axes: Axes, lines: Sequence[Line]) -> None:
    """Draw the gap at the first step against the correlation, beside that of the mean of the predictions."""
    correlations = [line.dependence for line in lines]
    axes.plot(correlations, [line.gap for line in lines], "o-", color=OURS, lw=2)
    axes.plot(correlations, [line.gap_of_mean for line in lines], "o--", color=MEAN, lw=2)
    axes.annotate("projective\nguidance", (0.58, 0.62), ha="right", va="bottom", color=OURS)
    axes.annotate("mean of the\npredictions", (0.03, 0.53), ha="left", va="bottom", color=MEAN)
    axes.axvline(1 / 3, color="0.6", lw=1, ls=":")
    axes.annotate("1/3", (1 / 3, 0.0), xytext=(4, 0), textcoords="offset points", color="0.4")
    axes.set(xlim=(-0.05, 0.95), xlabel="correlation of the data, at step 0")
    axes.set_title(
        "Projective guidance is nearer than the mean\nbelow a correlation of about 1/3", fontsize=10
    )
    axes.spines[["top", "right"]].set_visible(False)


def write(folder: Path, size: Size = "default", seed: int = 0) -> None:
    """Write projective_guidance.csv and .png."""
    lines = table(size, seed)
    with (folder / "projective_guidance.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(Line._fields)
        rows.writerows([*line[:3], *(f"{value:.4g}" for value in line[3:])] for line in lines)
    picture(lines).savefig(folder / "projective_guidance.png", dpi=200)
