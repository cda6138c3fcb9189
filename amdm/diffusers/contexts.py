"""Contexts for a network's call: its switches as they were bound, and a random generator of its own.

`as_switched` and `without_randomness` return functions that make a context manager for
`NetworkDenoiser(..., contexts=[...])`.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple
from weakref import ReferenceType, WeakKeyDictionary, ref

import torch

from amdm.writes import writes_to

Context = Callable[[], contextlib.AbstractContextManager[None]]


# One for each network, beside it: a module with a lock in it can't be copied or pickled.
_locks: WeakKeyDictionary[torch.nn.Module, Any] = WeakKeyDictionary()


def bare(module: Any) -> Any:
    """Return the module inside `torch.compile`'s wrapper, which has the original signature and class."""
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
    """The switches of peft for the LoRAs of one layer."""

    active: tuple[str, ...]
    """The network's active adapters; a layer need not have all of them."""
    disabled: bool
    scaling: dict[str, float]
    merged: tuple[str, ...]
    """The LoRAs that are fused into the layer's weights."""


class Switches(NamedTuple):
    """Everything in a network that is switched instead of passed as an argument, by module."""

    scales: dict[Any, Any]
    """The scales of IP-Adapter's attention processors."""
    loras: dict[Any, Lora]
    fusers: dict[Any, bool]
    """GLIGEN's."""
    freeu: dict[Any, tuple[Any, ...]]
    """FreeU's factors of the upsampling blocks, None where it is off."""
    hooks: dict[Any, Any]
    """Diffusers' hooks that change what a module computes: its caches, skipped layers."""

    @property
    def caches(self) -> list[str]:
        """Return the hooks that keep something from one call for the next, by class."""
        hooks = self.hooks.values()
        return [type(hook).__name__ for hook in hooks if getattr(hook, "_is_stateful", False)]


FREEU = ("s1", "s2", "b1", "b2")
PLACING = [
    f"diffusers.hooks.{name}" for name in ("layerwise_casting", "group_offloading", "context_parallel")
]
"""Diffusers' modules of the hooks that say where a module computes, and not what."""


class Weight(NamedTuple):
    """A parameter and its count of writes. No number is read, so the host does not wait for the device."""

    parameter: ReferenceType[torch.nn.Parameter]
    writes: int | None

    def is_now(self, now: torch.nn.Parameter) -> bool:
        """Return True if `now` is this parameter, not written to since, or its exchange by offloading."""
        before = self.parameter()
        if before is not now:
            return now.is_meta or (before is not None and before.is_meta)
        return writes_to(now) == self.writes


def as_switched(network: Any) -> "Switched":
    """Return a context that switches the network as it is now, for the duration of a call.

    This binds its LoRAs, IP-Adapter scales and FreeU. After the call they are as they were before it.

    One U-Net then serves as several models: switch, bind, switch again (with diffusers' `set_adapters`,
    `disable_lora`, `set_ip_adapter_scale`). LoRAs that are loaded later are off in the models that were
    bound before. A LoRA that takes another's name is recognised by its tensors, not by their values: peft's
    `hotswap`, which writes around torch's counters, is not detected. Writes to the network's own weights,
    as by `fuse_lora` and `unload_lora` together, are not detected either. Threads that call such models
    take turns. Switch the network, or call it directly in another thread, only while none of its models is
    called.

    Raises:
        ValueError: the network has a cache (`enable_cache`), so its result depends on earlier calls.
        RuntimeError: at a call, if a LoRA that was bound is gone, exchanged or fused, or an IP-Adapter, a
            cache or another hook was added or removed: the network is not the one that was bound.
    """
    with locked(network):
        bound = _switches(network)
        weights = {layer: _weights(layer, lora) for layer, lora in bound.loras.items() if not lora.disabled}
    if bound.caches:
        raise ValueError(
            f"the network has {bound.caches[0]}, which reuses earlier calls' results, expected a function "
            "of the arguments alone: disable_cache() or remove the hook"
        )
    return Switched(network, bound, weights)


@dataclass(frozen=True, eq=False)
class Switched:
    """The return value of `as_switched`: it makes the context that holds the switches."""

    network: Any
    bound: Switches
    weights: Mapping[Any, Mapping[str, list[Weight]]]

    @contextlib.contextmanager
    def __call__(self) -> Iterator[None]:
        """Hold the switches as they were bound, then restore them."""
        with locked(self.network):
            now = _switches(self.network)
            _check(self.bound, now, self.weights)
            loras = {layer: _then(self.bound.loras.get(layer), lora) for layer, lora in now.loras.items()}
            _switch(Switches(self.bound.scales, loras, {}, self.bound.freeu, {}))
            try:
                yield
            finally:
                _switch(now)

    @property
    def has_ip_adapter(self) -> bool:
        """Return True if an IP-Adapter's scale is not 0."""
        return any(_is_scaled(scale) for scale in self.bound.scales.values())

    @property
    def has_loras(self) -> bool:
        """Return True if a LoRA is on, or fused into the weights."""
        return any(
            lora.merged or (not lora.disabled and any(lora.scaling.get(name) for name in lora.active))
            for lora in self.bound.loras.values()
        )

    def without(self, *, ip_adapter: bool, loras: bool) -> "Switched":
        """Return the same context with the IP-Adapters' scales at 0 and with the LoRAs disabled.

        Raises:
            ValueError: a LoRA is fused into the weights, and no switch removes it.
        """
        scales, layers, weights = self.bound.scales, self.bound.loras, self.weights
        if ip_adapter:
            scales = {each: _zero(scale) for each, scale in scales.items()}
        if loras:
            fused = next((lora.merged[0] for lora in layers.values() if lora.merged), None)
            if fused is not None:
                raise ValueError(
                    f"the network's LoRA {fused!r} is fused into its weights, expected one that can be "
                    "switched off: unfuse_lora() before from_pipeline"
                )
            layers = {layer: lora._replace(disabled=True) for layer, lora in layers.items()}
            weights = {}
        return replace(self, bound=self.bound._replace(scales=scales, loras=layers), weights=weights)


def without_randomness(device: torch.device | str = "cpu", seed: int = 0) -> Context:
    """Return a context that makes a network that draws from torch's global generators deterministic.

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
    """Return GLIGEN's and InteractDiffusion's fusers, with True for those that are on."""
    return _fusers(_modules(network))


def _switches(network: Any) -> Switches:
    modules = _modules(network)
    processors = [vars(each).get("processor") or each._modules.get("processor") for each in modules]
    return Switches(
        {each: _copied(each.scale) for each in processors if each is not None and hasattr(each, "scale")},
        {layer: _lora(layer) for layer in modules if _is_lora(layer)},
        _fusers(modules),
        {each: tuple(vars(each).get(name) for name in FREEU) for each in getattr(network, "up_blocks", ())},
        {key: hook for each in modules if "_diffusers_hook" in vars(each) for key, hook in _hooks(each)},
    )


def _modules(network: Any) -> list[Any]:
    return list(network.modules()) if isinstance(network, torch.nn.Module) else []


def _fusers(modules: Sequence[Any]) -> dict[Any, bool]:
    return {each: vars(each)["enabled"] for each in modules if isinstance(vars(each).get("enabled"), bool)}


def _hooks(module: Any) -> list[tuple[Any, Any]]:
    """Return the hooks of a module that change what it computes, with a key for each."""
    hooks = vars(module)["_diffusers_hook"].hooks.items()
    return [((module, name), hook) for name, hook in hooks if type(hook).__module__ not in PLACING]


def _is_lora(layer: Any) -> bool:
    """Return True for one of peft's layers, and False for the network around them.

    It looks in the class and the dictionary at every call: `hasattr` is slow if a module lacks the name.
    """
    return hasattr(type(layer), "active_adapters") and isinstance(vars(layer).get("scaling"), dict)


def _lora(layer: Any) -> Lora:
    return Lora(
        tuple(layer.active_adapters),
        layer.disable_adapters,
        dict(layer.scaling),
        tuple(layer.merged_adapters),
    )


def _weights(layer: Any, lora: Lora) -> dict[str, list[Weight]]:
    """Return the parameters of the layer's active LoRAs, by name."""
    return {
        name: [Weight(ref(each), writes_to(each)) for each in _parameters(layer, name)]
        for name in lora.active
    }


def _parameters(layer: Any, name: str) -> list[torch.nn.Parameter]:
    """Return the parameters of one LoRA of a layer, read from the dictionaries at every call for speed."""
    found: list[torch.nn.Parameter] = []
    for kind in layer.adapter_layer_names:
        of_all = layer._modules.get(kind)
        if isinstance(of_all, torch.nn.ParameterDict):
            found += [of_all[name]] if name in of_all else []
        elif of_all is not None and name in of_all._modules:
            part = of_all._modules[name]
            own = part._parameters.values()
            found += part.parameters() if part._modules else [each for each in own if each is not None]
    return found


def _then(bound: Lora | None, now: Lora) -> Lora:
    """Return a layer as it was bound: LoRAs that were added later are off and keep their scaling."""
    if bound is None or bound.disabled:
        return now._replace(disabled=True)
    return bound._replace(
        scaling={name: scale for name, scale in bound.scaling.items() if name in bound.active}
    )


def _check(bound: Switches, now: Switches, weights: Mapping[Any, Mapping[str, list[Weight]]]) -> None:
    for key, hook in now.hooks.items():
        if bound.hooks.get(key) is not hook:
            raise RuntimeError(
                f"the network has {type(hook).__name__}, which it had not when bound: disable_cache(), or "
                "remove the hook"
            )
    if len(now.hooks) < len(bound.hooks):
        gone = next(hook for key, hook in bound.hooks.items() if key not in now.hooks)
        raise RuntimeError(f"the network has no {type(gone).__name__} any more, expected it: bind again")
    if bound.scales.keys() != now.scales.keys():
        raise RuntimeError(
            f"the network has {len(now.scales)} IP-Adapter processors, expected the {len(bound.scales)} that "
            "it was bound with: an IP-Adapter was loaded or unloaded since, bind it again"
        )
    for layer, lora in bound.loras.items():
        there = now.loras.get(layer)
        for name, before in weights.get(layer, {}).items():
            if name not in lora.scaling:
                continue
            if there is None or name not in there.scaling:
                raise RuntimeError(
                    f"the network has no LoRA {name!r} any more, expected it as when bound: bind again"
                )
            parameters = _parameters(layer, name)
            if len(parameters) != len(before) or not all(map(Weight.is_now, before, parameters)):
                raise RuntimeError(
                    f"the network's LoRA {name!r} has other weights than when bound, expected its own: "
                    "bind again"
                )
        if there is not None and there.merged != lora.merged:
            name = (there.merged or lora.merged)[0]
            fused = "is fused into its weights" if name in there.merged else "is not fused any more"
            raise RuntimeError(
                f"the network's LoRA {name!r} {fused}, expected it as when bound: undo that, or bind again"
            )


def _switch(to: Switches) -> None:
    for processor, scale in to.scales.items():
        processor.scale = _copied(scale)
    for fuser, enabled in to.fusers.items():
        fuser.enabled = enabled
    for block, factors in to.freeu.items():
        for name, factor in zip(FREEU, factors, strict=True):
            if vars(block).get(name) != factor:
                setattr(block, name, factor)
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


def _zero(scale: Any) -> Any:
    """Return zeros in place of a scale, or of a list of scales for images and masks."""
    return [_zero(each) for each in scale] if isinstance(scale, list) else 0.0


def _is_scaled(scale: Any) -> bool:
    return any(map(_is_scaled, scale)) if isinstance(scale, list) else bool(scale)


def _copied(scale: Any) -> Any:
    return list(scale) if isinstance(scale, list) else scale
