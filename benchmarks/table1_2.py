"""Tables 1 and 2 and figure 3: interactions and instances, of two models alone and of each with the other."""

from benchmarks.methods import Method
from benchmarks.runner import Experiment


def experiment(size: str) -> Experiment:
    """The paper's four rows."""
    rows = {
        "layout": Method(("layout",)),
        "layout(+attribute)": Method(("layout", "attribute")),
        "attribute": Method(("attribute",)),
        "attribute(+layout)": Method(("attribute", "layout")),
    }
    return Experiment(rows, scenes=500, seeds=3 if size == "full" else 1)
