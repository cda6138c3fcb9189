"""The authors' published code (github.com/Hammour-steak/AMDM) as options of `sample_amdm`.

It differs from the paper's Algorithm 1 in three places:

- The fold is `orthogonal_mix`, w m + sqrt(1 - w^2) x: not on the great circle of eq. (7).
- The pull is not toward the mean of the model's own step but toward a DDPM mean of the latent that the step
  began with: one *training* step on from it, with the prediction and the coefficients of the step before.
- Its length is fixed (35 to 55, VP), and the aggregation ends early: `infer800.py` and the web demos join in
  steps 1 to 3, the example in `interactmigc.py` in steps 1 to 7. Step 0 has none before it and is never
  joined.

    prepared = [from_pipeline(pipe, **arguments) for pipe, arguments in calls]
    levels = training_sigmas(pipes[0].scheduler)
    sample_amdm(models, starts, sigmas, **published([0.5], [45.0, 55.0], levels))
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from amdm import Step, ddim
from amdm.geometry import orthogonal_mix
from amdm.samplers.step import Restart, Steps
from amdm.types import Denoiser, ExtraArgs, Latent, NoiseSampler, Sigmas, Weight

Levels = Float[Tensor, " training_levels"]


def published(
    weights: Sequence[float], pulls: Sequence[float], training_sigmas: Levels, steps: tuple[int, int] = (1, 3)
) -> dict[str, Any]:
    """Return the options of `sample_amdm` that make it the published loop.

    Args:
        weights: the published omega, or omega1 and omega2.
        pulls: the length for every model, VP. `sample_amdm` stops at the mean where the published code would
            go past it; at Stable Diffusion's size nothing is as near as 55.
        training_sigmas: the levels of training, increasing.
        steps: the published optim_start and optim_end, both included.
    """
    start, last = steps
    return {
        "weights": list(weights),
        "correction": list(pulls),
        "window": (max(start, 1), last + 1),
        "fold": published_mix,
        "sampler": partial(ddim_with_published_mean, training_sigmas=training_sigmas),
    }


def published_mix(xs: Sequence[Latent], weights: Sequence[Weight]) -> Latent:
    """Fold as published: `orthogonal_mix`; of three models the third is scaled by the first weight too."""
    if len(xs) != 3:
        return orthogonal_mix(xs, weights)
    first, second, third = xs
    return orthogonal_mix([first, second, (1 - weights[0] ** 2) ** 0.5 * third], weights)


def ddim_with_published_mean(
    model: Denoiser,
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | None = None,
    *,
    training_sigmas: Levels,
    eta: float = 0.0,
    noise_sampler: NoiseSampler | None = None,
) -> Steps:
    """Run `ddim` with the published code's mean in every step after the first.

    Arguments, result and errors as for `ddim`; `training_sigmas` are the levels of training, increasing.
    """
    steps = ddim(model, x, sigmas, extra_args, eta=eta, noise_sampler=noise_sampler)
    sent: Tensor | Restart | None = None
    before: Step | None = None
    while True:
        try:
            step = steps.send(sent)
        except StopIteration:
            return
        sent = (
            yield step
            if before is None
            else replace(step, mean=published_mean(step, before, training_sigmas))
        )
        before = step


def published_mean(step: Step, before: Step, training_sigmas: Levels) -> Latent:
    """Return the DDPM mean of a step's input by the prediction of the step before, VE at the step's end.

    alpha_bar and alpha are those of the level of the step before, and of one training step from there.
    """
    index = int((training_sigmas - before.sigma).abs().argmin())
    alpha_bars = 1 / (1 + training_sigmas[[max(index - 1, 0), index]].double() ** 2)
    alpha_bar = alpha_bars[1].item()
    alpha = alpha_bar / (alpha_bars[0].item() if index > 0 else 1.0)
    noise = (before.x - before.denoised) / before.sigma
    latent = step.x / math.sqrt(1 + step.sigma**2)
    mean: Latent = (latent - (1 - alpha) / (1 - alpha_bar) ** 0.5 * noise) / alpha**0.5
    return mean * math.sqrt(1 + step.sigma_next**2)
