"""The chord identity of Proposition 3.2's proof: how far slerp moves from its first argument.

The paper's form, |x' - x_1|/|x_1 - x_2| = sin(w theta/2)/sin(theta/2), is for equal norms; `chord` is for any
norms.
"""

import math
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Literal

from amdm.geometry import orthogonal_mix, slerp
from theory_checks.draws import normals_at_once
from theory_checks.record import Check, Record, Size, grid
from theory_checks.statistics import ROUNDING

Form = Literal["general", "equal norms"]
CLAIMS: dict[Form, str] = {
    "general": "|x'-x_1|^2 = 4 r_1^2 sin^2(w theta/2) + B^2 (r_2-r_1)^2"
    " + 4 B r_1 (r_2-r_1) sin((2-w) theta/2) sin(w theta/2)",
    "equal norms": "|x'-x_1|/|x_1-x_2| = sin(w theta/2)/sin(theta/2)",
}


def chord(norm_1: float, norm_2: float, theta: float, weight: float) -> float:
    """Return |slerp(x_1, x_2, w) - x_1|, exactly; 2 r sin(w theta/2) for equal norms."""
    share, gap = math.sin(weight * theta) / math.sin(theta), norm_2 - norm_1
    half = math.sin(weight * theta / 2)
    cross = norm_1 * gap * math.sin((2 - weight) * theta / 2) * half
    return math.sqrt(4 * norm_1**2 * half**2 + share**2 * gap**2 + 4 * share * cross)


def check_chord(
    n: int = 1024,
    *,
    theta: float = math.pi / 2,
    ratio: float = 1.0,
    weight: float = 0.5,
    form: Form = "general",
    samples: int = 100,
    seed: int = 0,
    device: str = "cpu",
    control: Literal["orthogonal mix", "swapped weights"] | None = None,
) -> Record:
    """Check the distance |x' - x_1| as a share of |x_1 - x_2|: equal to rounding.

    Own arguments:
        theta: the angle between x_1 and x_2, radians.
        ratio: |x_2|/|x_1|.
        form: "general", or the paper's, which is for equal norms; for others `measured` shows its error.
        control: "orthogonal mix" aggregates as the authors' code does, "swapped weights" takes
            model 1's share for model 2's.
    """
    xi = normals_at_once(samples, n, seed, device, copies=2)
    x_1 = xi[0] / xi[0].norm(dim=1, keepdim=True)
    across = xi[1] - (xi[1] * x_1).sum(dim=1, keepdim=True) * x_1
    x_2 = ratio * (math.cos(theta) * x_1 + math.sin(theta) * across / across.norm(dim=1, keepdim=True))
    if control == "orthogonal mix":
        merged = orthogonal_mix([x_1, x_2], [weight])
    else:
        merged = slerp(x_1, x_2, 1 - weight if control == "swapped weights" else weight)
    shares = (merged - x_1).norm(dim=1) / (x_2 - x_1).norm(dim=1)
    apart = math.sqrt((1 - ratio) ** 2 + 4 * ratio * math.sin(theta / 2) ** 2)
    general = chord(1.0, ratio, theta, weight) / apart
    return Record(
        statement=f"Proposition 3.2, chord, {form}",
        claim=CLAIMS[form],
        assumptions="|x_1| = |x_2|" if form == "equal norms" else "",
        setting={"n": n, "theta": theta, "ratio": ratio, "weight": weight, "form": form},
        sense="equal",
        claimed=math.sin(weight * theta / 2) / math.sin(theta / 2) if form == "equal norms" else general,
        measured=float(shares.mean()),
        low=float(shares.min()),
        high=float(shares.max()),
        tolerance=ROUNDING,
        exact=general,
        samples=samples,
        ours=form == "general" or ratio == 1,
    )


@grid
def checks(size: Size) -> Iterator[Check]:
    """Yield the points of this statement, the same at every size."""
    for ratio, theta in product((1.0, 1.01, 1.5), (0.02, math.pi / 2)):
        check = partial(check_chord, theta=theta, ratio=ratio)
        yield partial(check, weight=0.2)
        yield partial(check, form="equal norms")
