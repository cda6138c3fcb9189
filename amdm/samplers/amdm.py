"""AMDM: N samplers step side by side and are joined after every step of a window (Algorithm 1)."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from amdm.checks import as_number, check_callable, check_number, check_real, kind_of
from amdm.geometry import radial_correct, slerp_fold
from amdm.geometry.rows import SHARE, has_float64, latent_column, per_element, per_sample
from amdm.samplers.aggregation import Aggregation
from amdm.samplers.ddim import ddim
from amdm.samplers.known import Known, Mask, Region
from amdm.samplers.march import At, Rule, Start, of_models
from amdm.samplers.step import Restart, Sampler, Step, Steps, Written
from amdm.types import Latent, Share, Weight
from amdm.writes import writes_to

Fold = Callable[[Sequence[Tensor], Sequence[Share]], Tensor]
Weights = Share | Sequence[Share]
Lengths = Weight | Sequence[Weight] | Literal["auto"]
Window = float | int | tuple[int, int] | Callable[[Sequence[float]], tuple[int, int]]
"""A fraction of the steps from the first (a float), a count (an int), a (start, stop) pair, or a function of
the levels. The type decides: 1.0 is all steps and 1 is one step."""


class Together(NamedTuple):
    """The memory of Algorithm 1 between steps."""

    lead: Any
    """The memory of model 1's sampler."""
    partners: Sequence[tuple[Tensor, Any]] = ()
    """The other models' latents, and what their samplers remember."""
    steps: Sequence[Step] = ()
    """The last step of each model's sampler."""


@dataclass(frozen=True, kw_only=True)
class AMDM(Rule):
    """Aggregate N diffusion models into the first one: the paper's Algorithm 1 as a generator.

    At every step of the window each model takes a step from its own latent, the results are folded into
    one (eq. (7)), and each model continues from that, pulled toward the mean of its own step (eq. (8)).
    Before the window every model runs alone; after it only model 1 does. The yielded `Step` is model 1's:
    it continues from `x_next`, and `aggregation` is the record of the joining. `send` replaces model 1's
    `x_next`.

    At the first aggregation of trajectories that had not met, the latents jump by about a radius, so a
    multistep sampler's history is dropped there, once. Trajectories have met if the window begins at the
    first step and `x` is one tensor for all models.

    The defaults are the paper's; `benchmarks/REPORT.md` has measurements. `lerp_fold` gives more control and
    keeps less of the style. `projective_guidance` keeps more of each model's control, if their predictions
    can be had apart from guidance. A correction of 0 has 1.0 points more success on trained models and a KID
    worse by 1.6e-3, both small; on exact mixtures it is better in all dimensions, by 6 to 8 points at n =
    16384.

    Args:
        models: N denoisers that share a latent space and the schedule `sigmas` (not their training schedules,
            which VE denoisers do not depend on). Model 1 is the one that is enriched.
        x: `(batch, *event)` at `sigmas[0]`, VE, for all models; or N of them, for independent starts
            (`start_noise`) and for models on different devices or of different dtypes. Each model works on
            its latent's device, the fold on the first latent's.
        weights: a list of N - 1 shares in [0, 1] for the fold, each a number, a tensor of one per sample (a
            bare 1-D tensor is read as the list), or a tensor that broadcasts to the latents, one per element
            (regions: `(batch, 1, height, width)`); a single one is used for every merge (`fold_shares`
            gives the resulting shares for N > 2). Or a function of model 1's `Step` that returns them.
        correction: eq. (8)'s length, VP: one for all models, or N; 0 for none; "auto" is 0.3
            sqrt(n/16384), the paper's 0.3 at SD's size. It never goes past the mean. Or a function of model
            1's `Step`, whose `aggregation` then lacks only the correction's results: half of the way to every
            mean is `lambda step: list(0.5 * step.aggregation.deviation)`.
        window: which steps aggregate: a fraction of them, a float (0.4 is the paper's first 20 of 50, 1.0 all
            steps); a count, an int (1 is one step); a (start, stop) pair of step indices; or
            `sigma_window(lo, hi)`. A fraction that rounds to no step, or a function that selects none, raises
            a warning.
        fold: `fold(xs, weights) -> x'`: `slerp_fold`, `lerp_fold`, `karcher_mean` or your own. Its weights
            multiply latents: one per sample has the shape `(batch, 1, ...)`.
        known: a region that is not drawn, `Known(latent, mask)`. Every model's latent gets it at each level.
            The fold, its angles and the correction leave it out. The yielded `denoised` has it too.
        sampler: the generator that every model runs: `ddim`, `heun`, `dpmpp_2m`, `dpmpp_2m_sde`, another of
            one model, a `functools.partial` of one with its options, or your own.
        eta: passed to every model's sampler in place of that sampler's own default; 0 is deterministic.
        noise_sampler: None draws `randn_like` as k-diffusion does. The models draw from a single sampler in
            turn. Or N samplers (`seeded_noise` with a stream per model, `shared_noise` for a common draw).

    Returns:
        A generator of `Step`s. N stop + steps - stop evaluations for the window [start, stop), times those
        of the sampler's step; models 2..N are not called from step `stop` on, and not at all if the window
        is empty. One model is its sampler alone.

    Raises:
        TypeError, ValueError: an argument is not as above; at the call.
        FloatingPointError: a tensor was not finite. The message names it, the sample and the first such step.
            It is raised when the window closes and at the last step; with `debug_nans` at the step itself.

    >>> from amdm.denoisers import GaussianMixture
    >>> one, other = (GaussianMixture(torch.full((1, 2), mean), torch.ones(1)) for mean in (0.0, 1.0))
    >>> sigmas = torch.tensor([10.0, 3.0, 1.0, 0.3, 0.0])
    >>> sample_amdm([one, other], torch.ones(1, 2), sigmas, disable=True).shape
    torch.Size([1, 2])
    """

    each_its_latent: ClassVar[bool] = True

    weights: Weights | Callable[[Step], Weights] = 0.5
    correction: Lengths | Callable[[Step], Lengths] = "auto"
    window: Window = 0.4
    fold: Fold = slerp_fold
    known: Known | None = None
    sampler: Sampler = ddim
    eta: float = 0.0

    def begin(self, xs: Sequence[Tensor], levels: Sequence[float], num_models: int) -> Start:
        """Check and resolve the options. The memory holds the partners' starts."""
        super().begin(xs, levels, num_models)
        check_callable(self.fold, "fold", "fold(xs, weights)")
        if not callable(self.weights):
            for k, share in enumerate(as_weights(self.weights, num_models)):
                check_option(per_element(share, xs[0], f"weights[{k}]", SHARE), f"weights[{k}]", SHARE, 1.0)
        if not callable(self.correction):
            for k, length in enumerate(as_lengths(self.correction, num_models, xs[0][0].numel())):
                check_option(
                    per_sample(length, xs[0], f"correction[{k}]", LENGTH), f"correction[{k}]", LENGTH
                )
        start, stop = resolve_window(self.window, levels, warn=num_models > 1)
        if num_models == 1 or start == stop:
            start, stop = 0, 0
        region, lead = None, xs[0]
        if self.known is not None:
            if not isinstance(self.known, Known):
                raise TypeError(f"known is {type(self.known).__name__}, expected Known(latent, mask)")
            region = self.known.begin(lead, levels)
            first = region.put(lead, levels[0], 0)
            xs = [first if x is lead else region.put(x, levels[0], 0) for x in xs]
        inner = rule_of(self.sampler, float(self.eta), levels)
        begun = [inner.begin([x], levels, 1) for x in xs]
        rule = Algorithm1(**{**vars(self), "window": (start, stop)}, inner=begun[0].rule, region=region)
        (x, memory), *partners = [(each.x, each.memory) for each in begun]
        reach = [len(levels) - 1] + [stop] * len(partners)  # partners are not called after the window
        return Start(rule, x, Together(memory, partners if stop > 0 else ()), reach)


@dataclass(frozen=True, kw_only=True)
class Algorithm1(AMDM):
    """The paper's Algorithm 1, a rule made of rules: every model runs the sampler's rule `inner`."""

    inner: Rule
    region: Region | None = None

    def step(self, at: At, x: Tensor, memory: Together) -> tuple[Step, Together]:
        """Take a step with every model. In the window fold the results and pull them toward the means."""
        start, stop = cast("tuple[int, int]", self.window)
        region, running = self.region, [(x, memory.lead), *memory.partners]
        if region is not None and at.i == 0:
            at.watch.finite(region.latent, "known.latent has")
            at.watch.finite(region.noise, "known.noise has")
        # Eq. (4): every model takes a step of its sampler from its own latent.
        taken = [
            self.inner.take(at._replace(denoise=[at.denoise[k]], noise=[at.noise[k]]), *latent_and_memory)
            for k, latent_and_memory in enumerate(running)
        ]
        steps, memories = [step for step, _ in taken], [memory for _, memory in taken]
        if region is not None:
            steps = [region.stepped(step) for step in steps]
        lead, latents = steps[0], [step.x_next for step in steps]
        if at.i + 1 == stop and not at.last and not self.debug_nans:
            at.watch.read()  # before models 2..N are gone
        if start <= at.i < stop:
            joined = self._joined(at, steps)
            latents = [corrected.to(own) for corrected, own in zip(joined.corrected, latents, strict=True)]
            lead = replace(lead, x_next=latents[0], aggregation=joined)
            if at.i == start and any(latent is not x for latent, _ in running):
                memories = [self.inner.restarted(memory) for memory in memories]  # they had not met
        if region is not None:
            lead = replace(lead, denoised=region.put(lead.denoised, 0.0, at.i))
        partners = list(zip(latents[1:], memories[1:], strict=True)) if at.i + 1 < stop else ()
        return lead, Together(memories[0], partners, steps)

    def _joined(self, at: At, steps: Sequence[Step]) -> Aggregation:
        """Fold the models' results, eq. (7), and pull the fold toward the mean of each step, eq. (8)."""
        lead = steps[0]
        weights = self.weights(lead) if callable(self.weights) else self.weights
        joined = join(
            [step.x_next.to(lead.x) for step in steps],
            [step.mean.to(lead.x) for step in steps],
            at.sigma_next,
            weights=weights,
            correction=self._lengths(lead),
            fold=self.fold,
            mask=None if self.region is None else self.region.masks[at.i],
        )
        if callable(self.weights):
            at.watch.within(as_weights(weights, len(steps)), "weights", SHARE, 1.0)
        if callable(self.correction):
            at.watch.within(joined.lengths, "correction", LENGTH)
        at.watch.finite(joined.merged, "fold returned")
        if any(isinstance(length, Tensor) for length in joined.lengths):
            at.watch.finite(joined.corrected[0], "correction led to")
        return joined

    def retake(
        self, at: At, step: Step, was: Written, memory: Together, after: Together
    ) -> tuple[Step, Together]:
        """Take the step again. The partners' x and denoised get what was written into model 1's."""
        latents, predictions = [], []
        for own in after.steps:
            x = step.x if own.x is step.x else over(own.x, step.x, was.x)
            denoised = over(own.denoised, step.denoised, was.denoised)
            own_was = Written(was.x if own.x is step.x else own.x, own.denoised)
            if own.denoised is step.denoised:
                denoised, own_was = step.denoised, own_was._replace(denoised=was.denoised)
            latents.append(x)
            predictions.append(self.inner.predicted(own_was, x, denoised))
        kept = [their for _, their in memory.partners]
        before = Together(memory.lead, list(zip(latents[1:], kept, strict=False)))
        return self.step(at.given(predictions), step.x, before)

    def _lengths(self, lead: Step) -> Lengths | Callable[[Aggregation], Lengths]:
        """Return the correction in the form that `join` takes."""
        correction = self.correction
        if not callable(correction):
            return correction
        return lambda so_far: correction(replace(lead, aggregation=so_far))

    def restarted(self, memory: Together) -> Together:
        """Return the memory with model 1's sampler restarted and the partners unchanged."""
        return Together(self.inner.restarted(memory.lead), memory.partners)


def over(own: Tensor, new: Tensor, was: Tensor) -> Tensor:
    """Return `own` with the values of `new` at the places where `new` differs from `was`."""
    return torch.where((new != was).to(own.device), new.to(own), own)


def join(
    xs: Sequence[Latent],
    means: Sequence[Latent],
    sigma_next: float = 0.0,
    *,
    weights: Weights = 0.5,
    correction: Lengths | Callable[[Aggregation], Lengths] = "auto",
    fold: Fold = slerp_fold,
    mask: Mask | None = None,
) -> Aggregation:
    """Fold N latents into one, eq. (7), and pull it toward the mean of each model's step, eq. (8).

    Args:
        xs: N latents `(batch, *event)` at `sigma_next`, VE.
        means: the means of the steps that led to them.
        sigma_next: the latents' level; 0 for VP latents.
        weights: N - 1 shares, or one for every merge, as `amdm` takes them.
        correction: VP lengths as `amdm` takes them, or a function of the `Aggregation` that lacks only the
            correction's results.
        fold: `fold(xs, weights) -> x'`, a new tensor. Its weights multiply latents, as in `amdm`.
        mask: broadcasts to the latents. Where it is 0 nothing is joined: the record is 0 there and each model
            keeps its own x. Angles, norms and lengths are those of the rest, and "auto" uses the rest's size.

    Returns:
        The record. The models continue from its `corrected`.

    Raises:
        TypeError, ValueError: an argument is not as above, or the fold did not return a latent.
    """
    own, n = xs, cast("int | Tensor", xs[0][0].numel())
    if mask is not None:
        free = (mask > 0).to(xs[0].device).expand(xs[0].shape)
        xs, means = ([torch.where(free, x, 0.0) for x in each] for each in (xs, means))
        n = free.flatten(1).sum(1).to(torch.promote_types(xs[0].dtype, torch.float32))
    factors = [
        as_factor(share, xs[0], f"weights[{k}]") for k, share in enumerate(as_weights(weights, len(xs)))
    ]
    before = [writes_to(x) for x in xs]
    merged = fold(xs, factors)
    if [writes_to(x) for x in xs] != before:
        raise ValueError("fold wrote into its latents, expected a new tensor")
    if not isinstance(merged, Tensor) or not merged.is_floating_point():
        raise TypeError(f"fold returned {kind_of(merged)}, expected a tensor of a latent's shape")
    merged, scale = merged.to(xs[0]), math.sqrt(1 + sigma_next**2)
    if merged.shape != xs[0].shape:
        raise ValueError(f"fold returned shape {tuple(merged.shape)}, expected {tuple(xs[0].shape)}")
    if mask is not None:
        merged = torch.where(free, merged, 0.0)
    so_far = Aggregation(tuple(xs), tuple(means), merged, corrected=(), lengths=(), scale=scale)
    lengths = as_lengths(correction(so_far) if callable(correction) else correction, len(xs), n)
    lengths = [per_sample(length, merged, f"correction[{k}]", LENGTH) for k, length in enumerate(lengths)]
    corrected = [radial_correct(merged, mean, r * scale) for mean, r in zip(means, lengths, strict=True)]
    if mask is not None:
        corrected = [torch.where(free, joined, x) for joined, x in zip(corrected, own, strict=True)]
    return replace(so_far, corrected=tuple(corrected), lengths=tuple(lengths))


LENGTH = "a finite length of 0 or more"


def check_option(value: Share, name: str, expected: str, most: float = math.inf, least: float = 0.0) -> None:
    """Read an option that is a tensor; raise unless its values are finite and from `least` to `most`."""
    if not isinstance(value, Tensor) or value.is_meta:
        return
    check_real(value, name, expected)
    wrong = (~((value >= least) & (value <= most) & value.isfinite())).nonzero()
    if len(wrong) > 0:
        first = tuple(wrong[0].tolist())
        where = f" for sample {first[0]}" if first else ""
        raise ValueError(f"{name} is {value[first].item():.6g}{where}, expected {expected}")


def as_weights(value: Any, num_models: int) -> list[Share]:
    """Return `amdm`'s weights as N - 1 checked shares. Tensors are not read."""
    more = ", one a merge; for shares that change with the step, a function of the Step"
    return listed(value, num_models - 1, num_models, "weights", SHARE, most=1.0, more=more)


def as_factor(share: Share, x: Tensor, name: str) -> Share:
    """Return a share as it multiplies latents like `x`: one per sample as `(batch, 1, ...)`."""
    if not isinstance(share, Tensor):
        return share
    return latent_column(per_element(share, x, name, SHARE), x)


def as_lengths(value: Any, num_models: int, n: int | Tensor) -> list[Weight]:
    """Return `amdm`'s correction as N checked VP lengths for latents of size `n`. Tensors are not read."""
    if isinstance(value, str):
        if value != "auto":
            raise ValueError(f"correction is {value!r}, expected a VP length, one per model, or 'auto'")
        value = [auto_length(n)] * num_models
    return listed(value, num_models, num_models, "correction", LENGTH)


def auto_length(n: int | Tensor) -> Any:
    """Return eq. (8)'s length (VP) for n-dimensional latents.

    The paper's 0.3 at n = 16384 grows as sqrt(n). The length is a number, or one per sample if `n` is.
    """
    return 0.3 * (n / 16384).sqrt() if isinstance(n, Tensor) else 0.3 * math.sqrt(n / 16384)


def listed(
    value: Any,
    count: int,
    num_models: int,
    name: str,
    expected: str,
    *,
    least: float = 0.0,
    most: float = math.inf,
    more: str = "",
) -> list[Any]:
    """A list, tuple or 1-D array as a list, anything else `count` times; numbers checked to be in the range.

    Numbers must be from 0 to `most`. They become Python floats, since numpy's float32 would lower the
    precision of all that it is multiplied with.
    """
    several = isinstance(value, list | tuple) or (isinstance(value, Tensor | np.ndarray) and value.ndim == 1)
    values = list(value) if several else [value] * count
    if len(values) != count:
        more += "; for one per sample, [tensor]" if isinstance(value, Tensor) else ""
        raise ValueError(
            f"{name} has {len(values)} entries but there are {num_models} models: expected {count}{more}"
        )
    for k, each in enumerate(values):
        if not isinstance(each, Tensor):
            check_number(each, f"{name}[{k}]", expected, lambda number: least <= number <= most)
    return [each if isinstance(each, Tensor) else float(each) for each in values]


def sigma_window(lo: float, hi: float) -> Callable[[Sequence[float]], tuple[int, int]]:
    """Return the window of the steps that begin at a noise level in [lo, hi].

    >>> sigma_window(1.0, 10.0)([20.0, 10.0, 3.0, 0.5, 0.0])
    (1, 3)
    """
    low, high = (as_number(value, name, "a level of 0 or more") for value, name in ((lo, "lo"), (hi, "hi")))
    if not 0 <= low <= high:
        raise ValueError(f"the window [{lo}, {hi}] is empty: expected 0 <= lo <= hi")

    def window(levels: Sequence[float]) -> tuple[int, int]:
        inside = [i for i, sigma in enumerate(levels[:-1]) if lo <= sigma <= hi]
        return (inside[0], inside[-1] + 1) if inside else (0, 0)

    return window


def resolve_window(window: Window, levels: Sequence[float], *, warn: bool = False) -> tuple[int, int]:
    """Return the window as step indices [start, stop).

    With `warn`, warn if a fraction rounds to no step or a function selects none.

    Raises:
        TypeError: `window` is of no supported type.
        ValueError: a fraction is outside [0, 1], or not 0 <= start <= stop <= the number of steps.

    >>> resolve_window(0.4, [1.0] * 51)
    (0, 20)
    """
    steps = len(levels) - 1
    if isinstance(window, bool):
        raise TypeError(f"window is {window}, expected a fraction, a count, (start, stop) or sigma_window")
    if isinstance(window, Integral):
        start, stop = 0, int(window)
    elif isinstance(window, Real):
        if not 0 <= window <= 1:
            raise ValueError(f"window is {window}, expected a fraction of the steps in [0, 1]")
        start, stop = 0, math.floor(window * steps + 0.5)
        if warn and steps > 0 and window > 0 and stop == 0:
            warnings.warn(
                f"window is {window}, which rounds to none of {steps} step(s): nothing is aggregated, "
                "expected a larger share, a count (window=1 is one step), or 0 if none is meant",
                stacklevel=3,
            )
    elif callable(window) or (isinstance(window, Sequence) and len(window) == 2):
        pair, name = (window(levels), "window returned") if callable(window) else (window, "window is")
        if not (isinstance(pair, Sequence) and len(pair) == 2 and all(map(_is_index, pair))):
            raise TypeError(f"{name} {pair!r}, expected (start, stop), two step indices")
        start, stop = int(pair[0]), int(pair[1])
        if warn and steps > 0 and callable(window) and start == stop:
            warnings.warn(
                f"window selects none of the {steps} steps, whose levels are {levels[0]:.6g} to "
                f"{levels[-1]:.6g}: nothing is aggregated, expected steps, or 0 if none is meant",
                stacklevel=3,
            )
    else:
        raise TypeError(f"window is {window!r}, expected a fraction, a count, (start, stop) or sigma_window")
    if not 0 <= start <= stop <= steps:
        raise ValueError(f"window is [{start}, {stop}), expected 0 <= start <= stop <= {steps}, the steps")
    return start, stop


def _is_index(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def rule_of(sampler: Sampler, eta: float, levels: Sequence[float]) -> Rule:
    """Return the rule of a generator function. A generator without a rule is wrapped in `Driven`."""
    function, bound = with_options(sampler)
    expected, make = "generator function such as ddim", getattr(function, "rule", None)
    if make is not None:
        options = {option.name for option in fields(make)}
        if "eta" not in options and eta != 0:
            name = getattr(function, "__name__", type(function).__name__)
            raise ValueError(f"eta is {eta}, expected 0: the sampler {name} has no option eta")
        made: Rule = make(eta=eta, **bound) if "eta" in options else make(**bound)
        return made
    if isinstance(sampler, Rule):
        raise TypeError(
            f"sampler is an instance of {type(sampler).__name__}, expected its generator function; "
            "functools.partial(generator, ...) sets its options"
        )
    if isinstance(sampler, type) and issubclass(sampler, Rule):
        raise TypeError(f"sampler is the rule {sampler.__name__}, expected its {expected}")
    check_callable(sampler, "sampler", expected)
    try:
        runs = "callback" in inspect.signature(sampler).parameters
    except ValueError:  # of a builtin
        runs = False
    if runs:
        name = getattr(sampler, "__name__", type(sampler).__name__)
        raise TypeError(f"sampler is {name}, a function that runs to the end, expected a {expected}")
    return Driven(sampler=sampler, eta=eta, levels=levels)


def with_options(sampler: Sampler) -> tuple[Sampler, dict[str, Any]]:
    """Return a sampler and the options that a `functools.partial` of it sets; raise for `amdm`'s own."""
    if not isinstance(sampler, partial):
        return sampler, {}
    has_rule = hasattr(sampler.func, "rule")
    if has_rule and sampler.args:
        raise TypeError("sampler is a functools.partial with positional arguments, expected keywords only")
    for name in ("eta", "noise_sampler", *(("debug_nans", "validate") if has_rule else ())):
        if name in sampler.keywords:
            raise ValueError(f"sampler sets {name}, expected it as an argument of amdm and the like")
    return sampler.func, sampler.keywords


@dataclass(frozen=True, kw_only=True)
class Driven(Rule):
    """A rule that drives a generator without one. Its memory is the generator and whether to restart it."""

    sampler: Sampler
    eta: float
    levels: Sequence[float]

    def step(self, at: At, x: Tensor, memory: tuple[Steps, bool] | None) -> tuple[Step, tuple[Steps, bool]]:
        """Send `x`, and return the step that comes back."""
        if memory is not None:
            steps, restart = memory
            return yielded(steps.send(Restart(x) if restart else x)), (steps, False)
        device = x.device if has_float64(x) else "cpu"
        sigmas = torch.tensor(self.levels, dtype=torch.float64, device=device)
        noise_sampler = lambda sigma, sigma_next: at.noise[0](x)  # noqa: E731
        steps = self.sampler(at.denoise[0], x, sigmas, eta=self.eta, noise_sampler=noise_sampler)
        if not isinstance(steps, Generator):
            kind = type(steps).__name__
            raise TypeError(f"sampler returned {kind}, expected a generator of Steps such as ddim returns")
        return yielded(next(steps)), (steps, False)

    def predicted(self, was: Written, x: Tensor, denoised: Tensor) -> Tensor:
        """Raise: a generator's step cannot be taken again."""
        name = getattr(self.sampler, "__name__", type(self.sampler).__name__)
        raise ValueError(
            f"callback wrote into x or denoised, which the generator {name} does not step from, expected no "
            "writes, or ddim, heun, dpmpp_2m or dpmpp_2m_sde as sampler"
        )

    def restarted(self, memory: tuple[Steps, bool]) -> tuple[Steps, bool]:
        """Return the memory with a mark: the next latent is sent to the generator in a `Restart`."""
        return memory[0], True


def yielded(step: object) -> Step:
    """Return what a generator yielded; raise unless it is a `Step`."""
    if not isinstance(step, Step):
        raise TypeError(f"sampler yielded {kind_of(step)}, expected a Step")
    return step


amdm, sample_amdm = of_models("amdm", AMDM)
