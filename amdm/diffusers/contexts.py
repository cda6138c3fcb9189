"""Contexts for a network's call: its switches as they were bound, random generators of its own.

`as_switched` and `without_randomness` return functions that make a context manager, for
`NetworkDenoiser(..., contexts=[...])`.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch

Context = Callable[[], contextlib.AbstractContextManager[None]]


# One for each network, beside it: a module with a lock in it can't be copied or pickled.
_locks: WeakKeyDictionary[torch.nn.Module, Any] = WeakKeyDictionary()


def bare(module: Any) -> Any:
    """Return the module that `torch.compile` wrapped, which has the signature and the class."""
    return getattr(module, "_orig_mod", module)


def locked(network: Any) -> contextlib.AbstractContextManager[Any]:
    """Return the network's lock: one thread at a time evaluates it, switches it or records its pipeline.

    It is reentrant. A ControlNet's is taken after its U-Net's, never before.
    """
    network = bare(network)
    if not isinstance(network, torch.nn.Module):
        return contextlib.nullcontext()
    lock: contextlib.AbstractContextManager[Any] = _locks.setdefault(network, threading.RLock())
    return lock


class Lora(NamedTuple):
    """The LoRAs of one layer: peft's own switches."""

    active: tuple[str, ...]
    """Of the network; a layer need not have them all."""
    disabled: bool
    scaling: dict[str, float]


class Switches(NamedTuple):
    """Everything of a network that is switched and not an argument, by the module that has it."""

    scales: dict[Any, Any]
    """IP-Adapter's attention processors."""
    loras: dict[Any, Lora]
    fusers: dict[Any, bool]
    """GLIGEN's."""


def as_switched(network: Any) -> Context:
    """Bind the network's LoRAs and IP-Adapter scales as they are now; after each call they are as before it.

    One U-Net then plays several models: switch, bind, switch again (`set_adapters`, `disable_lora`,
    `set_ip_adapter_scale` are diffusers' own). LoRAs that are loaded later are off in the models that were
    bound before. Threads that call such models take turns; switch the network, or call it itself in another
    thread, only while no model of it is called.

    Raises:
        RuntimeError: at a call, if a LoRA that was bound is gone, or an IP-Adapter came or went: the network
            is not the one that was bound.
    """
    with locked(network):
        bound = _switches(network)

    @contextlib.contextmanager
    def held() -> Iterator[None]:
        with locked(network):
            now = _switches(network)
            _check(bound, now)
            loras = {layer: _then(bound.loras.get(layer), lora) for layer, lora in now.loras.items()}
            _switch(Switches(bound.scales, loras, {}))
            try:
                yield
            finally:
                _switch(now)

    return held


def without_randomness(device: torch.device | str = "cpu", seed: int = 0) -> Context:
    """Make a network that draws from torch's global generators a function of its arguments.

    MIGC's processors shuffle with `torch.randperm`: two equal calls differ by 1e-5 to 1e-4, and every call
    advances the generator that a sampler's noise comes from. Here every call starts from `seed`, and the
    generators of the CPU and of `device` are left as they were.
    """
    device = torch.device(device)

    @contextlib.contextmanager
    def still() -> Iterator[None]:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield

    return still


def fusers_of(network: Any) -> dict[Any, bool]:
    """Return GLIGEN's and InteractDiffusion's fusers; True for those that are on."""
    return _fusers(_modules(network))


def _switches(network: Any) -> Switches:
    modules = _modules(network)
    processors = [vars(each).get("processor") or each._modules.get("processor") for each in modules]
    return Switches(
        {each: _copied(each.scale) for each in processors if each is not None and hasattr(each, "scale")},
        {layer: _lora(layer) for layer in modules if _is_lora(layer)},
        _fusers(modules),
    )


def _modules(network: Any) -> list[Any]:
    return list(network.modules()) if isinstance(network, torch.nn.Module) else []


def _fusers(modules: Sequence[Any]) -> dict[Any, bool]:
    return {each: vars(each)["enabled"] for each in modules if isinstance(vars(each).get("enabled"), bool)}


def _is_lora(layer: Any) -> bool:
    """True for one of peft's layers, and not for the network around them.

    It looks in the class and the dictionary, at every call: `hasattr` is slow where a module has not.
    """
    return hasattr(type(layer), "active_adapters") and isinstance(vars(layer).get("scaling"), dict)


def _lora(layer: Any) -> Lora:
    return Lora(tuple(layer.active_adapters), layer.disable_adapters, dict(layer.scaling))


def _then(bound: Lora | None, now: Lora) -> Lora:
    """Return a layer as it was bound: what came later is off, and keeps its scaling."""
    if bound is None or bound.disabled:
        return now._replace(disabled=True)
    return bound._replace(
        scaling={name: scale for name, scale in bound.scaling.items() if name in bound.active}
    )


def _check(bound: Switches, now: Switches) -> None:
    if bound.scales.keys() != now.scales.keys():
        raise RuntimeError(
            f"the network has {len(now.scales)} IP-Adapter processors, expected the {len(bound.scales)} that "
            "it was bound with: an IP-Adapter was loaded or unloaded since, bind it again"
        )
    for layer, lora in bound.loras.items():
        there = now.loras[layer].scaling if layer in now.loras else {}
        gone = [name for name in lora.scaling if name in lora.active and name not in there]
        if gone and not lora.disabled:
            raise RuntimeError(
                f"the network has no LoRA {gone[0]!r} any more, expected it as when bound: bind again"
            )


def _switch(to: Switches) -> None:
    for processor, scale in to.scales.items():
        processor.scale = _copied(scale)
    for fuser, enabled in to.fusers.items():
        fuser.enabled = enabled
    for layer, lora in to.loras.items():
        layer.scaling.update(lora.scaling)
        if _lora(layer)[:2] != lora[:2]:
            if layer.merged:
                raise RuntimeError(
                    f"the network's LoRA {layer.merged_adapters[0]!r} is fused into its weights, expected to "
                    "switch it: unfuse_lora(), or bind again"
                )
            trained = [(parameter, parameter.requires_grad) for parameter in layer.parameters()]
            layer.set_adapter(list(lora.active))
            layer.enable_adapters(not lora.disabled)
            for parameter, wanted in trained:  # peft's setters decide that too
                parameter.requires_grad_(wanted)


def _copied(scale: Any) -> Any:
    return list(scale) if isinstance(scale, list) else scale
