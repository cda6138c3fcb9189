"""Records as a table, as JSON and as a picture."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.table import Table

from theory_checks.record import Record, Verdict

COLOURS: dict[Verdict, str] = {"holds": "green", "holds but vacuous": "orange", "fails": "red"}
COLUMNS = {"claimed": "claimed", "measured": "measured", "least slack": "slack", "tightness": "tightness"}


class Row(NamedTuple):
    """All records of one statement."""

    statement: str
    records: list[Record]

    @property
    def verdict(self) -> str:
        """The one verdict, or how many settings have each; then whose statement it is, if not ours."""
        counts = {name: sum(record.verdict == name for record in self.records) for name in COLOURS}
        there = [(name, count) for name, count in counts.items() if count]
        words = there[0][0] if len(there) == 1 else ", ".join(f"{name}: {count}" for name, count in there)
        return words if all(record.ours for record in self.records) else f"{words} (not our claim)"

    @property
    def colour(self) -> str:
        """Red where a statement that we claim fails."""
        return "bold red" if any(broken(record) for record in self.records) else "default"


def broken(record: Record) -> bool:
    """Return True if the record is of a statement that we claim and fails."""
    return record.ours and record.verdict == "fails"


def rows(records: Iterable[Record]) -> list[Row]:
    """Records by statement, in the order of their first ones."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.statement, []).append(record)
    return [Row(*group) for group in groups.items()]


def span(values: Iterable[float]) -> str:
    """The least and the largest of the values that are known."""
    known = sorted(value for value in values if math.isfinite(value))
    ends = [f"{value:.3g}" for value in (known[:1] + known[-1:])]
    return " .. ".join(dict.fromkeys(ends))


def table(records: Sequence[Record]) -> Table:
    """A line per statement, over all of its settings."""
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
    """All records with all of their numbers, as strict JSON."""
    lines = [record.as_dict() for record in records]
    path.write_text(json.dumps(lines, indent=1, allow_nan=False) + "\n")


def picture(records: Sequence[Record]) -> Figure:
    """One page: a line per statement, a dot per setting in its verdict's colour."""
    lines = rows(records)
    figure = Figure(figsize=(14, 2 + 0.32 * len(lines)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    dots(left, lines, [[record.tightness for record in row.records] for row in lines])
    left.set(xlabel="tightness: 1 where nothing sharper can be said", xlim=(0, 1.1))
    left.set_yticks(range(len(lines)), [row.statement for row in lines])
    left.set_ylim(len(lines) - 0.5, -0.5)
    dots(right, lines, [[ratio(record) for record in row.records] for row in lines])
    right.axvline(1, color="black", lw=0.8)
    right.set(xlabel="measured / claimed, at most 2 (0/0 is 1)", xlim=(-0.05, 2.05))
    handles = [Line2D([], [], marker="o", ls="", color=colour) for colour in COLOURS.values()]
    figure.legend(handles, list(COLOURS), loc="outside upper center", ncols=len(COLOURS))
    return figure


def ratio(record: Record) -> float:
    """Measured over claimed, at most 2; where 0 is claimed 1 if that holds, else 2."""
    if record.claimed == 0 and record.sense == "equal":
        return 2.0 if record.verdict == "fails" else 1.0
    return min(2.0, record.measured / record.claimed) if record.claimed else math.nan


def dots(axes: Axes, lines: Sequence[Row], values: Sequence[Sequence[float]]) -> None:
    """Values by statement, spread a little so that all can be seen."""
    for y, (row, line) in enumerate(zip(lines, values, strict=True)):
        spread = [y + 0.5 * (k / len(line) - 0.5) for k in range(len(line))]
        axes.scatter(line, spread, s=14, c=[COLOURS[record.verdict] for record in row.records], alpha=0.7)
    axes.grid(axis="y", lw=0.3)
