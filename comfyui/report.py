"""What a run saw, as text and as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from amdm.samplers import Controls, Step

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Row:
    """A joined step: numbers of the models' latents, or of their controls under projective guidance."""

    step: int
    sigma: float
    """The host's, at the step's begin."""
    angle: Tensor
    """Radians, `(pairs, batch)`: of the lead and each partner."""
    gap: Tensor
    """The difference of the latents' lengths, `(pairs, batch)`; or the controls', `(models, batch)`."""
    controls: bool


@dataclass
class Report:
    """The joined steps of a run. Their small tensors stay on their device until they are read."""

    rows: list[Row] = field(default_factory=list)

    def note(self, step: Step, sigma: float) -> None:
        """Add a step, without its latents, if it was joined."""
        joined, record = step.aggregation, step.record
        if joined is not None:
            self.rows.append(Row(step.index, sigma, joined.angle, joined.norm_gap, controls=False))
        elif isinstance(record, Controls):
            self.rows.append(Row(step.index, sigma, record.angle, record.norms, controls=True))


def as_text(report: Report) -> str:
    """Return a line for each joined step: means over the batch, a number for each partner."""
    lines = []
    for row in report.rows:
        name = "lengths of the controls" if row.controls else "norm gap"
        gap = ", ".join(f"{value:.3f}" for value in means(row.gap))
        angle = ", ".join(f"{math.degrees(value):.1f}" for value in means(row.angle))
        lines.append(f"step {row.step}, sigma {row.sigma:.4f}: angle {angle} degrees, {name} {gap}")
    return "\n".join(lines) or "No step was joined: there is no partner, or the window holds no step."


def picture(report: Report) -> Tensor:
    """Return `(1, height, width, 3)`: angle and norm gap by step, a line for each partner."""
    try:
        from amdm.plots import empty
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"AMDM Angles draws with {error.name}, which is not installed: run pip install matplotlib pillow"
        ) from error
    controls = any(row.controls for row in report.rows)
    labels = {
        "angle": f"angle between {'controls' if controls else 'latents'}, degrees",
        "gap": "length of the controls" if controls else "norm gap",
    }
    rows = [row for row in report.rows if row.controls == controls]
    figure = empty(8.3, 3.0)
    for axes, (name, label) in zip(figure.subplots(1, 2), labels.items(), strict=True):
        columns = np.array([means(getattr(row, name)) for row in rows]).reshape(len(rows), -1 if rows else 0)
        first = 0 if controls and name == "gap" else 1
        for k, column in enumerate(columns.T, first):
            shown = np.degrees(column) if name == "angle" else column
            axes.plot([row.step for row in rows], shown, ".-", label=f"partner {k}" if k else "lead")
        axes.set(xlabel="step", ylabel=label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if columns.shape[1] > 1:
            axes.legend(frameon=False)
    return pixels(figure)


def pixels(figure: Figure) -> Tensor:
    """Return a figure as an IMAGE."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return torch.from_numpy(np.asarray(canvas.buffer_rgba())[None, ..., :3].copy()).float() / 255


def means(values: Tensor) -> Sequence[float]:
    """Return the means over the batch."""
    return values.float().mean(-1).tolist()
