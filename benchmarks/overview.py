"""The report's first tables: the paper's claims and ours, each in a line with its verdicts."""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import tables

SPEED = Path(__file__).parent / "speed" / "results" / "aggregation.csv"
THEORY = Path(__file__).parents[1] / "theory_checks" / "results" / "theory.json"
TITLE = "Theory: the paper's statements on exact models"
MARK = "†"  # beside a verdict that the correction changes
SYMBOLS = {
    **dict.fromkeys(("reproduces", "supported", "holds", "vacuous"), "🟢"),
    **dict.fromkeys(("does not reproduce", "refuted", "fails"), "🔴"),
}
UNDECIDED = "🟡"  # and mixed, under a condition, ...


class Line(NamedTuple):
    """One or several claims.

    Attributes:
        place: where the paper says so; "" for ours.
        title: the section's.
        claim: in words.
        paper: its numbers.
        here: our numbers.
        verdicts: how many claims, or settings of a statement, have which.
    """

    place: str
    title: str
    claim: str
    paper: str
    here: str
    verdicts: Mapping[str, int]

    @property
    def link(self) -> str:
        """The place as a link to the section; for ours the claim."""
        words = self.place or self.words
        return f"[{words[:1].upper()}{words[1:]}](#{anchor(self.title)})"

    @property
    def words(self) -> str:
        """The claim with a capital."""
        return f"{self.claim[:1].upper()}{self.claim[1:]}"


class Statement(NamedTuple):
    """A line for all of `theory_checks`' statements whose names begin so, and not longer as another line's.

    Attributes:
        place: where the paper says so; "" for ours.
    """

    place: str
    claim: str
    begins: tuple[str, ...]


STATEMENTS = (
    Statement("lemma A.1", "The norm of n normal numbers is near sqrt(n)", ("Lemma A.1",)),
    Statement(
        "equation (5)", "Two steps from one point have nearly equal norms", ("Proposition 3.1, norm gap",)
    ),
    Statement("equation (6)", "Two steps from one point are at a small angle", ("Proposition 3.1, angle",)),
    Statement(
        "proposition 3.2",
        "A positive correction reaches the model's shell",
        ("Proposition 3.2, existence, positive",),
    ),
    Statement(
        "equation (9)",
        "A bound from below on the probability of the shell (distance constant)",
        ("Proposition 3.2, probability",),
    ),
    Statement(
        "equation (43)",
        "The distance to the fold follows from the angle alone",
        ("Proposition 3.2, chord, equal norms",),
    ),
    Statement(
        "corollary 3.3", "For vanishing noise, the correction moves toward one point", ("Corollary 3.3",)
    ),
    Statement("proposition D.1", "Proposition 3.1 holds after the correction", ("Proposition D.1",)),
    Statement(
        "equation (58)",
        "Mean and variance of the forward process",
        ("Appendix E.1, mean", "Appendix E.1, variance", "Appendix E.1, product"),
    ),
    Statement(
        "figure 9", "Data in [0, 1] can have mean 1 and variance 1/4, as drawn", ("Appendix E.1, range",)
    ),
    Statement(
        "",
        "Models of two processes aggregate on shared levels, or by step index with both in VP",
        ("Table 10, shared levels", "Table 10, step index, VP"),
    ),
    Statement(
        "", "They do by step index, each in its own coordinates", ("Table 10, step index",)
    ),
    Statement(
        "",
        "Proposition 3.2 for any norms and either sign",
        tuple(f"Proposition 3.2, {name}" for name in (
            "distance", "existence, either sign", "threshold", "chord, general"
        )),
    ),
    Statement("", "Formulas of projective guidance's gap to a model told all", ("Projective guidance",)),
    Statement(
        "",
        "Projective guidance needs no particular background, weights or independence",
        tuple(f"Projective guidance, {name}" for name in (
            "independent blocks, background empty caption", "independent blocks, background partner's own",
            "level 0, dependent modes", "exchanged weights",
        )),
    ),
    Statement(
        "", "The mean of N guided predictions divides each control's guidance by N", ("Guidance of the",)
    ),
    Statement(
        "",
        "AMDM takes that mean's steps with the linear fold",
        ("AMDM takes the mean guided prediction's steps, linear",),
    ),
    Statement(
        "",
        "AMDM takes them with the spherical fold",
        ("AMDM takes the mean guided prediction's steps, spherical",),
    ),
)  # fmt: skip
QUESTION = "Do the paper's propositions hold?"
SAYS = """Most hold. Proposition 3.2's existence fails where each model draws its own noise: the fold is then
inside the shell, and a positive length leads away. With noise that the models share, or none, it holds."""


OTHERS = (
    (
        "section 1",
        "The overhead is negligible",
        "yes: joining two of SD's latents takes {join:.2f} ms, a U-Net of its size {unet:.0f} ms on the same "
        "processor",
    ),
    (
        "table 6",
        "AMDM takes 8.8 s, one model 7.5 s",
        "20 of 50 steps of two models are 1.4 times the evaluations, more than 8.8/7.5 = 1.17 times",
    ),
    (
        "table 3",
        "CLIP 31.09 for a correction of 0",
        "that is also the paper's number for InteractDiffusion alone, in table 2",
    ),
    (
        "section 3.1",
        "Added, modified and preserved architectures",
        "`attribute` adds a ControlNet to a frozen base, `layout` has more input channels and all weights "
        "trained, `style` has the base's architecture and other weights",
    ),
    (
        "section 3",
        "Models that predict the noise and v",
        "`style` predicts v, the others the noise (tables 8 and 9)",
    ),
    ("table 9", "A second latent space, SDXL's", "there is one latent space here"),
    ("appendix G", "SD 1.4 with SD 1.5", "not here: all networks were trained from one base"),
    (
        "section 6",
        "Settings may be chosen while sampling",
        "tried: [the caption counted once](#the-caption-counted-once-how-long-and-with-chosen-weights)",
    ),
)
"""Claims that no table decides: where, the claim, and what is known here."""


def short(title: str) -> str:
    """A title up to its colon."""
    return title.split(":")[0]


def anchor(title: str) -> str:
    """The name that a heading's link has."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def statement_of(name: str) -> Statement:
    """The line that a statement of `theory_checks` is counted in: that with the longest beginning."""
    found = [(len(begin), line) for line in STATEMENTS for begin in line.begins if name.startswith(begin)]
    if not found:
        raise ValueError(f"the statement {name!r} has no line in the overview")
    return max(found)[1]


def of_theory(*, ours: bool = False) -> Iterator[Line]:
    """The lines of the statements, the paper's or those that go beyond it, with all their settings."""
    records: dict[Statement, list[Mapping[str, Any]]] = {}
    for record in json.loads(THEORY.read_text()):
        records.setdefault(statement_of(record["statement"]), []).append(record)
    for line in STATEMENTS:
        found = records.get(line, [])
        if found and ours == (not line.place):
            known = sorted(record["tightness"] for record in found if record["tightness"] is not None)
            ends = dict.fromkeys(f"{end:.2f}" for end in (known[:1] + known[-1:]))
            here = f"tightness {' to '.join(ends)}" if known else f"{len(found)} settings"
            verdicts = Counter(record["verdict"].removeprefix("holds but ") for record in found)
            yield Line(line.place, TITLE, line.claim, "", here, verdicts)


def verdict_of(line: Line) -> str:
    """The verdicts with their colours; how many have each, if not all the same."""
    counts = line.verdicts.items()
    found = {f"{SYMBOLS.get(name.removesuffix(MARK), UNDECIDED)} {name}": count for name, count in counts}
    ordered = sorted(found, key=lambda words: ("🟢🟡🔴".index(words[0]), -found[words]))
    return ", ".join(words if len(found) == 1 else f"{words} {found[words]}" for words in ordered)


def markdown(lines: Sequence[Line]) -> str:
    """The paper's claims."""
    rows = [[line.link, line.words, line.paper, line.here, verdict_of(line)] for line in lines]
    return tables.markdown([["where", "the paper's claim", "its numbers", "here", "verdict"], *rows])


def markdown_of_others() -> str:
    """Claims that no table decides, and what is known here."""
    with SPEED.open(newline="") as file:
        measured = next(csv.DictReader(file))  # one latent of SD at 512 x 512, two models
    times = {"join": float(measured["amdm_ms"]), "unet": float(measured["unet_ms"])}
    rows = [[place, claim, known.format(**times)] for place, claim, known in OTHERS]
    return tables.markdown([["where", "claim", "here"], *rows])


def markdown_of_ours(lines: Sequence[Line]) -> str:
    """Our claims, counted."""
    rows = [[line.link, verdict_of(line)] for line in lines]
    return tables.markdown([["beyond the paper", "verdict"], *rows])


def section() -> str:
    """The report's section of the statements."""
    parts = [f"## {TITLE}", f"*{QUESTION}*", f"![{short(TITLE)}](../docs/pictures/theory.png)", SAYS]
    links = "[All records](../theory_checks/results/theory.json); explained in `theory_checks/README.md`."
    return "\n\n".join([*parts, links])
