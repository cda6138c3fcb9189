"""When each attribute is decided: what a model is told is exchanged at a step, for another scene's.

What it was told before the step shows in the image as far as it was decided by then. The other scene has the
same boxes and other shapes, colours, interactions and style; or the same of all that in boxes mirrored from
left to right. On DDIM's levels and on shifted ones, which tell a step from a level.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import torch

from amdm import sample_ddim
from benchmarks.methods import Schedule, levels, model, starts_of, told
from benchmarks.runner import Drawer, Experiment
from ecosystem import denoisers, latents, world
from ecosystem.world import Image, Scenes

STEPS = (0, 3, 6, 9, 12, 15, 20, 25, 30, 40, 50)
What = Literal["attributes", "boxes"]
SCHEDULES: tuple[Schedule, ...] = ("ddim", "shifted")
EXCHANGED: tuple[tuple[str, What], ...] = (
    ("layout", "attributes"),
    ("layout", "boxes"),
    ("attribute", "attributes"),
    ("style", "attributes"),
)


@dataclass(frozen=True)
class Exchanged:
    """One model that is told of another scene from a step on."""

    name: str
    what: What
    step: int
    schedule: Schedule = "ddim"
    steps: int = 50

    @property
    def calls(self) -> Counter[str]:
        """How often the network is evaluated for an image."""
        return Counter({self.name: self.steps})

    def draw(self, scenes: Scenes, seed: int, device: str = "cpu") -> Image:
        """Images of scenes from the starts of this seed."""
        sigmas = levels(self.schedule, self.steps).to(device)
        x = starts_of(scenes, seed, sigmas[0], device)[self.name]
        denoiser = model(self.name, denoisers.GUIDANCE, device)
        parts = (scenes, sigmas[: self.step + 1]), (other(scenes, self.what), sigmas[self.step :])
        for part, span in parts:
            if len(span) > 1:
                args = told(self.name, part, device, say_style=False)
                x = sample_ddim(denoiser, x, span, args, disable=True)
        return latents.decode(x)


def other(scenes: Scenes, what: What) -> Scenes:
    """The scenes with every shape, colour, interaction and style another; or with mirrored boxes."""
    if what == "boxes":
        x0, y0, x1, y1 = scenes.boxes.unbind(-1)
        return scenes._replace(boxes=torch.stack([world.SIZE - x1, y0, world.SIZE - x0, y1], dim=-1))
    kinds, *ends = scenes.links.unbind(-1)
    count = len(world.KINDS) - 1
    kinds = torch.where(kinds > 0, 1 + (kinds - 1 + count // 2) % count, 0)
    return scenes._replace(
        shapes=(scenes.shapes + len(world.SHAPES) // 2) % len(world.SHAPES),
        colours=(scenes.colours + len(world.COLOURS) // 2) % len(world.COLOURS),
        styles=(scenes.styles + len(world.STYLES) // 2) % len(world.STYLES),
        links=torch.stack([kinds, *ends], dim=-1),
    )


def label(name: str, what: What, step: int, schedule: Schedule) -> str:
    """A row's name."""
    return f"{name}, {what} at step {step}, {schedule}"


def experiment(size: str) -> Experiment:
    """Every model, both schedules, a row per step."""
    rows: dict[str, Drawer] = {}
    for schedule in SCHEDULES:
        for name, what in EXCHANGED:
            for step in STEPS:
                rows[label(name, what, step, schedule)] = Exchanged(name, what, step, schedule)
    return Experiment(rows, scenes=100)
