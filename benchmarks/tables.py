"""Tables of estimates: as CSV and back, and in print."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.measures import Estimate
from shapes.tables import write_csv

# Shares are given in percent; KID is times 1000 already.
AS_IT_IS = ("KID", "KID above renders", "FID")
HEAD, ENDS = ("row", "scenes", "seeds", "evaluations"), ("", " low", " high")


class Cell(NamedTuple):
    """A value with its interval, if it has one; shares in percent."""

    value: float
    low: float | None = None
    high: float | None = None

    def text(self, form: str = ".1f") -> str:
        """The value and its interval in print."""
        value, *ends = (f"{number:{form}}" for number in self if number is not None)
        return f"{value} [{', '.join(ends)}]" if ends else value

    def __str__(self) -> str:
        return self.text()


class Row(NamedTuple):
    """One method's cells, and the number of images that they rest on."""

    scenes: int
    seeds: int
    evaluations: int | None
    cells: dict[str, Cell]


Table = dict[str, Row]


def cell_of(estimate: Estimate, scale: float = 1) -> Cell:
    """An estimate and its interval as a cell."""
    return Cell(scale * estimate.value, *(scale * end for end in estimate.interval or ()))


def row_of(estimates: Mapping[str, Estimate], scenes: int, seeds: int, evaluations: int | None = None) -> Row:
    """Estimates as cells."""
    cells = {name: cell_of(found, 1 if name in AS_IT_IS else 100) for name, found in estimates.items()}
    return Row(scenes, seeds, evaluations, cells)


def write(path: Path, table: Table) -> None:
    """Write a table as CSV, three columns for every metric."""
    metrics = list(dict.fromkeys(name for row in table.values() for name in row.cells))
    lines: list[list[object]] = [[*HEAD, *(f"{m}{end}" for m in metrics for end in ENDS)]]
    for name, row in table.items():
        cells = [row.cells.get(metric, (None, None, None)) for metric in metrics]
        numbers = ["" if value is None else f"{value:.4f}" for cell in cells for value in cell]
        evaluations = "" if row.evaluations is None else row.evaluations
        lines.append([name, row.scenes, row.seeds, evaluations, *numbers])
    write_csv(path, lines)


def read(path: Path) -> Table:
    """Read a table that was written."""
    table = {}
    with path.open(newline="") as file:
        for line in csv.DictReader(file):
            name, scenes, seeds, evaluations = (line.pop(column) for column in HEAD)
            cells = {}
            for metric in list(line)[::3]:
                if numbers := [float(line[metric + end]) for end in ENDS if line[metric + end]]:
                    cells[metric] = Cell(*numbers)
            table[name] = Row(int(scenes), int(seeds), int(evaluations) if evaluations else None, cells)
    return table


def render(table: Table, metrics: Sequence[str], seconds: Mapping[str, str]) -> str:
    """Some columns as a table in Markdown; every row has its cost for an image and its sample size."""
    lines = [["", *metrics, "evaluations", "seconds", "scenes x seeds"]]
    for name, row in table.items():
        cells = [str(row.cells[m]) if m in row.cells else "" for m in metrics]
        images = f"{row.scenes} x {row.seeds}"
        cost = "" if row.evaluations is None else str(row.evaluations)
        lines.append([name, *cells, cost, seconds.get(name, ""), images])
    return markdown(lines)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as a table in Markdown, in columns of one width; the first line is the head."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rule = ["-" * width for width in widths]
    rows = [lines[0], rule, *lines[1:]]
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows
    )
