"""REPORT.md, made from the tables: pictures, the paper's claims and numbers beside ours, verdicts."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.stats import false_discovery_control, norm
from scipy.stats import t as student

from benchmarks import tables
from benchmarks.measures import CONTROL, GROUPS, LOOKS
from benchmarks.tables import Cell, Row, Table

Direction = Literal["more", "less", "not more", "not less", "alike", "little less"]
DEFAULT_TABLES = ([*CONTROL, *LOOKS],)
MARGIN = {"KID": 15.0}  # what counts as no difference: points of a share, unless given here
POINTS = 3.0
LITTLE = 5.7  # points: what the paper calls a minor loss, ISR 55.46 to 49.78
ALPHA = 0.05
OURS = "(ours)"


class Tested(NamedTuple):
    """A metric of a claim: True if it goes as claimed, False if not, None if that is open; and a p-value."""

    goes: bool | None
    p: float


class Claim(NamedTuple):
    """A statement, the paper's numbers for it, ours, and the verdict.

    Attributes:
        tested: the metrics that it is judged by, under every condition; "" is as the paper has it.
    """

    claim: str
    paper: str
    ours: str
    verdict: str
    tested: Mapping[str, Sequence[Tested]] = {}

    def at(self, cutoff: float) -> str:
        """The verdict if only p-values up to the cutoff decide; as it is if none is known."""
        left = {
            condition: [found if found.p <= cutoff else found._replace(goes=None) for found in tested]
            for condition, tested in self.tested.items()
        }
        return verdict_of(left, self.paper) if left else self.verdict


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

    A claim without numbers of the paper is ours: it is supported or not. One that is not is also judged
    by the same differences under other conditions, and all are shown.
    """
    rows = {"": difference} | {**under}
    tested = {
        condition: [
            Tested(goes(name, row.cells[name], direction), p_value(name, row.cells[name], direction))
            for name, direction in expected.items()
        ]
        for condition, row in rows.items()
    }
    numbers = paper or OURS
    verdict = verdict_of(tested, numbers)
    shown = [""] if verdict in ("reproduces", "supported") else list(rows)
    texts = []
    for condition in shown:
        text = ", ".join(f"{name} {signed(rows[condition].cells[name])}" for name in expected)
        texts.append(f"{condition}: {text}" if condition else text)
    return Claim(claim, numbers, "; ".join(texts), verdict, tested)


def verdict_of(tested: Mapping[str, Sequence[Tested]], paper: str) -> str:
    """A claim's verdict: that of the paper's conditions, or of the others where only those go as claimed."""
    yes, no = ("supported", "refuted") if paper == OURS else ("reproduces", "does not reproduce")

    def of(condition: str) -> str:
        found = {each.goes for each in tested[condition]}
        if {True, False} <= found:
            return "mixed"
        return no if False in found else "undecided" if None in found else yes

    met = [condition for condition in tested if of(condition) == yes]
    if not met or "" in met:
        return of("")
    return f"{yes} under a condition: {', '.join(met)}"


def limits(name: str, expected: Direction) -> tuple[float, float]:
    """Where a difference should lie.

    More and less are than 0. Not more, not less and alike are up to a margin, little less is up to LITTLE.
    """
    margin = MARGIN.get(name, POINTS)
    return {
        "more": (0.0, math.inf),
        "less": (-math.inf, 0.0),
        "not more": (-math.inf, margin),
        "not less": (-margin, math.inf),
        "alike": (-margin, margin),
        "little less": (-LITTLE, math.inf),
    }[expected]


def goes(name: str, cell: Cell, expected: Direction) -> bool | None:
    """True if a metric's interval lies where it should, False if outside, None if that is open."""
    assert cell.low is not None and cell.high is not None
    low, high = limits(name, expected)
    if low < cell.low and cell.high < high:
        return True
    return False if cell.high < low or cell.low > high else None


def p_value(name: str, cell: Cell, expected: Direction) -> float:
    """The two-sided p-value of what `goes` says, from the side of the interval that faces the limit.

    It is below 0.05 where the interval excludes the limit: for two limits the larger one, if both have to be
    excluded. Errors are taken as normal, KID's as Student's.
    """
    assert cell.low is not None and cell.high is not None
    law = student(GROUPS - 1) if name.startswith("KID") else norm()
    center = min(max(cell.value, cell.low), cell.high)
    ends = [limit for limit in limits(name, expected) if math.isfinite(limit)]
    low, high = limits(name, expected)
    if not low < center < high:  # beyond one limit: that is the one to exclude
        ends = [low if center <= low else high]

    def beyond(limit: float) -> float:
        side = center - cell.low if limit < center else cell.high - center  # type: ignore[operator]
        if limit == center:
            return 1.0
        far = abs(center - limit) / side if side > 0 else math.inf
        return float(2 * law.sf(far * law.ppf(1 - ALPHA / 2)))

    return max(map(beyond, ends))


def signed(cell: Cell) -> str:
    """A difference with its sign and interval."""
    return cell.text("+.1f")


def write(out: Path, experiments: Mapping[str, ModuleType]) -> Path:
    """The report of all experiments that have a table in `out`/results."""
    found = {}
    for name, module in experiments.items():
        path = out / "results" / f"{name}.csv"
        if path.exists():
            gaps = path.with_name(f"{name}_differences.csv")
            how = json.loads(path.with_suffix(".json").read_text())
            differences = tables.read(gaps) if gaps.exists() else {}
            found[name] = module, tables.read(path), differences, how
    sections = [module.section(table, differences) for module, table, differences, _ in found.values()]
    claims = [claim for section in sections for claim in section.claims]
    tested = [each.p for claim in claims for found in claim.tested.values() for each in found]
    cutoff = cutoff_of(tested)
    parts = [HEAD, CORRECTED.format(count=len(tested), cutoff=cutoff)]
    parts += [text(name, *each, cutoff) for name, each in found.items()]
    target = out / "REPORT.md"
    target.write_text("\n\n".join(parts) + "\n")
    return target


def cutoff_of(p_values: Sequence[float]) -> float:
    """The largest p-value that Benjamini and Hochberg's procedure leaves; 0 for none."""
    adjusted = false_discovery_control(p_values) if p_values else np.array([])
    return max((p for p, q in zip(p_values, adjusted, strict=True) if q <= ALPHA), default=0.0)


def text(
    name: str,
    module: ModuleType,
    table: Table,
    differences: Table,
    how: Mapping[str, Any],
    cutoff: float = ALPHA,
) -> str:
    """A section of the report; `cutoff` is the largest p-value that counts among all of the report's."""
    section = module.section(table, differences)
    seconds = {row: str(part["seconds per image"]) for row, part in how.get("rows", {}).items()}
    lines = [f"## {module.TITLE}", f"![{module.TITLE}](results/{name}.png)"]
    if section.claims:
        head = ["claim", "the paper", "in this world", "verdict", "corrected"]
        rows = [[*claim[:4], corrected(claim, cutoff)] for claim in section.claims]
        lines.append(tables.markdown([head, *rows]))
    if any("KID" in row.cells for row in table.values()) and RENDERS not in how:
        lines.append(FEW_RENDERS)
    lines += section.remarks
    lines += [tables.render(table, present(table, columns), seconds) for columns in section.tables]
    for title, rows in section.paper.items():
        named = {f"paper, {title}" if row == "columns" else row: numbers for row, numbers in rows.items()}
        lines.append(tables.markdown([[row, *map(str, numbers)] for row, numbers in named.items()]))
    return "\n\n".join(lines)


def corrected(claim: Claim, cutoff: float) -> str:
    """A claim's verdict after the correction, if it is another one."""
    if not claim.tested:
        return "not tested"
    verdict = claim.at(cutoff)
    return "the same" if verdict == claim.verdict else verdict


def present(table: Table, columns: Iterable[str]) -> list[str]:
    """The columns that some row has."""
    return [column for column in columns if any(column in row.cells for row in table.values())]


HEAD = f"""# The paper's experiments on `shapes`

Made from the tables in `results` by `python -m benchmarks`. All of it is of one small world: renders of
32 x 32 pixels, networks of 1.2 M parameters, `layout`, `attribute` and `style` in the roles of the paper's
models. A claim of the paper that does not reproduce does not do so in this world.

Intervals are of 95%, over scenes; those of differences are paired. A claim about more or less *reproduces* if
the whole interval of every difference that it names is on the paper's side of 0, *does not* if one is on the
other side; a claim that two are alike, or that one is not worse, if the whole interval is within {POINTS:g}
points (KID: {MARGIN["KID"]:g}) of 0. It is *mixed* if some of its metrics are on the one side and some on the
other, else *undecided*. *Under a condition*: not as the paper has it, but if something named is otherwise.
Claims marked {OURS} are not the paper's: they are *supported* or *refuted* by the same rule. That is more
than *holds* in `theory_checks`, which means that no interval excludes the statement.

* **ISR**, **mIoU** by the number of objects (L2, L3, L4) and on average: COCO-MIG's, with objects and boxes
  found in the image. An object found in the right cell of the world overlaps by half nearly always, so that
  ISR asks for shape and colour in the right cell, and mIoU says little more.
* **shapes**, **colours**, **interactions**: how many are right, read in the wanted boxes; **scene right**:
  all of them in a scene. Claims about interactions are judged by the share that is right.
* **mAP**: HICO-DET's, of kinds of interaction and shapes of their object; rare are two of four kinds. It
  stands in the paper's tables, and here beside the share: it is smaller in larger samples, so that the
  bootstrap's draws, which repeat scenes, are off its value, and its intervals are off centre.
* **style**: the detected style. **caption**: the words seen in an image and those wanted, shared over all
  (Jaccard).
* **KID** is times 1000, of a small classifier's features, against 8,000 renders of other scenes where nothing
  else is said; its interval is the jackknife's over images and renders. **KID above renders** has that of
  flawless images of the same scenes taken off, paired. **precision**, **recall** with 3 neighbours. FID would
  need 5,000 scenes.
* **evaluations** are guided ones, two passes of a network each; **seconds** per image on two cores,
  busy or not, by one process or two.
* Tables 1 and 2 are of two benchmarks in the paper (HICO-DET, and COCO-MIG with the action "and"), here of
  the same scenes."""
CORRECTED = """* **corrected**: what is left of a verdict if the claims of the whole report are taken as one
  family: of {count} tests, one for each metric of each claim, those with p up to {cutoff:.4f} count, by
  Benjamini and Hochberg's procedure at 5%. It bounds the share of wrong ones among what is decided, which is
  what a reader of so many verdicts needs (Holm's bounds the probability of a single one), and allows the
  positive dependence of tests that share images. p is read off the interval: normal, KID's Student's."""
RENDERS = "KID's renders"
FEW_RENDERS = """KID is here against as many renders as there are images: one draw of them, which its interval
leaves out, so that a difference may be that draw's."""
