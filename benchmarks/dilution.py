"""Half the guidance: `layout` alone with what an average leaves of its guidance, beside two models joined.

The mean of two guided predictions guides by half toward what one model alone is told
(`theory_checks/dilution.py`). From one start the linear fold steps by that mean. From two its first latent is
shorter, too, by sqrt(1/2).
"""

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial

from amdm.shapes import denoisers, latents
from amdm.shapes.world import Image, Scenes
from benchmarks import pictures
from benchmarks.controls import SHORT
from benchmarks.experiment import Experiment
from benchmarks.methods import Method, levels, sample, starts_of
from benchmarks.report import Direction, Question, asking
from benchmarks.runner import Drawer

TITLE = "Half the guidance: why the lead loses what it controls"
MODELS = ("layout", "attribute")
LEAD = MODELS[0]
HALF, HALF_SHORT = "layout, half the guidance", "layout, half the guidance, start x 0.707"
PUBLISHED, LINEAR, LINEAR_ONE = "AMDM as published", "linear fold", "linear fold, one start"
METRICS = ("interactions", "scene right", "KID above renders")


@dataclass(frozen=True)
class Halved:
    """`layout` alone, with half its guidance in 20 of 50 steps, from its start times `start_scale`."""

    start_scale: float = 1.0
    window: int = 20
    steps: int = 50

    @property
    def calls(self) -> Counter[str]:
        """Return the number of evaluations for an image."""
        return Counter({LEAD: self.steps})

    def draw(self, scenes: Scenes, seed: int, device: str = "cpu") -> Image:
        """Return images of scenes from the starts of this seed."""
        sigmas = levels("ddim", self.steps).to(device)
        x = self.start_scale * starts_of([LEAD], scenes, seed, sigmas[0])[0]
        weak = denoisers.GUIDANCE / 2
        x = sample([LEAD], scenes, [x], sigmas[: self.window + 1], guidance=weak)
        return latents.decode(sample([LEAD], scenes, [x], sigmas[self.window :]))


def experiment(size: str) -> Experiment:
    """Return `layout` alone and weakened, and joined with `attribute`, on 300 scenes."""
    linear = Method(MODELS, fold="lerp", correction=0.0)
    rows: dict[str, Drawer] = {
        LEAD: Method((LEAD,)),
        HALF: Halved(),
        LINEAR_ONE: replace(linear, starts="shared"),
        PUBLISHED: Method(MODELS),
        HALF_SHORT: Halved(SHORT),
        LINEAR: linear,
    }
    pairs = [(row, LEAD) for row in rows if row != LEAD]
    pairs += [(LINEAR_ONE, HALF), (PUBLISHED, HALF), (LINEAR, HALF_SHORT), (LINEAR, LINEAR_ONE)]
    return Experiment(rows, scenes=300, pairs=pairs, first=1000)


figure = partial(pictures.panels, metrics=METRICS)
LESS: dict[str, Direction] = {"interactions": "less"}
ALIKE: dict[str, Direction] = {"interactions": "alike"}
QUESTION = "Does the lead lose interactions because an average halves its guidance?"
SAYS = (
    "Alone it does: AMDM, and the linear fold of one start, are not told apart from half the guidance "
    "in 20 of 50 steps.",
    "Of two starts its first latent is shorter; from such a start no loss is seen.",
)
LINE = "the lead loses interactions as it does alone with half the guidance"
section = asking(
    [
        Question(f"{HALF}: fewer interactions", "", (HALF, LEAD), LESS, line=LINE),
        Question(f"{PUBLISHED}: as many lost", "", (PUBLISHED, HALF), ALIKE, line=LINE),
        Question(f"{LINEAR_ONE}: as many lost", "", (LINEAR_ONE, HALF), ALIKE, line=LINE),
        Question(
            f"{LINEAR}: as many lost as from a shorter start", "", (LINEAR, HALF_SHORT), ALIKE, line=LINE
        ),
    ],
    QUESTION,
    SAYS,
    rows=[],
)
