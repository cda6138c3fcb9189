"""Table 10: a model of EDM's schedule into one of DDPM's, by step index and on shared levels.

By step index every model is on its own schedule, and latents of different levels are joined: each in its own
coordinates, as in the paper (VP and VE), or all in VP. On shared levels Algorithm 1 is as it always is.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

from amdm.geometry import slerp_fold
from amdm.samplers.aggregate import auto_length
from benchmarks.methods import Method, Schedule, levels, model, starts_of, told
from benchmarks.runner import Drawer, Experiment
from ecosystem import denoisers, latents
from ecosystem.world import Image, Scenes
from theory_checks.same_ecosystem import Trained, aggregate_by_index

Coordinates = Literal["vp", "ve"]


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
            trained.append(Trained(denoiser, sigmas, coordinates, told(name, scenes, device)))
            starts.append(starts_of(scenes, seed, sigmas[0], device)[name])
        length = auto_length(starts[0][0].numel())
        x = aggregate_by_index(trained, starts, 0.5, length, self.window, slerp_fold)
        return latents.decode(x)


def experiment(size: str) -> Experiment:
    """The paper's three rows and the two other ways to join."""
    joined = "layout(+attribute_edm)"
    rows: dict[str, Drawer] = {
        "layout": Method(("layout",)),
        "attribute_edm": Method(("attribute_edm",), schedule="edm"),
        f"{joined}, by step index": ByIndex("layout", "attribute_edm"),
        f"{joined}, by step index in VP": ByIndex("layout", "attribute_edm", "vp"),
        f"{joined}, shared levels": Method(("layout", "attribute_edm")),
    }
    return Experiment(rows, scenes=500, seeds=3)
