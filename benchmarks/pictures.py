"""Parts of the experiments' pictures: a grid of scenes as methods drew them, and values with intervals.

All are as wide as a page; a method has the same colour in all of them (`amdm.plots`).
"""

from collections.abc import Collection, Mapping, Sequence
from textwrap import wrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from amdm import plots
from amdm.shapes import pictures, scores, world
from amdm.shapes.world import Image, Scenes
from benchmarks.measures import SUMMARY
from benchmarks.tables import Cell, Table

BESIDE = 6
"""So many columns of images, at most, leave room for numbers beside them."""
LINE = 0.17
"""Inches for a line of text."""


def grid(figure: Any, images: Mapping[str, Image], scenes: Scenes, count: int) -> None:
    """Draw the first scenes, a row each, a column per method. Frames show which boxes and links are right."""
    few = Scenes(*(field[:count] for field in scenes))
    columns = {"wanted": world.render(few), **images}
    axes = figure.subplots(count, len(columns), squeeze=False)
    for column, (label, drawn) in enumerate(columns.items()):
        found = scores.find(drawn[:count], few)
        for row in range(count):
            pictures.show(axes[row, column], drawn[row : row + 1])
            if column > 0:
                pictures.mark(axes[row, column], found, few, row)
        axes[0, column].set_title("\n".join(title(label, len(columns))), fontsize=7, pad=2)


def title(label: str, columns: int) -> list[str]:
    """Return a column's title in lines that fit."""
    return wrap(label.replace("(+", " (+"), 15 if columns <= BESIDE + 1 else 11, break_long_words=False)


def sheet(
    table: Table,
    images: Mapping[str, Image],
    scenes: Scenes,
    *,
    metrics: Sequence[str],
    rows: Sequence[str] = (),
    shown: Sequence[str] = (),
    decades: Collection[str] = (),
) -> Figure:
    """Return the grid of the methods in `shown`, and the metrics of `rows` (by default of all).

    For few columns the metrics are beside them, one below the other; for many they are below the grid. The
    metrics in `decades` have axes for many decades.
    """
    shown, rows = shown or list(images), rows or list(images)
    columns = 1 + len(shown)
    beside = columns <= BESIDE
    size = 0.88 if beside else plots.WIDTH / columns
    head = 0.12 * max(len(title(label, columns)) for label in shown) + 0.05
    across = 1 if beside else 2 if len(metrics) == 4 else 3
    panels = (-(-len(metrics) // across), across)
    numbers = panels[0] * (LINE * len(rows) + 0.55)
    count = max(3, min(8, round(numbers / size))) if beside else 4
    drawn = count * size + head
    if beside:
        whole = plots.empty(plots.WIDTH, max(drawn, numbers), gap=0.03)
        wide = columns * size
        first, second = whole.subfigures(1, 2, squeeze=False, width_ratios=[wide, plots.WIDTH - wide])[0]
    else:
        whole = plots.empty(plots.WIDTH, drawn + numbers, gap=0.02)
        first, second = whole.subfigures(2, 1, squeeze=False, height_ratios=[drawn, numbers])[:, 0]
    grid(first, {row: images[row] for row in shown}, scenes, count)
    dots(second, {row: table[row] for row in rows}, metrics, panels, decades)
    return whole


def methods(
    table: Table,
    images: Mapping[str, Image],
    scenes: Scenes,
    *,
    hidden: Collection[str] = (),
    decades: Collection[str] = (),
) -> Figure:
    """Return the grid of all methods that are not `hidden`, and the metrics of SUMMARY for all of them."""
    shown = [row for row in images if row not in hidden]
    return sheet(table, images, scenes, metrics=SUMMARY, shown=shown, decades=decades)


def panels(table: Table, images: Mapping[str, Image], scenes: Scenes, *, metrics: Sequence[str]) -> Figure:
    """Return a panel for each metric, with a line for each row but the renders; no images are shown."""
    whole = plots.empty(plots.WIDTH, 2.4)
    rows = {name: row for name, row in table.items() if name != "renders"}
    dots(whole, rows, metrics, (1, len(metrics)))
    return whole


def dots(
    figure: Any,
    table: Table,
    metrics: Sequence[str],
    panels: tuple[int, int],
    decades: Collection[str] = (),
) -> None:
    """Draw a panel per metric, a line per row; row names show the evaluations if they differ."""
    axes = figure.subplots(*panels, sharey=True, squeeze=False)
    costs = {row.evaluations for row in table.values()}
    names = [f"{name}, {row.evaluations}" if len(costs) > 2 else name for name, row in table.items()]
    for part, metric in zip(axes.flat, metrics, strict=False):
        for place, (name, row) in enumerate(table.items()):
            point(part, row.cells[metric], place, plots.colour_of(name), label=len(table) <= BESIDE)
        unit = " x 1000" if metric.startswith("KID") else ", %"
        part.set_title("\n".join(wrap(metric + unit, 66 // panels[1])), fontsize=8)
        if panels[1] == 1 and unit == ", %":
            part.set_xlim(0, 100)
        part.grid(axis="both", lw=0.3)
        part.set_axisbelow(True)
        part.spines[["top", "left", "right"]].set_visible(False)
        part.tick_params(axis="x", labelsize=7)
        part.tick_params(axis="y", length=0, labelsize=7)
        if metric in decades:
            part.set_xscale("symlog", linthresh=100)
    for part in axes.flat[len(metrics) :]:
        part.remove()
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].set_ylim(len(names) - 0.4, -0.6)


def point(axes: Axes, cell: Cell, place: float, colour: str, *, label: bool) -> None:
    """Draw a value with its interval and, if requested, with its number above it."""
    style: dict[str, Any] = {"marker": "o", "ms": 4, "lw": 1.5, "color": colour}
    axes.errorbar([cell.value], [place], xerr=errors([cell]), **style)
    if label:
        text = f"{cell.value:.0f}"
        axes.annotate(text, (cell.value, place), (0, 4), textcoords="offset points", ha="center", fontsize=7)


def curve(
    axes: Axes,
    x: Sequence[float],
    table: Table,
    rows: Sequence[str],
    metric: str,
    label: str,
    colour: str | None = None,
    marker: str = "o",
) -> None:
    """Draw one metric over rows, with intervals; in the next colour unless one is given."""
    cells = [table[row].cells[metric] for row in rows]
    colour = colour or list(plots.COLOURS.values())[len(axes.lines) % len(plots.COLOURS)]
    values = [cell.value for cell in cells]
    axes.plot(x, values, marker=marker, ms=3, lw=1.2, color=colour, label=label)
    axes.errorbar(x, values, errors(cells), fmt="none", ecolor=colour, elinewidth=0.8)


def sweep(
    table: Table,
    images: Mapping[str, Image],
    scenes: Scenes,
    *,
    curves: Mapping[str, Mapping[float, str]],
    xlabel: str,
) -> Figure:
    """Draw the metrics of SUMMARY over a number, a curve for each `{number: row}`; no images are shown."""
    whole = plots.empty(plots.WIDTH, 2.4 * len(SUMMARY) / 2)
    grid = whole.subplots(len(SUMMARY) // 2, 2, sharex=True)
    for axes, metric in zip(grid.flat, SUMMARY, strict=True):
        for label, rows in curves.items():
            curve(axes, list(rows), table, list(rows.values()), metric, label)
        describe(axes, metric)
    for axes in grid[-1]:
        axes.set_xlabel(xlabel, fontsize=8)
    key(whole, grid[0, 0])
    return whole


def describe(axes: Axes, name: str, xlabel: str = "", ylabel: str = "") -> None:
    """Write title and labels in a readable size, without a frame."""
    axes.set_title(f"{name} x 1000" if name == "KID" else name, fontsize=9)
    axes.set_xlabel(xlabel, fontsize=8)
    axes.set_ylabel(ylabel, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def key(figure: Any, axes: Axes) -> None:
    """Draw one key above all panels, for curves that cross too often to be labelled at their ends."""
    lines = [line for line in axes.lines if str(line.get_label())[0] != "_"]
    columns = 2 if max(len(str(line.get_label())) for line in lines) > 24 else 4
    figure.legend(handles=lines, loc="outside upper center", ncols=columns, fontsize=8, frameon=False)


def errors(cells: Sequence[Any]) -> list[list[float]]:
    """Return the lengths of the intervals below and above the values."""
    return [[cell.value - cell.low for cell in cells], [cell.high - cell.value for cell in cells]]
