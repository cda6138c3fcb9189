"""AFA, whose aggregators are trained with both models, beside what needs no training, at equal cost.

All but the caption once have the best of eight settings of guidance and noise, on validation scenes.
"""

from functools import partial
from pathlib import Path

from benchmarks import afa_sweep, pictures, table6_caption, table6_caption_sweep, tables
from benchmarks.afa_sweep import AFA
from benchmarks.caption_choice import throughout
from benchmarks.experiment import Experiment
from benchmarks.report import Question, asking
from benchmarks.runner import Drawer
from benchmarks.table6_caption_sweep import TRIALS, best
from benchmarks.table6_sweep import JOINED

TITLE = "AFA: aggregators that are trained, at equal cost"
SWEEP = Path(__file__).parent / "results" / "afa_sweep.csv"
ALL = "caption once, all of 35 steps"
UNTRAINED = ("AMDM", "linear fold", "projective (Bradley 2025)")


def experiment(size: str) -> Experiment:
    """Return AFA and what needs no training.

    Before AFA's trials were drawn, it has the first one.
    """
    trials = afa_sweep.TRIALS
    first = {method: next(iter(those)) for method, those in trials.items()}
    chosen = best(tables.read(SWEEP), trials) if SWEEP.exists() else first
    chosen |= table6_caption_sweep.best(tables.read(table6_caption.SWEEP))
    rows: dict[str, Drawer] = {name: (trials | TRIALS)[name][chosen[name]] for name in (AFA, *UNTRAINED)}
    rows |= {ALL: throughout(JOINED, 35)}
    return Experiment(rows, scenes=300, pairs=[(AFA, other) for other in (*UNTRAINED, ALL)], first=1000)


figure = partial(pictures.methods, decades=["KID"])
QUESTIONS = [
    question
    for other in (*UNTRAINED, ALL)
    for question in (
        Question(
            f"more is right than with {other}",
            "",
            (AFA, other),
            {"scene right": "more", "interactions": "more"},
            line="trained aggregators: more is right than without training",
        ),
        Question(
            f"better images than {other}'s",
            "",
            (AFA, other),
            {"KID": "less"},
            line="trained aggregators: better images than without training",
        ),
    )
]
QUESTION = "Do aggregators that are trained with both models control more than what needs no training?"
SAYS = ("To be drawn.",)
section = asking(
    QUESTIONS,
    QUESTION,
    SAYS,
    columns=["scene right", "interactions", "style", "KID above renders"],
    rows=[AFA, *UNTRAINED, ALL],
)
