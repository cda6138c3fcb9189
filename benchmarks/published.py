"""The authors' published settings beside Algorithm 1: their loop in steps 1 to 3 and 1 to 7.

Their code (`examples/published_code.py`) folds by `orthogonal_mix` and pulls toward another mean than the
paper's. Its pulls are lengths for Stable Diffusion's latents of n = 16384; here they are scaled with sqrt(n).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

from amdm.shapes import denoisers, latents
from amdm.shapes.world import Image, Scenes
from benchmarks import pictures
from benchmarks.experiment import Experiment
from benchmarks.methods import Method, length_scale, levels, sample, starts_of
from benchmarks.report import Direction, Question, asking
from benchmarks.runner import Drawer
from benchmarks.table1_2 import AB
from benchmarks.tables import Table
from examples.published_code import published

TITLE = "Published settings: the authors' code beside Algorithm 1"
OMEGA = 0.5
# The pulls of model 1 and model 2 with the steps that they are published with.
PULLS = {(1, 3): (45.0, 55.0), (1, 7): (55.0, 45.0)}
ALGORITHM, EARLY = AB, f"{AB}, steps 1 to 7"


@dataclass(frozen=True)
class Published:
    """The published loop, aggregating in the steps `first` to `last`, both included."""

    models: tuple[str, str]
    first: int
    last: int
    steps: int = 50

    @property
    def calls(self) -> Counter[str]:
        """Return the number of evaluations of each network for an image."""
        return Counter({self.models[0]: self.steps, self.models[1]: self.last + 1})

    def draw(self, scenes: Scenes, seed: int, device: str = "cpu") -> Image:
        """Return images of scenes from the starts of this seed."""
        sigmas = levels("ddim", self.steps).to(device)
        x = starts_of(self.models, scenes, seed, sigmas[0])
        span = (self.first, self.last)
        pulls = [length_scale() * pull for pull in PULLS[span]]
        options = published([OMEGA], pulls, denoisers.training_sigmas().to(device), span)
        return latents.decode(sample(self.models, scenes, x, sigmas, **options))


def label(first: int, last: int) -> str:
    """Return a row's name."""
    return f"{AB}, published, steps {first} to {last}"


MORE: dict[str, Direction] = {"scene right": "more"}
AHEAD = "Algorithm 1 has more scenes right than the published code"
QUESTIONS = [
    Question(claim, "", rows, MORE, line=AHEAD)
    for claim, rows in (
        ("Algorithm 1 in the published steps 1 to 7 has more scenes right", (EARLY, label(1, 7))),
        ("Algorithm 1 has more scenes right than the published steps 1 to 3", (ALGORITHM, label(1, 3))),
        ("Algorithm 1 has more scenes right than the published steps 1 to 7", (ALGORITHM, label(1, 7))),
    )
]
ALONE = "The published steps 1 to 7 have more scenes right than model 1 alone"
QUESTIONS += [Question(ALONE, "", (label(1, 7), "layout"), MORE)]


QUESTION = "How does the authors' published code compare with Algorithm 1?"
SAYS = (
    "It gains over `layout` alone, and has 34 to 35 points fewer scenes right than Algorithm 1.",
    "It aggregates in fewer steps (1 to 3 or 1 to 7), folds otherwise and pulls toward another mean.",
    "In the same steps 1 to 7 Algorithm 1 leads by 18 points.",
)


def experiment(size: str) -> Experiment:
    """Return model 1 alone, Algorithm 1 in its 20 steps and in steps 1 to 7, and both published settings."""
    models = ("layout", "attribute")
    rows: dict[str, Drawer] = {"layout": Method(("layout",)), ALGORITHM: Method(models)}
    rows[EARLY] = Method(models, window=(1, 8))
    rows |= {label(*steps): Published(models, *steps) for steps in PULLS}
    return Experiment(rows, scenes=100, pairs=[question.rows for question in QUESTIONS])


def figure(table: Table, images: Mapping[str, Image], scenes: Scenes) -> Figure:
    """Return a picture of scenes as each row draws them, with the success rates, and those of renders."""
    metrics = ["interactions", "ISR avg", "scene right"]
    return pictures.sheet(table, images, scenes, metrics=metrics, rows=list(table))


section = asking(QUESTIONS, QUESTION, SAYS)
