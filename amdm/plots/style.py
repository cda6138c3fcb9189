"""Shared style of all figures: a colour per method, an empty figure, readable ticks, labels beside lines."""

import math
from collections.abc import Collection, Sequence
from io import BytesIO
from statistics import fmean
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

WIDTH = 8.3
"""Inches: at 100 pixels an inch, what a page shows."""

COLOURS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "black": "#000000",
    "grey": "#777777",
}
"""Okabe and Ito's colours, which colour-blind readers tell apart; without the yellow, with a grey."""

# The name of a method begins so.
METHODS = {
    "AMDM": "blue",
    "linear": "orange",
    "SuperDiff": "green",
    "OR": "green",
    "AND": "green",
    "FKC": "sky",
    "ULA": "vermilion",
    "MALA": "vermilion",
    "UHMC": "vermilion",
    "HMC": "vermilion",
    "conjunction": "purple",
    "projective": "purple",
    "caption once": "vermilion",
    "AFA": "grey",
}


def colour_of(method: str) -> str:
    """Return the colour that a method has in every figure; AMDM's is blue, one model alone is black.

    A label belongs to a method if it begins with the method's name (`METHODS`), and to AMDM if it is like
    "A(+B)".
    """
    if "(+" in method:
        return COLOURS["blue"]
    known = [colour for name, colour in METHODS.items() if method.startswith(name)]
    return COLOURS[known[0] if known else "black"]


def colours_of(names: Collection[str]) -> dict[str, str]:
    """Return a colour for each line of a figure: its method's, or a free one if another line has that."""
    own: dict[str, str] = {}
    for name in dict.fromkeys(names):
        own.setdefault(colour_of(name), name)
    found = {name: colour for colour, name in own.items()}
    free = iter([colour for colour in COLOURS.values() if colour not in own])
    return {name: found.get(name) or next(free, COLOURS["grey"]) for name in names}


class Page(Figure):
    """A figure that notebooks show as a cell's value, whether or not pyplot was imported."""

    def _repr_png_(self) -> bytes:
        buffer = BytesIO()
        self.savefig(buffer, format="png", dpi=self.dpi)
        return buffer.getvalue()


def empty(width: float = WIDTH, height: float = 3.0, *, gap: float = 0.04) -> Figure:
    """Return a figure without axes, laid out so that nothing overlaps, with `gap` inches around its parts."""
    figure = Page(figsize=(width, height), dpi=100, layout="constrained")
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=gap, h_pad=gap, wspace=0, hspace=0)
    return figure


def plain_log(axis: Axis) -> None:
    """Write a logarithmic axis's ticks as 0.1, 1, 10, with 2 and 5 in between if it spans few decades."""
    low, high = sorted(axis.get_view_interval())
    few = low > 0 and high < 300 * low
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
    axis.set_major_formatter(FuncFormatter(_plain))
    axis.set_minor_formatter(NullFormatter())


def _plain(value: float, _: object = None) -> str:
    """Return a tick's label: in digits if these are few, else as a power of ten."""
    power = f"$10^{{{math.log10(value):.0f}}}$" if value > 0 else "0"
    return f"{value:g}" if 1e-3 <= value < 1e4 else power


def label_lines(axes: Axes, *, fontsize: float = 8) -> None:
    """Write each line's label at its right end, in its colour and clear of the others, instead of a legend.

    Call it after the limits are final.
    """
    lines = {line: label for line in axes.lines if (label := str(line.get_label())) and label[0] != "_"}
    if not lines:
        return
    _ = axes.viewLim  # brings the limits up to date
    to_part = axes.transData + axes.transAxes.inverted()
    ends = to_part.transform([_last(line) for line in lines])
    inches = axes.figure.dpi_scale_trans.inverted().transform(axes.get_window_extent().size)[1]
    heights = apart(ends[:, 1].tolist(), 1.25 * fontsize / (72 * inches))
    places = to_part.inverted().transform([(ends[:, 0].max(), height) for height in heights])
    style: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": fontsize}
    for (line, label), place in zip(lines.items(), places, strict=True):
        axes.annotate(label, tuple(place), (6, 0), color=line.get_color(), annotation_clip=False, **style)


def _last(line: Line2D) -> tuple[float, float]:
    """Return the last finite point of a line."""
    points = np.column_stack([np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)])
    x, y = points[np.isfinite(points).all(1)][-1]
    return float(x), float(y)


def apart(places: Sequence[float], gap: float) -> list[float]:
    """Return places at least `gap` apart, in the same order and nearest to the given ones by least squares.

    The k-th place minus k gaps must not fall: isotonic regression, by pooling neighbours that do.
    """
    order = sorted(range(len(places)), key=places.__getitem__)
    pools: list[list[float]] = []
    for k, i in enumerate(order):
        pools.append([places[i] - k * gap])
        while len(pools) > 1 and fmean(pools[-2]) > fmean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    moved = [fmean(pool) for pool in pools for _ in pool]
    found = {i: place + k * gap for k, (i, place) in enumerate(zip(order, moved, strict=True))}
    return [found[i] for i in range(len(places))]
