"""Parts of the experiments' pictures: a grid of scenes as methods drew them, and values with intervals."""

from collections.abc import Collection, Mapping, Sequence
from textwrap import wrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.measures import SUMMARY
from benchmarks.tables import Table
from shapes import pictures, scores, world
from shapes.world import Image, Scenes


def grid(figure: Any, images: Mapping[str, Image], scenes: Scenes, count: int = 8) -> None:
    """The first scenes, a row each, a column per method; boxes and interactions framed by what is right."""
    few = Scenes(*(field[:count] for field in scenes))
    columns = {"wanted": world.render(few), **images}
    axes = figure.subplots(count, len(columns), squeeze=False)
    for column, (label, drawn) in enumerate(columns.items()):
        found = scores.find(drawn[:count], few)
        for row in range(count):
            pictures.show(axes[row, column], drawn[row : row + 1])
            if column > 0:
                pictures.mark(axes[row, column], found, few, row)
        lines = wrap(label.replace("(+", " (+"), 18 if len(columns) < 9 else 11, break_long_words=False)
        axes[0, column].set_title("\n".join(lines), fontsize=8)


def bars(axes: Axes, table: Table, rows: Sequence[str], metrics: Sequence[str]) -> None:
    """A group of bars per row, one per metric, with intervals."""
    width = 0.8 / len(metrics)
    for i, metric in enumerate(metrics):
        cells = [table[row].cells[metric] for row in rows]
        places = [k + width * (i - (len(metrics) - 1) / 2) for k in range(len(rows))]
        axes.barh(places, [cell.value for cell in cells], width, xerr=errors(cells), label=metric)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlabel("%, with 95% intervals")
    axes.legend(fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def curve(axes: Axes, x: Sequence[float], table: Table, rows: Sequence[str], metric: str, label: str) -> None:
    """One metric over rows, with intervals."""
    cells = [table[row].cells[metric] for row in rows]
    axes.errorbar(x, [cell.value for cell in cells], errors(cells), marker="o", ms=4, capsize=2, label=label)


def overview(
    table: Table,
    images: Mapping[str, Image],
    scenes: Scenes,
    *,
    metrics: Sequence[str],
    rows: Sequence[str] = (),
    shown: Sequence[str] = (),
    size: tuple[float, float] = (16, 9),
    left: float = 1.0,
) -> Figure:
    """The grid of the methods in `shown` beside bars of some metrics of `rows`; of all unless named.

    `left` is the width of the grid beside that of the bars.
    """
    whole = picture(*size)
    sides = halves(whole, left)
    grid(sides[0], {row: images[row] for row in shown or images}, scenes)
    bars(sides[1].subplots(), table, rows or list(images), metrics)
    return whole


def sweep(
    table: Table,
    images: Mapping[str, Image],
    scenes: Scenes,
    *,
    curves: Mapping[str, Mapping[float, str]],
    xlabel: str,
) -> Figure:
    """The metrics of SUMMARY over a number, a curve for each `{number: row}`; no images are shown."""
    whole = picture(15, 9)
    grid = whole.subplots(2, len(SUMMARY) // 2, sharex=True)
    for axes, metric in zip(grid.flat, SUMMARY, strict=True):
        for label, rows in curves.items():
            curve(axes, list(rows), table, list(rows.values()), metric, label)
        axes.set(title=metric, xlabel=xlabel)
    grid[0, 0].legend(fontsize=7)
    return whole


def methods(
    table: Table,
    images: Mapping[str, Image],
    scenes: Scenes,
    *,
    hidden: Collection[str] = (),
    decades: Collection[str] = (),
) -> Figure:
    """The grid of all methods that are not `hidden`, the metrics of SUMMARY, and two over the evaluations.

    The metrics in `decades` have axes for many decades.
    """
    whole = picture(22, 12)
    left, right = halves(whole, 1 / 1.1)
    grid(left, {row: drawn for row, drawn in images.items() if row not in hidden}, scenes)
    upper, lower = right.subfigures(2, 1, squeeze=False, height_ratios=[1.7, 1])[:, 0]
    rows = {row: table[row] for row in images}
    dots(upper, rows, decades)
    quality_over_cost(lower, rows, decades)
    return whole


def dots(figure: Any, table: Table, decades: Collection[str]) -> None:
    """The metrics of SUMMARY for every row, with intervals; a row's evaluations stand beside its name."""
    axes = figure.subplots(-(-len(SUMMARY) // 3), 3, sharey=True, squeeze=False)
    places = range(len(table))
    for part, metric in zip(axes.flat, SUMMARY, strict=True):
        for place, row in zip(places, table.values(), strict=True):
            cell = row.cells[metric]
            part.errorbar([cell.value], [place], xerr=errors([cell]), marker="o", ms=4, capsize=2)
        part.set_title(metric)
        part.grid(axis="y", alpha=0.3)
        if metric in decades:
            part.set_xscale("symlog", linthresh=100)
    names = [f"{name}, {row.evaluations:.0f}" for name, row in table.items()]
    axes[0, 0].set_yticks(places, names, fontsize=8)
    axes[0, 0].invert_yaxis()


def quality_over_cost(figure: Any, table: Table, decades: Collection[str]) -> None:
    """Scenes right and KID over the evaluations of a row, with intervals."""
    axes = figure.subplots(1, 2, sharex=True, squeeze=False)
    for part, metric in zip(axes.flat, ("scene right", "KID"), strict=True):
        for i, (name, row) in enumerate(table.items()):
            cell, style = row.cells[metric], {"marker": "osD^v<>P"[i // 10], "ms": 5, "capsize": 2}
            part.errorbar([row.evaluations or 0], [cell.value], errors([cell]), label=name, **style)
        part.set(title=metric, xlabel="evaluations per image", xscale="log")
        if metric in decades:
            part.set_yscale("symlog", linthresh=100)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside right upper", fontsize=8)


def errors(cells: Sequence[Any]) -> list[list[float]]:
    """The lengths of the intervals below and above the values."""
    return [[cell.value - cell.low for cell in cells], [cell.high - cell.value for cell in cells]]


def picture(width: float, height: float) -> Figure:
    """An empty figure."""
    return Figure(figsize=(width, height), layout="constrained")


def halves(figure: Any, left: float = 1.0) -> tuple[Any, Any]:
    """Two subfigures side by side, the left one `left` times as wide as the right one."""
    one, other = figure.subfigures(1, 2, squeeze=False, width_ratios=[left, 1])[0]
    return one, other
