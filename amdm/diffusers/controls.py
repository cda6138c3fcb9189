"""The recipe of a recorded pipeline, its controls, and the same pipeline without them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal, get_args

from jaxtyping import Float
from torch import Tensor

from amdm.diffusers.contexts import Switched, bare
from amdm.diffusers.network import NetworkDenoiser
from amdm.diffusers.recipes import Call, Recipe, controlled, keywords, stepwise
from amdm.diffusers.recording import StepArguments

Control = Literal["controlnet", "t2i_adapter", "gligen", "ip_adapter", "lora", "migc"]


@dataclass(frozen=True, eq=False)
class Replay:
    """A recipe that passes, at each step's levels, the arguments that the pipeline passed at that step.

    Attributes:
        steps: the arguments of each step; equal consecutive ones are one object.
        sigmas: the levels of the steps, and the end of the last step.
        controlnet: the pipeline's ControlNet, or None.
        half: True if the ControlNet sees the conditional rows only.
        uncond: True for the arguments of a step's second call.
    """

    steps: Sequence[StepArguments] = field(repr=False)
    sigmas: Float[Tensor, " levels"]
    controlnet: Any = field(default=None, repr=False)
    half: bool = False
    uncond: bool = False

    def __call__(self, call: Call) -> Call:
        """Return the call with the arguments of the step that its level belongs to."""
        return self._recipe(call)

    @cached_property
    def _recipe(self) -> Recipe:
        made = {id(step): partial(self._replayed, step=step) for step in self.steps}
        return stepwise(self.sigmas, [made[id(step)] for step in self.steps])

    def _replayed(self, call: Call, step: StepArguments) -> Call:
        for fuser, on in step.fusers.items():
            fuser.enabled = on  # `as_switched` puts it back after the call
        call = keywords(**((self.uncond and step.uncond) or step.network))(call)
        if step.controlnet is None or not is_on(step.controlnet["conditioning_scale"]):
            return call
        return controlled(call, self.controlnet, half=self.half, **step.controlnet)

    def changed(self, change: Callable[[StepArguments], StepArguments]) -> "Replay":
        """Return the recipe with other arguments; steps that shared an object still share one."""
        made = {id(step): change(step) for step in self.steps}
        return replace(self, steps=[made[id(step)] for step in self.steps])


def check_controlnet(network: Any) -> None:
    """Raise unless this is diffusers' ControlNet, or a list of several."""
    from diffusers import ControlNetModel, MultiControlNetModel

    if not isinstance(bare(network), ControlNetModel | MultiControlNetModel):
        raise TypeError(
            f"controlnet is {type(bare(network)).__name__}, expected ControlNetModel, one or several"
        )


def without_control(model: NetworkDenoiser, *controls: Control) -> NetworkDenoiser:
    """Return the denoiser of the same network and prompt with all controls, or the named ones, switched off.

    Raises:
        ValueError: no such control is on; an unknown name; LoRAs that are fused into the weights.
    """
    on = controls_of(model)
    for name in controls:
        if name not in get_args(Control):
            raise ValueError(f"controls has {name!r}, expected one of {', '.join(get_args(Control))}")
    missing = [name for name in controls if name not in on]
    if missing or not on:
        found = ", ".join(on) or "none"
        raise ValueError(
            f"no {missing[0] if missing else 'control'} is on that can be switched off: found {found}. "
            "A model that was trained with its control has no weights without it"
        )
    off = controls or tuple(on)

    def change(recipes: Sequence[Recipe]) -> list[Recipe]:
        change = partial(_without, off=off)
        return [each.changed(change) if isinstance(each, Replay) else each for each in recipes]

    contexts = [
        each.without(ip_adapter="ip_adapter" in off, loras="lora" in off)
        if isinstance(each, Switched)
        else each
        for each in model.contexts
    ]
    uncond = None if model.uncond is None else change(model.uncond)
    return replace(model, recipes=change(model.recipes), uncond=uncond, contexts=contexts)


def controls_of(model: NetworkDenoiser) -> list[Control]:
    """Return the controls of a recorded pipeline that are on at one of its steps or more."""
    steps = [step for each in model.recipes if isinstance(each, Replay) for step in each.steps]
    switched = [each for each in model.contexts if isinstance(each, Switched)]
    found: dict[Control, bool] = {
        "controlnet": any(_has_controlnet(step) for step in steps),
        "t2i_adapter": any(bool(each.any()) for step in steps for each in step.network.get(T2I) or ()),
        "gligen": any(any(step.fusers.values()) for step in steps),
        "ip_adapter": any(each.has_ip_adapter for each in switched),
        "lora": any(each.has_loras for each in switched),
        "migc": any(_has_migc(step) for step in steps),
    }
    return [name for name, is_there in found.items() if is_there]


T2I = "down_intrablock_additional_residuals"
# MIGC works up to these steps; 0 is the first.
MIGC_OFF = {"MIGCsteps": -1, "NaiveFuserSteps": -1}


def _has_controlnet(step: StepArguments) -> bool:
    """Return True for a ControlNet beside the network, or in it (ControlNet-XS)."""
    beside, inside = step.controlnet, step.network
    scale = inside.get("conditioning_scale", 0.0) if inside.get("apply_control") else 0.0
    return is_on(scale if beside is None else beside["conditioning_scale"])


def _has_migc(step: StepArguments) -> bool:
    told = _attention(step.network)
    return "ith" in told and told["ith"] <= max(told.get(name, 0) for name in MIGC_OFF)


def is_on(scale: float | Sequence[float]) -> bool:
    """Return True if a ControlNet with this scale, or one of several, changes anything."""
    return any(scale) if isinstance(scale, list) else bool(scale)


def _without(step: StepArguments, off: Sequence[Control]) -> StepArguments:
    """Return the arguments of a step without those of some controls."""
    told = [step.network, step.uncond]
    if "t2i_adapter" in off:
        told = [each and {name: value for name, value in each.items() if name != T2I} for each in told]
    if "controlnet" in off:
        told = [
            each and ({**each, "apply_control": False} if "apply_control" in each else each) for each in told
        ]
    if "migc" in off:
        told = [
            each and {**each, "cross_attention_kwargs": {**_attention(each), **MIGC_OFF}} for each in told
        ]
    network, uncond = told
    return StepArguments(
        network or {},
        uncond,
        None if "controlnet" in off else step.controlnet,
        dict.fromkeys(step.fusers, False) if "gligen" in off else step.fusers,
    )


def _attention(told: Mapping[str, Any]) -> Mapping[str, Any]:
    return told.get("cross_attention_kwargs") or {}
