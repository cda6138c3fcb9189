"""Tables of estimates: as CSV and back, in print, and beside them a manifest of how they came about."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measures import Estimate
from shapes.tables import write_csv

# What is a share is given in percent; KID is times 1000 already.
AS_IT_IS = ("KID", "KID above renders", "FID")


class Cell(NamedTuple):
    """A value with its interval, if it has one; shares in percent."""

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """As in print: the value, and what it lies between."""
        if self.low is None or self.high is None:
            return f"{self.value:.1f}"
        return f"{self.value:.1f} [{self.low:.1f}, {self.high:.1f}]"


class Row(NamedTuple):
    """One method's cells, and on how many images they rest."""

    scenes: int
    seeds: int
    evaluations: int | None
    cells: dict[str, Cell]


Table = dict[str, Row]


def row_of(estimates: Mapping[str, Estimate], scenes: int, seeds: int, evaluations: int | None = None) -> Row:
    """Estimates as they are printed."""
    cells = {}
    for name, estimate in estimates.items():
        scale = 1 if name in AS_IT_IS else 100
        cells[name] = Cell(scale * estimate.value, *(scale * end for end in estimate.interval or ()))
    return Row(scenes, seeds, evaluations, cells)


def write(path: Path, table: Table) -> None:
    """A table as CSV: three columns for every metric."""
    metrics = list(dict.fromkeys(name for row in table.values() for name in row.cells))
    lines: list[list[object]] = [
        [
            "row",
            "scenes",
            "seeds",
            "evaluations",
            *(f"{m}{end}" for m in metrics for end in ("", " low", " high")),
        ]
    ]
    for name, row in table.items():
        cells = [row.cells.get(metric, (None, None, None)) for metric in metrics]
        numbers = ["" if value is None else f"{value:.4f}" for cell in cells for value in cell]
        lines.append(
            [name, row.scenes, row.seeds, "" if row.evaluations is None else row.evaluations, *numbers]
        )
    write_csv(path, lines)


def read(path: Path) -> Table:
    """A table that was written."""
    table = {}
    with path.open(newline="") as file:
        for line in csv.DictReader(file):
            head = [line.pop(column) for column in ("row", "scenes", "seeds", "evaluations")]
            metrics = list(line)[::3]
            ends = {m: [line[f"{m}{end}"] for end in ("", " low", " high")] for m in metrics}
            cells = {m: cell for m, xs in ends.items() if (cell := _cell(xs))}
            table[head[0]] = Row(int(head[1]), int(head[2]), int(head[3]) if head[3] else None, cells)
    return table


def _cell(columns: Sequence[str]) -> Cell | None:
    value, *ends = columns
    return Cell(float(value), *(float(end) for end in ends if end)) if value else None


def render(table: Table, metrics: Sequence[str], seconds: Mapping[str, str]) -> str:
    """Some columns as text in Markdown's form, every row with its cost for an image and its sample size."""
    lines = [["", *metrics, "evaluations", "seconds", "scenes x seeds"]]
    for name, row in table.items():
        cells = [str(row.cells[m]) if m in row.cells else "" for m in metrics]
        images = f"{row.scenes} x {row.seeds}"
        cost = "" if row.evaluations is None else str(row.evaluations)
        lines.append([name, *cells, cost, seconds.get(name, ""), images])
    return markdown(lines)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as a table in Markdown, the first line its head, in columns of one width."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rule = ["-" * width for width in widths]
    rows = [lines[0], rule, *lines[1:]]
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows
    )


def write_manifest(path: Path, manifest: Mapping[str, Any]) -> None:
    """How a table came about, as JSON."""
    path.write_text(json.dumps(manifest, indent=1) + "\n")
