"""Recording of what a diffusers pipeline passes to its network at each step, in a run without the network."""

import contextlib
import inspect
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from amdm.diffusers.contexts import as_switched, bare, fusers_of, locked


class StepArguments(NamedTuple):
    """The arguments of a pipeline's networks at one step, apart from the latents and the time."""

    network: Mapping[str, Any]
    uncond: Mapping[str, Any] | None
    """The arguments of the network's second call, for guidance; None if it is called once."""
    controlnet: Mapping[str, Any] | None
    """The arguments of the ControlNet; None if there is none."""
    fusers: Mapping[Any, bool]
    """GLIGEN's switches, by module."""


class Clock(NamedTuple):
    """The facts about a pipeline's step that are compared with what a denoiser does."""

    timestep: float
    """The timestep that the scheduler gets."""
    t: float
    """The timestep that the network gets."""
    rounding: float
    """The relative error of `t`."""
    scale: float
    """The network's input divided by the latents; NaN if it is no multiple of them."""


class Recording(NamedTuple):
    """A pipeline's run: its first step in detail, and the arguments of every step."""

    latents: Tensor
    """The latents of the scheduler's first step."""
    x: Tensor
    """The network's input at that step: one row or two for each sample."""
    calls: int
    """The network's calls per step: 1, or 2 for guidance in two calls."""
    joined: bool
    """True if at every step the scheduler gets the guided combination of the network's outputs."""
    controlnet_rows: int
    """The number of these rows that its ControlNet sees."""
    clocks: Sequence[Clock]
    steps: Sequence[StepArguments]
    """Consecutive steps with equal arguments are the same object."""


Join = Callable[[Tensor, Tensor, int], Tensor]
"""`join(uncond, cond, calls)` returns the guided combination of the outputs of one or two calls."""


class _Call(NamedTuple):
    x: Tensor
    output: Tensor
    arguments: dict[str, Any]


class _LastStep(Exception):  # noqa: N818 (not an error)
    """Raised at the last step of a recorded pipeline, to end its run."""


def record(pipe: Any, network: Any, call_kwargs: Mapping[str, Any], join: Join) -> Recording:
    """Run the pipeline up to its last step, and record what it passes to its networks.

    The networks return noise, so that what the pipeline computes from their outputs can be recognised.

    Raises:
        TypeError: a network that takes something else than latents and a `timestep`.
        ValueError: no step; a network that is called more than twice a step, or sees more than the latents;
            a pipeline that changes the latents between its steps.
    """
    calls: list[_Call] = []
    controlnet_calls: list[_Call] = []
    heard: list[Recording] = []
    name, scheduler = type(pipe).__name__, pipe.scheduler

    def step(*args: Any, **kwargs: Any) -> Any:
        arguments = _named(type(scheduler).step, (scheduler, *args), kwargs)
        now = _heard(name, network, calls, controlnet_calls, arguments, join)
        if heard:
            _check_follows(name, heard[-1], now)
            if _same(heard[-1].steps, now.steps):
                now = now._replace(steps=heard[-1].steps)
            now = now._replace(x=heard[0].x)  # not one for every step
        heard.append(now)
        calls.clear()
        controlnet_calls.clear()
        last = _number(scheduler.timesteps[-1])  # several steps may have it, where timesteps are rounded
        if sum(one.clocks[0].timestep == last for one in heard) == int((scheduler.timesteps == last).sum()):
            raise _LastStep
        return _output(now.latents)

    stepping = _replaced(scheduler, "step", step)
    with _idle(pipe, network, calls, controlnet_calls), stepping, contextlib.suppress(_LastStep):
        pipe(**call_kwargs)
    if not heard:
        raise ValueError(f"{name} reached no step of its scheduler, expected one or more")
    return heard[0]._replace(
        joined=all(one.joined for one in heard),
        clocks=[one.clocks[0] for one in heard],
        steps=[one.steps[0] for one in heard],
    )


def _heard(
    name: str,
    network: Any,
    calls: Sequence[_Call],
    controlnet_calls: Sequence[_Call],
    arguments: Mapping[str, Any],
    join: Join,
) -> Recording:
    """Return the record of one step."""
    if len(calls) not in (1, 2):
        raise ValueError(
            f"{name} calls its network {len(calls)} times a step with these arguments, expected once, or "
            "twice for guidance"
        )
    if len(controlnet_calls) > 1 or (controlnet_calls and len(calls) > 1):
        raise ValueError(
            f"{name} calls its ControlNet {len(controlnet_calls)} times and its network {len(calls)} times a "
            "step, expected both once"
        )
    latents, x, told = arguments["sample"], calls[0].x, [dict(call.arguments) for call in calls]
    seen, expected = tuple(x.shape[1:]), tuple(latents.shape[1:])
    if seen != expected:
        raise ValueError(
            f"{name}'s network sees {seen} for a latent of {expected}, expected the same: "
            "inpainting and editing models are not denoisers of their latents alone"
        )
    times = [_time(name, each) for each in told]
    if not all(
        _same([calls[0].x, times[0]], [call.x, time]) for call, time in zip(calls, times, strict=True)
    ):
        raise ValueError(f"{name} calls its network with two latents or times a step, expected one")
    controlled = [dict(call.arguments) for call in controlnet_calls]
    if any(_time(name, each) != times[0] for each in controlled):
        raise ValueError(f"{name} calls its ControlNet with another time than its network, expected one")
    if controlled:  # the idle ControlNet's
        told = [{key: value for key, value in each.items() if "residual" not in key} for each in told]
    outputs = [part for call in calls for part in torch.split(call.output, len(latents))]
    joined, order = _joined(
        outputs, arguments["model_output"], lambda uncond, cond: join(uncond, cond, len(calls))
    )
    cond, uncond = (told[0], None) if len(told) == 1 else (told[order], told[1 - order])
    clock = Clock(_number(arguments["timestep"]), *times[0], _multiple(x, latents))
    passed = StepArguments(cond, uncond, controlled[0] if controlled else None, fusers_of(network))
    rows = len(controlnet_calls[0].x) if controlnet_calls else 0
    return Recording(latents, x, len(calls), joined, rows, [clock], [passed])


def _check_follows(name: str, before: Recording, now: Recording) -> None:
    if not torch.equal(before.latents, now.latents.to(before.latents.dtype)):
        raise ValueError(
            f"{name} changes the latents between its steps with these arguments, expected the scheduler's"
        )
    if (before.calls, len(before.x)) != (now.calls, len(now.x)):
        raise ValueError(
            f"{name} calls its network {now.calls} times with {len(now.x)} rows at a step, expected "
            f"{before.calls} times with {len(before.x)} as before: guidance that ends is not supported"
        )


def _joined(
    outputs: Sequence[Tensor], result: Tensor, join: Callable[[Tensor, Tensor], Tensor]
) -> tuple[bool, int]:
    """Return whether the result is guidance of the outputs, and the index of the conditional one.

    Of two rows for each sample the first is unconditional; two calls may come in either order.
    """
    if len(outputs) == 1:
        return _close(outputs[0], result), 0
    if len(outputs) != 2:
        return False, 0
    uncond, cond = outputs
    if _close(join(uncond, cond), result):
        return True, 1
    return _close(join(cond, uncond), result), 0


def _close(one: Tensor, other: Tensor) -> bool:
    """Return True for tensors that are equal up to a few roundings of guidance."""
    if one.shape != other.shape:
        return False
    eps = max(torch.finfo(each.dtype).eps for each in (one, other))
    return bool((one - other).abs().max() <= 4 * eps * one.abs().max())


def _multiple(x: Tensor, latents: Tensor) -> float:
    """Return the number that the latents were multiplied by; NaN if there is none, 1 for zeros."""
    wide = torch.promote_types(latents.dtype, torch.float32)
    whole, part = latents.to(wide), x[: len(latents)].to(wide)
    square = whole.square().sum()
    if square == 0:
        return 1.0
    scale = (part * whole).sum() / square
    eps = max(torch.finfo(each.dtype).eps for each in (x, latents))
    is_multiple = (part - scale * whole).abs().max() <= 4 * eps * part.abs().max()
    return scale.item() if is_multiple else math.nan


def _time(name: str, call: dict[str, Any]) -> tuple[float, float]:
    """Remove the network's time, one for all rows, from its arguments; return it and its rounding."""
    if call.get("timestep") is None:
        raise TypeError(f"{name} calls its network without `timestep`, expected diffusers' keyword")
    times = torch.as_tensor(call.pop("timestep")).flatten()
    if not bool((times == times[0]).all()):
        raise ValueError(f"{name} passes its network the times {times.tolist()}, expected one for all rows")
    return float(times[0]), torch.finfo(times.dtype).eps if times.is_floating_point() else 0.0


def finish(pipe: Any, network: Any, latents: Tensor, call_kwargs: Mapping[str, Any]) -> Any:
    """Return the pipeline's output as if its loop had ended at these latents. No generator is advanced."""
    own_noise = torch.random.fork_rng(devices=[latents.device] if latents.is_cuda else [])
    step = _replaced(pipe.scheduler, "step", lambda *args, **kwargs: _output(latents))
    with own_noise, _idle(pipe, network, [], []), step:
        return pipe(**_with_own_generators(call_kwargs))


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Replace an instance's attribute for the duration of a context."""
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
def _idle(pipe: Any, network: Any, calls: list[_Call], controlnet_calls: list[_Call]) -> Iterator[None]:
    """Let the pipeline's networks record their calls and return noise; other denoisers wait."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

    processors = dict(getattr(network, "attn_processors", {}))

    def restore() -> None:
        """Undo what a stopped pipeline leaves behind: perturbed attention's processors, offloading."""
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
    network: Any, calls: list[_Call], result: Callable[[Any], Any]
) -> contextlib.AbstractContextManager[None]:
    """Let the network record its calls and return `result(noise)` in this thread; in others it works."""
    thread, real, forward = threading.get_ident(), network.forward, bare(network).forward

    def idle(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread:
            return real(*args, **kwargs)
        arguments = _named(forward, args, kwargs)
        x = arguments.pop(next(iter(arguments)))
        if not (isinstance(x, Tensor) and x.is_floating_point()):
            raise TypeError(
                f"{type(bare(network)).__name__} is called with {type(x).__name__}, expected one tensor of "
                "latents"
            )
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(len(calls))).to(x)
        calls.append(_Call(x, noise, arguments))
        return result(noise)

    return _replaced(network, "forward", idle)


def _output(latents: Tensor) -> Any:
    from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput

    return DDIMSchedulerOutput(prev_sample=latents)


def _named(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, including those of its `**kwargs`."""
    arguments = dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    return {**arguments, **arguments.pop("kwargs", {})}


def _number(value: Any) -> float:
    return float(torch.as_tensor(value).flatten()[0])


def _same(one: Any, other: Any) -> bool:
    """Return True if two steps have equal arguments: containers entry by entry, tensors number by number."""
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
