"""REPORT.md, made from the tables: pictures, the paper's claims and numbers beside ours, verdicts."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

from benchmarks import tables
from benchmarks.measures import CONTROL, LOOKS
from benchmarks.tables import Cell, Row, Table

Direction = Literal["more", "less", "not more", "not less", "alike", "little less"]
DEFAULT_TABLES = ([*CONTROL, *LOOKS],)
MARGIN = {"KID": 15.0}  # what counts as no difference: points of a share, unless given here
POINTS = 3.0
LITTLE = 5.7  # points: what the paper calls a minor loss, ISR 55.46 to 49.78


class Claim(NamedTuple):
    """A statement, the paper's numbers for it, ours, and the verdict."""

    claim: str
    paper: str
    ours: str
    verdict: str


class Section(NamedTuple):
    """The content of an experiment's section: claims, columns of our tables, the paper's tables, remarks."""

    claims: Sequence[Claim]
    tables: Sequence[Sequence[str]] = DEFAULT_TABLES
    paper: Mapping[str, Mapping[str, Any]] = {}
    remarks: Sequence[str] = ()


class Question(NamedTuple):
    """A claim about the difference of two rows, and the paper's numbers for it; "" for a claim of ours.

    Attributes:
        expected: the direction of every metric that it is judged by.
        under: other conditions, and the two rows that are compared under each.
    """

    claim: str
    paper: str
    rows: tuple[str, str]
    expected: Mapping[str, Direction]
    under: Mapping[str, tuple[str, str]] = {}


def both(rows: tuple[str, str], end: str) -> tuple[str, str]:
    """Two rows whose names have the same end."""
    return f"{rows[0]}{end}", f"{rows[1]}{end}"


def asking(
    questions: Sequence[Question],
    tables: Sequence[Sequence[str]] = DEFAULT_TABLES,
    paper: Mapping[str, Mapping[str, Any]] = {},
    remarks: Sequence[str] = (),
) -> Callable[[Table, Table], Section]:
    """A section whose claims are questions about the differences of rows."""

    def section(table: Table, differences: Table) -> Section:
        claims = []
        for claim, numbers, rows, expected, under in questions:
            conditions = {name: differences[" - ".join(pair)] for name, pair in under.items()}
            claims.append(compare(claim, numbers, differences[" - ".join(rows)], expected, conditions))
        return Section(claims, tables, paper, remarks)

    return section


def compare(
    claim: str,
    paper: str,
    difference: Row,
    expected: Mapping[str, Direction],
    under: Mapping[str, Row] = {},
) -> Claim:
    """A claim about a difference of two rows: it reproduces if every metric goes in its direction.

    A claim without numbers of the paper is ours: it holds or does not. One that does not is also judged by
    the same differences under other conditions, and all are shown.
    """
    yes, no = ("reproduces", "does not reproduce") if paper else ("holds", "does not hold")
    texts, verdicts = {}, {}
    for condition, row in ({"": difference} | {**under}).items():
        found = [goes(name, row.cells[name], direction) for name, direction in expected.items()]
        verdicts[condition] = no if False in found else "undecided" if None in found else yes
        text = ", ".join(f"{name} {signed(row.cells[name])}" for name in expected)
        texts[condition] = f"{condition}: {text}" if condition else text
    verdict = verdicts[""]
    if verdict == yes:
        return Claim(claim, paper or "(ours)", texts[""], verdict)
    if met := [condition for condition in under if verdicts[condition] == yes]:
        verdict = f"{yes} under a condition: {', '.join(met)}"
    return Claim(claim, paper or "(ours)", "; ".join(texts.values()), verdict)


def goes(name: str, cell: Cell, expected: Direction) -> bool | None:
    """True if a metric's interval lies where it should, False if outside, None if that is open.

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
    """A difference with its sign and interval."""
    return cell.text("+.1f")


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
    for title, rows in section.paper.items():
        named = {f"paper, {title}" if row == "columns" else row: numbers for row, numbers in rows.items()}
        lines.append(tables.markdown([[row, *map(str, numbers)] for row, numbers in named.items()]))
    return "\n\n".join(lines)


def present(table: Table, columns: Iterable[str]) -> list[str]:
    """The columns that some row has."""
    return [column for column in columns if any(column in row.cells for row in table.values())]


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
