"""Memory of N models, computed from their tensors: nothing is measured on a device."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from amdm.diffusers import Prepared


class Memory(NamedTuple):
    """Memory in bytes. Parameters stay; activations and decoding come after one another."""

    parameters: int
    """The sum over all pipelines; shared ones are counted once."""
    activations: int
    """The peak of one call of a network, of the largest."""
    decoding: int
    """The peak of one call of the decoder, the first pipeline's."""
    device: str
    """The device of the calls: the kernels, and so what they keep, depend on it."""

    def __str__(self) -> str:
        parameters, activations, decoding = (f"{size / 2**30:.2f} GiB" for size in self[:3])
        return (
            f"{parameters} of parameters, {activations} of activations of the largest network, "
            f"{decoding} to decode (computed from the tensors on {self.device}, not measured)"
        )


def memory_of(pipes: Sequence[Any], prepared: Sequence[Prepared]) -> Memory:
    """Return the memory of these pipelines.

    Calls every network once, on its start, and the first one's decoder.

    The networks run one after the other, so their activations do not add up: the largest counts.
    """
    parts = [part for pipe in pipes for part in pipe.components.values() if isinstance(part, nn.Module)]
    storages = [t.untyped_storage() for part in parts for t in [*part.parameters(), *part.buffers()]]
    parameters = sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())
    lead = prepared[0]
    return Memory(
        parameters,
        max(peak_of(one.model, one.x, one.sigmas[0].to(one.x).expand(len(one.x))) for one in prepared),
        peak_of(lead.decode, torch.zeros_like(lead.x)),  # what noise decodes to may overflow
        str(lead.x.device),
    )


@torch.no_grad()
def peak_of(function: Callable[..., Any], *args: Any) -> int:
    """Return the most bytes that a call's tensors take at once, without what lived before it.

    Kernels' workspaces are not seen, and fused attention's matrix is never made.
    """
    live = _Live()
    with live:
        function(*args)
    return live.peak


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that sees every operation's tensors and counts new storages until they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for storage in _storages([args, dict(kwargs or {})]):  # parameters and what else was there
            self._know(storage, 0)
        made = func(*args, **(kwargs or {}))
        for storage in _storages(made):
            self._know(storage, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return made

    def _know(self, storage: torch.UntypedStorage, size: int) -> None:
        if storage._cdata not in self.known:
            self.known.add(storage._cdata)
            self.now += size
            weakref.finalize(storage, self._forget, storage._cdata, size)

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.now -= size


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
