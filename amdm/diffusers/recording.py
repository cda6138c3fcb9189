"""Records what a diffusers pipeline passes to its network at every step, in a run without the network."""

import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from amdm.diffusers.contexts import as_switched, bare, fusers_of, locked


class StepArguments(NamedTuple):
    """The arguments of a pipeline's networks at one step, besides the latents and the time."""

    network: Mapping[str, Any]
    controlnet: Mapping[str, Any] | None
    """None if it calls none."""
    fusers: Mapping[Any, bool]
    """GLIGEN's switches, by module."""


class Recording(NamedTuple):
    """A pipeline's run: its first step in detail, and the arguments of every step."""

    latents: Tensor
    """Those that the scheduler steps from first."""
    x: Tensor
    """The network's input then: a row or two for each sample."""
    controlnet_rows: int
    """The number of these rows that its ControlNet sees."""
    timestep: float
    """The scheduler's."""
    t: float
    """The network's."""
    steps: Sequence[StepArguments]
    """Consecutive steps with equal arguments are the same object."""


class _LastStep(Exception):  # noqa: N818 (not an error)
    """The pipeline has come to its last step."""


def record(pipe: Any, network: Any, call_kwargs: Mapping[str, Any]) -> Recording:
    """Run the pipeline up to its last step, and record what it passes to its networks.

    Raises:
        ValueError: no step; a network that is called several times a step, or sees more than the latents.
    """
    calls: list[dict[str, Any]] = []
    controlnet_calls: list[dict[str, Any]] = []
    steps: list[StepArguments] = []
    first: list[Recording] = []
    name, scheduler = type(pipe).__name__, pipe.scheduler

    def step(*args: Any, **kwargs: Any) -> Any:
        if len(calls) != 1:
            raise ValueError(
                f"{name} calls its network {len(calls)} times a step with these arguments, expected once"
            )
        call, controlnet_call = calls.pop(), controlnet_calls.pop() if controlnet_calls else None
        x, t = _pop_latents(call), _number(call.pop("timestep"))
        rows = 0 if controlnet_call is None else len(_pop_latents(controlnet_call))
        arguments = _named(type(scheduler).step, (scheduler, *args), kwargs)
        latents, timestep = arguments["sample"], _number(arguments["timestep"])
        passed = _step_arguments(network, call, controlnet_call)
        steps.append(steps[-1] if steps and _same(steps[-1], passed) else passed)
        if not first:
            first.append(Recording(latents, x, rows, timestep, t, steps))
        if timestep == _number(scheduler.timesteps[-1]):
            raise _LastStep
        return _output(latents)

    stepping = _replaced(scheduler, "step", step)
    with _idle(pipe, network, calls, controlnet_calls), stepping, contextlib.suppress(_LastStep):
        pipe(**call_kwargs)
    if not first:
        raise ValueError(f"{name} did not come to a step of its scheduler, expected one or more")
    (recording,) = first
    seen, expected = tuple(recording.x.shape[1:]), tuple(recording.latents.shape[1:])
    if seen != expected:
        raise ValueError(
            f"{name}'s network sees {seen} for a latent of {expected}, expected the same: models of "
            "inpainting and editing are not denoisers of their latents alone"
        )
    return recording


def finish(pipe: Any, network: Any, latents: Tensor, call_kwargs: Mapping[str, Any]) -> Any:
    """Return the pipeline's output as if its loop had come to these latents. No generator is advanced."""
    own_noise = torch.random.fork_rng(devices=[latents.device] if latents.is_cuda else [])
    step = _replaced(pipe.scheduler, "step", lambda *args, **kwargs: _output(latents))
    with own_noise, _idle(pipe, network, [], []), step:
        return pipe(**_with_own_generators(call_kwargs))


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Replace an instance's attribute for a while."""
    had, before = name in vars(owner), vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if had:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


@contextlib.contextmanager
def _idle(
    pipe: Any, network: Any, calls: list[dict[str, Any]], controlnet_calls: list[dict[str, Any]]
) -> Iterator[None]:
    """Let the pipeline's networks record their calls and return their input; other denoisers wait."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

    processors = dict(getattr(network, "attn_processors", {}))

    def restore() -> None:
        """Undo what a stopped pipeline does not: perturbed attention's processors, offloading."""
        if getattr(network, "attn_processors", {}) != processors:
            network.set_attn_processor(processors)
        getattr(pipe, "maybe_free_model_hooks", lambda: None)()

    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(network))
        stack.callback(restore)
        stack.enter_context(as_switched(network)())
        stack.enter_context(_replaced(pipe, "_progress_bar_config", {"disable": True}))
        stack.enter_context(_recorded(network, calls, lambda x: UNet2DConditionOutput(sample=x)))
        if getattr(pipe, "controlnet", None) is not None:
            stack.enter_context(locked(pipe.controlnet))
            stack.enter_context(_recorded(pipe.controlnet, controlnet_calls, lambda x: ([], x)))
        yield


def _recorded(
    network: Any, calls: list[dict[str, Any]], result: Callable[[Any], Any]
) -> contextlib.AbstractContextManager[None]:
    """Let the network record its calls and return `result(x)` in this thread; in others it does its work."""
    thread, real, forward = threading.get_ident(), network.forward, bare(network).forward

    def idle(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread:
            return real(*args, **kwargs)
        calls.append(_named(forward, args, kwargs))
        return result(next(iter(calls[-1].values())))

    return _replaced(network, "forward", idle)


def _output(latents: Tensor) -> Any:
    from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput

    return DDIMSchedulerOutput(prev_sample=latents)


def _named(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, those of its `**kwargs` too."""
    arguments = dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    return {**arguments, **arguments.pop("kwargs", {})}


def _pop_latents(call: dict[str, Any]) -> Tensor:
    """Take a network's first argument out of its call."""
    latents: Tensor = call.pop(next(iter(call)))
    return latents


def _step_arguments(
    network: Any, call: dict[str, Any], controlnet_call: dict[str, Any] | None
) -> StepArguments:
    """Return the arguments of a step, without the residuals that an idle ControlNet returned."""
    if controlnet_call is not None:
        controlnet_call.pop("timestep")
        call = {name: value for name, value in call.items() if "block_additional_residual" not in name}
    return StepArguments(call, controlnet_call, fusers_of(network))


def _number(value: Any) -> float:
    return float(torch.as_tensor(value).flatten()[0])


def _same(one: Any, other: Any) -> bool:
    """True if two steps have equal arguments: containers entry by entry, tensors number by number."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return (one == other) is True


def _with_own_generators(call_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments with copies of the generators, so that the caller's are not advanced."""
    generator = call_kwargs.get("generator")
    if generator is None:
        return dict(call_kwargs)
    several = isinstance(generator, list)
    copies = [one.clone_state() for one in (generator if several else [generator])]
    return {**call_kwargs, "generator": copies if several else copies[0]}
