"""Ways to draw scenes, as data: which models, joined how, sampled how; and the drawing."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, repeat
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from amdm import Step, dpmpp_2m, sample_amdm, seeded_noise, start_noise
from amdm.denoisers import Guided
from amdm.geometry import karcher_mean, lerp_fold, slerp_fold
from amdm.geometry.rows import as_rows
from amdm.samplers import ddim, resolve_window
from amdm.schedules import karras_sigmas
from amdm.types import Latent, NoiseSampler, Sigmas, Weight
from shapes import denoisers, latents, world
from shapes.networks import EDM_SIGMAS
from shapes.world import Image, Scenes

Fold = Callable[[Sequence[Latent], Sequence[Weight]], Latent]
Schedule = Literal["ddim", "shifted", "linspace", "karras", "edm"]
FoldName = Literal["slerp", "lerp", "lerp, rescaled", "karcher"]
Solver = Literal["ddim", "dpmpp_2m"]
Length = float | Literal["auto"]

# Each model has a start of its own, the same in every method.
STARTS = ("layout", "attribute", "style", "attribute_edm", "base")
SHIFT = 3.0


@dataclass(frozen=True)
class Method:
    """One model alone, or several joined by AMDM; by default as in the paper: 20 of 50 steps, half and half.

    Attributes:
        models: names, the lead first.
        window: which steps aggregate, as `amdm` takes it.
        weights: the share of every partner, or one for each.
        correction: eq. (8)'s length: "auto", in `unit`s of VP length, or as a part of the way to the mean.
        fold: eq. (7), or what is in its place; "lerp, rescaled" has the mean of the latents' norms.
        eta: of DDIM's steps; every model's noise is its own.
        starts: whether every model has a start of its own, or all the lead's.
        start_scale: what the starts are multiplied by.
        first_scale: what the first fold is multiplied by.
        partners: whether they run from the first step on, or begin from the lead's latent where the
            window does.
        say_style: whether captions name the style.
    """

    models: tuple[str, ...]
    steps: int = 50
    window: float | tuple[int, int] = 0.4
    weights: float | tuple[float, ...] = 0.5
    correction: Length = "auto"
    unit: Literal["length", "part"] = "length"
    fold: FoldName = "slerp"
    sampler: Solver = "ddim"
    schedule: Schedule = "ddim"
    eta: float = 0.0
    # `denoisers.GUIDANCE` as a number: batches in the cache are named by what differs from here.
    guidance: float = 3.0
    starts: Literal["own", "shared"] = "own"
    start_scale: float = 1.0
    first_scale: float = 1.0
    partners: Literal["from the first step", "from the lead"] = "from the first step"
    say_style: bool = True

    @property
    def span(self) -> tuple[int, int]:
        """The window as [start, stop); empty for a model alone."""
        if len(self.models) == 1:
            return 0, 0
        start, stop = resolve_window(self.window, levels(self.schedule, self.steps).tolist())
        return (start, stop) if start < stop else (0, 0)

    @property
    def calls(self) -> Counter[str]:
        """How often each network is evaluated for an image."""
        start, stop = self.span
        partners = stop - start if self.partners == "from the lead" else stop
        return Counter({self.models[0]: self.steps} | dict.fromkeys(self.models[1:], partners))

    def draw(self, scenes: Scenes, seed: int, device: str = "cpu") -> Image:
        """Images of scenes from the starts of this seed."""
        sigmas = levels(self.schedule, self.steps).to(device)
        noise = starts_of(scenes, seed, sigmas[0], device)
        own = [self.start_scale * noise[name] for name in self.models]
        x = own if self.starts == "own" else [own[0]] * len(own)
        streams = [STARTS.index(name) for name in self.models]
        noises = [seeded_noise(seeds_of(scenes, seed), latents.SHAPE, stream=stream) for stream in streams]
        start, stop = self.span
        if self.partners == "from the lead":
            lead = self._sample(scenes, x[:1], sigmas[: start + 1], (0, 0), noises) if start > 0 else own[0]
            x, sigmas, start, stop = [lead] * len(x), sigmas[start:], 0, stop - start
        return latents.decode(self._sample(scenes, x, sigmas, (start, stop), noises))

    def _sample(
        self,
        scenes: Scenes,
        x: Sequence[Latent],
        sigmas: Sigmas,
        span: tuple[int, int],
        noises: Sequence[NoiseSampler],
    ) -> Latent:
        names, device = self.models[: len(x)], str(x[0].device)
        return sample_amdm(
            [model(name, self.guidance, device) for name in names],
            x,
            sigmas,
            [told(name, scenes, device, say_style=self.say_style) for name in names],
            disable=True,
            window=span,
            weights=self.weights,
            correction=self.correction if self.unit == "length" else self._part,
            fold=scaled_at_first(FOLDS[self.fold], self.first_scale),
            sampler={"ddim": ddim, "dpmpp_2m": dpmpp_2m}[self.sampler],
            eta=self.eta,
            noise_sampler=noises[: len(x)],
        )

    def _part(self, step: Step) -> list[Tensor]:
        """Eq. (8)'s lengths for a part of the way to every mean."""
        assert step.aggregation is not None and not isinstance(self.correction, str)
        return list(self.correction * step.aggregation.deviation)


@cache
def model(name: str, guidance: float, device: str) -> Guided:
    """A shipped model, loaded once."""
    return denoisers.load(name, guidance, device)


def told(name: str, scenes: Scenes, device: str, *, say_style: bool = True) -> dict[str, dict[str, Tensor]]:
    """What a model is told about scenes, on its device."""
    args = denoisers.extra_args(name, scenes, say_style=say_style)
    return {side: {key: value.to(device) for key, value in part.items()} for side, part in args.items()}


def seeds_of(scenes: Scenes, seed: int) -> list[int]:
    """Of the random numbers of every scene."""
    return [seed * world.TEST.stop + scene for scene in scenes.seeds.tolist()]


def starts_of(scenes: Scenes, seed: int, sigma: Tensor, device: str) -> dict[str, Latent]:
    """Every model's start for every scene: the same in all methods, alone or in a batch."""
    noise = start_noise(seeds_of(scenes, seed), latents.SHAPE, sigma, len(STARTS), device=device)
    return dict(zip(STARTS, noise, strict=True))


def levels(schedule: Schedule, steps: int) -> Sigmas:
    """Levels in VE, decreasing, then 0; float32.

    * ddim: diffusers' grid, "leading"; the first level is lower where there are fewer steps.
    * shifted: the same with its times t in (0, 1] at 3 t/(1 + 2 t), as SD3 shifts them: more steps at high
      noise.
    * linspace, karras: between the first and the last level of 50 steps of ddim, even in training steps, as
      diffusers' "linspace", or as Karras et al. 2022, eq. (5).
    * edm: Karras et al.'s, in the range that `attribute_edm` knows.
    """
    table = denoisers.training_sigmas()
    high, low = 981, 1  # of 50 steps of ddim
    if schedule == "edm":
        return karras_sigmas(steps, *EDM_SIGMAS).float()
    if schedule == "karras":
        return karras_sigmas(steps, table[low].item(), table[high].item()).float()
    if schedule == "linspace":
        even = table[torch.linspace(high, low, steps).round().long()]
        return torch.cat([even, torch.zeros(1)]).float()
    sigmas = denoisers.sigmas(steps)
    if schedule == "ddim":
        return sigmas
    t = np.interp(sigmas[:-1].log().numpy(), table.log().numpy(), np.linspace(0.001, 1, len(table)))
    shifted = np.interp(SHIFT * t / (1 + (SHIFT - 1) * t), np.linspace(0.001, 1, len(table)), table.log())
    return torch.cat([torch.from_numpy(shifted).exp(), torch.zeros(1)]).float()


def lerp_rescaled(xs: Sequence[Latent], weights: Sequence[Weight]) -> Latent:
    """The linear fold, with the mean of the latents' norms."""
    merged = lerp_fold(xs, weights)
    norms = [torch.linalg.vector_norm(as_rows(x), dim=1) for x in (*xs, merged)]
    scale = torch.stack(norms[:-1]).mean(0) / norms[-1]
    rescaled: Latent = merged * scale.view(-1, *[1] * (merged.ndim - 1))
    return rescaled


FOLDS: dict[str, Any] = {
    "slerp": slerp_fold,
    "lerp": lerp_fold,
    "lerp, rescaled": lerp_rescaled,
    "karcher": karcher_mean,
}


def scaled_at_first(fold: Fold, scale: float) -> Fold:
    """A fold whose first result is scaled: what a shrunken first merge does by itself. For one sampling."""
    scales = chain([scale], repeat(1.0))
    return lambda xs, weights: fold(xs, weights) * next(scales)
