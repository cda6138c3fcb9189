"""How few evaluations do: DPM-Solver++(2M) and DDIM with 10, 15 and 20 steps against 50 of DDIM."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from benchmarks import pictures
from benchmarks.experiment import Experiment
from benchmarks.methods import Method, Solver
from benchmarks.report import Claim, Section, goes, signed
from benchmarks.runner import Drawer
from benchmarks.tables import Cell, Table
from ecosystem.world import Image, Scenes

TITLE = "Cost: fewer steps of a better solver"
STEPS = (10, 15, 20)
SOLVERS: dict[str, Solver] = {"DDIM": "ddim", "2M": "dpmpp_2m"}
NAMES = {
    "layout": ("layout",),
    "attribute": ("attribute",),
    "layout(+attribute)": ("layout", "attribute"),
    "attribute(+layout)": ("attribute", "layout"),
}
METRICS = ["scene right", "ISR avg", "mIoU avg", "mAP default full", "caption", "KID"]


def label(row: str, solver: str, steps: int) -> str:
    """A row's name."""
    return f"{row}, {solver}, {steps} steps"


def experiment(size: str) -> Experiment:
    """Models alone and joined, with every solver and number of steps."""
    rows: dict[str, Drawer] = {}
    pairs = []
    for row, names in NAMES.items():
        full = label(row, "DDIM", 50)
        rows[full] = Method(names)
        for solver, sampler in SOLVERS.items():
            rows |= {label(row, solver, n): Method(names, steps=n, sampler=sampler) for n in STEPS}
            pairs += [(label(row, solver, n), full) for n in STEPS]
    return Experiment(rows, scenes=500, pairs=pairs)


def figure(table: Table, images: Mapping[str, Image], scenes: Scenes) -> Figure:
    """Every metric over the number of evaluations."""
    whole = pictures.picture(15, 9)
    grid = whole.subplots(2, 3, sharex=True)
    for axes, metric in zip(grid.flat, METRICS, strict=True):
        for row in NAMES:
            for solver in SOLVERS:
                chosen = [label(row, solver, n) for n in STEPS]
                chosen += [label(row, "DDIM", 50)] if solver == "DDIM" else []
                x = [table[name].evaluations or 0 for name in chosen]
                pictures.curve(axes, x, table, chosen, metric, f"{row}, {solver}")
        axes.set(title=metric, xlabel="evaluations of a network per image")
    grid[0, 0].legend(fontsize=7)
    return whole


def section(table: Table, differences: Table) -> Section:
    """The fewest evaluations that equal 50 steps of DDIM in every metric."""
    claims = []
    for row in NAMES:
        full = label(row, "DDIM", 50)
        kept = [
            name
            for steps in STEPS
            for solver in SOLVERS
            if (name := label(row, solver, steps)) and no_worse(differences[f"{name} - {full}"].cells)
        ]
        text = "none of those tried"
        if kept:
            best = min(kept, key=lambda name: table[name].evaluations or 0)
            cells = differences[f"{best} - {full}"].cells
            gaps = ", ".join(f"{metric} {signed(cells[metric])}" for metric in METRICS)
            text = f"{best}: {table[best].evaluations} of {table[full].evaluations} evaluations ({gaps})"
        claims.append(Claim(f"{row}: no metric is worse than with 50 steps of DDIM", "(ours)", text, ""))
    return Section(claims, tables=[[*METRICS, "KID above renders", "precision", "recall"]])


def no_worse(cells: Mapping[str, Cell]) -> bool:
    """Whether every metric is sure to be no worse, up to its margin."""
    return all(
        goes(metric, cells[metric], "not more" if metric == "KID" else "not less") for metric in METRICS
    )
