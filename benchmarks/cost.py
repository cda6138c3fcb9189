"""The fewest evaluations that suffice: DPM-Solver++(2M) and DDIM with 10 to 20 steps against 50 of DDIM.

DDIM's own grid of few steps begins at a lower level than that of 50, sigma 8.4 instead of 13.2 for 10. So 2M
is run on that grid, and on two that have the first and the last level of 50 steps: even in training steps
(diffusers' "linspace"), and Karras et al.'s.
"""

from collections.abc import Callable, Mapping
from itertools import product

from matplotlib.figure import Figure

from amdm.shapes.world import Image, Scenes
from benchmarks import pictures, tables
from benchmarks.experiment import Experiment
from benchmarks.measures import SUMMARY
from benchmarks.methods import Method, Schedule, Solver
from benchmarks.report import COLUMNS, Claim, Section, goes, signed
from benchmarks.runner import Drawer
from benchmarks.table1_2 import AB, MODELS, A
from benchmarks.tables import Cell, Table

TITLE = "Cost: fewer steps of a better solver"
STEPS = (10, 15, 20)
GOAL = 25  # evaluations, half of what one model takes
DDIM = "DDIM"
SOLVERS: dict[str, tuple[Solver, Schedule]] = {
    DDIM: ("ddim", "ddim"),
    "2M": ("dpmpp_2m", "ddim"),
    "2M linspace": ("dpmpp_2m", "linspace"),
    "2M Karras": ("dpmpp_2m", "karras"),
}
QUESTION = f"Do fewer than {GOAL} evaluations suffice?"
SAYS = (
    "Yes: ten steps, 14 evaluations, equal 50 steps of DDIM, 70 evaluations, in every metric.",
    "No metric is worse within its interval, and for some solver none by more than a margin.",
    "2M is run on DDIM's grid, on even training steps (linspace) and on Karras et al.'s levels.",
)
Cells = Mapping[str, Cell]


def label(row: str, solver: str, steps: int) -> str:
    """Return a row's name."""
    return f"{row}, {solver}, {steps} steps"


def full(row: str) -> str:
    """Return the row that others are compared with."""
    return label(row, DDIM, 50)


def experiment(size: str) -> Experiment:
    """Return models alone and joined, with every solver and number of steps."""
    rows: dict[str, Drawer] = {full(row): Method(models) for row, models in MODELS.items()}
    pairs = []
    for row, solver, n in product(MODELS, SOLVERS, STEPS):
        sampler, schedule = SOLVERS[solver]
        rows[label(row, solver, n)] = Method(MODELS[row], steps=n, sampler=sampler, schedule=schedule)
        pairs.append((label(row, solver, n), full(row)))
    return Experiment(rows, scenes=300, pairs=pairs)


def figure(table: Table, images: Mapping[str, Image], scenes: Scenes) -> Figure:
    """Return a picture of every metric over the number of evaluations, for joined models and one alone."""
    curves = {}
    for row, solver in product(list(MODELS)[:2], SOLVERS):
        names = [label(row, solver, n) for n in STEPS] + ([full(row)] if solver == DDIM else [])
        curves[f"{row}, {solver}"] = {float(table[name].evaluations or 0): name for name in names}
    return pictures.sweep(table, images, scenes, curves=curves, xlabel="evaluations of a network per image")


def section(table: Table, differences: Table) -> Section:
    """Return the section: the fewest evaluations that equal DDIM's 50 steps by each of two measures."""
    measures: tuple[tuple[str, Callable[[Cells], bool]], ...] = (
        ("no metric is worse, within its interval,", none_is_worse),
        ("no metric is worse by more than a margin, surely,", all_are_as_good),
    )
    claims = []
    for row, (words, equal) in product(MODELS, measures):
        names = [label(row, solver, n) for solver, n in product(SOLVERS, STEPS)]
        gaps = {name: differences[f"{name} - {full(row)}"].cells for name in names}
        evaluations = {name: table[name].evaluations or 0 for name in names if equal(gaps[name])}
        found, verdict = "none of those tried", "not supported"
        if evaluations:
            best = min(evaluations, key=evaluations.__getitem__)
            cells = ", ".join(f"{metric} {signed(gaps[best][metric])}" for metric in SUMMARY)
            found = f"{best}, {evaluations[best]} evaluations: {cells}"
            verdict = "supported" if evaluations[best] < GOAL else verdict
        claim = f"{row} in fewer than {GOAL} evaluations: {words} than with 50 steps of DDIM"
        line = "fewer than 25 evaluations are as good as 50 steps of DDIM"
        claims.append(Claim(claim, "(ours)", found, verdict, line=line))
    names = [full(A), full(AB)]
    names += [label(AB, solver, STEPS[0]) for solver in SOLVERS]
    shown = {name: table[name] for name in names if name in table}
    return Section(claims, QUESTION, SAYS, tables.lines(shown, COLUMNS))


def none_is_worse(cells: Cells) -> bool:
    """Return True if no metric's interval is wholly on the worse side of 0."""
    return not any(goes(metric, cells[metric], "more" if metric == "KID" else "less") for metric in SUMMARY)


def all_are_as_good(cells: Cells) -> bool:
    """Return True if every metric is, with its interval, no worse up to its margin."""
    return all(
        goes(metric, cells[metric], "not more" if metric == "KID" else "not less") for metric in SUMMARY
    )
