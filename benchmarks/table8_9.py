"""Tables 8 and 9, figures 4 and 5: the style of a reference image, into `layout` and into all three.

No caption names the style: `layout` alone does not know it. With the paper's 10 steps, of which 5 aggregate,
and with 50 and 20. The paper's weights (0.5, 0.65) are read both ways: as the shares of the second and the
third model in their merges, and as that of what is accumulated.
"""

from dataclasses import replace

from benchmarks.methods import Method
from benchmarks.runner import Experiment


def experiment(size: str) -> Experiment:
    """Two models and all three, at either number of steps."""
    three = ("layout", "attribute", "style")
    rows = {
        "layout": Method(("layout",), say_style=False),
        "layout(+style)": Method(("layout", "style"), say_style=False),
        "style": Method(("style",), say_style=False),
        "layout(+attribute+style), w = (0.5, 0.65)": Method(three, weights=(0.5, 0.65), say_style=False),
        "layout(+attribute+style), w = (0.5, 0.35)": Method(three, weights=(0.5, 0.35), say_style=False),
    }
    short = {f"{name}, 10 steps": replace(row, steps=10, window=0.5) for name, row in rows.items()}
    return Experiment(rows | short, scenes=500, seeds=3)
