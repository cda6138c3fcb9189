"""Tables 1 and 2 and figure 3: interactions and instances, of two models alone and of each with the other."""

from functools import partial

from benchmarks import pictures
from benchmarks.experiment import Experiment
from benchmarks.methods import Method
from benchmarks.report import Question, asking

TITLE = "Tables 1 and 2, figure 3: each model with what the other controls"
A, AB, B, BA = "layout", "layout(+attribute)", "attribute", "attribute(+layout)"
MODELS = {A: ("layout",), AB: ("layout", "attribute"), B: ("attribute",), BA: ("attribute", "layout")}

QUESTION = "Does each model gain what the other controls, and keep its own?"
SAYS = (
    "Each gains most of what the other controls, and `attribute` keeps its colours.",
    "`layout` loses interactions: an average [halves its "
    "guidance](#half-the-guidance-why-the-lead-loses-what-it-controls).",
    "That it gains none is the casting's: MIGC is told what the instances are, `attribute` no shapes.",
)
QUESTIONS = (
    Question(
        "InteractDiffusion(+MIGC) has more attribute control than InteractDiffusion",
        "ISR 34.06 to 54.78, mIoU 30.40 to 47.74",
        (AB, A),
        {"ISR avg": "more", "mIoU avg": "more"},
        place="table 2",
    ),
    Question(
        "InteractDiffusion(+MIGC) even surpasses InteractDiffusion in interactions",
        "Default Full 29.53 to 31.40",
        (AB, A),
        {"interactions": "more"},
        place="table 1",
    ),
    Question(
        "MIGC(+InteractDiffusion) has more interaction control than MIGC",
        "Default Full 16.87 to 26.04, Rare 18.05 to 21.73",
        (BA, B),
        {"interactions": "more"},
        place="table 1",
    ),
    Question(
        "MIGC(+InteractDiffusion): with minor losses in attribute control",
        "ISR 55.46 to 49.78",
        (BA, B),
        {"colours": "little less"},
        place="table 2",
    ),
    Question(
        "MIGC(+InteractDiffusion) looks better than MIGC",
        "FID 30.53 to 22.32",
        (BA, B),
        {"KID": "less"},
        place="table 1",
    ),
    Question(
        "InteractDiffusion(+MIGC) looks no worse than InteractDiffusion",
        "FID 18.69 to 18.35",
        (AB, A),
        {"KID": "not more"},
        place="table 1",
    ),
)


def experiment(size: str) -> Experiment:
    """Return the paper's four rows."""
    rows = {row: Method(models) for row, models in MODELS.items()}
    pairs = [(AB, A), (BA, B), (AB, B), (BA, A), (AB, BA)]
    return Experiment(rows, scenes=500, seeds=3 if size == "full" else 1, pairs=pairs)


figure = partial(pictures.sheet, metrics=["mAP default full", "ISR avg", "mIoU avg", "scene right"])


section = asking(
    QUESTIONS,
    QUESTION,
    SAYS,
    columns=["ISR avg", "colours", "interactions", "scene right", "KID above renders"],
)
