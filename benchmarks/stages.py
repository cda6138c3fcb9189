"""When each attribute is decided: what a model is told is exchanged at a step, for another scene's.

What it was told before the step shows in the image as far as it was decided by then. The other scene has the
same boxes and other shapes, colours, interactions and style; or the same of all that in boxes mirrored from
left to right. On DDIM's levels and on shifted ones, which tell a step from a level.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from matplotlib.figure import Figure

from amdm import sample_ddim
from benchmarks import pictures
from benchmarks.experiment import Experiment
from benchmarks.measures import Estimate, draws, parts_of, share
from benchmarks.methods import Schedule, levels, model, starts_of, told
from benchmarks.report import Section, compare
from benchmarks.runner import Drawer
from benchmarks.tables import Table, markdown
from ecosystem import denoisers, latents, scores, world
from ecosystem.instances import instances
from ecosystem.reading import read
from ecosystem.world import Image, Scenes

TITLE = "When each attribute is decided"
STEPS = (0, 3, 6, 9, 12, 15, 20, 25, 30, 40, 50)
EARLY = 20  # steps, as many as aggregate
What = Literal["attributes", "boxes"]
SCHEDULES: tuple[Schedule, ...] = ("ddim", "shifted")
EXCHANGED: tuple[tuple[str, What], ...] = (
    ("layout", "attributes"),
    ("layout", "boxes"),
    ("attribute", "attributes"),
    ("style", "attributes"),
)
SHOWN: tuple[tuple[str, What, str], ...] = (
    ("layout", "boxes", "places"),
    ("layout", "attributes", "shapes"),
    ("layout", "attributes", "interactions"),
    ("attribute", "attributes", "colours"),
    ("style", "attributes", "style"),
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


def measure(images: Image, scenes: Scenes, method: object) -> dict[str, Estimate]:
    """How much of what was told first is in the images, of what was told then, and the gap between them."""
    assert isinstance(method, Exchanged)
    estimates = {}
    for when, wanted in (("first", scenes), ("then", other(scenes, method.what))):
        counts = scores.compare(scores.find(images, wanted), wanted)
        found = instances(read(images), wanted, colours=False).success
        counts["places"] = scores.Counts(found.sum(1), wanted.present.sum(1))
        for name, parts in counts.items():
            estimates[f"{name} told {when}"] = share(parts_of(*parts), draws(len(images)))
    for name in counts:
        estimates[f"{name}, gap"] = estimates[f"{name} told first"] - estimates[f"{name} told then"]
    return estimates


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
    return Experiment(rows, scenes=100, measure=measure)


def decided(table: Table, name: str, what: What, attribute: str, schedule: Schedule) -> list[float]:
    """The step at which as much is kept of what was told first as is taken from what was told then.

    And the first and the last step at which that may be so: where the limits of the gap's intervals cross 0.
    A limit that does not within the steps is at their end.
    """
    cells = [table[label(name, what, step, schedule)].cells[f"{attribute}, gap"] for step in STEPS]
    curves = [[cell.value for cell in cells], [cell.high for cell in cells], [cell.low for cell in cells]]
    return [float(np.interp(0, np.maximum.accumulate(np.array(curve, float)), STEPS)) for curve in curves]


def figure(table: Table, images: Mapping[str, Image], scenes: Scenes) -> Figure:
    """What was told first, over the step and over the level at which something else was told."""
    whole = pictures.picture(14, 9)
    for row, schedule in zip(whole.subplots(2, 2, sharey=True), SCHEDULES, strict=True):
        sigmas = levels(schedule, 50).tolist()
        for name, what, attribute in SHOWN:
            rows = [label(name, what, step, schedule) for step in STEPS]
            metric = f"{attribute} told first"
            pictures.curve(row[0], STEPS, table, rows, metric, f"{attribute} ({name})")
            pictures.curve(row[1], [sigmas[step] for step in STEPS[:-1]], table, rows[:-1], metric, attribute)
        row[0].set(
            title=f"{schedule} schedule", ylabel="% as was told first", xlabel="told else from this step on"
        )
        row[1].set(xscale="log", xlabel="told else from this level on (VE)")
        row[1].invert_xaxis()
    row[0].legend(fontsize=8)
    return whole


def section(table: Table, differences: Table) -> Section:
    """Whether the aggregated steps decide all, and when each attribute is decided, in steps and levels."""
    claims = [
        compare(
            f"first come position, attributes, style: {attribute} ({name}) are as told before step {EARLY}",
            "figures 8, 12",
            table[label(name, what, EARLY, "ddim")],
            {f"{attribute}, gap": "more"},
        )
        for name, what, attribute in SHOWN
    ]
    lines = [["decided half way at", *(f"{schedule} schedule" for schedule in SCHEDULES)]]
    for name, what, attribute in SHOWN:
        found = []
        for schedule in SCHEDULES:
            steps = decided(table, name, what, attribute, schedule)
            sigmas = np.interp(steps, range(51), levels(schedule, 50).numpy())
            found.append(
                "step {:.1f} [{:.1f}, {:.1f}], ".format(*steps)
                + "sigma {0:.2f} [{2:.2f}, {1:.2f}]".format(*sigmas)
            )
        lines.append([f"{attribute} ({name})", *found])
    return Section(claims, tables=[], remarks=[markdown(lines)])
