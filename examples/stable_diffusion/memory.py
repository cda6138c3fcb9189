"""How much memory N models take, computed from their tensors: nothing is measured on a device."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from amdm.denoisers.diffusers import Prepared


class Memory(NamedTuple):
    """Bytes."""

    parameters: int
    """Of all pipelines; what they share is counted once."""
    activations: int
    """The most that one layer of a network reads and writes, and the skip connections beside it."""

    def __str__(self) -> str:
        weights, work = self.parameters / 2**30, self.activations / 2**30
        return f"{weights:.2f} GiB of parameters, {work:.2f} GiB of activations (computed, not measured)"


def memory_of(pipes: Sequence[Any], prepared: Sequence[Prepared]) -> Memory:
    """What these pipelines take. Calls every network once, on its start.

    The networks run one after the other, so their activations do not add up: the largest counts.
    """
    parts = [part for pipe in pipes for part in pipe.components.values() if isinstance(part, nn.Module)]
    tensors = {t.data_ptr(): t for part in parts for t in [*part.parameters(), *part.buffers()]}
    parameters = sum(_bytes(tensor) for tensor in tensors.values())
    return Memory(parameters, max(map(_activations, prepared)))


@torch.no_grad()
def _activations(prepared: Prepared) -> int:
    network: Any = prepared.model.network
    layers, skips = [0], 0

    def layer(module: nn.Module, args: Any, output: Any) -> None:
        layers.append(_bytes(args) + _bytes(output))

    def skip(module: nn.Module, args: Any, output: Any) -> None:
        nonlocal skips
        skips += _bytes(output)

    leaves = [module for module in network.modules() if not any(module.children())]
    hooks = [module.register_forward_hook(layer) for module in leaves]
    hooks += [block.register_forward_hook(skip) for block in getattr(network, "down_blocks", [])]
    try:
        sigma = prepared.sigmas[0].to(prepared.x).expand(len(prepared.x))
        prepared.model(prepared.x, sigma)
    finally:
        for hook in hooks:
            hook.remove()
    return max(layers) + skips


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else 0
