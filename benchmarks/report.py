"""REPORT.md, made from the tables: pictures, the paper's claims and numbers beside ours, verdicts."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

from benchmarks import tables
from benchmarks.tables import Cell, Row, Table

Direction = Literal["more", "less", "not more", "not less", "alike"]


class Claim(NamedTuple):
    """What the paper says, its numbers, ours, and whether it holds here."""

    claim: str
    paper: str
    ours: str
    verdict: str


class Section(NamedTuple):
    """What there is to say of an experiment."""

    claims: Sequence[Claim]
    tables: Sequence[Sequence[str]]
    paper: Mapping[str, Mapping[str, Any]] = {}
    remarks: Sequence[str] = ()


def compare(claim: str, paper: str, difference: Row, expected: Mapping[str, Direction]) -> Claim:
    """A claim about a difference of two rows: it reproduces if every metric goes where it should.

    Without numbers of the paper it is ours: then it holds or does not.
    """
    cells = {name: difference.cells[name] for name in expected}
    ours = ", ".join(f"{name} {signed(cell)}" for name, cell in cells.items())
    found = [goes(cell, expected[name]) for name, cell in cells.items()]
    words = ("reproduces", "does not reproduce") if paper else ("holds", "does not hold")
    verdict = words[0] if all(found) else words[1] if False in found else "undecided"
    return Claim(claim, paper or "(ours)", ours, verdict)


def goes(cell: Cell, expected: Direction) -> bool | None:
    """Whether a difference is on the side it should be; None where its interval has zero inside.

    "not more", "not less" and "alike" hold unless the contrary is sure.
    """
    assert cell.low is not None and cell.high is not None
    sign = 1 if cell.low > 0 else -1 if cell.high < 0 else 0
    if expected == "alike":
        return sign == 0
    if expected in ("not more", "not less"):
        return sign != (1 if expected == "not more" else -1)
    return None if sign == 0 else sign == (1 if expected == "more" else -1)


def signed(cell: Cell) -> str:
    """A difference with its interval."""
    if cell.low is None or cell.high is None:
        return f"{cell.value:+.1f}"
    return f"{cell.value:+.1f} [{cell.low:+.1f}, {cell.high:+.1f}]"


def write(out: Path, experiments: Mapping[str, ModuleType]) -> Path:
    """The report of all experiments that have a table in `out`/results."""
    parts = [HEAD]
    for name, module in experiments.items():
        path = out / "results" / f"{name}.csv"
        if path.exists():
            gaps = path.with_name(f"{name}_differences.csv")
            how = json.loads(path.with_suffix(".json").read_text())
            differences = tables.read(gaps) if gaps.exists() else {}
            parts.append(text(name, module, tables.read(path), differences, how))
    target = out / "REPORT.md"
    target.write_text("\n\n".join(parts) + "\n")
    return target


def text(name: str, module: ModuleType, table: Table, differences: Table, how: Mapping[str, Any]) -> str:
    """A section of the report."""
    section = module.section(table, differences)
    seconds = {row: str(part["seconds per image"]) for row, part in how.get("rows", {}).items()}
    lines = [f"## {module.TITLE}", f"![{module.TITLE}](results/{name}.png)"]
    if section.claims:
        lines.append(tables.markdown([["claim", "the paper", "here", "verdict"], *map(list, section.claims)]))
    lines += section.remarks
    lines += [tables.render(table, present(table, columns), seconds) for columns in section.tables]
    lines += [paper_table(title, rows) for title, rows in section.paper.items()]
    return "\n\n".join(lines)


def present(table: Table, columns: Iterable[str]) -> list[str]:
    """The columns that some row has."""
    return [column for column in columns if any(column in row.cells for row in table.values())]


def paper_table(title: str, rows: Mapping[str, Any]) -> str:
    """The paper's own numbers."""
    lines = [[f"paper, {title}" if name == "columns" else name, *map(str, row)] for name, row in rows.items()]
    return tables.markdown(lines)


HEAD = """# The paper's experiments on the trained ecosystem

Made from the tables in `results` by `python -m benchmarks`. Shares in %, intervals of 95%, paired where
differences are given. A claim *reproduces* if every difference it names is on the paper's side beyond its
interval, *does not* if one is on the other side, and is *undecided* if zero is inside."""
