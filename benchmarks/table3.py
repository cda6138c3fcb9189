"""Table 3: how far eq. (8) pulls, in VP length and as a part of the way to the mean.

The paper's lengths are for n = 16384; here they are scaled with the radius, sqrt(n), as `correction="auto"`
does. Some are taken as they are as well.
"""

import math

from benchmarks.methods import Length, Method
from benchmarks.runner import Experiment
from ecosystem import latents

PAPER = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
UNSCALED = (0.3, 1.0, 3.0)
PARTS = (0.1, 0.25, 0.5, 0.75, 1.0)


def experiment(size: str) -> Experiment:
    """layout(+attribute) at every length."""
    joined = ("layout", "attribute")
    radius = math.sqrt(math.prod(latents.SHAPE) / 16384)
    lengths: dict[float, Length] = {x: x * radius for x in PAPER} | {0.3: "auto"}
    rows = {f"the paper's {x}": Method(joined, correction=length) for x, length in lengths.items()}
    rows |= {f"length {x}": Method(joined, correction=x) for x in UNSCALED}
    rows |= {f"{x} of the way": Method(joined, correction=x, unit="part") for x in PARTS}
    return Experiment(rows, scenes=200, seeds=3)
