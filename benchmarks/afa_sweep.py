"""AFA's settings: eight trials of guidance and noise on validation scenes, at 140 passes, as in table 6."""

from collections.abc import Mapping
from itertools import product

from matplotlib.figure import Figure

from amdm import plots
from amdm.shapes.world import Image, Scenes
from benchmarks import pictures
from benchmarks.compositions import Composition
from benchmarks.experiment import Experiment
from benchmarks.report import Section
from benchmarks.runner import Drawer
from benchmarks.table6_caption_sweep import CHOSEN, ETAS, GUIDANCE
from benchmarks.table6_sweep import PASSES, label, noise
from benchmarks.tables import Table

TITLE = "AFA, the settings: eight trials on validation scenes"
AFA = "AFA (Wang 2025): trained, two experts, ours"
METRICS = ("scene right", "interactions", "KID")


def name(g: float, eta: float) -> str:
    """Return a trial's name."""
    return f"g = {g}, eta {eta}"


TRIALS: dict[str, Mapping[str, Drawer]] = {
    AFA: {
        name(g, eta): Composition("afa", PASSES // 4, guidance=g, options=tuple(noise(eta).items()))
        for g, eta in product(GUIDANCE, ETAS)
    }
}


def experiment(size: str) -> Experiment:
    """Return all trials."""
    rows = {label(AFA, trial): how for trial, how in TRIALS[AFA].items()}
    return Experiment(rows, scenes=50, split="validation")


def figure(table: Table, images: Mapping[str, Image], scenes: Scenes) -> Figure:
    """Return a picture of what is right, and KID, over the guidance: a curve without noise, and one with."""
    grid = (whole := plots.empty(plots.WIDTH, 2.8)).subplots(1, len(METRICS))
    for metric, axes in zip(METRICS, grid, strict=True):
        for eta in ETAS:
            rows = [label(AFA, name(g, eta)) for g in GUIDANCE]
            pictures.curve(axes, GUIDANCE, table, rows, metric, f"eta = {eta:g}")
        pictures.describe(axes, metric, "guidance")
    pictures.key(whole, grid[0])
    return whole


QUESTION = "Which guidance and noise suit the trained aggregators?"


def section(table: Table, differences: Table) -> Section:
    """No claims: what was chosen is in the settings of the table."""
    return Section([], QUESTION, [CHOSEN, "It is guidance 3 with noise."])
