"""Table 4, figures 8 and 12: early, middle and late windows, in two readings.

Before a late window the partners run from the first step on, each from its own start, so that the first
joining is of two unrelated, half-made images; or they begin with the window, from the lead's latent.
"""

from dataclasses import replace
from functools import partial
from itertools import pairwise, product

from benchmarks import pictures
from benchmarks.experiment import Experiment
from benchmarks.measures import CONTROL
from benchmarks.methods import Method
from benchmarks.report import Direction, Question, asking, both

TITLE = "Table 4, figures 8 and 12: early, middle and late windows"
# The early window is the default one, so that images that other experiments need are drawn once.
WINDOWS: dict[str, float | tuple[int, int]] = {"early": 0.4, "middle": (15, 35), "late": (30, 50)}
LEAD = ", from the lead"
ORDER = [both(pair, lead) for lead in ("", LEAD) for pair in pairwise(WINDOWS)]
BETTER: tuple[tuple[str, str, dict[str, Direction]], ...] = (
    (
        "control",
        "ISR 54.78, 50.14, 47.82; Default Full 31.40, 27.53, 24.17",
        {"ISR avg": "more", "interactions": "more"},
    ),
    ("images", "FID 18.35, 22.96, 41.13", {"KID": "less"}),
)
QUESTION = "Is it best to aggregate in early steps?"
SAYS = (
    "In the paper's reading late windows are worst, because they join two unrelated, half made images.",
    "If the partner starts from the lead's latent instead, a late window costs no quality.",
    "It adds nothing either: by then colours are decided.",
)


def experiment(size: str) -> Experiment:
    """Return layout(+attribute) in every window and reading."""
    joined = {row: Method(("layout", "attribute"), window=window) for row, window in WINDOWS.items()}
    late = {f"{row}{LEAD}": replace(method, partners="from the lead") for row, method in joined.items()}
    rows = {"layout": Method(("layout",))} | joined | late
    pairs = [*ORDER, (f"middle{LEAD}", "middle"), (f"late{LEAD}", "late")]
    pairs += [(row, "layout") for row in rows if row != "layout"]
    return Experiment(rows, scenes=200, seeds=3, pairs=pairs)


figure = partial(pictures.sheet, metrics=CONTROL)


QUESTIONS = [
    Question(
        f"{what}: {one} is better than {other}",
        numbers,
        (one, other),
        better,
        place="table 4",
        line=f"{what}: early is better than middle, middle than late, in both readings",
    )
    for (one, other), (what, numbers, better) in product(ORDER, BETTER)
]
QUESTIONS += [
    Question(
        "the loss of late windows is the stage's, not that of joining unrelated images",
        "",
        (f"late{LEAD}", "late"),
        {"interactions": "not more", "KID": "not less"},
    )
]
SHOWN = ["layout", *WINDOWS, f"middle{LEAD}", f"late{LEAD}"]
section = asking(QUESTIONS, QUESTION, SAYS, rows=SHOWN)
