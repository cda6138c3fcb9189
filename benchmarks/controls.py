"""What figure 6 does not separate: the fold, the norm that it leaves, and the starts.

Two independent starts are at right angles: their linear mean is shorter by sqrt(1/2), the spherical one is
not. So every fold with the other's norm, both folds of one shared start, and single models from shorter
starts; all without correction, and with either model leading. At equal shares the linear fold, rescaled, and
the Karcher mean of two are the spherical fold but for rounding and unequal norms: those rows are checks. Of
three models at equal shares a fold depends on their order, the Karcher mean does not.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from matplotlib.figure import Figure

from benchmarks import pictures
from benchmarks.experiment import Experiment
from benchmarks.measures import CONTROL, LOOKS
from benchmarks.methods import Method
from benchmarks.report import Direction, Section, compare
from benchmarks.runner import Drawer
from benchmarks.tables import Table
from shapes.world import Image, Scenes

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
    """A row's name."""
    lead, *partners, how = models_and_how
    return f"{lead}({''.join(f'+{partner}' for partner in partners)}), {how}"


def experiment(size: str) -> Experiment:
    """Every fold, norm and start, with either lead."""
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
    """Every metric of every row."""
    whole = pictures.picture(16, 10)
    for axes, metric in zip(whole.subplots(1, len(METRICS), sharey=True), METRICS, strict=True):
        pictures.bars(axes, table, list(images), [metric])
        axes.get_legend().remove()
        axes.set(title=metric, xlabel="x 1000" if metric.startswith("KID") else "%")
    return whole


def section(table: Table, differences: Table) -> Section:
    """What the controls say of spherical against linear."""
    claims = []
    for lead, partner in ORDERS:
        questions: list[tuple[str, str, str, str, dict[str, Direction]]] = [
            ("spherical is better than linear", "figure 6", SPHERICAL, LINEAR, {JOINT: "more"}),
            ("linear's images are poorer", "figure 7", LINEAR, SPHERICAL, {"KID": "more"}),
            ("linear, rescaled to its norm, is spherical but for rounding", "", RESCALED, SPHERICAL, ALIKE),
            ("spherical, shortened to its norm, is as linear", "", SPHERICAL_SHORT, LINEAR, ALIKE),
            ("from one start linear is as spherical", "", LINEAR_ONE, SPHERICAL_ONE, ALIKE),
        ]
        for claim, numbers, one, other, expected in questions:
            gap = differences[f"{label(lead, partner, one)} - {label(lead, partner, other)}"]
            claims.append(compare(f"{lead} leads: {claim}", numbers, gap, expected))
        gap = differences[f"{lead}, start x 0.707 - {lead}"]
        claims.append(compare(f"{lead} alone, from a shorter start: poorer images", "", gap, {"KID": "more"}))
        more: dict[str, Direction] = {JOINT: "more", "mAP default full": "more"}
        claims.append(compare(f"{lead} alone, from a shorter start: more is right", "", gap, more))
        for how in (SPHERICAL, LINEAR):
            gap = differences[f"{label(lead, partner, how)} - {lead}"]
            claim = f"{lead} leads, {how}: no fewer interactions than alone"
            claims.append(compare(claim, "", gap, {"mAP default full": "not less"}))
    three = [
        ("the fold's order does not matter", label(*THREE[0], SPHERICAL), label(*THREE[1], SPHERICAL)),
        ("the Karcher mean's order does not matter", label(*THREE[0], KARCHER), label(*THREE[1], KARCHER)),
        ("the Karcher mean is as the fold", label(*THREE[0], KARCHER), label(*THREE[0], SPHERICAL)),
    ]
    for claim, one, other in three:
        claims.append(compare(f"three models: {claim}", "", differences[f"{one} - {other}"], ALIKE))
    return Section(claims, tables=[[*CONTROL, *LOOKS]])
