"""The step that decides each attribute: from one step on a model's conditions are another scene's, or none.

The first conditions show in the image as far as later ones can no longer overwrite them. The other scene has
the same boxes and other shapes, colours, interactions and style; or the same attributes in boxes mirrored
from left to right. DDIM's levels and shifted ones distinguish a step from a level. Without conditions after
the step, a model shows what is settled while no condition contradicts it: a weaker sense of decided.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import torch
from matplotlib.figure import Figure

from amdm import plots, sample_ddim
from amdm.shapes import denoisers, latents, scores, world
from amdm.shapes.instances import instances
from amdm.shapes.reading import read
from amdm.shapes.world import Image, Scenes
from benchmarks import pictures
from benchmarks.experiment import Experiment
from benchmarks.measures import Estimate, share
from benchmarks.methods import Schedule, extra_args, levels, model, starts_of
from benchmarks.report import Section, compare
from benchmarks.runner import Drawer
from benchmarks.tables import Cell, Table

TITLE = "When each attribute is decided"
STEPS = (0, 3, 6, 9, 12, 15, 20, 25, 30, 35, 40, 45, 50)
EARLY = 20  # steps, as many as aggregate
What = Literal["attributes", "boxes", "nothing"]
SCHEDULES: tuple[Schedule, ...] = ("ddim", "shifted")
EXCHANGED: tuple[tuple[str, What], ...] = (
    ("layout", "attributes"),
    ("layout", "boxes"),
    ("attribute", "attributes"),
    ("style", "attributes"),
)
SILENCED = ("layout", "attribute", "style")
SHOWN: tuple[tuple[str, What, str], ...] = (
    ("layout", "boxes", "places"),
    ("layout", "attributes", "shapes"),
    ("layout", "attributes", "interactions"),
    ("attribute", "attributes", "colours"),
    ("style", "attributes", "style"),
)

QUESTION = "At which step is each attribute decided?"
SAYS = (
    "What a model was told is kept after step 20 if nothing else is said (interactions lose some), but "
    "what is said later overwrites it.",
    "The noise level decides, not the step: on a shifted schedule the steps are other ones, the levels the "
    "same.",
    "So windows given in steps do not carry over to another schedule.",
)


@dataclass(frozen=True)
class Exchanged:
    """One model whose conditions are another scene's, or none, from a step on."""

    name: str
    what: What
    step: int
    schedule: Schedule = "ddim"
    steps: int = 50

    @property
    def calls(self) -> Counter[str]:
        """Return the number of evaluations of the network for an image."""
        return Counter({self.name: self.steps})

    def draw(self, scenes: Scenes, seed: int, device: str = "cpu") -> Image:
        """Return images of scenes from the starts of this seed."""
        sigmas = levels(self.schedule, self.steps).to(device)
        x = starts_of([self.name], scenes, seed, sigmas[0])[0]
        denoiser = model(self.name, denoisers.GUIDANCE, device)
        first = extra_args(self.name, scenes, device, say_style=False)
        then = {"cond": first["uncond"], "uncond": first["uncond"]}
        if self.what != "nothing":
            then = extra_args(self.name, other(scenes, self.what), device, say_style=False)
        for args, span in ((first, sigmas[: self.step + 1]), (then, sigmas[self.step :])):
            if len(span) > 1:
                x = sample_ddim(denoiser, x, span, args, disable=True)
        return latents.decode(x)


def other(scenes: Scenes, what: What) -> Scenes:
    """Return scenes with other shapes, colours, interactions and style; with mirrored boxes; or unchanged."""
    if what == "nothing":
        return scenes
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
    """Return the share of the first and of the later conditions in the images, and the gap between them."""
    assert isinstance(method, Exchanged)
    estimates: dict[str, Estimate] = {}
    for when, wanted in (("first", scenes), ("then", other(scenes, method.what))):
        counts = scores.compare(scores.find(images, wanted), wanted)
        found = instances(read(images), wanted, colours=False).success
        counts["places"] = scores.Counts(found.sum(1), wanted.present.sum(1))
        estimates |= {f"{name} told {when}": share(*parts) for name, parts in counts.items()}
    for name in counts:
        estimates[f"{name}, gap"] = estimates[f"{name} told first"] - estimates[f"{name} told then"]
    return estimates


def label(name: str, what: What, step: int, schedule: Schedule) -> str:
    """Return a row's name."""
    return f"{name}, {what} at step {step}, {schedule}"


def experiment(size: str) -> Experiment:
    """Return every model, a row per step; exchanged on both schedules, silenced on DDIM's."""
    rows: dict[str, Drawer] = {}
    for (name, what), schedule, step in product(EXCHANGED, SCHEDULES, STEPS):
        rows[label(name, what, step, schedule)] = Exchanged(name, what, step, schedule)
    for name, step in product(SILENCED, STEPS):
        rows[label(name, "nothing", step, "ddim")] = Exchanged(name, "nothing", step)
    pairs = [(label(name, "nothing", EARLY, "ddim"), label(name, "nothing", 50, "ddim")) for name in SILENCED]
    return Experiment(rows, scenes=100, pairs=pairs, measure=measure)


def decided(table: Table, name: str, what: What, attribute: str, schedule: Schedule) -> list[float]:
    """Return the step at which the image has as much of the first conditions as of the later; its interval.

    The interval's limits are the steps at which the limits of the gap's intervals cross 0. A limit that does
    not cross within the steps is at their end.
    """
    cells = [table[label(name, what, step, schedule)].cells[f"{attribute}, gap"] for step in STEPS]
    curves = [[cell.value for cell in cells], [cell.high for cell in cells], [cell.low for cell in cells]]
    return [float(np.interp(0, np.maximum.accumulate(np.array(curve, float)), STEPS)) for curve in curves]


def figure(table: Table, images: Mapping[str, Image], scenes: Scenes) -> Figure:
    """Return a picture of the first conditions' share, by the step and level of exchange or silencing."""
    whole = plots.empty(plots.WIDTH, 8.5)
    *exchanged, silenced = whole.subplots(3, 2, sharey=True)
    for name, _, attribute in SHOWN:
        rows = [label(name, "nothing", step, "ddim") for step in STEPS]
        pictures.curve(silenced[0], STEPS, table, rows, f"{attribute} told first", f"{attribute} ({name})")
    ylabel = "% as was told first"
    pictures.describe(silenced[0], "ddim schedule", "told nothing from this step on", ylabel)
    silenced[1].axis("off")
    for row, schedule in zip(exchanged, SCHEDULES, strict=True):
        sigmas = levels(schedule, 50).tolist()
        for name, what, attribute in SHOWN:
            rows = [label(name, what, step, schedule) for step in STEPS]
            metric = f"{attribute} told first"
            pictures.curve(row[0], STEPS, table, rows, metric, f"{attribute} ({name})")
            pictures.curve(row[1], [sigmas[step] for step in STEPS[:-1]], table, rows[:-1], metric, attribute)
        pictures.describe(row[0], f"{schedule} schedule", "told else from this step on", ylabel)
        pictures.describe(row[1], "", "told else from this level on (VE)")
        row[1].set_xscale("log")
        row[1].invert_xaxis()
        plots.plain_log(row[1].xaxis)
        plots.label_lines(row[1])
    plots.label_lines(silenced[0])
    return whole


def section(table: Table, differences: Table) -> Section:
    """Return the section: the claims that the aggregated steps decide all; the step for each attribute."""
    claims, lines = [], [["decided half way at", *(f"{schedule} schedule" for schedule in SCHEDULES)]]
    stay = f"after step {EARLY}, they stay"
    for name, what, attribute in SHOWN:
        first = f"{attribute} ({name}) come first: told"
        one, other = (label(name, "nothing", step, "ddim") for step in (EARLY, 50))
        silent, spoken = differences[f"{one} - {other}"], table[label(name, what, EARLY, "ddim")]
        kept = f"{attribute} told first"
        told_nothing = compare(f"{first} nothing {stay}", "figures 8, 12", silent, {kept: "little less"})
        claims.append(told_nothing._replace(line=f"what comes first stays: told nothing after step {EARLY}"))
        gap = f"{attribute}, gap"
        told_else = compare(f"{first} else {stay}", "figures 8, 12", spoken, {gap: "more"})
        claims.append(told_else._replace(line=f"what comes first stays: told else after step {EARLY}"))
        found = []
        for schedule in SCHEDULES:
            steps = decided(table, name, what, attribute, schedule)
            sigmas = np.interp(steps, range(51), levels(schedule, 50).numpy())
            words = (f"{what} {Cell(*values).short(form)}" for what, values, form in (
                ("step", steps, ".1f"), ("sigma", [sigmas[0], *sigmas[:0:-1]], ".2f")
            ))  # fmt: skip
            found.append(", ".join(words))
        lines.append([f"{attribute} ({name})", *found])
    return Section(claims, QUESTION, SAYS, lines)
