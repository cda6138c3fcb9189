"""Recipes for the call of a network, one for each kind of conditioning that diffusers knows.

A recipe takes the `Call` so far and returns it with more arguments. Conditions have one row for each row that
the network sees: with guidance the unconditional rows first, then the conditional ones. The arguments are
those of diffusers 0.42.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.diffusers.contexts import locked


class Call(NamedTuple):
    """The call of a network: its latents, its timesteps, the VE level, and all other arguments by keyword."""

    x: Tensor
    """`(rows, ...)` in the network's coordinates and dtype: twice the samples with guidance."""
    t: Float[Tensor, " rows"]
    sigma: Float[Tensor, " batch"]
    kwargs: Mapping[str, Any]
    halved: bool = False
    """True if the network sees the conditional rows alone, and conditions have the others too."""

    def with_its_rows(self) -> "Call":
        """Return the call with only those rows of the conditions that belong to its latents."""
        return self._replace(kwargs=self.rows_of(self.kwargs)) if self.halved else self

    def rows_of(self, value: Any) -> Any:
        """Return the second half of every tensor with two rows for each sample, if the call is halved."""
        if not self.halved:
            return value
        if isinstance(value, Tensor):
            paired = value.ndim > 0 and len(value) == 2 * len(self.x)
            return value[len(self.x) :] if paired else value
        if isinstance(value, Mapping):
            return {name: self.rows_of(entry) for name, entry in value.items()}
        return type(value)(map(self.rows_of, value)) if isinstance(value, list | tuple) else value

    def with_kwargs(self, **kwargs: Any) -> "Call":
        """Return the call with these keywords added; dictionaries that are there already get more entries."""
        merged = dict(self.kwargs)
        for name, value in kwargs.items():
            before = merged.get(name)
            if isinstance(before, Mapping) and isinstance(value, Mapping):
                value = {**before, **value}
            merged[name] = value
        return self._replace(kwargs=merged)


Recipe = Callable[[Call], Call]


class Span(NamedTuple):
    """The noise levels above `low`, up to `high`."""

    low: float
    high: float

    def holds(self, sigma: Float[Tensor, " batch"]) -> bool:
        """Return True if the batch's level is in the span. Waits for the device unless all levels are."""
        return self == always or self.low < float(sigma[0]) <= self.high


always = Span(0.0, math.inf)


def span_of(sigmas: Float[Tensor, " levels"], start: int, stop: int) -> Span:
    """Return the levels of the steps [start, stop) of a schedule as a span with ends between levels.

    A boundary between two steps is the geometric mean of their levels. So a level within rounding of the
    schedule's belongs to the same step, and a level inside a step, as two-stage samplers visit, to the nearer
    end.

    >>> span_of(torch.tensor([16.0, 4.0, 1.0, 0.0]), 0, 1)
    Span(low=8.0, high=inf)
    """
    levels = sigmas.tolist()[:-1]
    start, stop = max(start, 0), min(stop, len(levels))
    if start >= stop:
        return Span(0.0, 0.0)
    edges = [math.inf, *(math.sqrt(a * b) for a, b in pairwise(levels)), 0.0]
    return Span(edges[stop], edges[start])


def keywords(**kwargs: Any) -> Recipe:
    """Return a recipe that adds these keywords to every call.

    Dictionaries and lists are copied each time: networks take entries out of them (T2I-Adapter's residuals,
    FLUX's image embeddings) and would find nothing at the second call.
    """
    return lambda call: call.with_kwargs(**{name: _fresh(value) for name, value in kwargs.items()})


def text(encoder_hidden_states: Float[Tensor, "rows tokens features"]) -> Recipe:
    """Return a recipe that adds the prompt, as `encode_prompt` returns it; unconditional rows first."""
    return keywords(encoder_hidden_states=encoder_hidden_states)


def sdxl(text_embeds: Float[Tensor, "rows features"], time_ids: Float[Tensor, "rows numbers"]) -> Recipe:
    """Return a recipe that adds SDXL's pooled prompt, and its sizes and crops."""
    return keywords(added_cond_kwargs={"text_embeds": text_embeds, "time_ids": time_ids})


def ip_adapter(image_embeds: Sequence[Float[Tensor, "rows images features"]]) -> Recipe:
    """Return a recipe that adds IP-Adapter's images: one tensor per loaded adapter.

    `as_switched` binds the scales. A U-Net with an IP-Adapter cannot be called without an image: if it serves
    as a model that has none, pass zeros at scale 0.
    """
    return keywords(added_cond_kwargs={"image_embeds": list(image_embeds)})


def controlnet(
    network: Callable[..., Any],
    image: Any,
    scale: float | Sequence[float] = 1.0,
    *,
    guess_mode: bool = False,
    span: Span | Sequence[Span] = always,
) -> Recipe:
    """Return a recipe that adds a ControlNet's residuals.

    For diffusers' `MultiControlNetModel` pass a list for each argument.

    The ControlNet runs at every call in its span, with the U-Net's conditions: put it after their recipes.

    Args:
        network: the ControlNet.
        image: its condition; in guess mode with the conditional rows only.
        scale: `controlnet_conditioning_scale`.
        guess_mode: the ControlNet sees the conditional rows only, and the others get nothing from it.
        span: the levels at which it is on: `control_guidance_start` and `control_guidance_end` as levels.
    """
    several = not isinstance(span, Span)
    spans = [span] if isinstance(span, Span) else span
    scales = list(scale) if isinstance(scale, Sequence) else [scale] * len(spans)

    def recipe(call: Call) -> Call:
        on = [each.holds(call.sigma) for each in spans]
        if not any(on):
            return call
        if "encoder_hidden_states" not in call.kwargs:
            raise ValueError("recipes has controlnet before text, expected it after the U-Net's conditions")
        half = guess_mode and len(call.x) == 2 * len(call.sigma)
        now = [value * float(each) for value, each in zip(scales, on, strict=True)]
        arguments = {
            "encoder_hidden_states": _rows(call.kwargs["encoder_hidden_states"], half),
            "controlnet_cond": image,
            "conditioning_scale": now if several else now[0],
            "guess_mode": guess_mode,
        }
        added = call.kwargs.get("added_cond_kwargs") or {}
        if "text_embeds" in added:
            pooled = {name: _rows(added[name], half) for name in ("text_embeds", "time_ids")}
            arguments["added_cond_kwargs"] = pooled
        return controlled(call, network, half=half, **arguments)

    return recipe


def controlled(call: Call, network: Callable[..., Any], *, half: bool, **arguments: Any) -> Call:
    """Return the call with the residuals of a ControlNet that sees all rows, or the second half of them."""
    half = half and not call.halved
    arguments = {**call.rows_of(arguments), "return_dict": False}
    with locked(network):
        down, mid = network(_rows(call.x, half), _rows(call.t, half), **arguments)
    if half:
        down, mid = [torch.cat([torch.zeros_like(d), d]) for d in down], torch.cat([0 * mid, mid])
    return call.with_kwargs(down_block_additional_residuals=down, mid_block_additional_residual=mid)


def t2i_adapter(residuals: Sequence[Float[Tensor, "rows ..."]], span: Span = always) -> Recipe:
    """Return a recipe that adds T2I-Adapter's features, made once: `[scale * r for r in adapter(image)]`."""
    return within(span, keywords(down_intrablock_additional_residuals=list(residuals)))


def gligen(
    enable: Callable[[bool], object],
    grounding: Mapping[str, Tensor] | None = None,
    span: Span = always,
) -> Recipe:
    """Return a recipe that adds GLIGEN's boxes and phrases, or InteractDiffusion's, which use the same slot.

    The pipeline switches its fusers off at its end, so this recipe switches them at every call;
    `as_switched` restores them.

    Args:
        enable: the pipeline's `enable_fuser`.
        grounding: "boxes", "positive_embeddings" and "masks" of 30 slots, masks 0 in the unconditional rows;
            None if another recipe adds them.
        span: the levels at which the fusers are on: the scheduled sampling's beta as levels.
    """

    def recipe(call: Call) -> Call:
        enable(span.holds(call.sigma))
        return (
            call
            if grounding is None
            else call.with_kwargs(cross_attention_kwargs={"gligen": dict(grounding)})
        )

    return recipe


def migc(sigmas: Float[Tensor, " levels"], **conditions: Any) -> Recipe:
    """Return a recipe that adds MIGC's conditions, with the step's number `ith` and the call's `timestep`.

    `ith` is found from the level. A call has one image, which is two latents and 2 + instances rows of text.
    MIGC's processors draw from the global generators: call the network in `without_randomness`.
    """

    def recipe(call: Call, ith: int) -> Call:
        if len(call.sigma) != 1:
            raise ValueError(f"x has batch {len(call.sigma)}, expected 1: MIGC takes one image per call")
        return call.with_kwargs(cross_attention_kwargs={**conditions, "ith": ith, "timestep": call.t[0]})

    return stepwise(sigmas, [partial(recipe, ith=i) for i in range(len(sigmas) - 1)])


def stepwise(sigmas: Float[Tensor, " levels"], recipes: Sequence[Recipe]) -> Recipe:
    """Return a recipe that applies, of one recipe for each step, that of the level's step (as in `span_of`).

    It waits for the level's device, unless all steps have the same recipe.
    """
    if len(recipes) != len(sigmas) - 1:
        raise ValueError(
            f"recipes has {len(recipes)} entries, expected one for each of {len(sigmas) - 1} steps"
        )
    edges = [span_of(sigmas, i, i + 1).low for i in range(len(recipes) - 1)]
    if all(recipe is recipes[0] for recipe in recipes):
        return recipes[0]

    def recipe(call: Call) -> Call:
        sigma = float(call.sigma[0])
        return recipes[sum(sigma <= edge for edge in edges)](call)

    return recipe


def within(span: Span, recipe: Recipe) -> Recipe:
    """Return a recipe that applies the given one at the levels of a span only."""
    return lambda call: recipe(call) if span.holds(call.sigma) else call


def _fresh(value: Any) -> Any:
    """Return a copy of nested containers that shares their tensors."""
    if isinstance(value, Mapping):
        return {name: _fresh(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([_fresh(entry) for entry in value])
    return value


def _rows(tensor: Tensor, half: bool) -> Tensor:
    """Return all rows, or the second half: the conditional ones."""
    return tensor.chunk(2)[1] if half else tensor
