"""Table 4, figures 8 and 12: early, middle and late windows, in two readings.

Before a late window the partners run from the first step on, each from its own start, and what is joined
first are two unrelated, half made images; or they begin where the window does, from the lead's latent.
"""

from benchmarks.methods import Method
from benchmarks.runner import Experiment

WINDOWS = {"early": (0, 20), "middle": (15, 35), "late": (30, 50)}


def experiment(size: str) -> Experiment:
    """layout(+attribute) in every window and reading."""
    joined = ("layout", "attribute")
    rows = {
        "layout": Method(("layout",)),
        "early": Method(joined),
        "middle": Method(joined, window=WINDOWS["middle"]),
        "late": Method(joined, window=WINDOWS["late"]),
        "middle, from the lead": Method(joined, window=WINDOWS["middle"], partners="from the lead"),
        "late, from the lead": Method(joined, window=WINDOWS["late"], partners="from the lead"),
    }
    return Experiment(rows, scenes=200, seeds=3)
