"""A table's numbers beside the paper's: as CSV, as JSON and as a picture."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from amdm import plots
from amdm.shapes.tables import write_csv
from benchmarks.provenance import commit, versions
from benchmarks.real.configurations import Images
from benchmarks.real.drawing import drawn
from benchmarks.real.paths import Paths
from benchmarks.real.rows import SETTINGS, Table
from benchmarks.tables import Cell, markdown

Rows = dict[str, dict[str, Cell]]
"""A table's cells by row and column."""


def write(
    table: Table, images: Sequence[Images], rows: Rows, lacking: Mapping[str, str], paths: Paths, trial: bool
) -> str:
    """Write `table<number>.csv`, `.json` and `.png` to `OUT/results`; return the table in print.

    A trial's files are named so: its numbers are not the table's.
    """
    folder = paths.out / "results"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"table{table.number}{'_trial' if trial else ''}"
    how = json.dumps(manifest(table, images, lacking, paths), indent=1, ensure_ascii=False)
    (folder / f"{name}.json").write_text(how + "\n", encoding="utf-8")
    figure(table, rows).savefig(folder / f"{name}.png", dpi=150)
    write_csv(folder / f"{name}.csv", [HEAD, *lines(table, rows)])
    return printed(table, rows)


HEAD = ("row", "column", "ours", "low", "high", "paper")


def columns_of(table: Table, rows: Rows) -> list[str]:
    """Return the paper's columns, then those that were measured beside."""
    return list(dict.fromkeys([*table.columns, *(column for cells in rows.values() for column in cells)]))


def lines(table: Table, rows: Rows) -> list[list[object]]:
    """Return a line for each row and column: our value with its interval, and the paper's."""
    found: list[list[object]] = []
    for row in table.rows:
        cells, published = rows.get(row, {}), table.published(row)
        for column in columns_of(table, rows):
            numbers = [*cells.get(column, (None, None, None)), published.get(column)]
            if any(number is not None for number in numbers):
                found.append([row, column, *("" if x is None else f"{x:.4f}" for x in numbers)])
    return found


def printed(table: Table, rows: Rows) -> str:
    """Return the table in Markdown: ours, the paper's in brackets."""
    columns = columns_of(table, rows)
    found = [["row", *columns]]
    for row in table.rows:
        cells, published = rows.get(row, {}), table.published(row)
        ours = [cells[column].short(digits(cells[column])) if column in cells else "-" for column in columns]
        theirs = [f" ({published[column]:g})" if column in published else "" for column in columns]
        found.append([row, *(one + other for one, other in zip(ours, theirs, strict=True))])
    return f"Table {table.number}: ours, the paper's in brackets\n\n{markdown(found)}"


def digits(cell: Cell) -> str:
    """Return the format of a value: two decimals in percent, and three of what is below 1, as the paper."""
    return ".3f" if abs(cell.value) < 1 else ".2f"


def manifest(
    table: Table, images: Sequence[Images], lacking: Mapping[str, str], paths: Paths
) -> dict[str, Any]:
    """Return how the numbers came about."""
    return {
        "table": table.number,
        "note": table.note,
        "commit": commit(),
        "versions": versions("accelerate", "diffusers", "numpy", "transformers"),
        "seed": paths.seed,
        "paths": {name: str(path) for name, path in sorted(paths.given.items())},
        "images": [
            {
                "row": one.row,
                "benchmark": one.benchmark,
                "number": len(one.jobs),
                "configuration": f"{one.config.out}.toml",
                "ours": SETTINGS[one.setting].ours,
                "drawn": list(drawn(one)),
            }
            for one in images
        ],
        "not measured": dict(lacking),
    }


def figure(table: Table, rows: Rows) -> Figure:
    """Return a picture: a panel for each column, a line for each row, the paper's number as a diamond."""
    columns, names = columns_of(table, rows), list(table.rows)
    across = min(3, len(columns))
    down = -(-len(columns) // across)
    whole = plots.empty(plots.WIDTH, down * (0.2 * len(names) + 0.6) + 0.2)
    axes = whole.subplots(down, across, sharey=True, squeeze=False)
    for part, column in zip(axes.flat, columns, strict=False):
        part.set_title(column, fontsize=8)
        part.grid(lw=0.3)
        part.tick_params(labelsize=7)
        part.spines[["top", "right"]].set_visible(False)
        for place, row in enumerate(names):
            _point(part, place, row, rows.get(row, {}).get(column), table.published(row).get(column))
    for part in axes.flat[len(columns) :]:
        part.remove()
    whole.supxlabel("dots: ours; diamonds: the paper's", fontsize=7)
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
    return whole


def _point(axes: Any, place: int, row: str, ours: Cell | None, theirs: float | None) -> None:
    if theirs is not None:
        axes.plot([theirs], [place], "D", ms=4, mfc="none", color=plots.COLOURS["grey"])
    if ours is not None:
        axes.plot([ours.value], [place], "o", ms=4, color=plots.colour_of(row))
        if ours.low is not None and ours.high is not None:
            axes.plot([ours.low, ours.high], [place, place], lw=1.5, color=plots.colour_of(row))
