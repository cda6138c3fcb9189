"""The caption counted once: in all steps rather than 20 of 50, and with weights that a rule chooses.

With both models in all of 35 steps an image costs as much as with both in 20 of 50. The rules see the
controls' directions while sampling, and no labels.
"""

from functools import partial

from matplotlib.figure import Figure

from benchmarks import pictures
from benchmarks.caption_once import LEADS, LINEAR, NOISY, PUBLISHED, CaptionOnce, joined, label
from benchmarks.experiment import Experiment
from benchmarks.report import Direction, Question, asking
from benchmarks.runner import Drawer

TITLE = "The caption counted once: how long, and with chosen weights"
ALL = "caption once in all of 35 steps"
FEW = "caption once in all of 18 steps of DPM-Solver++(2M) SDE"
CHOSEN = {"agreement": f"{ALL}, weights by agreement", "while large": "caption once in 50 steps, while large"}


def experiment(size: str) -> Experiment:
    """Return both leads with AMDM, the linear fold, 20 of 50 steps, all steps, and both rules."""
    rows: dict[str, Drawer] = {}
    pairs = []
    for models in LEADS:
        once = partial(CaptionOnce, models, window=1.0, guidance=2.0, window_eta=1.0)
        ways: dict[str, Drawer] = {
            how: way for how, way in joined(models).items() if how in (PUBLISHED, LINEAR, NOISY)
        }
        ways[ALL] = once(steps=35)
        ways[FEW] = once(steps=18, sampler="dpmpp_2m_sde", schedule="karras")
        ways[CHOSEN["agreement"]] = once(steps=35, rule="agreement")
        ways[CHOSEN["while large"]] = once(steps=50, rule="while large")
        rows |= {label(models, how): way for how, way in ways.items()}
        compared = [(how, NOISY) for how in ways if how not in (PUBLISHED, LINEAR, NOISY)]
        compared += [(ALL, PUBLISHED), (ALL, LINEAR), (FEW, PUBLISHED), (FEW, ALL)]
        compared += [(how, ALL) for how in CHOSEN.values()]
        pairs += [(label(models, one), label(models, other)) for one, other in compared]
    pairs += [(label(LEADS[0], ALL), label(LEADS[1], ALL))]
    return Experiment(rows, scenes=300, pairs=pairs, first=1000)


figure: partial[Figure] = partial(
    pictures.sheet, metrics=["scene right", "interactions", "colours", "KID"], decades=["KID"]
)
RIGHT: dict[str, Direction] = {"scene right": "more"}
KEPT: dict[str, dict[str, Direction]] = {
    "no less is right": {"scene right": "not less"},
    "images no worse": {"KID": "not more"},
}
QUESTIONS = [
    *(
        Question(
            f"{label(models, ALL)}: more is right than with {other}",
            "",
            (label(models, ALL), label(models, other)),
            {"scene right": "more", "interactions": "more"},
            line="caption once in all steps: more is right than with AMDM or linear fold",
        )
        for models in LEADS
        for other in (PUBLISHED, LINEAR)
    ),
    *(
        Question(
            f"{label(models, ALL)}: {words} than in 20 of 50",
            "",
            (label(models, ALL), label(models, NOISY)),
            expected,
            line=f"caption once in all of 35 steps: {words} than in 20 of 50",
        )
        for models in LEADS
        for words, expected in KEPT.items()
    ),
    *(
        Question(
            f"{label(models, how)}: more is right than with weights of 1",
            "",
            (label(models, how), label(models, ALL)),
            RIGHT,
            line="weights that a rule chooses: more is right than with weights of 1",
        )
        for models in LEADS
        for how in CHOSEN.values()
    ),
    Question(
        "in all steps it does not matter which model leads",
        "",
        (label(LEADS[0], ALL), label(LEADS[1], ALL)),
        {"scene right": "alike"},
    ),
]
QUESTION = "Should both controls guide the first 20 of 50 steps, or all of fewer?"
SAYS = ("",)
section = asking(
    QUESTIONS,
    QUESTION,
    SAYS,
    columns=["scene right", "colours", "interactions", "style", "KID above renders"],
)
