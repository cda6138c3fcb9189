"""REPORT.md, made from the tables: all claims with their verdicts, then a section for every experiment."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.stats import false_discovery_control, norm
from scipy.stats import t as student

from amdm.shapes.tables import write_csv
from benchmarks import overview, paper, tables
from benchmarks.measures import GROUPS
from benchmarks.overview import Line
from benchmarks.tables import Cell, Row, Table

Direction = Literal["more", "less", "not more", "not less", "alike", "little less"]
COLUMNS = ("scene right", "interactions", "ISR avg", "KID above renders")
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
        place: where the paper says so; "" for a claim of ours.
        line: the line of the overview that it is counted in, if not one of its own.
        measured: the metrics that it is judged by, as the paper has it.
    """

    claim: str
    paper: str
    ours: str
    verdict: str
    tested: Mapping[str, Sequence[Tested]] = {}
    place: str = ""
    line: str = ""
    measured: Mapping[str, Cell] = {}

    def at(self, cutoff: float) -> str:
        """The verdict if only p-values up to the cutoff decide; as it is if none is known."""
        left = {
            condition: [found if found.p <= cutoff else found._replace(goes=None) for found in tested]
            for condition, tested in self.tested.items()
        }
        return verdict_of(left, self.paper) if left else self.verdict


class Section(NamedTuple):
    """The content of an experiment's section: claims, a question, what was found, a table in print."""

    claims: Sequence[Claim]
    question: str
    says: Sequence[str]
    lines: Sequence[Sequence[str]] = ()


class Question(NamedTuple):
    """A claim about the difference of two rows, and the paper's numbers for it; "" for a claim of ours.

    Attributes:
        expected: the direction of every metric that it is judged by.
        under: other conditions, and the two rows that are compared under each.
        place: where the paper says so, if `paper` does not say that itself.
        line: the line of the overview that it is counted in, if not one of its own.
    """

    claim: str
    paper: str
    rows: tuple[str, str]
    expected: Mapping[str, Direction]
    under: Mapping[str, tuple[str, str]] = {}
    place: str = ""
    line: str = ""


def with_each(
    row: str, others: Iterable[str], claims: Mapping[str, tuple[Mapping[str, Direction], str]]
) -> list[Question]:
    """Return claims of ours about a row and each other one, whose name stands for {} in their text.

    `claims` has what is expected for each, and the line of the overview.
    """
    return [
        Question(claim.format(other), "", (row, other), expected, line=line)
        for other in others
        for claim, (expected, line) in claims.items()
    ]


def both(rows: tuple[str, str], end: str) -> tuple[str, str]:
    """Two rows whose names have the same end."""
    return f"{rows[0]}{end}", f"{rows[1]}{end}"


def asking(
    questions: Sequence[Question],
    question: str,
    says: Sequence[str],
    columns: Sequence[str] = COLUMNS,
    rows: Sequence[str] | None = None,
) -> Callable[[Table, Table], Section]:
    """A section whose claims are questions about the differences of rows.

    It shows these rows, all if there is no list, and no table if the list is empty: the picture has the
    numbers.
    """

    def section(table: Table, differences: Table) -> Section:
        claims = []
        for claim, numbers, pair, expected, under, place, line in questions:
            conditions = {name: differences[" - ".join(other)] for name, other in under.items()}
            found = compare(claim, numbers, differences[" - ".join(pair)], expected, conditions)
            claims.append(found._replace(place=place or numbers, line=line))
        names = table if rows is None else rows
        shown = {row: table[row] for row in names if row in table and row != "renders"}
        lines = tables.lines(shown, present(shown, columns)) if shown else ()
        return Section(claims, question, says, lines)

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
    measured = {name: difference.cells[name] for name in expected}
    return Claim(claim, numbers, "; ".join(texts), verdict, tested, paper, measured=measured)


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
    """Write the report of all experiments that have a table in `out`/results, and its claims as CSV."""
    found = {}
    for name, module in experiments.items():
        path = out / "results" / f"{name}.csv"
        if path.exists():
            gaps = path.with_name(f"{name}_differences.csv")
            how = json.loads(path.with_suffix(".json").read_text())
            differences = tables.read(gaps) if gaps.exists() else {}
            found[name] = module, tables.read(path), differences, how
    sections = {module.TITLE: module.section(*both) for module, *both, _ in found.values()}
    tested = [
        each.p
        for section in sections.values()
        for claim in section.claims
        for metrics in claim.tested.values()
        for each in metrics
    ]
    cutoff = cutoff_of(tested)
    lines = [line for title, section in sections.items() for line in lines_of(section, title, cutoff)]
    theirs = [*overview.of_theory(), *(line for line in lines if line.place)]
    ours = [*overview.of_theory(ours=True), *(line for line in lines if not line.place)]
    parts = [HEAD, overview.markdown(theirs), NOT_LISTED, overview.markdown_of_others(), MARKS]
    parts += [overview.markdown_of_ours(ours)]
    parts += [f"{READING}\n{CORRECTED.format(count=len(tested), cutoff=cutoff)}", overview.section()]
    parts += [text(name, *each) for name, each in found.items()]
    target = out / "REPORT.md"
    target.write_text("\n\n".join(parts) + "\n")
    (out / CLAIMS).parent.mkdir(parents=True, exist_ok=True)
    write_csv(out / CLAIMS, claims_of(sections, cutoff))
    write_csv(out / PAPER, [("table", "row", "column", "number"), *paper.numbers()])
    return target


def claims_of(sections: Mapping[str, Section], cutoff: float) -> Iterator[Sequence[str]]:
    """Yield a head, then every claim of the sections by title, with its verdict and the corrected one."""
    yield "experiment", "claim", "paper", "here", "verdict", "corrected"
    for title, section in sections.items():
        yield from ((title, *claim[:4], corrected(claim, cutoff)) for claim in section.claims)


def lines_of(section: Section, title: str, cutoff: float) -> Iterator[Line]:
    """The overview's lines of an experiment: claims of one place and line are counted."""
    groups: dict[tuple[str, str], list[Claim]] = {}
    for claim in section.claims:
        groups.setdefault((claim.place, claim.line or claim.claim), []).append(claim)
    for (place, line), claims in groups.items():
        verdicts = Counter(
            claim.verdict + ("" if corrected(claim, cutoff) in ("the same", "not tested") else overview.MARK)
            for claim in claims
        )
        papers = dict.fromkeys(claim.paper for claim in claims if claim.paper != place)
        yield Line(place, title, line, "; ".join(papers) if len(papers) == 1 else "", here(claims), verdicts)


def here(claims: Sequence[Claim]) -> str:
    """Our figures for some claims: one with its interval, else the least and the largest."""
    if not all(claim.measured for claim in claims):
        return claims[0].ours
    if len(claims) == 1 and len(claims[0].measured) == 1:
        return ", ".join(f"{name} {signed(cell)}" for name, cell in claims[0].measured.items())
    values: dict[str, list[float]] = {}
    alike = all(claim.measured.keys() == claims[0].measured.keys() for claim in claims)
    for claim in claims:
        for name, cell in claim.measured.items():
            values.setdefault(name if alike else "", []).append(cell.value)
    spans = {name: [f"{value:+.1f}" for value in (min(of), max(of))] for name, of in values.items()}
    return ", ".join(f"{name} {' to '.join(dict.fromkeys(ends))}".strip() for name, ends in spans.items())


def cutoff_of(p_values: Sequence[float]) -> float:
    """The largest p-value that Benjamini and Hochberg's procedure leaves; 0 for none."""
    adjusted = false_discovery_control(p_values) if p_values else np.array([])
    return max((p for p, q in zip(p_values, adjusted, strict=True) if q <= ALPHA), default=0.0)


def text(name: str, module: ModuleType, table: Table, differences: Table, how: Mapping[str, Any]) -> str:
    """A section of the report: question, picture, what was found, a table, and where all data are."""
    section = module.section(table, differences)
    parts = [
        f"## {module.TITLE}",
        f"*{section.question}*",
        f"![{overview.short(module.TITLE)}](results/{name}.png)",
    ]
    parts += [" ".join(section.says), *([tables.markdown(section.lines)] if section.lines else [])]
    links = [f"[All metrics](results/{name}.csv)"]
    links += [f"[differences](results/{name}_differences.csv)"] if differences else []
    links += [f"[settings](results/{name}.json)"]
    drawn = next(row for row_name, row in reversed(table.items()) if row_name != "renders")
    links += [f"{drawn.scenes} x {drawn.seeds} {getattr(module, 'UNIT', 'images')}"]
    if any("KID" in row.cells for row in table.values()) and RENDERS not in how:
        links.append(FEW_RENDERS)
    return "\n\n".join([*parts, ", ".join(links) + "."])


def corrected(claim: Claim, cutoff: float) -> str:
    """A claim's verdict after the correction, if it is another one."""
    if not claim.tested:
        return "not tested"
    verdict = claim.at(cutoff)
    return "the same" if verdict == claim.verdict else verdict


def present(table: Table, columns: Iterable[str]) -> list[str]:
    """The columns that some row has."""
    return [column for column in columns if any(column in row.cells for row in table.values())]


HEAD = """# The paper's claims, tested

Made by `python -m benchmarks` from the tables in `results`. Every number is of one small world, `shapes`:
renders of 32 x 32 pixels, networks of 1.2 M parameters. `layout` plays InteractDiffusion and is told shapes,
boxes and interactions. `attribute` plays MIGC and is told colours. `style` plays IP-Adapter. A claim that
does not reproduce does not do so in this world. Propositions and equations are tested on exact models.
Brackets are 95% intervals; see [how to read this](#how-to-read-this)."""
NOT_LISTED = """Not listed: equations (1), (3), (4), (7), (8) and Algorithm 1, which are definitions; table 5,
which is in the notebook `appendix_e2_e3_geometry`. Other claims have no row of their own:"""
MARKS = f"""{overview.MARK} Another verdict once corrected for the number of tests.
[All claims](results/claims.csv) has each claim with its intervals and both verdicts.
The paper's tables are [here](results/paper.csv)."""
READING = f"""## How to read this

Brackets and ± are 95% intervals over scenes; ± is the longer side. Differences are paired, in points. A claim
of more or less **reproduces** if the whole interval of every metric is on the paper's side of 0. It **does
not reproduce** if one is on the other side. A claim that two are alike, or one no worse, needs an interval
within {POINTS:g} points (KID: {MARGIN["KID"]:g}). **Mixed**: some metrics go one way, some the other.
**Undecided**: all else. Our claims are **supported** or **refuted** by the same rule. A statement **holds**
if no interval excludes it, which is less; it is **vacuous** where it says what is known anyway. Tightness is
the true value over the bound: 1 where nothing sharper holds.

* **ISR**, **mIoU**: success and overlap of instances (COCO-MIG's). **mAP**: of interactions (HICO-DET's).
* **colours**, **interactions**: the share that is right. **scene right**: all of them, and all shapes.
* **KID**, times 1000, is smaller for better images. It is measured against 8,000 renders of other scenes;
  *few renders*: as many as there are images, whose draw its interval leaves out. **KID above renders**:
  beyond that of flawless images of the same scenes.
* **evaluations**: guided ones for an image, two passes of a network each.
* **images**: scenes x seeds, for a row."""
CORRECTED = """* **corrected**: of all {count} tests, those with p up to {cutoff:.4f} count (Benjamini and
  Hochberg). This bounds the expected share of wrong ones among what is decided at 5%."""
RENDERS = "KID's renders"
FEW_RENDERS = "few renders"
CLAIMS = Path("results") / "claims.csv"
PAPER = Path("results") / "paper.csv"
