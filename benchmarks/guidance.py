"""Guidance: tables 1 and 2 at other scales."""

from benchmarks.methods import Method
from benchmarks.runner import Drawer, Experiment

SCALES = (1.0, 2.0, 3.0, 4.0, 7.5)


def experiment(size: str) -> Experiment:
    """The four rows at every scale."""
    rows: dict[str, Drawer] = {}
    for names in (("layout",), ("layout", "attribute"), ("attribute",), ("attribute", "layout")):
        label = f"{names[0]}(+{names[1]})" if len(names) > 1 else names[0]
        rows |= {f"{label}, guidance {scale:g}": Method(names, guidance=scale) for scale in SCALES}
    return Experiment(rows, scenes=200)
