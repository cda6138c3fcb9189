"""Pictures of the same seed by each model alone, and by each as the lead of the others, step by step."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from amdm import Step, check_same_ecosystem
from amdm.diffusers import Prepared
from amdm.plots import SD_RGB, latent_to_rgb
from amdm.plots.images import pixels_of
from amdm.sample.configuration import Config, jobs
from amdm.sample.drawing import prepare
from amdm.sample.methods import starts_of, steps_of
from amdm.sample.systems import load_all
from amdm.samplers import Controls
from amdm.samplers.step import Steps

Order = tuple[int, ...]
"""The numbers of the models of a picture, the lead first."""


def orders(number: int) -> list[Order]:
    """Return the pictures of a comparison: A, B, A(+B), B(+A); of three models six.

    >>> orders(2)
    [(0,), (1,), (0, 1), (1, 0)]
    """
    alone = [(k,) for k in range(number)]
    return alone + [(k, *(other for other in range(number) if other != k)) for k in range(number)]


def title_of(order: Order, names: Sequence[str]) -> str:
    """Return a picture's title, as the paper writes it."""
    lead, *partners = (names[k] for k in order)
    return f"{lead}(+{', '.join(partners)})" if partners else lead


class Apart(NamedTuple):
    """The differences between the lead and each partner at a step that joins them.

    Of AMDM they are those of the latents, in VP units; of projective guidance those of the controls.
    """

    angle: list[float]
    """Radians."""
    norm_gap: list[float]

    @classmethod
    def of(cls, step: Step) -> "Apart | None":
        """Return the differences at a step of one image; None where nothing is joined."""
        if isinstance(step.record, Controls):
            first, *others = step.record.norms[:, 0].tolist()
            return cls(step.record.angle[:, 0].tolist(), [abs(other - first) for other in others])
        joined = step.aggregation
        return None if joined is None else cls(joined.angle[:, 0].tolist(), joined.norm_gap[:, 0].tolist())


class Seen(NamedTuple):
    """A picture on its way: what the page shows of it after a step, and at its end."""

    title: str
    steps: int
    """The number of steps taken."""
    of: int
    """The number of all steps."""
    pixels: np.ndarray | None
    """The lead's prediction at this step, at the latent's size; at the end the picture. None without a way
    to show this latent."""
    apart: Apart | None = None
    """The differences between the models at this step, if it joins them."""

    @property
    def done(self) -> bool:
        """Return True for the picture itself."""
        return self.steps > self.of


def compare(config: Config, prepared: Sequence[Prepared]) -> Iterator[Seen]:
    """Draw all pictures of a comparison, one after the other, and yield each after every step.

    A(+B), A and B are the pictures that `amdm sample` draws from this configuration with `alone`.
    """
    names = [model.name for model in config.models]
    for order in orders(len(prepared)):
        yield from picture(config, prepared, order, title_of(order, names))


def picture(config: Config, prepared: Sequence[Prepared], order: Order, title: str) -> Iterator[Seen]:
    """Draw one picture, and yield it after every step. Every model has the same start in all of them."""
    lead, steps = prepared[order[0]], steps_to(config, prepared, order)
    of, x = len(lead.sigmas) - 1, lead.x
    for step in steps:
        x = step.x_next
        yield Seen(title, step.index + 1, of, preview(step), Apart.of(step))
    yield Seen(title, of + 1, of, pixels_of(lead.decode(x).images)[0])


def steps_to(config: Config, prepared: Sequence[Prepared], order: Order) -> Steps:
    """Return the generator of one picture's steps, as `amdm sample` takes them."""
    own = [prepared[k] for k in order]
    models, sigmas, (seed, *_) = [one.model for one in own], own[0].sigmas, config.seeds
    backgrounds = []
    if len(own) > 1 and config.sampling.method == "projective_guidance":
        backgrounds = [one.without_control() for one in own[1:]]
    check_same_ecosystem([*models, *backgrounds], sigmas)
    starts = starts_of(config.sampling, seed, own[0].x.shape[1:], sigmas[0], len(prepared))
    starts = [starts[k].to(own[0].x) for k in order]
    return steps_of(config.sampling, models, starts, sigmas, seed, backgrounds, order[0])


def preview(step: Step) -> np.ndarray | None:
    """Return the lead's prediction as a small picture, if its latents are like Stable Diffusion's."""
    latent = step.denoised
    if latent.ndim != 4 or latent.shape[1] != len(SD_RGB):
        return None
    return pixels_of(latent_to_rgb(latent))[0]


def prepare_all(config: Config, pipes: Mapping[int, Any]) -> list[Prepared]:
    """Return the models of a configuration with one prompt and one seed, prepared for its calls.

    Raises:
        ValueError: they cannot be joined: `check_same_ecosystem`.
    """
    job = next(job for job in jobs(config) if len(job.models) == len(config.models))
    prepared = [prepare(config, pipes[k], k, job) for k in job.models]
    check_same_ecosystem([one.model for one in prepared], prepared[0].sigmas)
    return prepared


@dataclass
class Loaded:
    """The pipelines that were loaded last, for everybody: kept until others are asked for.

    Whoever draws holds the lock: pipelines are switched for each picture.
    """

    key: Any = None
    pipes: Mapping[int, Any] | None = None

    def __post_init__(self) -> None:
        self.lock = Lock()

    def of(self, config: Config) -> Mapping[int, Any]:
        """Return the pipelines of a configuration; those of another one are let go first."""
        key = [replace(model, call={}, name="") for model in config.models], config.device, config.dtype
        if self.pipes is None or key != self.key:
            self.key = self.pipes = None
            self.pipes = load_all(config)
            self.key = key
        return self.pipes
