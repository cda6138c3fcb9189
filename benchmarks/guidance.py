"""Guidance: tables 1 and 2 at other scales."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from benchmarks import pictures
from benchmarks.experiment import Experiment
from benchmarks.measures import CONTROL, LOOKS
from benchmarks.methods import Method
from benchmarks.report import Direction, Section, compare
from benchmarks.runner import Drawer
from benchmarks.table1_2 import AB, BA, MODELS, A, B
from benchmarks.tables import Table
from shapes.world import Image, Scenes

TITLE = "Guidance: tables 1 and 2 at other scales"
SCALES = (1.0, 2.0, 3.0, 4.0, 7.5)


def label(row: str, scale: float) -> str:
    """A row's name."""
    return f"{row}, guidance {scale:g}"


def experiment(size: str) -> Experiment:
    """The four rows at every scale."""
    rows: dict[str, Drawer] = {
        label(row, scale): Method(models, guidance=scale)
        for row, models in MODELS.items()
        for scale in SCALES
    }
    pairs = [
        (label(one, scale), label(other, scale)) for one, other in ((AB, A), (BA, B)) for scale in SCALES
    ]
    return Experiment(rows, scenes=200, pairs=pairs)


def figure(table: Table, images: Mapping[str, Image], scenes: Scenes) -> Figure:
    """Every metric over the scale."""
    curves = {row: {scale: label(row, scale) for scale in SCALES} for row in MODELS}
    return pictures.sweep(table, curves, [*CONTROL, *LOOKS[:2]], "guidance scale")


def section(table: Table, differences: Table) -> Section:
    """Whether tables 1 and 2's main claims hold at every scale."""
    questions: tuple[tuple[str, str, str, str, dict[str, Direction]], ...] = (
        ("InteractDiffusion gains attribute control", "ISR 34.06 to 54.78", AB, A, {"ISR avg": "more"}),
        ("InteractDiffusion gains interactions too", "29.53 to 31.40", AB, A, {"mAP default full": "more"}),
        ("MIGC gains interaction control", "16.87 to 26.04", BA, B, {"mAP default full": "more"}),
    )
    claims = [
        compare(
            f"{claim}, guidance {scale:g}",
            f"{numbers} (7.5 in the published code)",
            differences[f"{label(one, scale)} - {label(other, scale)}"],
            expected,
        )
        for claim, numbers, one, other, expected in questions
        for scale in SCALES
    ]
    return Section(claims, tables=[[*CONTROL, *LOOKS]])
