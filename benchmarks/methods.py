"""Ways to draw scenes, as data: the models, how they are joined and sampled; and the drawing."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, repeat
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from amdm import Sampler, Step, dpmpp_2m, dpmpp_2m_sde, sample_amdm, seeded_noise, start_noise
from amdm.denoisers import Guided
from amdm.geometry import karcher_mean, lerp_fold, slerp_fold
from amdm.samplers import ddim, resolve_window
from amdm.schedules import ddim_sigmas, karras_sigmas
from amdm.shapes import denoisers, latents, networks, world
from amdm.shapes.networks import EDM_SIGMAS, Ensemble
from amdm.shapes.world import Image, Scenes
from amdm.types import Latent, NoiseSampler, Sigmas, Weight

Fold = Callable[[Sequence[Latent], Sequence[Weight]], Latent]
Schedule = Literal["ddim", "shifted", "linspace", "karras", "edm"]
FoldName = Literal["slerp", "lerp", "lerp, rescaled", "karcher"]
Solver = Literal["ddim", "dpmpp_2m", "dpmpp_2m_sde"]
SOLVERS: dict[Solver, Sampler] = {"ddim": ddim, "dpmpp_2m": dpmpp_2m, "dpmpp_2m_sde": dpmpp_2m_sde}
Length = float | Literal["auto"]

# Each model has a start of its own, the same in every method.
STARTS = ("layout", "attribute", "style", "attribute_edm", "base")
SHIFT = 3.0


@dataclass(frozen=True)
class Method:
    """One model alone, or several joined by AMDM; by default as in the paper: 20 of 50 steps, half and half.

    Attributes:
        models: names, the lead first.
        window: the steps that aggregate, as `amdm` takes it.
        weights: the share of every partner, or one for each.
        correction: eq. (8)'s length: "auto", a VP length, or a part of the way to the mean, as `unit` says.
        fold: eq. (7), or another; "lerp, rescaled" has the mean of the latents' norms.
        eta: the eta of DDIM's steps; every model has noise of its own.
        starts: "own" for every model's own start, "shared" for the lead's.
        start_scale: the factor of the starts.
        first_scale: the factor of the first fold.
        partners: run from the first step on, or begin with the window from the lead's latent.
        say_style: True if the captions name the style.
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
        """Return the window as [start, stop); empty for a model alone."""
        if len(self.models) == 1:
            return 0, 0
        start, stop = resolve_window(self.window, levels(self.schedule, self.steps).tolist())
        return (start, stop) if start < stop else (0, 0)

    @property
    def calls(self) -> Counter[str]:
        """Return the number of evaluations of each network for an image."""
        start, stop = self.span
        partners = stop - start if self.partners == "from the lead" else stop
        return Counter({self.models[0]: self.steps} | dict.fromkeys(self.models[1:], partners))

    def draw(self, scenes: Scenes, seed: int, device: str = "cpu") -> Image:
        """Return images of scenes from the starts of this seed."""
        sigmas = levels(self.schedule, self.steps).to(device)
        x = [self.start_scale * start for start in starts_of(self.models, scenes, seed, sigmas[0])]
        streams = [STARTS.index(name) for name in self.models]
        noises = [seeded_noise(seeds_of(scenes, seed), latents.SHAPE, stream=stream) for stream in streams]
        start, stop = self.span
        if self.starts == "shared" or self.partners == "from the lead":
            x = [x[0]] * len(x)
        if self.partners == "from the lead":
            if start > 0:
                x = [self._sample(scenes, x[:1], sigmas[: start + 1], (0, 0), noises)] * len(x)
            sigmas, start, stop = sigmas[start:], 0, stop - start
        return latents.decode(self._sample(scenes, x, sigmas, (start, stop), noises))

    def _sample(
        self,
        scenes: Scenes,
        x: Sequence[Latent],
        sigmas: Sigmas,
        span: tuple[int, int],
        noises: Sequence[NoiseSampler],
    ) -> Latent:
        return sample(
            self.models[: len(x)],
            scenes,
            x,
            sigmas,
            guidance=self.guidance,
            say_style=self.say_style,
            window=span,
            weights=self.weights,
            correction=self.correction if self.unit == "length" else self._part,
            fold=scaled_at_first(FOLDS[self.fold], self.first_scale),
            sampler=SOLVERS[self.sampler],
            eta=self.eta,
            noise_sampler=noises[: len(x)],
        )

    def _part(self, step: Step) -> list[Tensor]:
        """Return eq. (8)'s lengths for a part of the way to every mean."""
        assert step.aggregation is not None and not isinstance(self.correction, str)
        return list(self.correction * step.aggregation.deviation)


def sample(
    models: Sequence[str],
    scenes: Scenes,
    x: Sequence[Latent],
    sigmas: Sigmas,
    *,
    guidance: float = denoisers.GUIDANCE,
    say_style: bool = True,
    **options: Any,
) -> Latent:
    """Sample shipped models from their latents `x` by `sample_amdm`, which takes `options`."""
    device = str(x[0].device)
    guided = [model(name, guidance, device) for name in models]
    args = [extra_args(name, scenes, device, say_style=say_style) for name in models]
    return sample_amdm(guided, x, sigmas, args, disable=True, **options)


@cache
def model(name: str, guidance: float, device: str) -> Guided:
    """Return a shipped model, loaded once."""
    return denoisers.load(name, guidance, device)


@cache
def ensemble(name: str, device: str) -> Ensemble:
    """Return a shipped ensemble, loaded once."""
    return networks.load_ensemble(name).to(device)


def extra_args(
    name: str, scenes: Scenes, device: str, *, say_style: bool = True
) -> dict[str, dict[str, Tensor]]:
    """Return a model's conditions for scenes, on its device."""
    args = denoisers.extra_args(name, scenes, say_style=say_style)
    return {side: {key: value.to(device) for key, value in part.items()} for side, part in args.items()}


def seeds_of(scenes: Scenes, seed: int) -> list[int]:
    """Return the seed of every scene's random numbers."""
    return [seed * world.TEST.stop + scene for scene in scenes.seeds.tolist()]


def starts_of(models: Iterable[str], scenes: Scenes, seed: int, sigma: Tensor) -> list[Latent]:
    """Return each model's start for every scene: the same in all methods, alone or in a batch."""
    noise = start_noise(seeds_of(scenes, seed), latents.SHAPE, sigma, len(STARTS), device=sigma.device)
    return [noise[STARTS.index(name)] for name in models]


def levels(schedule: Schedule, steps: int) -> Sigmas:
    """Return levels in VE, decreasing, then 0; float32.

    * ddim: diffusers' grid, "leading"; the first level is lower if there are fewer steps.
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
    sigmas = ddim_sigmas(table, steps).float()
    if schedule == "ddim":
        return sigmas
    times = np.linspace(0.001, 1, len(table))
    t = np.interp(sigmas[:-1].log().numpy(), table.log().numpy(), times)
    shifted = np.interp(SHIFT * t / (1 + (SHIFT - 1) * t), times, table.log())
    return torch.cat([torch.from_numpy(shifted).exp(), torch.zeros(1)]).float()


def length_scale() -> float:
    """Return the factor of the paper's lengths (n = 16384) for latents of our n: they grow as sqrt(n)."""
    return math.sqrt(math.prod(latents.SHAPE) / 16384)


def lerp_rescaled(xs: Sequence[Latent], weights: Sequence[Weight]) -> Latent:
    """Return the linear fold, with the mean of the latents' norms."""
    merged = lerp_fold(xs, weights)
    norms = [torch.linalg.vector_norm(x.flatten(1), dim=1) for x in (*xs, merged)]
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
    """Return a fold for one run with a scaled first result, which isolates the effect of a shorter merge."""
    scales = chain([scale], repeat(1.0))
    return lambda xs, weights: fold(xs, weights) * next(scales)
