"""Records as a table, as JSON and as a picture."""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.table import Table

from amdm import plots
from theory_checks.record import Record, Verdict

DOTS: dict[Verdict, str] = {
    "holds": plots.COLOURS["blue"],
    "holds but vacuous": plots.COLOURS["orange"],
    "fails": plots.COLOURS["vermilion"],
}
COLUMNS = {"claimed": "claimed", "measured": "measured", "least slack": "slack", "tightness": "tightness"}


class Row(NamedTuple):
    """All records of one statement."""

    statement: str
    records: list[Record]

    @property
    def verdict(self) -> str:
        """Return the verdict, or the settings' number for each; then the statement's source if not ours."""
        counts = {name: sum(record.verdict == name for record in self.records) for name in DOTS}
        there = [(name, count) for name, count in counts.items() if count]
        words = there[0][0] if len(there) == 1 else ", ".join(f"{name}: {count}" for name, count in there)
        return words if all(record.ours for record in self.records) else f"{words} (not our claim)"

    @property
    def colour(self) -> str:
        """Return the colour: red if a statement that we claim fails."""
        return "bold red" if any(broken(record) for record in self.records) else "default"


def broken(record: Record) -> bool:
    """Return True if we claim the record's statement and it fails."""
    return record.ours and record.verdict == "fails"


def rows(records: Iterable[Record]) -> list[Row]:
    """Return the rows of records by statement, in the order of their first records."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.statement, []).append(record)
    return [Row(*group) for group in groups.items()]


def span(values: Iterable[float]) -> str:
    """Return the least and the largest of the known values."""
    known = sorted(value for value in values if math.isfinite(value))
    ends = [f"{value:.3g}" for value in (known[:1] + known[-1:])]
    return " .. ".join(dict.fromkeys(ends))


def table(records: Sequence[Record]) -> Table:
    """Return a table with a line per statement, over all of its settings."""
    lines = Table(caption="least and largest over the settings; tightness is 1 where nothing sharper holds")
    lines.add_column("statement")
    for name in ("settings", *COLUMNS):
        lines.add_column(name, justify="right")
    lines.add_column("verdict")
    for row in rows(records):
        numbers = (span(getattr(record, name) for record in row.records) for name in COLUMNS.values())
        verdict = f"[{row.colour}]{row.verdict}[/]"
        lines.add_row(row.statement, str(len(row.records)), *numbers, verdict)
    return lines


def write_json(records: Sequence[Record], path: Path) -> None:
    """Write all records with all of their numbers, as strict JSON."""
    lines = [record.as_dict() for record in records]
    path.write_text(json.dumps(lines, indent=1, allow_nan=False) + "\n")


def picture(records: Sequence[Record]) -> Figure:
    """Draw one page: bounds by their tightness, all others by the measured number over the claimed one."""
    lines = rows(records)
    bounds = [row for row in lines if any(math.isfinite(record.tightness) for record in row.records)]
    others = [row for row in lines if row not in bounds]
    parts = [part for part in (bounds, others) if part]
    heights = [len(part) + 1.5 for part in parts]
    figure = plots.empty(plots.WIDTH, 0.5 + 0.19 * sum(heights))
    panels = figure.subplots(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, part in zip(panels, parts, strict=True):
        if part is bounds:
            dots(axes, part, lambda record: record.tightness)
            axes.set_title("Bounds: how tight (1: nothing sharper can be said)", fontsize=9)
            axes.set_xlim(-0.03, 1.05)
        else:
            dots(axes, part, ratio)
            axes.set_title("All else: measured over claimed, at most 2", fontsize=9)
            axes.set_xlim(-0.06, 2.06)
            axes.axvline(1, color="black", lw=0.8, zorder=0)
    handles = [Line2D([], [], marker="o", ls="", color=colour) for colour in DOTS.values()]
    figure.legend(handles, list(DOTS), loc="outside upper center", ncols=len(DOTS), fontsize=8, frameon=False)
    return figure


def ratio(record: Record) -> float:
    """Return measured over claimed, at most 2; NaN if 0 is claimed."""
    return min(2.0, record.measured / record.claimed) if record.claimed else math.nan


def dots(axes: Axes, lines: Sequence[Row], value: Callable[[Record], float]) -> None:
    """Draw a line per statement, a dot per setting in its verdict's colour, and the verdicts at the right."""
    for y, row in enumerate(lines):
        values = [value(record) for record in row.records]
        spread = [y + 0.5 * (k / len(values) - 0.5) for k in range(len(values))]
        axes.scatter(
            values, spread, s=11, c=[DOTS[record.verdict] for record in row.records], alpha=0.8, lw=0
        )
        if all(math.isnan(x) for x in values):
            most = max(abs(record.measured) for record in row.records)
            axes.text(0.03, y, f"claimed 0, measured {most:.0e} at most", va="center", fontsize=7)
    axes.set_yticks(range(len(lines)), [row.statement for row in lines], fontsize=7)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    words = axes.secondary_yaxis("right")
    words.set_yticks(range(len(lines)), [row.verdict for row in lines], fontsize=7)
    for label, row in zip(words.get_yticklabels(), lines, strict=True):
        label.set_color(
            DOTS["fails"] if any(record.verdict == "fails" for record in row.records) else "black"
        )
    for part in (axes, words):
        part.tick_params(axis="y", length=0)
        part.spines[["top", "left", "right"]].set_visible(False)
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(axis="y", lw=0.3)
    axes.set_axisbelow(True)
