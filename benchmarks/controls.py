"""What figure 6 does not separate: the fold, the norm that it leaves, and the starts.

Two independent starts are at right angles: their linear mean is shorter by sqrt(1/2), the spherical one is
not. So every fold with the other's norm, both folds of one shared start, and single models from shorter
starts; all without correction, and with either model leading.
"""

import math
from dataclasses import replace

from benchmarks.methods import Method
from benchmarks.runner import Drawer, Experiment

SHORT = math.sqrt(0.5)


def experiment(size: str) -> Experiment:
    """Every fold, norm and start, with either lead."""
    rows: dict[str, Drawer] = {}
    for lead, partner in (("layout", "attribute"), ("attribute", "layout")):
        alone = Method((lead,))
        slerp = Method((lead, partner), correction=0.0)
        lerp = replace(slerp, fold="lerp")
        rows |= {
            lead: alone,
            f"{lead}, start x 0.707": replace(alone, start_scale=SHORT),
            f"{lead}(+{partner}), spherical": slerp,
            f"{lead}(+{partner}), spherical, first fold x 0.707": replace(slerp, first_scale=SHORT),
            f"{lead}(+{partner}), spherical, starts x 0.707": replace(slerp, start_scale=SHORT),
            f"{lead}(+{partner}), spherical, one start": replace(slerp, starts="shared"),
            f"{lead}(+{partner}), linear": lerp,
            f"{lead}(+{partner}), linear, rescaled": replace(slerp, fold="lerp, rescaled"),
            f"{lead}(+{partner}), linear, one start": replace(lerp, starts="shared"),
            f"{lead}(+{partner}), Karcher mean": replace(slerp, fold="karcher"),
        }
    return Experiment(rows, scenes=200)
