"""The one loop of all samplers, its checks, and the functions that are made from a sampler's rule."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import Field, dataclass, field, fields, replace
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple, ParamSpec, Protocol, cast, runtime_checkable

import torch
from torch import Tensor
from tqdm.auto import tqdm

from amdm.checks import (
    RANGE_RTOL,
    check_callable,
    check_extra_args,
    check_holds,
    check_latent,
    check_model,
    check_models,
    check_number,
    check_result,
    check_sigmas,
    check_switch,
    kind_of,
    per_model,
    with_own_name,
)
from amdm.geometry.rows import norms
from amdm.samplers.step import Restart, Step, Steps, Written
from amdm.types import Denoiser, ExtraArgs, GuidedDenoiser, Latent, NoiseSampler, Sigmas
from amdm.writes import Seen

Noise = Callable[[Tensor], Tensor]
Callback = Callable[[Mapping[str, Any]], object]
"""A function of a mapping with k-diffusion's keys x, i, sigma, sigma_hat, denoised and with step, a `Step`.

Writing into x and denoised in place acts as in k-diffusion's functions: the step is taken from the new
values, with the noise that was drawn for it. `sample_euler` and `sample_heun` (here `ddim` with eta = 0 and
`heun`) make their slope before the callback: the slope stays, and writing into denoised has no effect. The
others step from the new values of both.
"""


# A rule, and what it gets


class At(NamedTuple):
    """A step's place in the schedule, and the functions that its rule may call.

    Attributes:
        i: the step's number, from 0.
        sigma: the step's level, a Python number.
        sigma_next: the level that it goes to.
        last: True if it ends the schedule.
        denoise: `denoise[k](x, sigma)` is the prediction of model k at `x`; sigma is a number.
        noise: `noise[k](x)` is standard normal noise like `x` for the step of latent k.
        watch: records which tensors should be finite: `watch.finite(values, "name returned")`.
    """

    i: int
    sigma: float
    sigma_next: float
    last: bool
    denoise: Sequence[Watched]
    noise: Sequence[Noise]
    watch: Watch

    def step(
        self,
        x: Tensor,
        denoised: Tensor,
        mean: Tensor,
        std: float,
        x_next: Tensor | None = None,
        record: Any = None,
    ) -> Step:
        """Return the step from `x`. Without `x_next` it goes to mean + std * noise.

        `mean` matters even if `std` is 0: `amdm` pulls toward it, eq. (8).
        """
        if x_next is None:
            x_next = mean + std * self.noise[0](x) if std > 0 else mean
        return Step(self.i, self.sigma, self.sigma_next, x, denoised, mean, std, x_next, record=record)

    def given(self, predictions: Sequence[Tensor]) -> At:
        """Return the same with the models' first predictions given."""
        models = zip(self.denoise, predictions, strict=False)
        return self._replace(denoise=[replace(model, given=[first]) for model, first in models])


class Start(NamedTuple):
    """The beginning of a run: the rule with its options resolved, the first latent, and the first memory."""

    rule: Rule
    x: Tensor
    memory: Any = None
    reach: Sequence[int] | None = None
    """The number of steps that call each model; None for all of them."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A way to take steps. The fields of a subclass are the sampler's options.

    Args:
        noise_sampler: `noise_sampler(sigma, sigma_next)`; None draws `randn_like(x)` as k-diffusion does.
        debug_nans: check for NaN and infinity at every step and raise there. Each check waits for the device.
        validate: check the levels against each model's `sigma_min` and `sigma_max`, where it has them, at the
            call. Warn at the last step if the start or the last prediction has a size that is impossible for
            data of root mean square up to 5: a VP latent, x of another level, an eps network that was not
            wrapped. This changes no result and calls no model.
    """

    each_its_latent: ClassVar[bool] = False
    """True if every model has a latent and noise of its own."""

    noise_sampler: NoiseSampler | Sequence[NoiseSampler] | None = None
    debug_nans: bool = False
    validate: bool = True

    def named(self, models: Sequence[Denoiser]) -> dict[str, Denoiser]:
        """Return all models that the rule calls, by their names in messages."""
        check_models(models)
        return {f"models[{i}]": model for i, model in enumerate(models)}

    def begin(self, xs: Sequence[Tensor], levels: Sequence[float], num_models: int) -> Start:
        """Check the options against the run, and return the run's start."""
        check_number(getattr(self, "eta", 0.0), "eta", "a finite number of 0 or more", lambda eta: eta >= 0)
        return Start(self, xs[0])

    def step(self, at: At, x: Tensor, memory: Any) -> tuple[Step, Any]:
        """Return the step from `x`, and the memory for the next step. The first memory is that of `begin`."""
        raise NotImplementedError

    def take(self, at: At, x: Tensor, memory: Any) -> tuple[Step, Any]:
        """Return what `step` returns; raise unless that is a `Step` and a memory."""
        taken = self.step(at, x, memory)
        if not (isinstance(taken, tuple) and len(taken) == 2 and isinstance(taken[0], Step)):
            raise TypeError(f"{type(self).__name__}.step returned {kind_of(taken)}, expected (Step, memory)")
        return taken

    def restarted(self, memory: Any) -> Any:
        """Return what remains of the memory after a `Restart`."""
        return None

    def composes(self, i: int) -> bool:
        """Return True if the prediction of step i is made of several models'."""
        return not self.each_its_latent

    @property
    def holds_slope(self) -> bool:
        """Return True if a callback that writes into x leaves the slope (x - denoised)/sigma unchanged."""
        return False

    def predicted(self, was: Written, x: Tensor, denoised: Tensor) -> Tensor:
        """Return the prediction to step with after a callback wrote into `x` and `denoised`."""
        return was.denoised + (x - was.x) if self.holds_slope else denoised

    def retake(self, at: At, step: Step, was: Written, memory: Any, after: Any) -> tuple[Step, Any]:
        """Take `step` again from what a callback wrote into its x and denoised.

        `memory` is the memory before the step, `after` the memory after it.
        """
        if len(at.denoise) > 1:
            raise ValueError(
                f"callback wrote into x or denoised at step {at.i}, which {type(self).__name__} does not "
                "step from, expected no writes: to change x_next, send it to the generator"
            )
        return self.step(at.given([self.predicted(was, step.x, step.denoised)]), step.x, memory)


# The loop


def march(
    rule: Rule,
    models: Mapping[str, Denoiser],
    starts: Sequence[Tensor],
    sigmas: Tensor,
    extra_args: Sequence[ExtraArgs | None],
    noise_samplers: Sequence[NoiseSampler | None],
) -> Steps:
    """Check the arguments at the call, and return the generator of the rule's steps.

    `models` are keyed by their names in messages. Each has an entry of `extra_args`, and each start an entry
    of `noise_samplers`. A model that is already `Watched` belongs to a sampler around this one, which then
    checks the tensors of both.
    """
    levels = check_sigmas(sigmas)
    check_switch(rule.debug_nans, "debug_nans")
    check_switch(rule.validate, "validate")
    outer = next((model.watch for model in models.values() if isinstance(model, Watched)), None)
    watch = Watch(sigma=levels[0]) if outer is None else outer
    alike = all(start is starts[0] for start in starts)
    for k, start in enumerate(starts):
        check_latent(start, "x" if alike else f"x[{k}]", like=starts[0])
        check_holds(start, levels[0], "x" if alike else f"x[{k}]")
    rule, x, memory, reach = rule.begin(starts, levels, len(models))
    rule = replace(rule, validate=rule.validate and outer is None)
    reach, denoise = reach or [len(levels) - 1] * len(models), []
    for k, (name, model) in enumerate(models.items()):
        check_model(model, name)
        if rule.validate and reach[k] > 0:
            watch.levels(model, name, levels[: reach[k]])
        watched = model if isinstance(model, Watched) else Watched(model, with_own_name(model, name), watch)
        denoise.append(replace(watched, extra_args={**watched.extra_args, **(extra_args[k] or {})}))
    for k, start in enumerate(starts):
        if reach[k] > 0 and (k == 0 or not alike) and outer is None:
            watch.start(start, "x" if alike else f"x[{k}]", rule.validate)
    for noise_sampler in noise_samplers:
        if noise_sampler is not None:
            check_callable(noise_sampler, "noise_sampler", "noise_sampler(sigma, sigma_next)")

    def draws(each: NoiseSampler | None) -> Draws:
        return Draws(lambda x: draw(each, sigmas[watch.i], sigmas[watch.i + 1], x, watch))

    noise = [draws(each) for each in noise_samplers]
    return _loop(rule, x, memory, levels, denoise, noise, watch, reads=outer is None)


def _loop(
    rule: Rule,
    x: Tensor,
    memory: Any,
    levels: Sequence[float],
    denoise: Sequence[Watched],
    noise: Sequence[Draws],
    watch: Watch,
    reads: bool,
) -> Steps:
    own, sigma_before, no_grad = True, 0.0, torch.no_grad()
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        watch.i, watch.sigma, last = i, sigma, i + 2 == len(levels)
        for draws in noise:
            draws.kept.clear()
        at = At(i, sigma, sigma_next, last, denoise, noise, watch)
        with no_grad:
            step, after = rule.take(at, x, memory)
        if step.x_next.shape != x.shape or step.x_next.dtype != x.dtype:
            given, expected = (f"{tuple(y.shape)}, {y.dtype}" for y in (step.x_next, x))
            raise ValueError(f"{type(rule).__name__}.step led to a latent ({given}), expected ({expected})")
        if last or rule.debug_nans:
            watch.finite(step.x_next, f"{type(rule).__name__}.step led to")
        if last and own and rule.validate:
            composed = len(denoise) > 1 and rule.composes(i)
            watch.last(step, "the composition of the models" if composed else denoise[0].name, sigma_before)
        if reads and (last or rule.debug_nans):
            watch.read()
        sent: Any = yield step
        own, sigma_before = sent is None and step.aggregation is None, sigma
        while isinstance(sent, Written):
            watch.finite(step.x, "callback wrote into x")
            watch.finite(step.denoised, "callback wrote into denoised")
            again = at._replace(noise=[draws.again() for draws in noise])
            with no_grad:
                step, after = rule.retake(again, step, sent, memory, after)
            if reads and (last or rule.debug_nans):
                watch.read()
            sent = yield step
        memory = after
        if isinstance(sent, Restart):
            sent, memory = sent.x, rule.restarted(memory)
        if sent is not None:
            if not isinstance(sent, Tensor) or not sent.is_floating_point():
                raise TypeError(f"sent {kind_of(sent)}, expected a latent or a Restart")
            if sent.shape != x.shape:
                raise ValueError(f"sent a latent of shape {tuple(sent.shape)}, expected {tuple(x.shape)}")
            watch.finite(sent, "send was given a latent with")
        x = step.x_next if sent is None else sent


@dataclass
class Draws:
    """The noise of one latent in a step, kept in case the step is taken again."""

    noise: Noise
    kept: list[Tensor] = field(default_factory=list)

    def __call__(self, x: Tensor) -> Tensor:
        """Return fresh noise like `x`."""
        self.kept.append(self.noise(x))
        return self.kept[-1]

    def again(self) -> Noise:
        """Return a function that repeats the same noise in the same order, then draws fresh noise."""
        kept = [*self.kept]
        return lambda x: kept.pop(0) if kept else self.noise(x)


def draw(
    noise_sampler: NoiseSampler | None, sigma: Tensor, sigma_next: Tensor, x: Tensor, watch: Watch
) -> Tensor:
    """Return noise like `x`: checked, on its device, in its dtype, and recorded to be finite."""
    if noise_sampler is None:
        return torch.randn_like(x)
    noise = noise_sampler(sigma, sigma_next)
    check_result(noise, x, tuple(x.shape), "noise_sampler", same_device=False)
    return watch.finite(noise.to(x), "noise_sampler returned")


# What is watched


@dataclass(frozen=True)
class Watched:
    """A model whose predictions are checked, cast to the latent's dtype and recorded to be finite."""

    model: Denoiser
    name: str
    watch: Watch
    extra_args: ExtraArgs = field(default_factory=dict)
    given: list[Tensor] = field(default_factory=list)
    """Predictions to return before the model is called."""

    def __call__(
        self, x: Tensor, sigma: float | Tensor, /, watched: bool = True, **extra_args: Any
    ) -> Tensor:
        """Return the prediction at a level, given as a number or one per sample."""
        if self.given:
            return self.given.pop()
        denoised = self.model(x, _level(x, sigma), **self.extra_args, **extra_args)
        return self._checked(denoised, x, watched)

    def both(self, x: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor]:
        """Return the unconditional and the conditional prediction of a `GuidedDenoiser`."""
        pair = cast("GuidedDenoiser", self.model).both(x, _level(x, sigma), **self.extra_args)
        if not (isinstance(pair, tuple) and len(pair) == 2):
            raise TypeError(f"{self.name}.both returned {type(pair).__name__}, expected two predictions")
        return self._checked(pair[0], x), self._checked(pair[1], x)

    def conditional(self, x: Tensor, sigma: float | Tensor) -> Tensor:
        """Return the conditional prediction. For a model without guidance it is the only one."""
        function = getattr(self.model, "conditional", None)
        if not callable(function):
            if hasattr(self.model, "both"):
                return self.both(x, sigma)[1]
            function = self.model
        return self._checked(function(x, _level(x, sigma), **self.extra_args), x)

    def guidance_at(self, x: Tensor, sigma: float | Tensor) -> float | Tensor:
        """The model's own scale of guidance at a level, a number or one per sample; 1 without guidance."""
        scale = getattr(self.model, "guidance_at", None)
        return 1.0 if scale is None else cast("float | Tensor", scale(_level(x, sigma)))

    def _checked(self, denoised: Tensor, x: Tensor, watched: bool = True) -> Tensor:
        check_result(denoised, x, tuple(x.shape), self.name)
        if denoised.dtype != x.dtype:
            denoised = denoised.to(x.dtype)
        return self.watch.finite(denoised, f"{self.name} returned") if watched else denoised


def _level(x: Tensor, sigma: float | Tensor) -> Tensor:
    """Return a level in the form that models take: one per sample."""
    return sigma if isinstance(sigma, Tensor) else x.new_full((x.shape[0],), sigma)


class Note(NamedTuple):
    """A value per sample that is finite if a check passed."""

    value: Tensor
    i: int
    sigma: float
    what: str | Callable[[int], str]
    """The error's words for a failed check; or a function of the sample that returns a warning."""


LARGEST_RMS = 5.0
"""The largest root mean square of clean data for which a start passes the check."""
SLACK = 2.0
"""The factor by which a start's norm may differ from the expected range."""
FLUCTUATION = 6.0
"""The norm of n normal numbers is within this of sqrt(n) except in less than one case in 10^7."""


@dataclass
class Watch:
    """The checks of a run's tensors. They stay on their devices until `read` waits for all of them."""

    i: int = 0
    sigma: float = math.inf
    notes: list[Note] = field(default_factory=list)

    def finite(self, values: Tensor, what: str) -> Tensor:
        """Record whether each sample is finite, by its sum, and return the values.

        Values whose sum overflows count as infinite.
        """
        wide = torch.float32 if values.dtype in (torch.float16, torch.bfloat16) else values.dtype
        total = values.detach()
        if values.ndim > 1:
            total = total.sum(tuple(range(1, values.ndim)), dtype=wide)
        self.notes.append(Note(total, self.i, self.sigma, f"{what} NaN or infinity"))
        return values

    def within(self, values: Sequence[Any], name: str, expected: str, most: float = math.inf) -> None:
        """Record whether the tensors that an option's function returned are from 0 to `most`."""
        for k, each in enumerate(values):
            if isinstance(each, Tensor):
                inside = ((each >= 0) & (each <= most)).reshape(len(each) if each.ndim > 0 else 1, -1).all(1)
                what = f"{name}[{k}] that the function returned is not {expected}"
                self.notes.append(Note(torch.where(inside, 0.0, math.nan), self.i, self.sigma, what))

    def levels(self, model: Any, name: str, levels: Sequence[float]) -> None:
        """Check that a model covers these levels; if its bounds lie on a device, record that for `read`."""
        low, high = getattr(model, "sigma_min", 0.0), getattr(model, "sigma_max", math.inf)
        if all(not isinstance(bound, Tensor) or bound.device.type == "cpu" for bound in (low, high)):
            check_model(model, name, levels, more=" (validate=False skips this check)")
            return
        inside: Any = (low * (1 - RANGE_RTOL) <= levels[-1]) & (levels[0] <= high * (1 + RANGE_RTOL))

        def message(k: int) -> str:
            check_model(model, name, levels, more=" (validate=False skips this check)")
            return f"{name} has another range than it had"

        self.notes.append(Note(torch.where(inside, 0.0, math.nan).reshape(1), 0, self.sigma, message))

    def start(self, x: Tensor, name: str, validate: bool) -> None:
        """Record whether a start is finite and, with `validate`, has a norm that is possible at its level.

        Noised data of root mean square r have |x| near sqrt(n (r^2 + sigma^2)). A norm within a factor of 2
        of that for some r from 0 to 5 is possible. This includes pure noise in either convention, and the
        starts of img2img.
        """
        self.finite(x, f"{name} has")
        if not validate:
            return
        norm, n, sigma = norms(x.detach()), x[0].numel(), self.sigma
        low = sigma * (math.sqrt(n) - FLUCTUATION) / SLACK
        high = SLACK * (math.sqrt(n * (LARGEST_RMS**2 + sigma**2)) + FLUCTUATION * sigma)
        value = torch.where((low <= norm) & (norm <= high), 0.0, math.nan)

        def message(k: int) -> str:
            return (
                f"{name} has the norm {norm[k].item():.4g} for sample {k}, expected about sqrt(n (1 + "
                f"sigma^2)) = {math.sqrt(n * (1 + sigma**2)):.4g} at sigma = {sigma:.6g}: is it a VP latent, "
                "noise that was not scaled, or x of another level? (validate=False skips this check)"
            )

        self.notes.append(Note(value, 0, sigma, message))

    def last(self, step: Step, name: str, sigma_before: float) -> None:
        """Record whether the last prediction is as close to its input as a denoiser's prediction is.

        An exact denoiser has |denoised - x| = sigma |E[noise | x]|, about sigma sqrt(n) or less. Up to ten
        times that is accepted, and up to twice the level of the step before, whose noise may remain in x
        after a long step. A network that predicts the noise returns about sqrt(n), whatever sigma is.
        """
        x = getattr(step.record, "x", step.x)  # mcmc predicts where its moves end
        away, i, sigma = norms(step.denoised.detach() - x.detach()), step.index, step.sigma
        reach = (math.sqrt(x[0].numel()) + FLUCTUATION) * max(10 * sigma, 2 * sigma_before)

        def message(k: int) -> str:
            return (
                f"{name} returned |denoised - x| = {away[k].item():.4g} for sample {k} at step {i} (sigma = "
                f"{sigma:.6g}), expected {reach:.4g} or less: is it an eps network that was not wrapped as a "
                "denoiser, or did the run diverge? (validate=False skips this check)"
            )

        self.notes.append(Note(torch.where(away <= reach, 0.0, math.nan), i, sigma, message))

    def read(self) -> None:
        """Wait for the device once; raise or warn if a check has failed since the last reading.

        Raises:
            FloatingPointError: a tensor was not finite. The first is named, with its sample and step.
        """
        notes, self.notes = self.notes, []
        if not notes:
            return
        device = notes[0].value.device
        if any(note.value.is_meta for note in notes):
            raise ValueError("x is on the meta device, which has no values: expected another device")
        if bool(torch.cat([note.value.to(device) for note in notes]).isfinite().all()):
            return
        for value, i, sigma, what in notes:
            missed = (~value.isfinite()).nonzero().flatten().tolist()
            if missed and not isinstance(what, str):
                warnings.warn(what(missed[0]), stacklevel=2)
            elif missed:
                where = f"sample {missed[0]}, first at step {i} (sigma = {sigma:.6g})"
                raise FloatingPointError(f"{what} for {where}")


# The functions of a rule

P = ParamSpec("P")
SAMPLERS: dict[str, Any] = {}
"""The generators of this package by name."""


@runtime_checkable
class OneModelGenerator(Protocol[P]):
    """A generator of one model's steps: `ddim` and its kin.

    Args:
        model: `model(x, sigma, **extra_args) -> denoised`, with `sigma` of shape `(batch,)`.
        x: `(batch, *event)`, the latent at `sigmas[0]`, VE.
        sigmas: `(steps + 1,)`, decreasing, finite, usually ending in 0.
        extra_args: passed to every call of the model.
    """

    rule: Callable[P, Rule]

    def __call__(
        self,
        model: Denoiser,
        x: Latent,
        sigmas: Sigmas,
        extra_args: ExtraArgs | None = None,
        *args: P.args,
        **options: P.kwargs,
    ) -> Steps:
        """Check the arguments, and return the generator."""


@runtime_checkable
class OneModelFunction(Protocol[P]):
    """A function that runs such a generator to its end: `sample_ddim` and its kin."""

    def __call__(
        self,
        model: Denoiser,
        x: Latent,
        sigmas: Sigmas,
        extra_args: ExtraArgs | None = None,
        callback: Callback | None = None,
        disable: bool | None = None,
        *args: P.args,
        **options: P.kwargs,
    ) -> Tensor:
        """Return the last latent."""


@runtime_checkable
class ManyModelsGenerator(Protocol[P]):
    """A generator of steps that several models take together: `amdm`, `fkc`, `mcmc`, `superdiff`.

    Args:
        models: N denoisers `model(x, sigma, **extra_args) -> denoised` that share a latent space.
        x: `(batch, *event)`, the latent at `sigmas[0]`, VE.
        sigmas: `(steps + 1,)`, decreasing, finite, usually ending in 0.
        extra_args: passed to the models: one dictionary for all, or N.
    """

    rule: Callable[P, Rule]

    def __call__(
        self,
        models: Sequence[Denoiser],
        x: Latent | Sequence[Latent],
        sigmas: Sigmas,
        extra_args: ExtraArgs | Sequence[ExtraArgs | None] | None = None,
        *args: P.args,
        **options: P.kwargs,
    ) -> Steps:
        """Check the arguments, and return the generator."""


@runtime_checkable
class ManyModelsFunction(Protocol[P]):
    """A function that runs such a generator to its end: `sample_amdm` and its kin."""

    def __call__(
        self,
        models: Sequence[Denoiser],
        x: Latent | Sequence[Latent],
        sigmas: Sigmas,
        extra_args: ExtraArgs | Sequence[ExtraArgs | None] | None = None,
        callback: Callback | None = None,
        disable: bool | None = None,
        *args: P.args,
        **options: P.kwargs,
    ) -> Tensor:
        """Return the last latent."""


def of_one_model(name: str, rule: Callable[P, Rule]) -> tuple[OneModelGenerator[P], OneModelFunction[P]]:
    """Return the generator `name` of a rule that calls one model, and `sample_<name>`, which runs it."""
    make: Callable[..., Rule] = rule
    check_fields(rule)

    def generator(
        model: Denoiser, x: Tensor, sigmas: Tensor, extra_args: Any = None, **options: Any
    ) -> Steps:
        made: Any = make(**options)
        check_extra_args(extra_args)
        return march(made, {"model": model}, [x], sigmas, [extra_args], [made.noise_sampler])

    function = _finish(name, rule, generator, OneModelGenerator, OneModelFunction)
    return cast("OneModelGenerator[P]", generator), cast("OneModelFunction[P]", function)


def of_models(name: str, rule: Callable[P, Rule]) -> tuple[ManyModelsGenerator[P], ManyModelsFunction[P]]:
    """Return the generator `name` of a rule that calls several models, and `sample_<name>`, which runs it."""
    make: Callable[..., Rule] = rule
    check_fields(rule)

    def generator(
        models: Sequence[Denoiser], x: Any, sigmas: Tensor, extra_args: Any = None, **options: Any
    ) -> Steps:
        made: Any = make(**options)
        named = made.named(models)
        starts, noise_samplers = [x], [made.noise_sampler]
        if made.each_its_latent:
            starts = per_model(x, len(models), "x")
            noise_samplers = per_model(made.noise_sampler, len(models), "noise_sampler")
        every_args = per_model(extra_args, len(named), "extra_args", *_words(len(models), list(named)))
        for k, args in enumerate(every_args):
            check_extra_args(
                args, f"extra_args[{k}]" if isinstance(extra_args, list | tuple) else "extra_args"
            )
        return march(made, named, starts, sigmas, every_args, noise_samplers)

    function = _finish(name, rule, generator, ManyModelsGenerator, ManyModelsFunction)
    return cast("ManyModelsGenerator[P]", generator), cast("ManyModelsFunction[P]", function)


def check_fields(rule: Any) -> None:
    """Raise if a class has annotated fields but is not a dataclass: they would not be options."""
    own = inspect.get_annotations(rule) if isinstance(rule, type) else {}
    if "__dataclass_fields__" not in vars(rule) and any("ClassVar" not in str(each) for each in own.values()):
        raise TypeError(f"{rule.__name__} is not a dataclass: expected @dataclass(frozen=True, kw_only=True)")


def _words(num_models: int, names: Sequence[str]) -> tuple[str, str]:
    """Return the words of a message for the models and others that have extra arguments, and their order."""
    others = len(names) - num_models
    if others == 0:
        return "", ""
    word = "unconditional model" if "unconditional" in names else "background"
    return f"{num_models} models and {others} {word}{'s' * (others > 1)}", ", the models' first"


def _finish(name: str, rule: Any, generator: Any, *protocols: type) -> Callable[..., Tensor]:
    """Give a rule's generator its name, signature and documentation, and return the function that runs it."""

    def function(*args: Any, **options: Any) -> Tensor:
        try:
            given = signature.bind(*args, **options).arguments
        except TypeError as error:
            raise TypeError(f"sample_{name}() {error}") from None
        callback, disable = given.pop("callback", None), given.pop("disable", None)
        if callback is not None:
            check_callable(callback, "callback", "callback(info)")
        steps, x, sigmas = generator(**given), given["x"], given["sigmas"]
        x = x if isinstance(x, Tensor) else x[0]  # returned as it is if there is no step
        with closing(steps):
            for step in tqdm(steps, total=len(sigmas) - 1, disable=disable):
                x = step.x_next if callback is None else _call_back(callback, steps, step, sigmas).x_next
        result: Tensor = x
        return result

    generator.rule, generator.__doc__ = rule, _documentation(rule, protocols[0])
    function.__doc__ = f"""Run `{name}`, which explains the arguments, and return the last latent.

    `callback` and `disable` are k-diffusion's: `disable=None` shows the progress bar on a terminal only.
    """
    for each, called, protocol in zip(
        (generator, function), (name, f"sample_{name}"), protocols, strict=True
    ):
        signature = each.__signature__ = _signature(rule, protocol)
        each.__name__ = each.__qualname__ = called
        each.__module__ = rule.__module__
    if rule.__module__.startswith("amdm."):
        SAMPLERS[name] = generator
    return function


def _call_back(callback: Callback, steps: Steps, step: Step, sigmas: Tensor) -> Step:
    """Call the callback, and return the step, taken again if the callback wrote into its x or denoised."""
    sigma = sigmas[step.index]
    info = {"x": step.x, "i": step.index, "sigma": sigma, "sigma_hat": sigma, "denoised": step.denoised}
    info["step"] = step
    seen = [Seen.of(step.x), Seen.of(step.denoised)]
    callback(info)
    if any(each.is_written() for each in seen):
        step = info["step"] = steps.send(cast("Any", Written(*(each.was for each in seen))))
    return step


def _options(rule: Any) -> list[Field[Any]]:
    """Return the fields of a rule: its own, then those of every rule."""
    common = [option.name for option in fields(Rule)]
    return sorted(fields(rule), key=lambda option: option.name in common)


def _signature(rule: Any, protocol: Any) -> inspect.Signature:
    """Return the signature: the leading parameters of the protocol's call, then the rule's options."""
    call = inspect.signature(protocol.__call__)
    leading = [p for p in call.parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"]
    own = inspect.signature(rule).parameters  # has the defaults, and those that are made anew
    options = [
        own[option.name].replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=option.type)
        for option in _options(rule)
    ]
    return call.replace(parameters=[*leading, *options])


def _documentation(rule: Any, protocol: Any) -> str:
    """Return the rule's docstring with the arguments that all samplers of its kind have."""
    doc = inspect.cleandoc(rule.__doc__ or "")
    before, _, after = doc.partition("Args:\n")
    own, _, rest = after.partition("\n\n")
    if not after:  # no arguments of its own
        before, own = doc + "\n\n", ""
    leading, common = (_entries(inspect.cleandoc(each.__doc__ or "")) for each in (protocol, Rule))
    mine = _entries(f"Args:\n{own}")
    entries = {**leading, **mine, **common, **mine}
    return f"{before}Args:\n" + "".join(entries.values()) + (f"\n{rest}" if rest else "")


def _entries(doc: str) -> dict[str, str]:
    """Return the entries of a docstring's arguments by name; none if there are no docstrings (python -OO)."""
    section = doc.partition("Args:\n")[2].partition("\n\n")[0]
    entries: dict[str, str] = {}
    for line in section.splitlines():
        name = next(reversed(entries)) if line.startswith("     ") and entries else line.strip().split(":")[0]
        entries[name] = entries.get(name, "") + line + "\n"
    return entries
