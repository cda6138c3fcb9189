"""AMDM: several samplers in lockstep, their latents joined after every step of a window (Algorithm 1)."""

import inspect
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from amdm.checks import (
    check_callable,
    check_eta,
    check_extra_args,
    check_latent,
    check_lengths,
    check_models,
    check_sigmas,
    check_weights,
    checked,
    per_model,
)
from amdm.geometry import radial_correct, slerp_fold
from amdm.samplers.aggregation import Aggregation
from amdm.samplers.runner import Callback, run
from amdm.samplers.single import ddim
from amdm.samplers.watch import Watch
from amdm.samplers.window import Window, resolve_window, warn_if_empty
from amdm.types import (
    Denoiser,
    ExtraArgs,
    Latent,
    NoiseSampler,
    Restart,
    Sampler,
    Sigmas,
    Step,
    Steps,
    Weight,
)

Fold = Callable[[Sequence[Tensor], Sequence[Weight]], Tensor]
Weights = Weight | Sequence[Weight]
Lengths = Weight | Sequence[Weight] | Literal["auto"]
OfStep = Callable[[Step], Sequence[Weight]]


def amdm(
    models: Sequence[Denoiser],
    x: Tensor | Sequence[Tensor],
    sigmas: Sigmas,
    extra_args: ExtraArgs | Sequence[ExtraArgs | None] | None = None,
    *,
    weights: Weights | Callable[[Step], Weights] = 0.5,
    correction: Lengths | Callable[[Step], Lengths] = "auto",
    window: Window = 0.4,
    fold: Fold = slerp_fold,
    sampler: Sampler = ddim,
    eta: float = 0.0,
    noise_sampler: NoiseSampler | Sequence[NoiseSampler] | None = None,
    check: bool = False,
    validate: bool = True,
) -> Steps:
    """Aggregation of N diffusion models into the first: the paper's Algorithm 1 as a generator.

    At every step of the window each model takes a step from its own latent, the results are folded into
    one (eq. (7)), and each model goes on from that, pulled toward the mean of its own step (eq. (8)).
    Before the window every model runs alone, after it only model 1 does. The yielded `Step` is model 1's;
    `x_next` is what it goes on from, `aggregation` how it came about. `send` replaces model 1's `x_next`.

    At the first aggregation of trajectories that had not met, the latents jump by about a radius: a
    multistep sampler's history is dropped there, once.

    The defaults are the paper's, and measured (`benchmarks/REPORT.md`). `lerp_fold` controls more and its
    images are poorer. A correction of 0 has 1.0 points more success on trained models and a KID worse by
    1.6e-3, both small; on exact mixtures it is better in all dimensions, by 6 to 8 points at n = 16384.

    Args:
        models: N denoisers sharing a latent space and the schedule `sigmas` (not their training
            schedules: a VE denoiser does not know its own). Model 1 is the one that is enriched.
        x: `(batch, *event)` at `sigmas[0]`, VE, for all models; or N of them, as independent starts
            (`start_noise`) and as models of different devices or dtypes need: each model works where its
            latent lives, the fold where the first one does.
        sigmas: `(steps + 1,)`, decreasing, finite, usually ending in 0.
        extra_args: passed to the models: one dictionary for all, or N.
        weights: a list of N - 1 shares in [0, 1] for the fold, each a number or a tensor of one per sample
            (a bare 1-D tensor is read as the list); one number is used for every merge (`fold_shares`
            gives what that means for N > 2). Or a function of model 1's `Step` that returns them.
        correction: eq. (8)'s length, VP: one for all models, or N; 0 for none; "auto" is 0.3
            sqrt(n/16384), the paper's 0.3 at SD's size. Never past the mean. Or a function of model 1's
            `Step`, whose `aggregation` then lacks only what the correction makes: half of the way to every
            mean is `lambda step: list(0.5 * step.aggregation.deviation)`.
        window: which steps aggregate: a fraction of them, a float (0.4 is the paper's first 20 of 50, 1.0 all
            steps); a count, an int (1 is one step); a (start, stop) pair of step indices; or
            `sigma_window(lo, hi)`. A fraction that rounds to no step is warned of.
        fold: `fold(xs, weights) -> x'`: `slerp_fold`, `lerp_fold`, `karcher_mean` or your own.
        sampler: the generator that every model runs: `ddim`, `heun`, `dpmpp_2m`, `dpmpp_2m_sde` or your own.
        eta: handed to every model's sampler, whatever that sampler's own default; 0 is deterministic.
        noise_sampler: None draws `randn_like` as k-diffusion does; one, which the models draw from in
            turn; or N (`seeded_noise` with a stream per model, `shared_noise` for a common draw).
        check: look for NaN and infinity after every step, not only when the window closes: a wait for the
            device each time.
        validate: tell likely mistakes, without an evaluation. Levels outside `sigma_min` to `sigma_max` of a
            model that has them are an error at the call. Two warnings come later, read together with the NaN
            check when the window closes and at the last step: a start whose norm no data at `sigmas[0]` have
            (by a factor of 2, for data of root mean square up to 5, so that img2img passes: VP latents, x of
            another level); and a prediction of model 1 at the last level that is more than 10 sigma sqrt(n)
            from x, as that of an eps network is that was not wrapped. They are warnings because the work is
            done by then and such data, though unlikely, are possible. They change no result.

    Returns:
        A generator of `Step`s. N stop + steps - stop evaluations for the window [start, stop), times those
        of the sampler's step; models 2..N are not called from step `stop` on, and not at all if the window
        is empty. One model is its sampler alone.

    Raises:
        TypeError, ValueError: an argument is not as above; at the call.
        ValueError: with `validate`, a level is outside a model's range; at the call.
        FloatingPointError: a model returned NaN or infinity by the end of the window: its index, the sample
            and the first step. It is raised when the window closes; with `check` at the step itself, and
            after the window too.
    """
    if not isinstance(models, Sequence):
        raise TypeError(f"models is {type(models).__name__}, expected a list of denoisers")
    check_models(models)
    num_models = len(models)
    starts = _starts(x, num_models)
    levels = check_sigmas(sigmas)
    check_eta(eta)
    args = per_model(extra_args, num_models, "extra_args")
    for i, arg in enumerate(args):
        check_extra_args(arg, f"extra_args[{i}]")
    check_callable(fold, "fold", "fold(xs, weights)")
    _check_sampler(sampler)
    noises = per_model(noise_sampler, num_models, "noise_sampler")
    start, stop = resolve_window(window, levels)
    if num_models > 1:
        warn_if_empty(window, start, stop, len(levels) - 1)
    if start == stop or num_models == 1:
        start, stop = 0, 0
    samplers = [
        _steps(
            sampler(checked(model, f"models[{i}]"), start_i, sigmas, arg, eta=float(eta), noise_sampler=noise)
        )
        for i, (model, start_i, arg, noise) in enumerate(zip(models, starts, args, noises, strict=True))
    ]
    running = num_models if stop > 0 else 1
    watch = Watch([f"models[{i}]" for i in range(running)])
    if validate and len(levels) > 1:
        _note_what_is_known(watch, models[:running], starts[:running], levels, stop)
    plan = _Plan(
        start=start,
        stop=stop,
        unmet=stop > 0 and (start > 0 or any(other is not starts[0] for other in starts)),
        fold=fold,
        weights=_of_step(weights, partial(as_weights, num_models=num_models)),
        lengths=_of_step(correction, partial(as_lengths, num_models=num_models, n=starts[0][0].numel())),
        check=check,
        levels=levels if validate else [],
    )
    return _lockstep(samplers[:running], plan, watch)


def sample_amdm(
    models: Sequence[Denoiser],
    x: Tensor | Sequence[Tensor],
    sigmas: Sigmas,
    extra_args: ExtraArgs | Sequence[ExtraArgs | None] | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    *,
    weights: Weights | Callable[[Step], Weights] = 0.5,
    correction: Lengths | Callable[[Step], Lengths] = "auto",
    window: Window = 0.4,
    fold: Fold = slerp_fold,
    sampler: Sampler = ddim,
    eta: float = 0.0,
    noise_sampler: NoiseSampler | Sequence[NoiseSampler] | None = None,
    check: bool = False,
    validate: bool = True,
) -> Tensor:
    """Run `amdm`, which explains the arguments, and return model 1's last latent.

    `callback` and `disable` are k-diffusion's.

    >>> from amdm.denoisers import GaussianMixture
    >>> one = GaussianMixture(torch.zeros(1, 2), torch.ones(1))
    >>> other = GaussianMixture(torch.ones(1, 2), torch.ones(1))
    >>> sigmas = torch.tensor([10.0, 3.0, 1.0, 0.3, 0.0])
    >>> sample_amdm([one, other], torch.ones(1, 2), sigmas, disable=True).shape
    torch.Size([1, 2])
    """
    steps = amdm(
        models,
        x,
        sigmas,
        extra_args,
        weights=weights,
        correction=correction,
        window=window,
        fold=fold,
        sampler=sampler,
        eta=eta,
        noise_sampler=noise_sampler,
        check=check,
        validate=validate,
    )
    return run(steps, x if isinstance(x, Tensor) else x[0], sigmas, callback, disable)


class _Plan(NamedTuple):
    """What the loop needs to know, checked."""

    start: int
    stop: int
    unmet: bool
    """Whether the trajectories are strangers at the first aggregation: a multistep history ends there."""
    fold: Fold
    weights: OfStep
    lengths: OfStep
    check: bool
    levels: list[float]
    """The schedule, for the check of the last prediction; empty for none."""


@torch.no_grad()
def _lockstep(samplers: list[Steps], plan: _Plan, watch: Watch) -> Steps:
    """Algorithm 1. Knows nothing of the step inside the samplers."""
    with ExitStack() as stack:
        for sampler in samplers:
            stack.callback(sampler.close)
        own, previous = True, None
        steps = [step for step in (next(sampler, None) for sampler in samplers) if step is not None]
        while steps:
            lead, latents = steps[0], [step.x_next for step in steps]
            if lead.index < plan.stop or plan.check:
                watch.note(lead.index, lead.sigma, [step.denoised for step in steps])
            last = lead.index + 2 == len(plan.levels)
            if last and own:
                watch.note_last("models[0]", lead.index, lead.sigma, previous, lead.x, lead.denoised)
            if plan.check or last or lead.index + 1 == plan.stop:
                watch.read()
            if plan.start <= lead.index < plan.stop:
                aggregation = _aggregate(steps, plan)
                latents = [x.to(step.x) for x, step in zip(aggregation.corrected, steps, strict=True)]
                lead = replace(lead, x_next=latents[0], aggregation=aggregation)
            sent = yield lead
            own, previous = sent is None and lead.aggregation is None, lead.sigma
            outgoing: list[Tensor | Restart] = list(latents)
            if plan.unmet and lead.index == plan.start:
                outgoing = [Restart(x) for x in latents]
            if sent is not None:
                outgoing[0] = sent
            if lead.index + 1 >= plan.stop:
                for partner in samplers[1:]:
                    partner.close()
                samplers = samplers[:1]
            steps = [step for step in map(_send, samplers, outgoing) if step is not None]


def _aggregate(steps: list[Step], plan: _Plan) -> Aggregation:
    """Eqs. (7) and (8) on the first model's device."""
    lead = steps[0]
    return join(
        [step.x_next.to(lead.x) for step in steps],
        [step.mean.to(lead.x) for step in steps],
        lead.sigma_next,
        weights=plan.weights(lead),
        correction=lambda so_far: plan.lengths(replace(lead, aggregation=so_far)),
        fold=plan.fold,
    )


def join(
    xs: Sequence[Latent],
    means: Sequence[Latent],
    sigma_next: float = 0.0,
    *,
    weights: Weights = 0.5,
    correction: Lengths | Callable[[Aggregation], Lengths] = "auto",
    fold: Fold = slerp_fold,
) -> Aggregation:
    """Fold N latents into one, eq. (7), and pull it toward the mean of each model's step, eq. (8).

    Args:
        xs: N latents `(batch, *event)` at `sigma_next`, VE.
        means: the means of the steps that led to them.
        sigma_next: their level; 0 for latents in VP.
        weights: N - 1 shares, or one for every merge, as `amdm` takes them.
        correction: VP lengths as `amdm` takes them, or a function of the `Aggregation` that lacks only what
            the correction makes.
        fold: `fold(xs, weights) -> x'`.

    Returns:
        The record; its `corrected` are what the models go on from.

    Raises:
        TypeError, ValueError: an argument is not as above, or the fold returned something else than a latent.
    """
    xs, means, scale = tuple(xs), tuple(means), math.sqrt(1 + sigma_next**2)
    merged = fold(xs, as_weights(weights, len(xs)))
    if not isinstance(merged, Tensor):
        raise TypeError(f"fold returned {type(merged).__name__}, expected a tensor of a latent's shape")
    merged = merged.to(xs[0])
    if merged.shape != xs[0].shape:
        raise ValueError(f"fold returned shape {tuple(merged.shape)}, expected {tuple(xs[0].shape)}")
    so_far = Aggregation(xs, means, merged, corrected=(), lengths=(), scale=scale)
    if callable(correction):
        correction = correction(so_far)
    lengths = as_lengths(correction, len(xs), merged[0].numel())
    corrected = [
        radial_correct(merged, mean, length * scale) for mean, length in zip(means, lengths, strict=True)
    ]
    return replace(so_far, corrected=tuple(corrected), lengths=tuple(lengths))


def _check_sampler(sampler: object) -> None:
    """Raise unless `sampler` can be a generator function: not `sample_ddim` or k-diffusion's samplers."""
    expected = "generator function such as ddim"
    check_callable(sampler, "sampler", expected)
    try:
        parameters = inspect.signature(sampler).parameters  # type: ignore[arg-type]
    except ValueError:  # of a builtin
        return
    if "callback" in parameters:
        name = getattr(sampler, "__name__", type(sampler).__name__)
        raise TypeError(f"sampler is {name}, a function that runs to the end, expected a {expected}")


def _steps(steps: object) -> Steps:
    """What a sampler returned, if it is a generator."""
    if not isinstance(steps, Generator):
        raise TypeError(
            f"sampler returned {type(steps).__name__}, expected a generator of Steps such as ddim returns"
        )
    return steps


def _note_what_is_known(
    watch: Watch, models: Sequence[Denoiser], starts: Sequence[Tensor], levels: Sequence[float], stop: int
) -> None:
    """The ranges of the models, up to the last level where each is called, and the starts' norms."""
    for i, model in enumerate(models):
        watch.note_range(f"models[{i}]", model, levels[:-1] if i == 0 else levels[:stop])
    for i, start in enumerate(starts):
        if i == 0 or start is not starts[0]:
            watch.note_start(
                "x" if all(each is starts[0] for each in starts) else f"x[{i}]", start, levels[0]
            )


def _send(sampler: Steps, value: Tensor | Restart) -> Step | None:
    """The next step, or None at the end of the schedule."""
    try:
        return sampler.send(value)
    except StopIteration:
        return None


def _starts(x: Tensor | Sequence[Tensor], num_models: int) -> list[Tensor]:
    """One starting latent per model, of one shape."""
    starts = per_model(x, num_models, "x")
    for i, start in enumerate(starts):
        check_latent(start, "x" if isinstance(x, Tensor) else f"x[{i}]")
        if start.shape != starts[0].shape:
            raise ValueError(
                f"x[{i}] has shape {tuple(start.shape)}, expected that of x[0]: {tuple(starts[0].shape)}"
            )
    return starts


def _of_step(value: Any, resolve: Callable[[Any], list[Weight]]) -> OfStep:
    """A constant, resolved and checked now, or a function of the step, whose values are when they come."""
    if callable(value):
        return lambda step: resolve(value(step))
    resolved = resolve(value)
    return lambda step: resolved


def as_weights(value: Any, num_models: int) -> list[Weight]:
    """`amdm`'s weights as N - 1 shares, checked."""
    weights = list(value) if _is_several(value) else [value] * (num_models - 1)
    check_weights(weights, num_models)
    return _plain(weights)


def as_lengths(value: Any, num_models: int, n: int) -> list[Weight]:
    """`amdm`'s correction as N VP lengths, checked; n is the latents' number of entries."""
    if isinstance(value, str):
        if value != "auto":
            raise ValueError(f"correction is {value!r}, expected a VP length, one per model, or 'auto'")
        value = auto_length(n)
    lengths = list(value) if _is_several(value) else [value] * num_models
    check_lengths(lengths, num_models)
    return _plain(lengths)


def auto_length(n: int) -> float:
    """Eq. (8)'s length (VP) for n-dimensional latents: the paper's 0.3 at n = 16384, as the radius grows."""
    return 0.3 * math.sqrt(n / 16384)


def _plain(values: Sequence[Weight]) -> list[Weight]:
    """Numbers as Python floats: numpy's float32 would take all it is multiplied with down to float32."""
    return [value if isinstance(value, Tensor) else float(value) for value in values]


def _is_several(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, Tensor | np.ndarray) and value.ndim == 1)
