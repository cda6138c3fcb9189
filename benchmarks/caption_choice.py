"""The caption counted once: in all steps rather than 20 of 50, and with weights that a rule chooses.

With both models in all of 35 steps an image costs as much as with both in 20 of 50. The rules see the
controls' directions while sampling, and no labels.
"""

from collections.abc import Mapping
from functools import partial

from matplotlib.figure import Figure

from amdm.shapes.world import Image, Scenes
from benchmarks.caption_once import LEADS, LINEAR, NOISY, PUBLISHED, CaptionOnce, compared, joined, label
from benchmarks.experiment import Experiment
from benchmarks.methods import Method
from benchmarks.report import Direction, Question, asking
from benchmarks.runner import Drawer
from benchmarks.tables import Table

TITLE = "The caption counted once: how long, and with chosen weights"
ALL, FEW = "once, all of 35 steps", "once, all of 18 DPM-Solver++(2M) SDE steps"
CHOSEN = {"agreement": "once, 35 steps, by agreement", "while large": "once, 50 steps, while large"}
WAYS = {
    PUBLISHED: PUBLISHED,
    LINEAR: LINEAR,
    NOISY: "once in 20 of 50",
    ALL: "once in all of 35",
    FEW: "once in all of 18, DPM",
    CHOSEN["agreement"]: "35, by agreement",
    CHOSEN["while large"]: "50, while large",
}
"""The rows, and their names in the picture."""
METRICS = ("scene right", "interactions", "KID above renders")
throughout = partial(CaptionOnce, window=1.0, guidance=2.0, window_eta=1.0)
"""`throughout(models, steps)` has the caption once in all steps, at the guidance that suits noise in all."""


def experiment(size: str) -> Experiment:
    """Return both leads alone, with AMDM, the linear fold, 20 of 50 steps, all steps, and both rules."""
    rows: dict[str, Drawer] = {}
    pairs = []
    for models in LEADS:
        ways: dict[str, Drawer] = {
            how: way for how, way in joined(models).items() if how in (PUBLISHED, LINEAR, NOISY)
        }
        ways[ALL] = throughout(models, 35)
        ways[FEW] = throughout(models, 18, sampler="dpmpp_2m_sde", schedule="karras")
        ways[CHOSEN["agreement"]] = throughout(models, 35, rule="agreement")
        ways[CHOSEN["while large"]] = throughout(models, 50, rule="while large")
        rows |= {label(models, how): way for how, way in ways.items()}
        compared = [(how, NOISY) for how in ways if how not in (PUBLISHED, LINEAR, NOISY)]
        compared += [(ALL, PUBLISHED), (ALL, LINEAR), (FEW, PUBLISHED), (FEW, ALL)]
        compared += [(how, ALL) for how in CHOSEN.values()]
        pairs += [(label(models, one), label(models, other)) for one, other in compared]
    pairs += [(label(LEADS[0], ALL), label(LEADS[1], ALL))]
    rows |= {models[0]: Method(models[:1]) for models in LEADS}
    return Experiment(rows, scenes=300, pairs=pairs, first=1000)


def figure(table: Table, images: Mapping[str, Image], scenes: Scenes) -> Figure:
    """Return a picture of what is right, and KID, for each lead and way."""
    title = "All steps are as good as the first 40% of more, or better"
    return compared(table, WAYS, METRICS, title, 4.6)


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
SAYS = (
    "All of fewer: at equal cost as many scenes are right if `layout` leads, and more if `attribute` does; "
    "18 steps of DPM-Solver++(2M) SDE come close at half the cost.",
    "Neither rule is better than weights of 1: by agreement, a partner counts less where the directions of "
    "the controls agree; 'while large' (100 evaluations), until its direction is half as long as the lead's.",
    "If `layout` leads, interactions are as `layout` alone draws them.",
)
section = asking(QUESTIONS, QUESTION, SAYS, rows=[])
