"""A diffusers pipeline overheard: what it tells a network that does nothing, at every step."""

import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from amdm.diffusers.contexts import as_switched, bare, fusers_of, locked


class Said(NamedTuple):
    """What a pipeline tells its networks at one step, beside the latents and the time."""

    network: Mapping[str, Any]
    control: Mapping[str, Any] | None
    """Its ControlNet, if it calls one."""
    fusers: Mapping[Any, bool]
    """GLIGEN's switches, by module."""


class Heard(NamedTuple):
    """A pipeline's run: its first step taken apart, and what it says at each."""

    latents: Tensor
    """What the scheduler steps from first."""
    x: Tensor
    """What the network sees then: a row or two for each sample."""
    control_rows: int
    """How many of these its ControlNet sees."""
    timestep: float
    """The scheduler's."""
    t: float
    """The network's."""
    steps: Sequence[Said]
    """Steps that say the same are the same object."""


class _Reached(Exception):  # noqa: N818 (not an error)
    """The pipeline has come to its last step."""


def listen(pipe: Any, network: Any, call_kwargs: Mapping[str, Any]) -> Heard:
    """Run the pipeline up to its last step, and write down what it says.

    Raises:
        ValueError: no step; a network that is called several times a step, or sees more than the latents.
    """
    calls: list[dict[str, Any]] = []
    control: list[dict[str, Any]] = []
    steps: list[Said] = []
    first: list[Heard] = []
    name, scheduler = type(pipe).__name__, pipe.scheduler

    def step(*args: Any, **kwargs: Any) -> Any:
        if len(calls) != 1:
            raise ValueError(
                f"{name} calls its network {len(calls)} times a step with these arguments, expected once"
            )
        told, controlled = calls.pop(), control.pop() if control else None
        x, t = _latents(told), _number(told.pop("timestep"))
        rows = 0 if controlled is None else len(_latents(controlled))
        arguments = _named(type(scheduler).step, (scheduler, *args), kwargs)
        latents, timestep = arguments["sample"], _number(arguments["timestep"])
        said = _said(network, told, controlled)
        steps.append(steps[-1] if steps and _same(steps[-1], said) else said)
        if not first:
            first.append(Heard(latents, x, rows, timestep, t, steps))
        if timestep == _number(scheduler.timesteps[-1]):
            raise _Reached
        return _output(latents)

    heard_only = _replaced(scheduler, "step", step)
    with _idle(pipe, network, calls, control), heard_only, contextlib.suppress(_Reached):
        pipe(**call_kwargs)
    if not first:
        raise ValueError(f"{name} did not come to a step of its scheduler, expected one or more")
    (heard,) = first
    seen, expected = tuple(heard.x.shape[1:]), tuple(heard.latents.shape[1:])
    if seen != expected:
        raise ValueError(
            f"{name}'s network sees {seen} for a latent of {expected}, expected the same: models of "
            "inpainting and editing are not denoisers of their latents alone"
        )
    return heard


def finish(pipe: Any, network: Any, latents: Tensor, call_kwargs: Mapping[str, Any]) -> Any:
    """The pipeline's output if its loop had come to these latents; nobody's generator is drawn from."""
    own_noise = torch.random.fork_rng(devices=[latents.device] if latents.is_cuda else [])
    step = _replaced(pipe.scheduler, "step", lambda *args, **kwargs: _output(latents))
    with own_noise, _idle(pipe, network, [], []), step:
        return pipe(**_with_own_generators(call_kwargs))


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An instance's attribute replaced for a while, and what was there before put back."""
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
    pipe: Any, network: Any, calls: list[dict[str, Any]], control: list[dict[str, Any]]
) -> Iterator[None]:
    """The pipeline with networks that write down how they are called and return what they got.

    In this thread: denoisers of other threads wait, and where another thread calls a network itself it is
    the network.
    """
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

    thread, real, forward = threading.get_ident(), network.forward, bare(network).forward
    processors = dict(getattr(network, "attn_processors", {}))

    def restore() -> None:
        """What a pipeline that is stopped does not put back: perturbed attention's processors, offloading."""
        if getattr(network, "attn_processors", {}) != processors:
            network.set_attn_processor(processors)
        getattr(pipe, "maybe_free_model_hooks", lambda: None)()

    def idle(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread:
            return real(*args, **kwargs)
        calls.append(_named(forward, args, kwargs))
        return UNet2DConditionOutput(sample=next(iter(calls[-1].values())))

    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(network))
        stack.callback(restore)
        stack.enter_context(as_switched(network)())
        stack.enter_context(_replaced(pipe, "_progress_bar_config", {"disable": True}))
        stack.enter_context(_replaced(network, "forward", idle))
        if getattr(pipe, "controlnet", None) is not None:
            stack.enter_context(locked(pipe.controlnet))
            real_control, controlled = pipe.controlnet.forward, bare(pipe.controlnet).forward

            def idle_control(*args: Any, **kwargs: Any) -> Any:
                if threading.get_ident() != thread:
                    return real_control(*args, **kwargs)
                control.append(_named(controlled, args, kwargs))
                return [], next(iter(control[-1].values()))

            stack.enter_context(_replaced(pipe.controlnet, "forward", idle_control))
        yield


def _output(latents: Tensor) -> Any:
    from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput

    return DDIMSchedulerOutput(prev_sample=latents)


def _named(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, those of its `**kwargs` too."""
    arguments = dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    return {**arguments, **arguments.pop("kwargs", {})}


def _latents(call: dict[str, Any]) -> Tensor:
    """A network's first argument, taken out of its call."""
    latents: Tensor = call.pop(next(iter(call)))
    return latents


def _said(network: Any, told: dict[str, Any], controlled: dict[str, Any] | None) -> Said:
    """What an idle ControlNet returned is not what the network will be told."""
    if controlled is None:
        return Said(told, None, fusers_of(network))
    controlled.pop("timestep")
    told = {name: value for name, value in told.items() if "block_additional_residual" not in name}
    return Said(told, controlled, fusers_of(network))


def _number(value: Any) -> float:
    return float(torch.as_tensor(value).flatten()[0])


def _same(one: Any, other: Any) -> bool:
    """Whether two steps say the same: containers entry by entry, tensors number by number."""
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
    """The arguments with copies of the generators, which are drawn from and thrown away."""
    generator = call_kwargs.get("generator")
    if generator is None:
        return dict(call_kwargs)
    several = isinstance(generator, list)
    copies = [one.clone_state() for one in (generator if several else [generator])]
    return {**call_kwargs, "generator": copies if several else copies[0]}
