"""The loop of every sampler that moves one latent: what differs is the rule of a step."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from amdm.checks import (
    Checked,
    check_callable,
    check_eta,
    check_extra_args,
    check_latent,
    check_models,
    check_sigmas,
    checked,
    per_model,
)
from amdm.noise import default_noise
from amdm.samplers.watch import Watch
from amdm.types import Denoiser, ExtraArgs, NoiseSampler, Restart, Step, Steps


class At(NamedTuple):
    """Where a step begins, and what its rule may call."""

    x: Tensor
    sigma: float
    sigma_next: float
    last: bool
    """Whether it ends the schedule."""
    denoise: Callable[[Tensor, float], list[Tensor]]
    """All models' predictions."""
    noise: Callable[[], Tensor]
    """Standard normal noise of the latent's shape, from sigma to sigma_next."""
    watch: Callable[[Sequence[Tensor]], None]
    """Note all models' predictions: `FloatingPointError` at the schedule's end if one is not finite."""


class Move(NamedTuple):
    """A step's result: what was predicted, the law of the next latent, what to remember and to tell."""

    denoised: Tensor
    mean: Tensor
    std: float
    memory: Any = None
    """The next step's rule gets it; None at the first step and after a `Restart`."""
    x_next: Tensor | None = None
    """None for mean + std * noise."""
    record: Any = None
    moved: Tensor | None = None
    """Where `denoised` was predicted; None for the step's input."""


Rule = Callable[[At, Any], Move]


def march(
    rule: Rule,
    models: Sequence[Denoiser],
    x: Tensor,
    sigmas: Tensor,
    extra_args: ExtraArgs | Sequence[ExtraArgs | None] | None,
    eta: float,
    noise_sampler: NoiseSampler | None,
    names: Sequence[str] | None = None,
    check: bool = False,
    validate: bool = True,
    narrowed: float = 1.0,
) -> Steps:
    """Check the arguments at the call; the loop then trusts them. `names` are the models' in messages.

    `x` is divided by `narrowed`. What a rule notes by `At.watch`, and what `validate` notes unless the models
    come `Checked`, is read before the last step is yielded, with `check` before every step.
    """
    check_models(models)
    check_latent(x)
    levels = check_sigmas(sigmas)
    check_eta(eta)
    noise_sampler = default_noise(x) if noise_sampler is None else noise_sampler
    check_callable(noise_sampler, "noise_sampler", "noise_sampler(sigma, sigma_next)")
    names = [f"models[{i}]" for i in range(len(models))] if names is None else names
    calls, watch = [], Watch(names)
    validate = validate and not any(isinstance(model, Checked) for model in models)
    every = per_model(extra_args, len(models), "extra_args")
    for i, (name, model, args) in enumerate(zip(names, models, every, strict=True)):
        check_extra_args(args, f"extra_args[{i}]" if isinstance(extra_args, list | tuple) else "extra_args")
        calls.append(partial(checked(model, name), **(args or {})))
        if validate:
            watch.note_range(name, model, levels[:-1])
    if validate and len(levels) > 1:
        watch.note_start("x", x, levels[0])
    x = x if narrowed == 1 else x / narrowed
    whole = names[0] if len(names) == 1 else "the composition of the models"
    return _loop(rule, calls, x, sigmas, levels, noise_sampler, watch, check, whole if validate else None)


@torch.no_grad()
def _loop(
    rule: Rule,
    calls: Sequence[Denoiser],
    x: Tensor,
    sigmas: Tensor,
    levels: list[float],
    noise_sampler: NoiseSampler,
    watch: Watch,
    check: bool,
    validated: str | None,
) -> Steps:
    """`validated` is what the last prediction's check calls the models; None for no check."""

    def denoise(x: Tensor, sigma: float) -> list[Tensor]:
        return [call(x, x.new_full((x.shape[0],), sigma)) for call in calls]

    memory, sent, previous = None, None, None
    for index, (sigma, sigma_next) in enumerate(pairwise(levels)):
        noise = partial(draw, noise_sampler, sigmas[index], sigmas[index + 1], x)
        last, note = index + 2 == len(levels), partial(watch.note, index, sigma)
        at = At(x, sigma, sigma_next, last, denoise, noise, note)
        denoised, mean, std, memory, x_next, record, moved = rule(at, memory)
        if x_next is None:
            x_next = mean + std * noise() if std > 0 else mean
        if validated is not None and last and sent is None:  # what was sent need not be the models' own
            watch.note_last(validated, index, sigma, previous, x if moved is None else moved, denoised)
        if check or last:
            watch.read()
        sent = yield Step(index, sigma, sigma_next, x, denoised, mean, std, x_next, record=record)
        if isinstance(sent, Restart):
            sent, memory = sent.x, None
        if sent is not None and sent.shape != x.shape:
            raise ValueError(f"sent a latent of shape {tuple(sent.shape)}, expected {tuple(x.shape)}")
        x, previous = x_next if sent is None else sent, sigma


def draw(noise_sampler: NoiseSampler, sigma: Tensor, sigma_next: Tensor, x: Tensor) -> Tensor:
    """Noise for `x`, its shape checked, on its device and in its dtype."""
    noise = noise_sampler(sigma, sigma_next)
    if not isinstance(noise, Tensor):
        raise TypeError(f"noise_sampler returned {type(noise).__name__}, expected a tensor of x's shape")
    if noise.shape != x.shape:
        raise ValueError(f"noise_sampler returned shape {tuple(noise.shape)}, expected x's: {tuple(x.shape)}")
    return noise.to(x)
