"""Guidance: tables 1 and 2 at other scales."""

from functools import partial
from itertools import product

from benchmarks import pictures
from benchmarks.experiment import Experiment
from benchmarks.methods import Method
from benchmarks.report import Question, asking, both
from benchmarks.table1_2 import AB, BA, MODELS, A, B

TITLE = "Guidance: tables 1 and 2 at other scales"
SCALES = (1.0, 2.0, 3.0, 4.0, 7.5)
AT = {scale: f", guidance {scale:g}" for scale in SCALES}
CLAIMS = (
    ("InteractDiffusion gains attribute control", "ISR 34.06 to 54.78", (AB, A), "ISR avg", "table 2"),
    (
        "InteractDiffusion gains interactions too",
        "Default Full 29.53 to 31.40",
        (AB, A),
        "interactions",
        "table 1",
    ),
    ("MIGC gains interaction control", "Default Full 16.87 to 26.04", (BA, B), "interactions", "table 1"),
)


def experiment(size: str) -> Experiment:
    """Return the four rows at every scale."""
    rows = {row + AT[s]: Method(models, guidance=s) for row, models in MODELS.items() for s in SCALES}
    pairs = [both(pair, AT[scale]) for pair in ((AB, A), (BA, B)) for scale in SCALES]
    return Experiment(rows, scenes=200, pairs=pairs)


figure = partial(
    pictures.sweep,
    curves={row: {scale: row + AT[scale] for scale in SCALES} for row in MODELS},
    xlabel="guidance scale",
)
QUESTIONS = [
    Question(
        claim + end,
        numbers,
        both(pair, end),
        {metric: "more"},
        place=place,
        line=f"{claim}, guidance 1 to 7.5",
    )
    for (claim, numbers, pair, metric, place), end in product(CLAIMS, AT.values())
]
QUESTION = "Do the results of tables 1 and 2 depend on the guidance scale?"
SAYS = (
    "Their size does; at every scale each model gains what the other controls.",
    "What `layout` loses in interactions shrinks as guidance grows.",
    "The paper's published code has 7.5, the other experiments here have 3.",
)
SHOWN = [row + AT[scale] for row in (A, AB) for scale in (1.0, 3.0, 7.5)]
section = asking(QUESTIONS, QUESTION, SAYS, rows=SHOWN)
