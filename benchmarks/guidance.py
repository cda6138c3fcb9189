"""Guidance: tables 1 and 2 at other scales."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from benchmarks import pictures
from benchmarks.experiment import Experiment
from benchmarks.methods import Method
from benchmarks.report import Section, compare
from benchmarks.runner import Drawer
from benchmarks.tables import Table
from ecosystem.world import Image, Scenes

TITLE = "Guidance: tables 1 and 2 at other scales"
SCALES = (1.0, 2.0, 3.0, 4.0, 7.5)
NAMES = {
    "layout": ("layout",),
    "layout(+attribute)": ("layout", "attribute"),
    "attribute": ("attribute",),
    "attribute(+layout)": ("attribute", "layout"),
}
METRICS = ["scene right", "ISR avg", "mIoU avg", "mAP default full", "caption", "KID"]


def label(row: str, scale: float) -> str:
    """A row's name."""
    return f"{row}, guidance {scale:g}"


def experiment(size: str) -> Experiment:
    """The four rows at every scale."""
    rows: dict[str, Drawer] = {}
    for row, names in NAMES.items():
        rows |= {label(row, scale): Method(names, guidance=scale) for scale in SCALES}
    pairs = [(label("layout(+attribute)", scale), label("layout", scale)) for scale in SCALES]
    pairs += [(label("attribute(+layout)", scale), label("attribute", scale)) for scale in SCALES]
    return Experiment(rows, scenes=200, pairs=pairs)


def figure(table: Table, images: Mapping[str, Image], scenes: Scenes) -> Figure:
    """Every metric over the scale."""
    whole = pictures.picture(15, 9)
    grid = whole.subplots(2, 3, sharex=True)
    for axes, metric in zip(grid.flat, METRICS, strict=True):
        for row in NAMES:
            pictures.curve(axes, SCALES, table, [label(row, scale) for scale in SCALES], metric, row)
        axes.set(title=metric, xlabel="guidance scale")
    grid[0, 0].legend(fontsize=8)
    return whole


def section(table: Table, differences: Table) -> Section:
    """Whether tables 1 and 2's main claims hold at every scale."""
    claims = []
    for scale in SCALES:
        claims += [
            compare(
                f"InteractDiffusion gains attribute control, guidance {scale:g}",
                "7.5 in the published code",
                differences[f"{label('layout(+attribute)', scale)} - {label('layout', scale)}"],
                {"ISR avg": "more"},
            ),
            compare(
                f"InteractDiffusion gains interactions too, guidance {scale:g}",
                "7.5 in the published code",
                differences[f"{label('layout(+attribute)', scale)} - {label('layout', scale)}"],
                {"mAP default full": "more"},
            ),
            compare(
                f"MIGC gains interaction control, guidance {scale:g}",
                "7.5 in the published code",
                differences[f"{label('attribute(+layout)', scale)} - {label('attribute', scale)}"],
                {"mAP default full": "more"},
            ),
        ]
    return Section(claims, tables=[[*METRICS, "KID above renders", "precision", "recall"]])
