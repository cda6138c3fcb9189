"""Tables 8 and 9, figures 4 and 5: the style of a reference image, into `layout` and into all three.

No caption names the style: `layout` alone does not know it. With the paper's 10 steps, of which 5 aggregate,
and with 50 and 20. The paper's weights (0.5, 0.65) are read both ways: as the shares of the second and the
third model in their merges, and as that of what is accumulated.
"""

from collections.abc import Mapping
from dataclasses import replace

from matplotlib.figure import Figure

from benchmarks import paper, pictures
from benchmarks.experiment import Experiment
from benchmarks.methods import Method
from benchmarks.report import Direction, Section, compare
from benchmarks.tables import Table
from ecosystem.world import Image, Scenes

TITLE = "Tables 8 and 9, figures 4 and 5: the style of an image"
A, AC, C = "layout", "layout(+style)", "style"
ABC = "layout(+attribute+style), w = (0.5, 0.65)"
ABC_OTHER = "layout(+attribute+style), w = (0.5, 0.35)"
THREE = ("layout", "attribute", "style")
SHORT = ", 10 steps"


def experiment(size: str) -> Experiment:
    """Two models and all three, at either number of steps."""
    rows = {
        A: Method(("layout",), say_style=False),
        AC: Method(("layout", "style"), say_style=False),
        C: Method(("style",), say_style=False),
        ABC: Method(THREE, weights=(0.5, 0.65), say_style=False),
        ABC_OTHER: Method(THREE, weights=(0.5, 0.35), say_style=False),
    }
    pairs = [(AC, A), (AC, C), (ABC, A), (ABC_OTHER, A), (ABC, ABC_OTHER)]
    short = {f"{name}{SHORT}": replace(row, steps=10, window=0.5) for name, row in rows.items()}
    pairs += [(f"{one}{SHORT}", f"{other}{SHORT}") for one, other in pairs]
    return Experiment(rows | short, scenes=500, seeds=3, pairs=pairs)


def figure(table: Table, images: Mapping[str, Image], scenes: Scenes) -> Figure:
    """Figures 4 and 5's grids, and what the tables say."""
    whole = pictures.picture(16, 10)
    left, right = whole.subfigures(1, 2, squeeze=False)[0]
    pictures.grid(left, {row: images[row] for row in (A, AC, C, ABC, ABC_OTHER)}, scenes)
    rows = [f"{row}{end}" for row in (A, AC, C, ABC, ABC_OTHER) for end in ("", SHORT)]
    pictures.bars(right.subplots(), table, rows, ["style", "mAP default full", "ISR avg"])
    return whole


def section(table: Table, differences: Table) -> Section:
    """What the paper says of the tables, and what is measured."""
    claims = []
    for end, numbers in ((SHORT, ("CLIP 0.533 to 0.581", "0.581 and 0.588", "figure 5")), ("", ("", "", ""))):
        gap, rest = differences[f"{AC}{end} - {A}{end}"], differences[f"{AC}{end} - {C}{end}"]
        three = differences[f"{ABC}{end} - {A}{end}"], differences[f"{ABC_OTHER}{end} - {A}{end}"]
        both: dict[str, Direction] = {"style": "more", "ISR avg": "more"}
        claims += [
            compare(
                f"InteractDiffusion(+IP-Adapter) has more of the style{end}",
                numbers[0],
                gap,
                {"style": "more"},
            ),
            compare(f"nearly as much as IP-Adapter{end}", numbers[1], rest, {"style": "little less"}),
            compare(f"and no fewer interactions{end}", "", gap, {"mAP default full": "not less"}),
            compare(
                f"all three, w = (0.5, 0.65): style and attributes enter{end}", numbers[2], three[0], both
            ),
            compare(f"all three, w = (0.5, 0.35), the other reading{end}", "", three[1], both),
        ]
    return Section(
        claims,
        tables=[
            ["style", "mAP default full", "ISR avg", "mIoU avg", "shapes", "colours"],
            ["caption", "scene right", "KID", "KID above renders", "precision", "recall", "FID"],
        ],
        paper={"Table 8": paper.TABLE_8, "Table 9": paper.TABLE_9},
    )
