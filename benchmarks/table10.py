"""Table 10: a model of EDM's schedule into one of DDPM's, by step index and on shared levels.

By step index every model is on its own schedule, and latents of different levels are joined: each in its own
coordinates, as in the paper (VP and VE), or all in VP. On shared levels Algorithm 1 is unchanged.
"""

from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Literal

from amdm.geometry import slerp_fold
from amdm.samplers import auto_length
from amdm.shapes import denoisers, latents
from amdm.shapes.world import Image, Scenes
from benchmarks import pictures
from benchmarks.experiment import Experiment
from benchmarks.measures import CONTROL
from benchmarks.methods import Method, Schedule, extra_args, levels, model, starts_of
from benchmarks.report import Question, asking
from benchmarks.runner import Drawer
from theory_checks.same_ecosystem import ScheduledModel, aggregate_by_index

TITLE = "Table 10: a model of another schedule"
A, B = "layout", "attribute_edm"
BY_INDEX, IN_VP, SHARED = (
    f"layout(+attribute_edm), {how}" for how in ("by step index", "by step index in VP", "shared levels")
)
POSITIVE = "layout(+attribute)"
Coordinates = Literal["vp", "ve"]
QUESTION = "Can models trained on different noise schedules be aggregated?"
SAYS = (
    "Yes, on shared noise levels: a partner of EDM's schedule is then no worse than one of the lead's own.",
    "By step index, each in its own coordinates, a variance exploding latent up to 80 long per pixel meets "
    "one of length 1, and the sum fails.",
    "With both in variance preserving (VP) coordinates even that works.",
)


@dataclass(frozen=True)
class ByIndex:
    """Two models joined at equal step indices; the lead on DDIM's grid, the partner on EDM's."""

    lead: str
    partner: str
    partner_in: Coordinates = "ve"
    steps: int = 50
    window: int = 20

    @property
    def calls(self) -> Counter[str]:
        """Return the number of evaluations of each network for an image."""
        return Counter({self.lead: self.steps, self.partner: self.window})

    def draw(self, scenes: Scenes, seed: int, device: str = "cpu") -> Image:
        """Return images of scenes from the starts of this seed."""
        trained, starts = [], []
        own: tuple[tuple[str, Schedule, Coordinates], ...]
        own = (self.lead, "ddim", "vp"), (self.partner, "edm", self.partner_in)
        for name, schedule, coordinates in own:
            sigmas = levels(schedule, self.steps).to(device)
            denoiser = model(name, denoisers.GUIDANCE, device)
            trained.append(ScheduledModel(denoiser, sigmas, coordinates, extra_args(name, scenes, device)))
            starts += starts_of([name], scenes, seed, sigmas[0])
        length = auto_length(starts[0][0].numel())
        x = aggregate_by_index(trained, starts, 0.5, length, self.window, slerp_fold)
        return latents.decode(x)


def experiment(size: str) -> Experiment:
    """Return the paper's three rows, the two other ways to join, and a partner of the lead's own schedule."""
    rows: dict[str, Drawer] = {
        A: Method(("layout",)),
        B: Method(("attribute_edm",), schedule="edm"),
        BY_INDEX: ByIndex("layout", "attribute_edm"),
        IN_VP: ByIndex("layout", "attribute_edm", "vp"),
        SHARED: Method(("layout", "attribute_edm")),
        POSITIVE: Method(("layout", "attribute")),
    }
    pairs = [(row, A) for row in (BY_INDEX, IN_VP, SHARED, POSITIVE)]
    pairs += [(SHARED, row) for row in (BY_INDEX, IN_VP, POSITIVE)]
    return Experiment(rows, scenes=300, seeds=3, pairs=pairs)


figure = partial(pictures.sheet, metrics=CONTROL)
QUESTIONS = (
    Question(
        "joined by step index, each in its own coordinates, it is worse than InteractDiffusion alone",
        "ISR 34.06 to 18.13",
        (BY_INDEX, A),
        {"ISR avg": "less", "mIoU avg": "less"},
        place="table 10",
    ),
    Question("and its images are poor", "appendix G.3", (BY_INDEX, A), {"KID": "more"}),
    Question(
        "models of different SDEs cannot be aggregated: nor on shared levels",
        "section 3.1",
        (SHARED, A),
        {"ISR avg": "not more"},
    ),
    Question("and nor by step index with both in VP", "section 3.1", (IN_VP, A), {"ISR avg": "not more"}),
    Question(
        "on shared levels a model of another schedule serves as well as one of the same",
        "",
        (SHARED, POSITIVE),
        {"scene right": "alike"},
    ),
)


section = asking(QUESTIONS, QUESTION, SAYS)
