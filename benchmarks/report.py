"""REPORT.md, made from the tables: pictures, the paper's claims and numbers beside ours, verdicts."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

from benchmarks import tables
from benchmarks.tables import Cell, Row, Table

Direction = Literal["more", "less", "not more", "not less", "alike", "little less"]
MARGIN = {"KID": 15.0}  # what counts as no difference: points of a share, unless given here
POINTS = 3.0
LITTLE = 5.7  # points: what the paper calls a minor loss, ISR 55.46 to 49.78


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


def compare(
    claim: str,
    paper: str,
    difference: Row,
    expected: Mapping[str, Direction],
    under: Mapping[str, Row] = {},
) -> Claim:
    """A claim about a difference of two rows: it reproduces if every metric goes where it should.

    Without numbers of the paper it is ours: then it holds or does not. Where it does not, the same
    differences under other conditions are looked at, and all are shown.
    """
    words = ("reproduces", "does not reproduce") if paper else ("holds", "does not hold")
    found = {condition: _found(row, expected) for condition, row in ({"": difference} | {**under}).items()}
    verdicts = {
        condition: words[1] if False in goings else "undecided" if None in goings else words[0]
        for condition, (_, goings) in found.items()
    }
    verdict = verdicts[""]
    if verdict == words[0]:
        return Claim(claim, paper or "(ours)", found[""][0], verdict)
    ours = "; ".join(f"{condition}: {text}" if condition else text for condition, (text, _) in found.items())
    met = [condition for condition in under if verdicts[condition] == words[0]]
    if met:
        verdict = f"{words[0]} under a condition: {', '.join(met)}"
    return Claim(claim, paper or "(ours)", ours, verdict)


def _found(difference: Row, expected: Mapping[str, Direction]) -> tuple[str, list[bool | None]]:
    """What the metrics differ by, and whether each goes where it should."""
    cells = {name: difference.cells[name] for name in expected}
    text = ", ".join(f"{name} {signed(cell)}" for name, cell in cells.items())
    return text, [goes(name, cell, expected[name]) for name, cell in cells.items()]


def goes(name: str, cell: Cell, expected: Direction) -> bool | None:
    """Whether a metric's difference is where it should be; None where its interval leaves that open.

    More and less are than 0. Not more, not less and alike are up to a margin, little less is up to LITTLE.
    """
    margin = MARGIN.get(name, POINTS)
    assert cell.low is not None and cell.high is not None
    low, high = {
        "more": (0.0, math.inf),
        "less": (-math.inf, 0.0),
        "not more": (-math.inf, margin),
        "not less": (-margin, math.inf),
        "alike": (-margin, margin),
        "little less": (-LITTLE, math.inf),
    }[expected]
    if low < cell.low and cell.high < high:
        return True
    return False if cell.high < low or cell.low > high else None


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


HEAD = f"""# The paper's experiments on `shapes`

Made from the tables in `results` by `python -m benchmarks`. Intervals are of 95%, over scenes; those of
differences are paired. A claim about more or less *reproduces* if the whole interval of every difference
that it names is on the paper's side of 0, *does not* if one is on the other side; a claim that two are
alike, or that one is not worse, if the whole interval is within {POINTS:g} points (KID: {MARGIN["KID"]:g})
of 0; else it is *undecided*. *Under a condition*: not as the paper has it, but if something named is
otherwise. Claims marked (ours) are not the paper's: they hold or do not.

* **ISR**, **mIoU** by the number of objects (L2, L3, L4) and on average: COCO-MIG's, with objects and boxes
  found in the image. An object found in the right cell of the world overlaps by half nearly always, so that
  ISR asks for shape and colour in the right cell, and mIoU says little more.
* **mAP**: HICO-DET's, of kinds of interaction and shapes of their object; rare are two of four kinds. It is
  smaller in larger samples: compare it within an experiment.
* **shapes**, **colours**, **interactions**: how many are right, read in the wanted boxes; **scene right**:
  all of them in a scene. **style**: the detected style. **caption**: the words seen in an image and those
  wanted, shared over all (Jaccard).
* **KID** is times 1000, of a small classifier's features; **KID above renders** that of flawless images of
  the same scenes taken off, paired. **precision**, **recall** with 3 neighbours. FID would need 5,000
  scenes.
* **evaluations** are guided ones, two passes of a network each; **seconds** per image on two cores,
  busy or not, by one process or two.
* Tables 1 and 2 are of two benchmarks in the paper (HICO-DET, and COCO-MIG with the action "and"), here of
  the same scenes."""
