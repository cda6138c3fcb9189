"""Table 4, figures 8 and 12: early, middle and late windows, in two readings.

Before a late window the partners run from the first step on, each from its own start, and what is joined
first are two unrelated, half made images; or they begin where the window does, from the lead's latent.
"""

from collections.abc import Mapping

from matplotlib.figure import Figure

from benchmarks import paper, pictures
from benchmarks.experiment import Experiment
from benchmarks.measures import CONTROL, LOOKS
from benchmarks.methods import Method
from benchmarks.report import Direction, Section, compare
from benchmarks.tables import Table
from shapes.world import Image, Scenes

TITLE = "Table 4, figures 8 and 12: early, middle and late windows"
WINDOWS = {"early": (0, 20), "middle": (15, 35), "late": (30, 50)}
LEAD = ", from the lead"
CAUSES = """Why late windows draw poor images: they join unrelated ones. From the lead's latent a late window
costs no quality; it adds nothing either, all is decided (see when each attribute is)."""
ORDER = (
    ("early", "middle"),
    ("middle", "late"),
    (f"early{LEAD}", f"middle{LEAD}"),
    (f"middle{LEAD}", f"late{LEAD}"),
)


def experiment(size: str) -> Experiment:
    """layout(+attribute) in every window and reading."""
    joined = ("layout", "attribute")
    rows = {
        "layout": Method(("layout",)),
        "early": Method(joined),
        "middle": Method(joined, window=WINDOWS["middle"]),
        "late": Method(joined, window=WINDOWS["late"]),
        f"early{LEAD}": Method(joined, partners="from the lead"),
        f"middle{LEAD}": Method(joined, window=WINDOWS["middle"], partners="from the lead"),
        f"late{LEAD}": Method(joined, window=WINDOWS["late"], partners="from the lead"),
    }
    pairs = [*ORDER, (f"middle{LEAD}", "middle"), (f"late{LEAD}", "late")]
    pairs += [(row, "layout") for row in rows if row != "layout"]
    return Experiment(rows, scenes=200, seeds=3, pairs=pairs)


def figure(table: Table, images: Mapping[str, Image], scenes: Scenes) -> Figure:
    """Figure 12's grid, and what the table says."""
    whole = pictures.picture(16, 9)
    left, right = whole.subfigures(1, 2, squeeze=False, width_ratios=[1.2, 1])[0]
    pictures.grid(left, images, scenes)
    pictures.bars(right.subplots(), table, list(images), CONTROL)
    return whole


def section(table: Table, differences: Table) -> Section:
    """What the paper says of the table, and what is measured."""
    numbers = {
        "control": "ISR 54.78, 50.14, 47.82; Default Full 31.40, 27.53, 24.17",
        "images": "FID 18.35, 22.96, 41.13",
    }
    better: dict[str, dict[str, Direction]] = {
        "control": {"ISR avg": "more", "mAP default full": "more"},
        "images": {"KID": "less"},
    }
    claims = [
        compare(
            f"{what}: {one} is better than {other}",
            numbers[what],
            differences[f"{one} - {other}"],
            better[what],
        )
        for one, other in ORDER
        for what in better
    ]
    claims.append(
        compare(
            "the loss of late windows is the stage's, not that of joining unrelated images",
            "",
            differences[f"late{LEAD} - late"],
            {"mAP default full": "not more", "KID": "not less"},
        )
    )
    return Section(
        claims,
        tables=[[*CONTROL, *LOOKS]],
        remarks=[CAUSES],
        paper={"Table 4": paper.TABLE_4},
    )
