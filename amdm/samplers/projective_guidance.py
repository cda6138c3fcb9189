"""Projective guidance: all controls guide one latent, and what all models are told counts once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.checks import check_callable, check_finite, check_models, check_number
from amdm.geometry import angle, slerp_fold
from amdm.geometry.rows import latent_column, norms, per_element
from amdm.samplers.amdm import (
    Algorithm1,
    Fold,
    Together,
    Window,
    check_option,
    listed,
    resolve_window,
    rule_of,
    with_options,
)
from amdm.samplers.ddim import ddim
from amdm.samplers.march import At, Rule, Start, Watched, of_models
from amdm.samplers.step import Sampler, Step, Written
from amdm.types import Denoiser, Share


@dataclass(frozen=True, eq=False, repr=False)
class Controls:
    """`Step.record` of `projective_guidance` in its window: the parts of its denoiser, VE."""

    sigma: float | Tensor
    """The level of the predictions."""
    conditional: Tensor
    """c_1, the lead's conditional prediction."""
    backgrounds: tuple[Tensor, ...]
    """c_0 for each partner; the same tensor for all where they share it."""
    directions: tuple[Tensor, ...]
    """c_i - c_0 for each partner: what its control adds."""

    def __repr__(self) -> str:
        return f"Controls({len(self.directions)} partners, x={tuple(self.conditional.shape)})"

    @property
    def lead(self) -> Tensor:
        """Return c_1 - c_0: what the lead's own control adds to the first partner's background."""
        return self.conditional - self.backgrounds[0]

    @property
    def norms(self) -> Float[Tensor, "models batch"]:
        """Return the length of each model's direction, the lead's first."""
        return torch.stack([norms(each) for each in (self.lead, *self.directions)])

    @property
    def angle(self) -> Float[Tensor, "pairs batch"]:
        """Return the angle from the lead's direction to each partner's, radians; below pi/2 they agree."""
        return torch.stack([angle(self.lead, each) for each in self.directions])


ControlWeights = Share | Sequence[Share]
FINITE = "a finite number"


@dataclass(frozen=True, kw_only=True)
class ProjectiveGuidance(Rule):
    """Guide the first model by its own and all partners' controls, with the caption counted once.

    In the window every step is the sampler's with

        D = u_1 + g (c_1 + sum_{i >= 2} w_i (c_i - c_0) - u_1),

    where u_1 and c_1 are the lead's unconditional and conditional predictions, and c_i is partner i's
    conditional one. c_0 is that of the background: a model that is told only what all are told, such as the
    caption. This is classifier-free guidance of a lead whose conditional prediction is the projective
    composition. After the window the lead finishes alone, with its own guidance. `amdm` in effect averages N
    guided predictions, which divides by N the guidance toward what only one model is told. Here each control
    keeps all of it.

    For g = 1 and unit weights D is the joint model's at every level if the controls concern blocks of
    coordinates that are independent given the caption. For controls that are independent given the clean
    image and the caption it is the joint model's at level 0 only. Other g
    sample no known density.

    `x` is one tensor for all models, or N independent starts. With one tensor there is one latent from the
    first step on and no fold, and partners are not called before the window. With N starts every model runs
    alone before the window. The window's first step is then that of `amdm` (Algorithm 1) with `fold` and the
    defaults of `weights` and `correction`; from then on the lead's corrected latent is the only one. A
    multistep sampler's history is dropped where the latents jump and where the denoiser changes. `send`
    replaces `x_next`.

    Args:
        models: N denoisers that share a latent space. Model 1 is the lead. A model with guidance has
            three methods, as `Guided`, `GuidedPair` and those of `from_pipeline` do: `both(x, sigma)` returns
            (unconditional, conditional), `conditional(x, sigma)` the second alone, and `guidance_at(sigma)`
            the scale. The prediction of a model without these methods counts as conditional.
        extra_args: passed to the models: one dictionary for all, or one for each model and then for each
            background.
        background: a denoiser whose conditional prediction is c_0 for all partners, called once; or a list of
            N - 1, one for each partner: its own network with its control switched off.
        guidance: g; None for the lead's own scale. A lead without an unconditional prediction needs 1.
            From one start the partners' own scales have no effect.
        weights: w, the share of each partner's control: a list of N - 1 finite numbers, tensors of one per
            sample, or tensors that broadcast to the latents (regions: `(batch, 1, height, width)`), or one
            for all (a bare 1-D tensor is read as the list). Or a function of the `Controls` that returns
            them.
        window: as in `amdm`: a fraction of the steps, a count, (start, stop) or `sigma_window(lo, hi)`. The
            default is all steps: at equal cost that is as good as AMDM's 40% of more steps, or better.
        fold: `fold(xs, weights) -> x'`, which joins N starts in the window's first step.
        sampler: the generator whose steps are taken: `ddim`, `heun`, `dpmpp_2m`, `dpmpp_2m_sde` or your own.
        eta: passed to the sampler; 0 is deterministic.
        window_eta: the same in the window; None for `eta`.
        noise_sampler: None draws `randn_like` as k-diffusion does; or one, or N for N starts.

    Returns:
        A generator of `Step`s, with `Controls` as record in the window. In the window a
        step costs N + 2 passes with a shared background (the lead's two in one batched call), 2 N with one
        for each partner, and one less if g is 1, times the sampler's own evaluations. A first step from N
        starts costs as much as `amdm`'s, and a step after the window as much as the lead's. With one model or
        an empty window this is the lead's sampler alone.

    Raises:
        TypeError, ValueError: an argument is not as above; at the call.
        FloatingPointError: as for `amdm`; the model or the background that was not finite is named.

    References:
        Bradley et al. 2025, "Mechanisms of projective composition of diffusion models", arXiv:2502.04549.
        Ho, Salimans 2022, "Classifier-free diffusion guidance", arXiv:2207.12598. The joining of N starts is
        the first step of AMDM's Algorithm 1.

    >>> from amdm.denoisers import GaussianMixture
    >>> means = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 3.0], [2.0, 3.0]])
    >>> caption, a, b, joint = (GaussianMixture(mean[None], torch.ones(1)) for mean in means)
    >>> sigmas = torch.tensor([10.0, 3.0, 1.0, 0.3, 0.0])
    >>> step = next(projective_guidance([a, b], torch.zeros(1, 2), sigmas, background=caption))
    >>> torch.allclose(step.denoised, joint(step.x, 10.0))
    True
    """

    each_its_latent: ClassVar[bool] = True

    background: Denoiser | Sequence[Denoiser] | None = None
    guidance: float | None = None
    weights: ControlWeights | Callable[[Controls], ControlWeights] = 1.0
    window: Window = 1.0
    fold: Fold = slerp_fold
    sampler: Sampler = ddim
    eta: float = 0.0
    window_eta: float | None = None

    def named(self, models: Sequence[Denoiser]) -> dict[str, Denoiser]:
        """Return the models, then the backgrounds, by their names in messages."""
        named = super().named(models)
        if len(models) == 1:
            return named
        self._check_guidance(models[0])
        return named | named_backgrounds(self.background, len(models))

    def _check_guidance(self, lead: Denoiser) -> None:
        """Raise unless the lead can be guided by g."""
        if self.guidance is None:
            if hasattr(lead, "both") and not hasattr(lead, "guidance_at"):
                raise TypeError(
                    f"guidance is None but models[0] is {type(lead).__name__}, whose scale is not known: it "
                    "has no method `guidance_at`, expected a number"
                )
            return
        check_finite(self.guidance, "guidance")
        if self.guidance != 1 and not hasattr(lead, "both"):
            raise TypeError(
                f"guidance is {self.guidance} but models[0] is {type(lead).__name__}, without a method "
                "`both` that returns its unconditional prediction: expected guidance=1, or Guided, "
                "GuidedPair or a denoiser of from_pipeline"
            )

    def begin(self, xs: Sequence[Tensor], levels: Sequence[float], num_models: int) -> Start:
        """Check and resolve the options. The memory holds the partners' starts until all have met."""
        super().begin(xs, levels, num_models)
        check_callable(self.fold, "fold", "fold(xs, weights)")
        count = len(xs)
        if not callable(self.weights):
            for k, weight in enumerate(as_factors(self.weights, count, xs[0])):
                check_option(weight, f"weights[{k}]", FINITE, least=-math.inf)
        start, stop = resolve_window(self.window, levels, warn=count > 1)
        if count == 1 or start == stop:
            start, stop, xs = 0, 0, xs[:1]
        apart = any(x is not xs[0] for x in xs)
        finish, inner = self._inner(xs, levels)
        rule = InWindow(
            **{**vars(self), "window": (start, stop)},
            inner=inner[0].rule,
            finish=finish,
            joins=start if apart else None,
            places=[(x.device, x.dtype) for x in xs],
        )
        (x, memory), *partners = [(each.x, each.memory) for each in inner]
        reach = [len(levels) - 1] + [stop] * (num_models - 1)
        return Start(rule, x, Memory(Together(memory, partners if apart else ()), seen=[]), reach)

    def _inner(self, xs: Sequence[Tensor], levels: Sequence[float]) -> tuple[Rule, list[Start]]:
        """Return the sampler's rule outside the window, and its `Start` in the window from each latent."""
        eta = self.eta if self.window_eta is None else self.window_eta
        check_number(eta, "window_eta", "a finite number of 0 or more, or None", lambda eta: eta >= 0)
        if eta != self.eta and not hasattr(with_options(self.sampler)[0], "rule"):
            raise ValueError(
                f"window_eta is {eta} and eta {self.eta}, expected one value: a generator of your own "
                "takes one eta, at its start (a sampler that is made from a rule takes both)"
            )
        finish = rule_of(self.sampler, float(self.eta), levels).begin(xs[:1], levels, 1).rule
        return finish, [rule_of(self.sampler, float(eta), levels).begin([x], levels, 1) for x in xs]


class Memory(NamedTuple):
    """The memory between steps."""

    samplers: Together
    """The lead's sampler's memory, and the partners' latents and memories until they are joined."""
    seen: list[Controls]
    """The parts of D in this step; the sampler's first evaluation comes first."""
    models: Sequence[Watched] = ()
    """The models as the steps call them; made at the first, since generators keep theirs."""


@dataclass(frozen=True, kw_only=True)
class InWindow(ProjectiveGuidance):
    """`ProjectiveGuidance` with its options resolved.

    Attributes:
        inner: the sampler's rule in the window.
        finish: the sampler's rule outside it.
        joins: the index of the step that joins independent starts; None if all models share one.
        places: the device and dtype of each model's start, in which the model works.
    """

    inner: Rule
    finish: Rule
    joins: int | None
    places: Sequence[tuple[torch.device, torch.dtype]]

    def step(self, at: At, x: Tensor, memory: Memory) -> tuple[Step, Memory]:
        """Take the joining step, or the sampler's: with D in the window, with the lead outside it."""
        at, inner, together = self._with_models(at, memory), self._inner_at(at), self._kept(at, memory)
        memory.seen.clear()
        if self.joins is not None and at.i <= self.joins:
            step, together = self._algorithm1(inner).step(at, x, together)
            return step, memory._replace(samplers=self._joined(at, together), models=at.denoise)
        step, lead = inner.take(at._replace(denoise=at.denoise[:1]), x, together.lead)
        if memory.seen:
            step = replace(step, record=memory.seen[0])
        if at.i + 1 == self._window.stop and not at.last and not self.debug_nans:
            at.watch.read()  # before the partners are gone
        return step, memory._replace(samplers=Together(lead), models=at.denoise)

    def retake(self, at: At, step: Step, was: Written, memory: Memory, after: Memory) -> tuple[Step, Memory]:
        """Take the step again from the written values; a step from N starts as `amdm` does."""
        at, inner, together = self._with_models(at, memory), self._inner_at(at), self._kept(at, memory)
        if self.joins is not None and at.i <= self.joins:
            taken, samplers = self._algorithm1(inner).retake(at, step, was, together, after.samplers)
            return taken, after._replace(samplers=self._joined(at, samplers))
        given = [inner.predicted(was, step.x, step.denoised)]
        taken, now = self.step(at.given(given), step.x, memory)
        return replace(taken, record=step.record), now._replace(models=after.models)

    def restarted(self, memory: Memory) -> Memory:
        """Return the memory with the lead's sampler restarted; partners not yet joined are unchanged."""
        together = memory.samplers
        return memory._replace(samplers=Together(self.inner.restarted(together.lead), together.partners))

    def composes(self, i: int) -> bool:
        """Return True if step i is taken with D."""
        return i in self._window and i != self.joins

    @property
    def _window(self) -> range:
        return range(*cast("tuple[int, int]", self.window))

    def _inner_at(self, at: At) -> Rule:
        return self.inner if at.i in self._window else self.finish

    def _kept(self, at: At, memory: Memory) -> Together:
        """Return the samplers' memories, restarted if the latent has jumped or the denoiser has changed."""
        inner, together, start, stop = self.inner, memory.samplers, self._window.start, self._window.stop
        changes = [start, stop]
        if self.joins is not None:
            changes = [start + 1, stop] if self.guidance is None else [start, start + 1, stop]
        if at.i == 0 or at.i not in changes:
            return together
        kept = [(latent, inner.restarted(their)) for latent, their in together.partners]
        return Together(inner.restarted(together.lead), kept)

    def _joined(self, at: At, together: Together) -> Together:
        """Return the memory after a step of Algorithm 1, without the partners once they are joined."""
        return Together(together.lead, (), together.steps) if at.i == self.joins else together

    def _algorithm1(self, inner: Rule) -> Algorithm1:
        return Algorithm1(window=self.window, fold=self.fold, inner=inner, debug_nans=self.debug_nans)

    def _with_models(self, at: At, memory: Memory) -> At:
        """Exchange the models' predictions: D for the lead's, and for all g while they are joined."""
        if isinstance(at.denoise[0], Exchanged):
            return at
        if memory.models:
            return at._replace(denoise=memory.models)
        count, joins, g = len(self.places), self.joins, self.guidance
        (lead, *partners), backgrounds = at.denoise[:count], at.denoise[count:]
        composed = partial(self._composed, lead, partners, backgrounds, memory.seen)
        instead: list[dict[int, Predict]] = [{} for _ in range(count)]
        instead[0] = dict.fromkeys(filter(self.composes, self._window), composed)
        if joins is not None and g is not None:
            instead[0][joins] = partial(guided, lead, g)
            for each, partner in zip(instead[1:], partners, strict=True):
                each[joins] = partial(reguided, partner, g)
        models = zip(at.denoise[:count], instead, strict=True)
        return at._replace(denoise=[Exchanged(**vars(model), instead=each) for model, each in models])

    def _composed(
        self,
        lead: Watched,
        partners: Sequence[Watched],
        backgrounds: Sequence[Watched],
        seen: list[Controls],
        x: Tensor,
        sigma: float | Tensor,
    ) -> Tensor:
        """Return D, and note what it is made of."""
        guidance = lead.guidance_at(x, sigma) if self.guidance is None else self.guidance
        uncond, cond = told(lead, guidance, x, sigma)
        there = [x.to(*place) for place in self.places[1:]]
        controls = Controls(sigma, cond, *directions(partners, backgrounds, x, sigma, there))
        seen.append(controls)
        weights = self.weights(controls) if callable(self.weights) else self.weights
        factors = as_factors(weights, len(self.places), x)
        composed = guided_projection(uncond, cond, controls.directions, factors, guidance).to(x.dtype)
        return lead.watch.finite(composed, "weights led to") if callable(self.weights) else composed


Predict = Callable[[Tensor, float | Tensor], Tensor]


@dataclass(frozen=True)
class Exchanged(Watched):
    """A model with other predictions in the place of its own, by step."""

    instead: Mapping[int, Predict] = field(default_factory=dict)

    def __call__(
        self, x: Tensor, sigma: float | Tensor, /, watched: bool = True, **extra_args: Any
    ) -> Tensor:
        """The prediction at a level."""
        predict = None if self.given else self.instead.get(self.watch.i)
        return super().__call__(x, sigma, watched, **extra_args) if predict is None else predict(x, sigma)


# The formula


def guided_projection(
    unconditional: Tensor | None,
    conditional: Tensor,
    directions: Sequence[Tensor],
    weights: Sequence[float | Tensor],
    guidance: float | Tensor,
) -> Tensor:
    """Return D = u_1 + g (c_1 + sum_i w_i (c_i - c_0) - u_1), in float32 or better.

    Without an unconditional prediction g is 1, for which u_1 has no effect.
    """
    composed = conditional.to(torch.promote_types(conditional.dtype, torch.float32))
    for weight, direction in zip(weights, directions, strict=True):
        composed = composed + weight * direction
    if unconditional is None:
        return composed
    return unconditional + column_of(guidance, composed) * (composed - unconditional)


def directions(
    partners: Sequence[Watched],
    backgrounds: Sequence[Watched],
    x: Tensor,
    sigma: float | Tensor,
    there: Sequence[Tensor],
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return each partner's c_0, and its c_i - c_0, like `x`; every model is called once.

    `there` holds `x` on each partner's device, for the partner and its own background. A shared background
    works on the device of `x`.
    """
    if len(backgrounds) == 1:
        common = (backgrounds[0].conditional(x, sigma),) * len(partners)
    else:
        pairs = zip(backgrounds, there, strict=True)
        common = tuple(each.conditional(y, sigma).to(x) for each, y in pairs)
    predictions = zip(partners, there, common, strict=True)
    return common, tuple(each.conditional(y, sigma).to(x) - own for each, y, own in predictions)


# One model's guidance


def told(
    model: Watched, guidance: float | Tensor, x: Tensor, sigma: float | Tensor
) -> tuple[Tensor | None, Tensor]:
    """The unconditional prediction, None for a guidance of 1, which needs none; and the conditional one."""
    return (None, model.conditional(x, sigma)) if is_one(guidance) else model.both(x, sigma)


def guided(model: Watched, guidance: float, x: Tensor, sigma: float | Tensor) -> Tensor:
    """The prediction with this guidance in the place of the model's own."""
    uncond, cond = told(model, guidance, x, sigma)
    return cond if uncond is None else uncond + guidance * (cond - uncond)


def reguided(model: Watched, guidance: float, x: Tensor, sigma: float | Tensor) -> Tensor:
    """The same of a model with guidance of its own; one without predicts as ever."""
    if not hasattr(model.model, "both") or is_one(model.guidance_at(x, sigma)):
        return model(x, sigma)
    return guided(model, guidance, x, sigma)


def is_one(guidance: float | Tensor) -> bool:
    """Return True for the number 1; tensors are not read."""
    return isinstance(guidance, float | int) and guidance == 1


# The options


def named_backgrounds(
    background: Denoiser | Sequence[Denoiser] | None, num_models: int
) -> dict[str, Denoiser]:
    """Return the background that all partners share, or one for each, by name; raise for another number."""
    if background is None:
        raise TypeError(
            "background is None, expected a denoiser of what all models are told, or one for each partner"
        )
    if not isinstance(background, list | tuple) or hasattr(background, "without_control"):  # a Prepared
        return {"background": cast("Denoiser", background)}
    check_models(background, "background")
    if len(background) != num_models - 1:
        raise ValueError(
            f"background has {len(background)} entries but there are {num_models} models: expected "
            f"{num_models - 1}, one for each partner, or one denoiser for all"
        )
    return {f"background[{k}]": each for k, each in enumerate(background)}


def column_of(value: float | Tensor, x: Tensor) -> float | Tensor:
    """Return a number as it is, one per sample in the shape that multiplies latents."""
    return latent_column(value.to(x), x) if isinstance(value, Tensor) and value.ndim == 1 else value


def as_control_weights(value: Any, num_models: int, name: str = "weights") -> list[Share]:
    """The weights of N - 1 controls, checked (tensors are not read)."""
    more = ", one for each partner"
    if name == "weights":
        more += "; for weights that change with the step, a function of the Controls"
    return listed(value, num_models - 1, num_models, name, FINITE, least=-math.inf, more=more)


def as_factors(value: Any, num_models: int, x: Tensor, name: str = "weights") -> list[float | Tensor]:
    """The same as factors of latents like `x`; raise for a tensor of another shape."""
    factors: list[float | Tensor] = []
    for k, weight in enumerate(as_control_weights(value, num_models, name)):
        if isinstance(weight, Tensor):
            weight = per_element(weight, x, f"{name}[{k}]", FINITE)
        factors.append(column_of(weight, x))
    return factors


projective_guidance, sample_projective_guidance = of_models("projective_guidance", ProjectiveGuidance)
