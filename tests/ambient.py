"""Modes that surround a call and must not change it, and an emulated device without float64."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

REFUSAL = "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64."


class NoFloat64(torch.Tensor):
    """A tensor on the CPU that refuses float64 as Apple's GPUs do."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        leaves = name == "cpu" or (name == "to" and any(str(a) == "cpu" for a in args if not is_tensor(a)))
        if leaves and isinstance(args[0], NoFloat64):
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs).as_subclass(torch.Tensor)
        wanted = any(a is torch.float64 for a in (*args, kwargs.get("dtype")))
        if isinstance(args[0], NoFloat64) and (name == "double" or wanted):
            raise TypeError(REFUSAL)
        out = super().__torch_function__(func, types, args, kwargs)
        if isinstance(out, torch.Tensor) and out.dtype == torch.float64:
            raise TypeError(REFUSAL)
        return out


def is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


class NoLowMatmul(TorchDispatchMode):
    """Raises where a matrix product is not in float64: TF32 and its kin would lower it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "dot", "matmul"):
            given = [a for a in args if is_tensor(a)]
            wide = all(a.dtype == torch.float64 for a in given) or any(a.numel() == 0 for a in given)
            assert wide, f"{name} of {[a.dtype for a in given]}"
        return func(*args, **(kwargs or {}))


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def together(*modes: AbstractContextManager[Any]) -> AbstractContextManager[Any]:
    stack = ExitStack()
    for mode in modes:
        stack.enter_context(mode)
    return stack


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "bfloat16": lambda: together(
        torch.autocast("cpu", torch.bfloat16), matmul_precision("medium"), default_dtype(torch.bfloat16)
    ),
    "float16": lambda: together(
        torch.autocast("cpu", torch.float16), torch.device("meta"), default_dtype(torch.float64)
    ),
    "matrix products in float64 only": NoLowMatmul,
}
