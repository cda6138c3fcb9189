"""Table 10: a model of EDM's schedule into one of DDPM's, by step index and on shared levels.

By step index every model is on its own schedule, and latents of different levels are joined: each in its own
coordinates, as in the paper (VP and VE), or all in VP. On shared levels Algorithm 1 is as it always is.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from matplotlib.figure import Figure

from amdm.geometry import slerp_fold
from amdm.samplers import auto_length
from benchmarks import paper, pictures
from benchmarks.experiment import Experiment
from benchmarks.measures import CONTROL, LOOKS
from benchmarks.methods import Method, Schedule, levels, model, starts_of, told
from benchmarks.report import Section, compare
from benchmarks.runner import Drawer
from benchmarks.tables import Table
from shapes import denoisers, latents
from shapes.world import Image, Scenes
from theory_checks.same_ecosystem import ScheduledModel, aggregate_by_index

TITLE = "Table 10: a model of another schedule"
A, B = "layout", "attribute_edm"
BY_INDEX, IN_VP, SHARED = (
    f"layout(+attribute_edm), {how}" for how in ("by step index", "by step index in VP", "shared levels")
)
POSITIVE = "layout(+attribute)"
Coordinates = Literal["vp", "ve"]
CAUSES = (
    "What fails is the sum of two coordinates, not the meeting of two SDEs: a VE latent of EDM's schedule is "
    "up to 80 long per pixel where a VP one is 1. With both in VP the same two schedules, joined by step "
    "index at unequal levels, serve nearly as well as on shared levels."
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
        """How often each network is evaluated for an image."""
        return Counter({self.lead: self.steps, self.partner: self.window})

    def draw(self, scenes: Scenes, seed: int, device: str = "cpu") -> Image:
        """Images of scenes from the starts of this seed."""
        trained, starts = [], []
        own: tuple[tuple[str, Schedule, Coordinates], ...]
        own = (self.lead, "ddim", "vp"), (self.partner, "edm", self.partner_in)
        for name, schedule, coordinates in own:
            sigmas = levels(schedule, self.steps).to(device)
            denoiser = model(name, denoisers.GUIDANCE, device)
            trained.append(ScheduledModel(denoiser, sigmas, coordinates, told(name, scenes, device)))
            starts.append(starts_of(scenes, seed, sigmas[0], device)[name])
        length = auto_length(starts[0][0].numel())
        x = aggregate_by_index(trained, starts, 0.5, length, self.window, slerp_fold)
        return latents.decode(x)


def experiment(size: str) -> Experiment:
    """The paper's three rows, the two other ways to join, and a partner of the lead's own schedule."""
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


def figure(table: Table, images: Mapping[str, Image], scenes: Scenes) -> Figure:
    """A grid, and what the table says."""
    whole = pictures.picture(16, 9)
    left, right = whole.subfigures(1, 2, squeeze=False)[0]
    pictures.grid(left, images, scenes)
    pictures.bars(right.subplots(), table, list(images), CONTROL)
    return whole


def section(table: Table, differences: Table) -> Section:
    """What the paper says of the table, and what is measured."""
    numbers = "ISR 34.06 to 18.13"
    claims = [
        compare(
            "joined by step index, each in its own coordinates, it is worse than InteractDiffusion alone",
            numbers,
            differences[f"{BY_INDEX} - {A}"],
            {"ISR avg": "less", "mIoU avg": "less"},
        ),
        compare(
            "and the images are poor",
            "figure of Appendix G.3",
            differences[f"{BY_INDEX} - {A}"],
            {"KID": "more"},
        ),
        compare(
            "models of different SDEs cannot be aggregated: nor on shared levels",
            "by section 3.1",
            differences[f"{SHARED} - {A}"],
            {"ISR avg": "not more"},
        ),
        compare(
            "nor by step index with both in VP",
            "by section 3.1",
            differences[f"{IN_VP} - {A}"],
            {"ISR avg": "not more"},
        ),
    ]
    claims.append(
        compare(
            "on shared levels a model of another schedule serves as well as one of the same",
            "",
            differences[f"{SHARED} - {POSITIVE}"],
            {"scene right": "alike"},
        )
    )
    levels_of = ["ISR L2", "ISR L3", "ISR L4"]
    return Section(
        claims,
        tables=[[*CONTROL, *levels_of], ["style", *LOOKS]],
        remarks=[CAUSES],
        paper={"Table 10": paper.TABLE_10},
    )
