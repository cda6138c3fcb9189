"""Argument checks at the boundary. They run once, before the first step, and name what was wrong."""

import math
from collections.abc import Callable, Mapping, Sequence, Sized
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from amdm.types import Denoiser


def check_latent(x: Tensor, name: str = "x", like: Tensor | None = None) -> None:
    """Raise unless `x` is a batch of floating-point latents and, if `like` is given, has its shape."""
    check_floating(x, name)
    if x.ndim < 2 or len(x) == 0:
        raise ValueError(f"{name} has shape {tuple(x.shape)}, expected (batch, *event), batch 1 or more")
    if like is not None and x.shape != like.shape:
        raise ValueError(f"{name} has shape {tuple(x.shape)}, expected that of x[0]: {tuple(like.shape)}")


def check_sigmas(sigmas: Tensor) -> list[float]:
    """Return the schedule as numbers; raise unless it is finite, decreasing and 0 or more.

    The tensor is read from its device once.
    """
    levels = check_each_level(sigmas)
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        if sigma_next >= sigma:
            raise ValueError(f"sigmas[{i + 1}] is {sigma_next} after {sigma}: expected a decreasing schedule")
    return levels


def check_each_level(sigmas: Tensor) -> list[float]:
    """Return levels in any order as numbers, read from their device; raise unless finite, 0 or more."""
    levels = check_axis(sigmas, "sigmas", "one axis of steps + 1 levels")
    for i, sigma in enumerate(levels):
        if not math.isfinite(sigma) or sigma < 0:
            raise ValueError(f"sigmas[{i}] is {sigma}, expected a finite level of 0 or more")
    return levels


def check_axis(values: object, name: str, expected: str) -> list[float]:
    """Return the numbers of a floating-point tensor; raise unless it has one axis and is not empty."""
    check_floating(values, name)
    assert isinstance(values, Tensor)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"{name} has shape {tuple(values.shape)}, expected {expected}")
    if values.is_meta:
        raise ValueError(f"{name} is on the meta device, which has no values: expected {expected}")
    numbers: list[float] = values.tolist()
    return numbers


def check_floating(value: object, name: str) -> None:
    """Raise unless `value` is a floating-point tensor."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise TypeError(f"{name} is {kind_of(value)}, expected a floating-point tensor")


def check_holds(x: Tensor, sigma: float, name: str = "x") -> None:
    """Raise unless the dtype of `x` can represent numbers as large as its level."""
    largest = torch.finfo(x.dtype).max
    if sigma > largest:
        raise ValueError(
            f"sigmas[0] is {sigma:.6g}, beyond the largest number {largest:.6g} of {name}, a {x.dtype} "
            "tensor: expected another dtype, or levels that begin lower"
        )


def check_real(value: Tensor, name: str, expected: str) -> None:
    """Raise unless a tensor holds integers or floating-point numbers: not bool, not complex."""
    if value.dtype == torch.bool or value.is_complex():
        raise TypeError(f"{name} is {kind_of(value)}, expected {expected}")


def check_models(models: Sequence[Denoiser], name: str = "models") -> None:
    """Raise unless there is at least one model. `check_model` checks each of them."""
    if not isinstance(models, Sequence) or isinstance(models, str | bytes):
        raise TypeError(f"{name} is {kind_of(models)}, expected a list of denoisers")
    if len(models) == 0:
        raise ValueError(f"{name} is empty, expected one denoiser or more")


def check_exponents(exponents: Sequence[float] | None, num_models: int) -> list[float]:
    """Return N exponents as numbers, ones for None; raise unless their sum is > 0, so that a start exists."""
    exponents = [1.0] * num_models if exponents is None else exponents
    check_count(exponents, num_models, "exponents")
    for i, exponent in enumerate(exponents):
        check_finite(exponent, f"exponents[{i}]")
    if sum(exponents) <= 0:
        raise ValueError(f"exponents has the sum {sum(exponents)}, expected more than 0 for a start to exist")
    return [float(exponent) for exponent in exponents]


def check_log_densities(log_densities: Sequence[Any] | None, num_models: int) -> None:
    """Raise unless `log_densities` is None or N callables of (x, sigma). `check_result` checks results."""
    if log_densities is None:
        return
    check_count(log_densities, num_models, "log_densities")
    for i, each in enumerate(log_densities):
        check_callable(each, f"log_densities[{i}]", "log_density(x, sigma)")


def check_extra_args(extra_args: object, name: str = "extra_args") -> None:
    """Raise unless `extra_args` is None or a mapping with names as keys."""
    if extra_args is None:
        return
    if not isinstance(extra_args, Mapping):
        raise TypeError(f"{name} is {kind_of(extra_args)}, expected a dictionary or None")
    for key in extra_args:
        if not isinstance(key, str):
            raise TypeError(f"{name} has the key {key!r}, expected names of arguments")


def check_conditions(conditions: object, name: str, expected: str = "") -> None:
    """Raise unless `conditions` maps names, by default of keyword arguments, to tensors."""
    call = f"a dictionary of the model's keyword arguments and tensors: {name}={{'name': tensor}}"
    expected = expected or call
    if not isinstance(conditions, Mapping):
        raise TypeError(f"{name} is {kind_of(conditions)}, expected {expected}")
    for key, value in conditions.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}[{key!r}] is {kind_of(value)}, expected {expected}")


def check_generator(generator: object) -> None:
    """Raise unless `generator` is a `torch.Generator`, or None for the global one."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator is {kind_of(generator)}, expected a torch.Generator or None")


def as_step(sigma: object, sigma_next: object, eta: object = 0.0) -> tuple[float, float, float]:
    """Return a step's levels and eta as floats; 0-d tensors are read on the host. Raise for other types."""
    floats = type(sigma) is float and type(sigma_next) is float and type(eta) is float
    if floats and 0 <= sigma_next < sigma < math.inf and 0 <= eta < math.inf:  # type: ignore[operator]
        return sigma, sigma_next, eta  # type: ignore[return-value]
    level, level_next = as_level(sigma, "sigma"), as_level(sigma_next, "sigma_next")
    check_levels(level, level_next)
    if isinstance(eta, Tensor):
        eta = as_level(eta, "eta")
    check_number(eta, "eta", "a finite number of 0 or more", lambda eta: eta >= 0)
    return level, level_next, float(cast("float", eta))


def check_levels(sigma: float, sigma_next: float) -> None:
    """Raise unless a step from sigma goes down to sigma_next, 0 or more."""
    check_number(sigma, "sigma", "a finite level above 0", lambda level: level > 0)
    check_number(
        sigma_next, "sigma_next", f"a level in [0, sigma = {sigma})", lambda level: 0 <= level < sigma
    )


def check_callable(value: object, name: str, call: str) -> None:
    """Raise unless `value` can be called."""
    if not callable(value):
        raise TypeError(f"{name} is {kind_of(value)}, expected a callable {call}")


RANGE_RTOL = 1e-3
"""The part by which levels may leave a model's range: float32 tables round."""


def check_model(
    model: object, name: str, levels: Sequence[float] = (), rtol: float = RANGE_RTOL, more: str = ""
) -> None:
    """Raise unless `model` is callable as a denoiser and its range, if known, covers these levels (but 0)."""
    if hasattr(model, "components") and hasattr(model, "scheduler"):
        raise TypeError(
            f"{name} is {kind_of(model)}, a pipeline, expected a denoiser: from_pipeline(pipe, ...).model"
        )
    if hasattr(model, "without_control"):
        raise TypeError(f"{name} is {kind_of(model)}, expected its .model or its .without_control()")
    if not callable(model):
        raise TypeError(f"{name} is {kind_of(model)}, expected a callable model(x, sigma, **extra_args)")
    if len(levels) == 0:
        return
    low, high = float(getattr(model, "sigma_min", 0.0)), float(getattr(model, "sigma_max", math.inf))
    for sigma in levels:
        if sigma > 0 and not low * (1 - rtol) <= sigma <= high * (1 + rtol):
            raise ValueError(
                f"sigmas has {sigma:.6g}, outside the range [{low:.6g}, {high:.6g}] of {name} "
                f"({own_name(model) or type(model).__name__}){more}"
            )


def own_name(model: object) -> str:
    """Return a denoiser's attribute `name`, which messages say, or an empty text if it has none."""
    name = getattr(model, "name", None)
    return name if isinstance(name, str) else ""


def with_own_name(model: object, name: str) -> str:
    """Return the name of a model's argument, and in brackets the model's own name if it has one."""
    return f"{name} ({own_name(model)})" if own_name(model) else name


def check_result(
    result: object, x: Tensor, shape: tuple[int, ...], name: str, *, same_device: bool = True
) -> None:
    """Raise unless `name` returned a floating-point tensor of this shape on the device of `x`."""
    if not isinstance(result, Tensor) or not result.is_floating_point():
        raise TypeError(f"{name} returned {kind_of(result)}, expected a floating-point tensor")
    if result.shape != shape:
        expected = f"that of x: {shape}" if shape == x.shape else shape
        raise ValueError(f"{name} returned shape {tuple(result.shape)}, expected {expected}")
    if result.device != x.device and (same_device or result.is_meta):
        raise ValueError(f"{name} returned a tensor on {result.device}, expected x's {x.device}")


def per_model(value: Any, count: int, name: str, of: str = "", more: str = "") -> list[Any]:
    """Return one entry for each of `count` models: a list as it is, anything else repeated."""
    if not isinstance(value, list | tuple):
        return [value] * count
    if len(value) != count:
        of = of or f"{count} models"
        raise ValueError(f"{name} has {len(value)} entries but there are {of}: expected {count}{more}")
    return list(value)


def check_finite(value: object, name: str) -> None:
    """Raise unless `value` is a finite number."""
    check_number(value, name, "a finite number", lambda _: True)


def check_number(value: object, name: str, expected: str, holds: Callable[[float], bool]) -> None:
    """Raise unless `value` is a finite number for which `holds` is true; numpy's count, bools do not."""
    number = as_number(value, name, expected)
    if not (math.isfinite(number) and holds(number)):
        raise ValueError(f"{name} is {value}, expected {expected}")


def as_number(value: object, name: str, expected: str) -> float:
    """Return a number, infinite or not, as a Python float; raise if `value` is not a number."""
    if type(value) is float:
        return value
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} is {kind_of(value)}, expected {expected}")
    try:
        return float(value)
    except OverflowError:
        return math.inf if cast("int", value) > 0 else -math.inf


def as_level(
    value: object, name: str, expected: str = "a finite level of 0 or more", *, zero: bool = True
) -> float:
    """Return a level, a number or a 0-d tensor read on the host; raise unless it is finite and 0 or more."""
    if isinstance(value, Tensor) and value.ndim == 0 and value.is_floating_point() and not value.is_meta:
        value = value.item()
    number = as_number(value, name, expected)
    if not (0 <= number < math.inf and (zero or number > 0)):
        raise ValueError(f"{name} is {number}, expected {expected}")
    return number


def check_whole(value: object, name: str, expected: str, holds: Callable[[int], bool]) -> None:
    """Raise unless `value` is a whole number for which `holds` is true; numpy's integers count."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}, expected {expected}")
    if not holds(int(value)):
        raise ValueError(f"{name} is {value}, expected {expected}")


def check_switch(value: object, name: str) -> None:
    """Raise unless `value` is True or False; numpy's bools and integers count."""
    if type(value) is not bool and not isinstance(value, Integral | np.bool_):
        raise TypeError(f"{name} is {kind_of(value)}, expected True or False")


def check_count(values: object, num_models: int, name: str) -> None:
    """Raise unless `values` is a list with one entry per model."""
    if not is_list(values):
        raise TypeError(f"{name} is {kind_of(values)}, expected a list of {num_models}, one per model")
    assert isinstance(values, Sized)
    if len(values) != num_models:
        raise ValueError(f"{name} has {len(values)} entries but there are {num_models} models")


def is_list(values: Any) -> bool:
    """Return True for a sequence whose entries have indices: a list, a tuple, an array or a tensor."""
    if isinstance(values, str | bytes | Mapping):
        return False
    return isinstance(values, Sequence) or getattr(values, "ndim", 0) > 0


def check_sigma(sigma: object, x: Tensor) -> None:
    """Raise unless `sigma` is a tensor with one level per sample of `x`."""
    check_floating(sigma, "sigma")
    assert isinstance(sigma, Tensor)
    if sigma.shape != x.shape[:1]:
        raise ValueError(f"sigma has shape {tuple(sigma.shape)}, expected one per sample: ({len(x)},)")
    if sigma.device != x.device:
        raise ValueError(f"sigma is on {sigma.device}, expected x's device: {x.device}")


def check_shape(shape: Any, name: str = "shape") -> None:
    """Raise unless `shape` is a list of whole numbers of 1 or more."""
    expected = "a list of whole numbers of 1 or more, one sample's shape"
    if not is_list(shape):
        raise TypeError(f"{name} is {shape!r}, expected {expected}")
    for i, size in enumerate(shape):
        check_whole(size, f"{name}[{i}]", "a whole number of 1 or more", lambda size: size >= 1)


def as_device(value: object, name: str = "device") -> torch.device:
    """Return an available device; None is the CPU."""
    try:
        found = torch.device("cpu" if value is None else value)  # type: ignore[call-overload]
        return torch.empty(0, device=found).device
    except (RuntimeError, TypeError, ValueError, AssertionError) as error:
        raise ValueError(f"{name} is {value!r}, expected a device that torch has: {error}") from None


def check_choice(value: object, name: str, choices: Sequence[str]) -> None:
    """Raise unless `value` is one of the given strings."""
    if not isinstance(value, str) or value not in choices:
        listed = ", ".join(map(repr, choices[:-1])) + f" or {choices[-1]!r}"
        raise ValueError(f"{name} is {value!r}, expected {listed}")


def kind_of(value: object) -> str:
    """Return the kind of a value, for messages."""
    if value is None:
        return "None"
    return f"a {value.dtype} tensor" if isinstance(value, Tensor) else f"{type(value).__name__}"
