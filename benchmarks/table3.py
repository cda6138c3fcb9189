"""Table 3: how far eq. (8) pulls, in VP length and as a part of the way to the mean.

The paper's lengths are for n = 16384; here they are scaled with the radius, sqrt(n), as `correction="auto"`
does. Some are taken as they are as well. With deterministic steps x_i is mean_i: all of the way gives every
model its own latent back, and nothing is joined.
"""

import math
from collections.abc import Mapping

from matplotlib.figure import Figure

from benchmarks import paper, pictures
from benchmarks.experiment import Experiment
from benchmarks.measures import CONTROL, LOOKS
from benchmarks.methods import Length, Method
from benchmarks.report import Section, compare
from benchmarks.tables import Table
from shapes import latents
from shapes.world import Image, Scenes

TITLE = "Table 3: the correction's length"
PAPER = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
UNSCALED = (0.3, 1.0, 3.0)
PARTS = (0.1, 0.25, 0.5, 0.75, 1.0)
NONE, BEST = "the paper's 0.0", "the paper's 0.3"


def experiment(size: str) -> Experiment:
    """layout(+attribute) at every length."""
    joined = ("layout", "attribute")
    radius = math.sqrt(math.prod(latents.SHAPE) / 16384)
    lengths: dict[float, Length] = {x: x * radius for x in PAPER} | {0.3: "auto"}
    rows = {f"the paper's {x}": Method(joined, correction=length) for x, length in lengths.items()}
    rows |= {f"length {x}": Method(joined, correction=x) for x in UNSCALED}
    rows |= {f"{x} of the way": Method(joined, correction=x, unit="part") for x in PARTS}
    pairs = [(row, NONE) for row in rows if row != NONE]
    pairs += [(BEST, f"the paper's {x}") for x in PAPER if x not in (0.0, 0.3)]
    return Experiment(rows, scenes=200, seeds=3, pairs=pairs)


def figure(table: Table, images: Mapping[str, Image], scenes: Scenes) -> Figure:
    """Four metrics and KID over lengths and over parts of the way."""
    whole = pictures.picture(13, 8)
    by_length, by_part = whole.subplots(2, 2).T
    radius = math.sqrt(math.prod(latents.SHAPE) / 16384)
    lengths = {f"the paper's {x}": x * radius for x in PAPER} | {f"length {x}": x for x in UNSCALED}
    parts = {NONE: 0.0} | {f"{x} of the way": x for x in PARTS}
    for axes, rows, label in (
        (by_length, lengths, "length (VP)"),
        (by_part, parts, "part of the way to the mean"),
    ):
        order = sorted(rows, key=lambda row: rows[row])
        for metric in CONTROL:
            pictures.curve(axes[0], [rows[row] for row in order], table, order, metric, metric)
        pictures.curve(axes[1], [rows[row] for row in order], table, order, "KID", "KID")
        axes[0].set(ylabel="%")
        axes[1].set(ylabel="KID x 1000", xlabel=label)
        if label.startswith("length"):
            for part in axes:
                part.set_xscale("symlog", linthresh=0.05)
        axes[0].legend(fontsize=8)
    return whole


def section(table: Table, differences: Table) -> Section:
    """What the paper says of the table, and what is measured."""
    claims = [
        compare(
            "a length of 0.3 is better than none",
            "ISR 53.18 to 54.78, mIoU 46.62 to 47.74",
            differences[f"{BEST} - {NONE}"],
            {"ISR avg": "more", "mIoU avg": "more"},
        ),
        *(
            compare(
                f"0.3 is better than {x}",
                f"ISR {paper.TABLE_3[str(x)][0]} and 54.78",
                differences[f"{BEST} - the paper's {x}"],
                {"ISR avg": "more", "mIoU avg": "more"},
            )
            for x in PAPER
            if x not in (0.0, 0.3)
        ),
    ]
    return Section(
        claims,
        tables=[[*CONTROL, *LOOKS]],
        paper={"Table 3": paper.TABLE_3},
    )
