"""Controls that separate what figure 6 does not: the fold, the norm that it leaves, and the starts.

Two independent starts are at right angles: their linear mean is shorter by sqrt(1/2), their spherical mean is
not. So the rows are every fold with the other's norm, both folds of one shared start, and single models from
shorter starts; all without correction, and with either model leading. At equal shares the rescaled linear
fold and the Karcher mean of two are the spherical fold up to rounding and unequal norms: those rows are
checks. For three models at equal shares a fold depends on their order; the Karcher mean does not.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from matplotlib.figure import Figure

from amdm import plots
from amdm.shapes.world import Image, Scenes
from benchmarks import pictures
from benchmarks.experiment import Experiment
from benchmarks.measures import CONTROL
from benchmarks.methods import Method
from benchmarks.report import Direction, Question, asking
from benchmarks.runner import Drawer
from benchmarks.tables import Table

TITLE = "Controls for figure 6: fold, norm, starts, order"
SHORT = math.sqrt(0.5)
ORDERS = (("layout", "attribute"), ("attribute", "layout"))
SPHERICAL, LINEAR, RESCALED, KARCHER = "spherical", "linear", "linear, rescaled", "Karcher mean"
SPHERICAL_SHORT, SHORT_STARTS = "spherical, first fold x 0.707", "spherical, starts x 0.707"
SPHERICAL_ONE, LINEAR_ONE = "spherical, one start", "linear, one start"
THREE = (("layout", "attribute", "style"), ("layout", "style", "attribute"))
JOINT = "scene right"
ALIKE: dict[str, Direction] = {JOINT: "alike", "KID": "alike"}
METRICS = [*CONTROL, "KID above renders"]


def label(*models_and_how: str) -> str:
    """Return a row's name."""
    lead, *partners, how = models_and_how
    return f"{lead}({''.join(f'+{partner}' for partner in partners)}), {how}"


def experiment(size: str) -> Experiment:
    """Return every fold, norm and start, with either lead."""
    rows: dict[str, Drawer] = {}
    pairs = []
    for lead, partner in ORDERS:
        slerp = Method((lead, partner), correction=0.0)
        lerp = replace(slerp, fold="lerp")
        joined = {
            SPHERICAL: slerp,
            SPHERICAL_SHORT: replace(slerp, first_scale=SHORT),
            SHORT_STARTS: replace(slerp, start_scale=SHORT),
            SPHERICAL_ONE: replace(slerp, starts="shared"),
            LINEAR: lerp,
            RESCALED: replace(slerp, fold="lerp, rescaled"),
            LINEAR_ONE: replace(lerp, starts="shared"),
            KARCHER: replace(slerp, fold="karcher"),
        }
        rows[lead] = Method((lead,))
        rows[f"{lead}, start x 0.707"] = Method((lead,), start_scale=SHORT)
        rows |= {label(lead, partner, how): method for how, method in joined.items()}
        compared = [(how, SPHERICAL) for how in joined if how != SPHERICAL]
        compared += [(SPHERICAL, LINEAR)]
        compared += [(SPHERICAL_SHORT, LINEAR), (LINEAR_ONE, SPHERICAL_ONE)]
        pairs += [(label(lead, partner, one), label(lead, partner, other)) for one, other in compared]
        pairs += [(f"{lead}, start x 0.707", lead)]
        pairs += [(label(lead, partner, how), lead) for how in (SPHERICAL, SPHERICAL_SHORT, LINEAR)]
    for models in THREE:
        equal = Method(models, weights=(1 / 2, 1 / 3), correction=0.0)
        rows[label(*models, SPHERICAL)] = equal
        rows[label(*models, KARCHER)] = replace(equal, fold="karcher")
        pairs.append((label(*models, KARCHER), label(*models, SPHERICAL)))
    pairs += [(label(*THREE[0], how), label(*THREE[1], how)) for how in (SPHERICAL, KARCHER)]
    return Experiment(rows, scenes=200, pairs=pairs)


def figure(table: Table, images: Mapping[str, Image], scenes: Scenes) -> Figure:
    """Return a picture of every metric of every row."""
    rows = {row: table[row] for row in images}
    whole = plots.empty(plots.WIDTH, 0.5 + pictures.LINE * len(rows))
    pictures.dots(whole, rows, METRICS, (1, len(METRICS)))
    return whole


IMAGES: dict[str, Direction] = {"KID": "more"}
RIGHT: dict[str, Direction] = {JOINT: "more", "interactions": "more"}
KEPT: dict[str, Direction] = {"interactions": "not less"}
FOLDS: tuple[tuple[str, str, tuple[str, str], dict[str, Direction]], ...] = (
    ("spherical is better than linear", "figure 6", (SPHERICAL, LINEAR), {JOINT: "more"}),
    ("linear's images are poorer", "figure 7", (LINEAR, SPHERICAL), IMAGES),
    ("linear, rescaled to its norm, is spherical but for rounding", "", (RESCALED, SPHERICAL), ALIKE),
    ("spherical, shortened to its norm, is as linear", "", (SPHERICAL_SHORT, LINEAR), ALIKE),
    ("from one start linear is as spherical", "", (LINEAR_ONE, SPHERICAL_ONE), ALIKE),
)


EXPLAINED = "the linear fold is a spherical one with a shorter first fold"
SHORTER = "from a shorter start a model alone has more right and draws poorer images"
NO_FEWER = "joined, there are no fewer interactions than in the lead alone"
ORDER = "three models: order, and fold or Karcher mean, do not matter"


def questions() -> Iterator[Question]:
    """Yield the questions: spherical against linear, shorter starts, and the order of three."""
    for lead, partner in ORDERS:
        for claim, numbers, (one, other), expected in FOLDS:
            rows = label(lead, partner, one), label(lead, partner, other)
            yield Question(
                f"{lead} leads: {claim}",
                numbers,
                rows,
                expected,
                line=f"{claim}, either model leading" if numbers else EXPLAINED,
            )
        rows = f"{lead}, start x 0.707", lead
        yield Question(f"{lead} alone, from a shorter start: poorer images", "", rows, IMAGES, line=SHORTER)
        yield Question(f"{lead} alone, from a shorter start: more is right", "", rows, RIGHT, line=SHORTER)
        for how in (SPHERICAL, LINEAR):
            claim = f"{lead} leads, {how}: no fewer interactions than alone"
            yield Question(claim, "", (label(lead, partner, how), lead), KEPT, line=NO_FEWER)
    for claim, first, second in (
        ("the fold's order does not matter", (0, SPHERICAL), (1, SPHERICAL)),
        ("the Karcher mean's order does not matter", (0, KARCHER), (1, KARCHER)),
        ("the Karcher mean is as the fold", (0, KARCHER), (0, SPHERICAL)),
    ):
        rows = label(*THREE[first[0]], first[1]), label(*THREE[second[0]], second[1])
        yield Question(f"three models: {claim}", "", rows, ALIKE, line=ORDER)


QUESTION = "Why does the linear fold control more and draw poorer images?"
SAYS = (
    "Because its first fold, of independent starts, is shorter, by a factor of 0.707 at equal shares.",
    "A spherical fold shortened to that norm is as the linear one; the linear one rescaled, or from one "
    "start, is as the spherical.",
    "With three models the Karcher mean does not depend on their order; whether the spherical fold does is "
    "undecided.",
)
SHOWN = ["layout", "layout, start x 0.707"]
SHOWN += [label(*ORDERS[0], how) for how in (SPHERICAL, SPHERICAL_SHORT, LINEAR)]
section = asking(list(questions()), QUESTION, SAYS, rows=SHOWN)
