"""Tables of estimates: as CSV and back, and in print."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from amdm.shapes.tables import write_csv
from benchmarks.measures import Estimate

# Shares are given in percent; KID is times 1000 already.
AS_IT_IS = ("KID", "KID above renders", "FID")
HEAD, ENDS = ("row", "scenes", "seeds", "evaluations"), ("", " low", " high")


class Cell(NamedTuple):
    """A value with its interval, if it has one; shares in percent."""

    value: float
    low: float | None = None
    high: float | None = None

    def text(self, form: str = ".1f") -> str:
        """Return the value and its interval in print."""
        value, *ends = (f"{number:{form}}" for number in self if number is not None)
        return f"{value} [{', '.join(ends)}]" if ends else value

    def short(self, form: str = ".1f") -> str:
        """The value and the longer side of its interval in print."""
        ends = [end for end in (self.low, self.high) if end is not None]
        sides = [abs(end - self.value) for end in ends]
        return f"{self.value:{form}}±{max(sides):{form.lstrip('+')}}" if sides else f"{self.value:{form}}"

    def __str__(self) -> str:
        return self.text()


class Row(NamedTuple):
    """The cells of one method, and the number of images behind them."""

    scenes: int
    seeds: int
    evaluations: int | None
    cells: dict[str, Cell]


Table = dict[str, Row]


def cell_of(estimate: Estimate, scale: float = 1) -> Cell:
    """Return an estimate and its interval as a cell."""
    return Cell(scale * estimate.value, *(scale * end for end in estimate.interval or ()))


def row_of(estimates: Mapping[str, Estimate], scenes: int, seeds: int, evaluations: int | None = None) -> Row:
    """Return estimates as cells."""
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


def lines(table: Table, metrics: Sequence[str]) -> list[list[str]]:
    """Some columns in print, first a head; the last column is the cost of an image if it differs."""
    costs = {name: "" if row.evaluations is None else str(row.evaluations) for name, row in table.items()}
    known = len(set(costs.values())) > 1
    found = [["row", *metrics, *(["evaluations"] if known else [])]]
    for name, row in table.items():
        cells = [row.cells[m].short() if m in row.cells else "" for m in metrics]
        found.append([name, *cells, *([costs[name]] if known else [])])
    return found


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as a table in Markdown; the first line is the head, whose first cell is not empty."""
    head, *rows = (" | ".join(line) for line in lines)
    return "\n".join([head, "|".join(["---"] * len(lines[0])), *rows])
