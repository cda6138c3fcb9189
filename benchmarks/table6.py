"""Table 6: AMDM and the other ways to compose, at equal cost, each with the best of eight settings."""

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks import paper, pictures, table6_sweep, tables
from benchmarks.experiment import Experiment
from benchmarks.measures import CONTROL, LOOKS
from benchmarks.methods import Method
from benchmarks.report import Claim, Direction, Section, compare
from benchmarks.runner import Drawer
from benchmarks.table6_sweep import JOINED, JUDGED, TRIALS
from benchmarks.tables import Row, Table
from shapes.world import Image, Scenes

TITLE = "Table 6: the other ways to compose two models, at equal cost"
SWEEP = Path(__file__).parent / "results" / "table6_sweep.csv"
PUBLISHED = "AMDM, as published"
OTHERS = [method for method in TRIALS if method != "AMDM"]
BELOW = {
    "AMDM, 10 of 50 steps": Method(JOINED, window=(0, 10)),
    "AMDM, 2M Karras, 20 steps": Method(JOINED, steps=20, sampler="dpmpp_2m", schedule="karras"),
    "AMDM, 2M Karras, 15 steps": Method(JOINED, steps=15, sampler="dpmpp_2m", schedule="karras"),
    "AMDM, 2M Karras, 10 steps": Method(JOINED, steps=10, sampler="dpmpp_2m", schedule="karras"),
}
NUMBERS = {
    "projective (Bradley 2025)": "Bradley et al. (2025)",
    "SuperDiff OR (Skreta 2025b)": "Skreta et al. (2025b)",
    "SuperDiff AND (Skreta 2025b)": "Skreta et al. (2025b)",
    "FKC (Skreta 2025a)": "Skreta et al. (2025a)",
    "ULA (Du 2023)": "Du et al. (2023)",
    "HMC (Du 2023)": "Du et al. (2023)",
}
SWAPPED = """The paper's table has the mAP of its last two rows the other way round than its table 1 (31.40 is
InteractDiffusion(+MIGC)'s there). 140 passes of a network are 70 guided evaluations."""


def experiment(size: str) -> Experiment:
    """Both models alone, all methods, and cheaper variants of AMDM."""
    chosen = table6_sweep.best(tables.read(SWEEP))
    rows: dict[str, Drawer] = {name: Method((name,), steps=70, schedule="linspace") for name in JOINED}
    rows |= {method: TRIALS[method][chosen[method]] for method in TRIALS}
    rows |= {PUBLISHED: Method(JOINED), **BELOW}
    pairs = [(ours, other) for ours in ("AMDM", PUBLISHED) for other in (*JOINED, *OTHERS)]
    pairs += [(cheaper, "AMDM") for cheaper in BELOW]
    return Experiment(rows, scenes=300, seeds=3, pairs=pairs)


def figure(table: Table, images: Mapping[str, Image], scenes: Scenes) -> Figure:
    """A grid of all but the cheaper variants, and everyone's numbers."""
    shown = [row for row in images if row not in BELOW]
    return pictures.methods(table, images, scenes, [*CONTROL, *LOOKS[:2]], shown)


def against(method: str, difference: Row, numbers: str = "") -> list[Claim]:
    """That AMDM controls more than another, which the paper says if there are numbers; and draws better."""
    more: dict[str, Direction] = dict.fromkeys(JUDGED, "more")
    return [
        compare(f"AMDM controls more than {method}", numbers, difference, more),
        compare(f"AMDM's images are better than {method}'s", "", difference, {"KID": "less"}),
    ]


def said(method: str) -> str:
    """The paper's numbers of a method and its own; none of those that it has not compared."""
    if method not in NUMBERS:
        return ""
    theirs, ours = paper.TABLE_6[NUMBERS[method]], paper.TABLE_6["InteractDiffusion(+MIGC)"]
    return f"ISR {theirs[0]} and {ours[0]}, mIoU {theirs[1]} and {ours[1]}"


def section(table: Table, differences: Table) -> Section:
    """What the paper says of the table, and what is measured."""
    claims = [
        claim for method in OTHERS for claim in against(method, differences[f"AMDM - {method}"], said(method))
    ]
    return Section(claims, tables=[[*CONTROL, *LOOKS]], remarks=[SWAPPED], paper={"Table 6": paper.TABLE_6})
