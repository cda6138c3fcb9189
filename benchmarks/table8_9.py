"""Tables 8 and 9, figures 4 and 5: the style of a reference image, into `layout` and into all three.

No caption names the style: `layout` alone does not know it. Runs have the paper's 10 steps, of which 5
aggregate, or 50 and 20. The paper's weights (0.5, 0.65) are read both ways: as the shares of the second and
the third model in their merges, and as those of the accumulated latent.
"""

from dataclasses import replace
from functools import partial

from benchmarks import pictures
from benchmarks.experiment import Experiment
from benchmarks.methods import Method
from benchmarks.report import Direction, Question, asking, both

TITLE = "Tables 8 and 9, figures 4 and 5: the style of an image"
A, AC, C = "layout", "layout(+style)", "style"
ABC = "layout(+attribute+style), w = (0.5, 0.65)"
ABC_OTHER = "layout(+attribute+style), w = (0.5, 0.35)"
SHOWN = (A, AC, C, ABC, ABC_OTHER)
THREE = ("layout", "attribute", "style")
SHORT = ", 10 steps"
ENTER: dict[str, Direction] = {"style": "more", "ISR avg": "more"}
CLAIMS: tuple[Question, ...] = (
    Question(
        "InteractDiffusion(+IP-Adapter) has more of the style than InteractDiffusion",
        "CLIP 0.533 to 0.581",
        (AC, A),
        {"style": "more"},
        place="table 8",
    ),
    Question(
        "InteractDiffusion(+IP-Adapter) has nearly as much as IP-Adapter",
        "CLIP 0.581 and 0.588",
        (AC, C),
        {"style": "little less"},
        place="table 8",
    ),
    Question(
        "No fewer interactions in layout(+style) than in layout", "", (AC, A), {"interactions": "not less"}
    ),
    Question("all three: style and attributes enter", "figure 5", (ABC, A), ENTER),
    Question("All three, weights read the other way: style and attributes enter", "", (ABC_OTHER, A), ENTER),
)
QUESTION = "Does a third kind of control, the style of a reference image, enter as well?"
SAYS = (
    "It does, by its share of the fold: least with 0.35, more with 0.5 and 0.65, most in `style` alone.",
    "The paper's CLIP scores lie within 0.07 of each other from none of the style to all of it, and do not "
    "tell a share from the whole.",
    "The paper's weights (0.5, 0.65) can be read as each merge's share or as that of what is accumulated.",
)


def experiment(size: str) -> Experiment:
    """Return two models and all three, at either number of steps."""
    rows = {
        A: Method(("layout",), say_style=False),
        AC: Method(("layout", "style"), say_style=False),
        C: Method(("style",), say_style=False),
        ABC: Method(THREE, weights=(0.5, 0.65), say_style=False),
        ABC_OTHER: Method(THREE, weights=(0.5, 0.35), say_style=False),
    }
    rows |= {f"{name}{SHORT}": replace(row, steps=10, window=0.5) for name, row in rows.items()}
    pairs = [(AC, A), (AC, C), (ABC, A), (ABC_OTHER, A), (ABC, ABC_OTHER)]
    return Experiment(rows, scenes=300, seeds=3, pairs=[*pairs, *(both(pair, SHORT) for pair in pairs)])


figure = partial(
    pictures.sheet,
    metrics=["style", "mAP default full", "ISR avg"],
    rows=[f"{row}{end}" for row in SHOWN for end in ("", SHORT)],
    shown=SHOWN,
)


section = asking(
    # With the paper's 10 steps, else with 50.
    [claim._replace(rows=both(claim.rows, SHORT), under={"50 steps": claim.rows}) for claim in CLAIMS],
    QUESTION,
    SAYS,
    columns=["style", "interactions", "ISR avg", "scene right"],
    rows=[f"{row}{SHORT}" for row in SHOWN],
)
