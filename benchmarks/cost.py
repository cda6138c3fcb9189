"""How few evaluations do: DPM-Solver++(2M) and DDIM with 10, 15 and 20 steps against 50 of DDIM."""

from benchmarks.methods import Method, Solver
from benchmarks.runner import Drawer, Experiment

STEPS = (10, 15, 20)
SOLVERS: dict[str, Solver] = {"DDIM": "ddim", "2M": "dpmpp_2m"}
NAMES = (("layout",), ("attribute",), ("layout", "attribute"), ("attribute", "layout"))


def experiment(size: str) -> Experiment:
    """Models alone and joined, with every solver and number of steps."""
    rows: dict[str, Drawer] = {}
    for names in NAMES:
        label = f"{names[0]}(+{names[1]})" if len(names) > 1 else names[0]
        rows[f"{label}, DDIM, 50 steps"] = Method(names)
        for solver, sampler in SOLVERS.items():
            rows |= {f"{label}, {solver}, {n} steps": Method(names, steps=n, sampler=sampler) for n in STEPS}
    return Experiment(rows, scenes=500)
