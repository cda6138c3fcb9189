"""Pictures of a scene by two models, alone and joined: drawn step by step, judged, and as a program."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from amdm import start_noise
from amdm.geometry import angle
from amdm.geometry.rows import norms
from amdm.page.methods import (
    FEWEST,
    HIGHEST,
    LOWEST,
    METHODS,
    MODELS,
    MOST,
    SAMPLERS_OFFERED,
    SHAPE,
    Parts,
    Settings,
    alone,
    load,
)
from amdm.page.source import Script, Source, source
from amdm.samplers import Controls, Step
from amdm.schedules import karras_sigmas
from amdm.shapes import denoisers, latents, scores
from amdm.shapes.scores import Found
from amdm.shapes.world import Image, Scenes

PICTURES = ("A", "B", "A(+B)", "B(+A)")
MOST_ALONE = 50
"""More steps a model alone does not take."""
SPREAD = 1000
"""The distance of the seeds of one image's particles."""
MOST_IMAGES = 8


def check(settings: Settings) -> None:
    """Raise ValueError unless the settings are in the ranges of the page; the library checks the rest."""
    for name, choices in (("method", METHODS), ("lead", MODELS), ("sampler", SAMPLERS_OFFERED)):
        value = getattr(settings, name)
        if value not in choices:
            raise ValueError(f"The {name} is {value!r}: choose one of {', '.join(choices)}.")
    if not FEWEST <= settings.steps <= MOST:
        raise ValueError(f"There are {settings.steps} steps: choose {FEWEST} to {MOST}.")
    if not 0 <= settings.seed < 2**32:
        raise ValueError(f"The seed is {settings.seed}: choose a whole number from 0 to 2**32 - 1.")
    if not 1 <= settings.images <= MOST_IMAGES:
        raise ValueError(f"There are {settings.images} images: choose 1 to {MOST_IMAGES}.")


def models_of(picture: str, settings: Settings) -> tuple[str, ...]:
    """Return the models of a picture, the lead first."""
    a, b = settings.lead, settings.other
    return {"A": (a,), "B": (b,), "A(+B)": (a, b), "B(+A)": (b, a)}[picture]


class Planned(NamedTuple):
    """One picture: its program so far, the call that draws it, the scenes and the levels."""

    script: Script
    call: Source
    particles: int
    scenes: Scenes
    sigmas: Tensor

    @property
    def text(self) -> str:
        """Return the program that draws the picture and saves it."""
        script = Script([*self.script.lines], {*self.script.imports})
        kept = "" if self.particles == 1 else f"[::{self.particles}]  # the first particle of each image"
        script.add(f"latent = {self.call.text}{kept}", self.call.imports)
        script.add("images = latents.decode(latent)", SHAPE.imports)
        script.add('image_grid({"": images / 2 + 0.5}).savefig("picture.png")')
        script.imports.add("from amdm.plots import image_grid")
        return script.text


def planned(picture: str, scene: Scenes, settings: Settings) -> Planned:
    """Return the call that draws one of PICTURES of a scene, made but not yet begun.

    Raises TypeError and ValueError for settings that are wrong.
    """
    check(settings)
    names, method = models_of(picture, settings), METHODS[settings.method]
    particles = method.particles if len(names) > 1 else 1
    steps = settings.steps if len(names) > 1 else min(settings.steps, MOST_ALONE)
    script = Script()
    seeds = script.let("seeds", partial(source, seeds_of(settings, particles)))
    scenes = scenes_source(script, scene, len(seeds.value))
    sigmas = script.let("sigmas", partial(source(karras_sigmas), steps, LOWEST, HIGHEST))
    noise = partial(source(start_noise), seeds, SHAPE, sigmas[0], num_models=len(MODELS))
    starts = script.let("x", noise)
    by_name = {name: starts[k] for k, name in enumerate(MODELS)}
    parts = Parts(script, names, settings, seeds, scenes, sigmas, by_name)
    call = (method.call if len(names) > 1 else alone)(parts)
    return Planned(script, call, particles, scene_of_each(scene, settings.images), sigmas.value)


def seeds_of(settings: Settings, particles: int) -> list[int]:
    """Return the seed of every latent: an image's particles stand one after the other."""
    return [seed + SPREAD * k for seed in settings.seeds for k in range(particles)]


def scene_of_each(scene: Scenes, count: int) -> Scenes:
    """Return a scene this many times."""
    return Scenes(*(part.repeat_interleave(count, 0) for part in scene))


def scene_source(scene: Scenes) -> Source:
    """Return a scene with the lines that make it."""
    fields = scene._asdict() | {"boxes": scene.boxes.double().mul(100).round().div(100)}
    parts = [f"    {name}=torch.tensor({part.tolist()})," for name, part in fields.items()]
    imports = frozenset(["import torch", "from amdm.shapes import world"])
    return Source(scene, "\n".join(["world.Scenes(", *parts, ")"]), imports)


def scenes_source(script: Script, scene: Scenes, count: int) -> Source:
    """Return the scene once for every latent, and add the lines that make it."""
    if count == 1:
        return script.let("scenes", partial(scene_source, scene))
    script.let("scene", partial(scene_source, scene))
    text = f"world.Scenes(*(part.repeat_interleave({count}, 0) for part in scene))"
    return script.let("scenes", lambda: Source(scene_of_each(scene, count), text))


class Moment(NamedTuple):
    """One step of a drawing, of its first image."""

    sigma: float
    x: Tensor
    """The latent that the step begins with."""
    denoised: Tensor
    """The prediction that the step follows."""
    x_next: Tensor


class Gap(NamedTuple):
    """The angle between two vectors, in radians, and the difference of their lengths."""

    angle: float
    norms: float


@dataclass
class Drawing:
    """One picture while it is drawn and afterwards.

    Attributes:
        picture: its name, of PICTURES.
        names: the models, the lead first.
        steps: the number of steps that it takes.
        program: the lines that draw it.
        scenes: the wanted scenes.
        preview: the images as the last step predicts them.
        moments: the steps so far.
        latents: by step, how far the two models' latents were apart when they were joined (VP).
        controls: by step, how far what the two models add was apart, for projective guidance.
        images: the images, once they are finished.
        found: what the detectors see in them.
    """

    picture: str
    names: tuple[str, ...]
    steps: int
    program: str
    scenes: Scenes
    preview: Image | None = None
    moments: list[Moment] = field(default_factory=list)
    latents: dict[int, Gap] = field(default_factory=dict)
    controls: dict[int, Gap] = field(default_factory=dict)
    images: Image | None = None
    found: Found | None = None

    def add(self, step: Step, particles: int) -> None:
        """Take a step into the record."""
        self.preview = latents.decode(step.denoised[::particles])
        first = (each[:1].clone() for each in (step.x, step.denoised, step.x_next))
        self.moments.append(Moment(step.sigma, *first))
        if joined := step.aggregation:
            gap = Gap(joined.angle[0, 0].item(), joined.norm_gap[0, 0].item())
            self.latents[step.index] = gap
        if isinstance(step.record, Controls):
            lead, partner = step.record.norms[:, 0].tolist()
            self.controls[step.index] = Gap(step.record.angle[0, 0].item(), abs(lead - partner))

    def finish(self, x: Tensor) -> None:
        """Decode the last latents, and judge the images."""
        self.images = self.preview = latents.decode(x)
        self.found = scores.find(self.images, self.scenes)


def draw(picture: str, scene: Scenes, settings: Settings) -> Iterator[Drawing]:
    """Draw a picture, and yield its record after every step, and when it is judged.

    Raises TypeError and ValueError for settings that are wrong, FloatingPointError if a latent is not finite.
    """
    plan = planned(picture, scene, settings)
    steps = len(plan.sigmas) - 1
    drawing = Drawing(picture, models_of(picture, settings), steps, plan.text, plan.scenes)
    for step in plan.call.value:
        drawing.add(step, plan.particles)
        last = step.x_next
        yield drawing
    drawing.finish(last[:: plan.particles])
    yield drawing


def apart(one: Drawing, other: Drawing) -> dict[int, Gap]:
    """Return, by step, how far the latents of two models are apart that each draw alone (VP)."""
    gaps = {}
    for i, (a, b) in enumerate(zip(one.moments, other.moments, strict=False)):
        scale = (1 + a.sigma**2) ** 0.5
        difference = (norms(a.x) - norms(b.x)).abs() / scale
        gaps[i] = Gap(angle(a.x, b.x).item(), difference.item())
    return gaps


def looks(drawing: Drawing, index: int, settings: Settings) -> dict[str, Image]:
    """Return a drawing's latent at a step, and what each model makes of it, alone and as the step follows.

    Raises ValueError if there is no such step.
    """
    if not 0 <= index < len(drawing.moments):
        raise ValueError(f"There are {len(drawing.moments)} steps to look at, and step {index + 1} is none.")
    moment, scene = drawing.moments[index], Scenes(*(part[:1] for part in drawing.scenes))
    sigma = torch.tensor([moment.sigma])
    found = {"the noisy latent": moment.x / (1 + moment.sigma**2) ** 0.5}
    for name in (settings.lead, settings.other):
        told = denoisers.extra_args(name, scene)
        found[f"what {name} makes of it"] = load(name, denoisers.GUIDANCE)(moment.x, sigma, **told)
    found["what the step follows"] = moment.denoised
    return {title: latents.decode(latent) for title, latent in found.items()}


def judged(drawing: Drawing) -> list[str]:
    """Return a verdict for every image, in words; "all right" if everything wanted is there."""
    assert drawing.found is not None
    counts = scores.compare(drawing.found, drawing.scenes)
    verdicts = []
    for k in range(len(drawing.scenes.seeds)):
        missed = {what: int(each.wanted[k] - each.right[k]) for what, each in counts.items()}
        wrong = [counted(missed[what], what) for what in ("shapes", "colours") if missed[what]]
        wrong += ["the interaction"] if missed["interactions"] else []
        verdicts.append(f"wrong: {', '.join(wrong)}" if wrong else "all right")
    return verdicts


def counted(count: int, things: str) -> str:
    """Return a count with its noun, given in the plural."""
    return f"{count} {things if count > 1 else things.removesuffix('s')}"
