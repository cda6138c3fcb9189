"""Figures 6 and 7: how many steps aggregate; spherical, linear, and spherical with correction."""

from benchmarks.methods import FoldName, Length, Method
from benchmarks.runner import Experiment

STEPS = (5, 10, 15, 20, 25, 30, 40, 50)
FOLDS: dict[str, tuple[FoldName, Length]] = {
    "spherical": ("slerp", 0.0),
    "linear": ("lerp", 0.0),
    "spherical + correction": ("slerp", "auto"),
}


def experiment(size: str) -> Experiment:
    """layout(+attribute) over s = 0 .. 50."""
    rows = {"layout": Method(("layout",))}
    for name, (fold, correction) in FOLDS.items():
        for s in STEPS:
            # The default window, so that what other experiments draw as well is drawn once.
            window = 0.4 if s == 20 else (0, s)
            rows[f"{name}, s = {s}"] = Method(
                ("layout", "attribute"), fold=fold, correction=correction, window=window
            )
    return Experiment(rows, scenes=200)
