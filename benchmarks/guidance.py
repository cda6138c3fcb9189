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
    ("InteractDiffusion gains attribute control", "ISR 34.06 to 54.78", (AB, A), "ISR avg"),
    ("InteractDiffusion gains interactions too", "29.53 to 31.40", (AB, A), "interactions"),
    ("MIGC gains interaction control", "16.87 to 26.04", (BA, B), "interactions"),
)


def experiment(size: str) -> Experiment:
    """The four rows at every scale."""
    rows = {row + AT[s]: Method(models, guidance=s) for row, models in MODELS.items() for s in SCALES}
    pairs = [both(pair, AT[scale]) for pair in ((AB, A), (BA, B)) for scale in SCALES]
    return Experiment(rows, scenes=200, pairs=pairs)


figure = partial(
    pictures.sweep,
    curves={row: {scale: row + AT[scale] for scale in SCALES} for row in MODELS},
    xlabel="guidance scale",
)
QUESTIONS = [
    Question(claim + end, f"{numbers} (7.5 in the published code)", both(pair, end), {metric: "more"})
    for (claim, numbers, pair, metric), end in product(CLAIMS, AT.values())
]
section = asking(QUESTIONS)
