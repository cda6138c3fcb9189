"""Table 6 with the settings that the other methods were published with, whatever they cost."""

from dataclasses import replace
from functools import partial

from benchmarks import pictures
from benchmarks.compositions import Composition
from benchmarks.experiment import Experiment
from benchmarks.methods import Method
from benchmarks.report import asking
from benchmarks.runner import Drawer
from benchmarks.table6 import against
from shapes import denoisers

TITLE = "Table 6 with published settings"
HALF = round(float(denoisers.training_sigmas()[499]), 4)  # the level of t = 500 of 1000
SETTINGS = """What the authors' scripts have, on these models: Liu: weights of 7.5, 50 steps. Bradley: 50
steps, no settings. SuperDiff: all 1000 steps (999 here), guidance 7.5, OR with a temperature of 1. FKC:
guidance 1.4, 64 steps of Karras levels, 8 particles; their clamping of the weights is left out. Du: 100
levels, 20 Langevin moves at those of the upper half, weights of 4; h = 2 beta is their paper's, of which a
slip leaves 0.035 beta in this script. Which of their scripts fits two models of images is our choice, and so
is that both conditions weigh alike, relative to the empty caption (see table 6). AMDM is what table 6 calls
"as published": 20 of 50 steps aggregate, the share is 0.5, there is no noise. A KID of 10^4 is of broken
images, and its interval says no more."""


LANGEVIN = (("kernel", "ula"), ("moves", 20), ("step_size", "2 delta"))
SUPERDIFF = Composition("superdiff", 999, guidance=7.5, schedule="ddim")
OTHERS: dict[str, Drawer] = {
    "conjunction (Liu 2022)": Composition("conjunction", 50, (7.5, 7.5), schedule="ddim"),
    "projective (Bradley 2025)": Composition("conjunction", 50, schedule="ddim"),
    "SuperDiff OR (Skreta 2025b)": replace(SUPERDIFF, options=(("combine", "or"),)),
    "SuperDiff AND (Skreta 2025b)": replace(SUPERDIFF, options=(("combine", "and"),)),
    "FKC (Skreta 2025a)": Composition("fkc", 64, (1.4, 1.4), schedule="karras", particles=8),
    "ULA (Du 2023)": Composition("mcmc", 100, (4.0, 4.0), schedule="ddim", above=HALF, options=LANGEVIN),
}


def experiment(size: str) -> Experiment:
    """All beside AMDM as published."""
    rows = {"AMDM": Method(("layout", "attribute")), **OTHERS}
    return Experiment(rows, scenes=100, pairs=[("AMDM", other) for other in OTHERS])


figure = partial(pictures.methods, decades=["KID"])
section = asking([question for other in OTHERS for question in against(other)], remarks=[SETTINGS])
