"""The argument checks at the boundary: once, before the first step, naming what was wrong."""

import math
from collections.abc import Callable, Mapping, Sequence, Sized
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

from torch import Generator, Tensor, finfo

from amdm.types import Denoiser


def check_latent(x: Tensor, name: str = "x", like: Tensor | None = None) -> None:
    """Raise unless `x` is a batch of floating-point latents, of the shape of `like` if that is given."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        raise TypeError(f"{name} is {_kind(x)}, expected a floating-point tensor")
    if x.ndim < 2 or len(x) == 0:
        raise ValueError(f"{name} has shape {tuple(x.shape)}, expected (batch, *event), batch 1 or more")
    if like is not None and x.shape != like.shape:
        raise ValueError(f"{name} has shape {tuple(x.shape)}, expected that of x[0]: {tuple(like.shape)}")


def check_sigmas(sigmas: Tensor) -> list[float]:
    """The schedule as numbers, read from its device once; raise unless finite, decreasing, 0 or more."""
    if not isinstance(sigmas, Tensor) or not sigmas.is_floating_point():
        raise TypeError(f"sigmas is {_kind(sigmas)}, expected a floating-point tensor")
    if sigmas.ndim != 1 or len(sigmas) == 0:
        raise ValueError(f"sigmas has shape {tuple(sigmas.shape)}, expected one axis of steps + 1 levels")
    levels: list[float] = sigmas.tolist()
    for i, sigma in enumerate(levels):
        if not math.isfinite(sigma) or sigma < 0:
            raise ValueError(f"sigmas[{i}] is {sigma}, expected a finite level of 0 or more")
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        if sigma_next >= sigma:
            raise ValueError(f"sigmas[{i + 1}] is {sigma_next} after {sigma}: expected a decreasing schedule")
    return levels


def check_holds(x: Tensor, sigma: float, name: str = "x") -> None:
    """Raise unless the dtype of `x` has numbers as large as its level."""
    largest = finfo(x.dtype).max
    if sigma > largest:
        raise ValueError(
            f"sigmas[0] is {sigma:.6g}, beyond the largest number {largest:.6g} of {name}, a {x.dtype} "
            "tensor: expected another dtype, or levels that begin lower"
        )


def check_models(models: Sequence[Denoiser], name: str = "models") -> None:
    """Raise unless there are some. Each of them is checked by `check_model`."""
    if not hasattr(models, "__len__") or isinstance(models, Tensor):
        raise TypeError(f"{name} is {_kind(models)}, expected a list of denoisers")
    if len(models) == 0:
        raise ValueError(f"{name} is empty, expected one denoiser or more")


def check_exponents(exponents: Sequence[float] | None, num_models: int) -> list[float]:
    """N exponents of a product that has a start, as numbers: None for ones; raise unless their sum is > 0."""
    exponents = [1.0] * num_models if exponents is None else exponents
    check_count(exponents, num_models, "exponents")
    for i, exponent in enumerate(exponents):
        check_finite(exponent, f"exponents[{i}]")
    if sum(exponents) <= 0:
        raise ValueError(
            f"exponents has the sum {sum(exponents)}, expected more than 0: else there is no start"
        )
    return [float(exponent) for exponent in exponents]


def check_log_densities(log_densities: Sequence[Any] | None, num_models: int) -> None:
    """Raise unless there are none, or N that can be called with (x, sigma); results: `check_result`."""
    if log_densities is None:
        return
    check_count(log_densities, num_models, "log_densities")
    for i, each in enumerate(log_densities):
        check_callable(each, f"log_densities[{i}]", "log_density(x, sigma)")


def check_extra_args(extra_args: object, name: str = "extra_args") -> None:
    """Raise unless `extra_args` is None or a mapping."""
    if extra_args is not None and not isinstance(extra_args, Mapping):
        raise TypeError(f"{name} is {_kind(extra_args)}, expected a dictionary or None")


def check_conditions(conditions: object, name: str) -> None:
    """Raise unless `conditions` is a mapping from keyword arguments of a model to tensors."""
    expected = f"a dictionary of the model's keyword arguments and tensors: {name}={{'name': tensor}}"
    if not isinstance(conditions, Mapping):
        raise TypeError(f"{name} is {_kind(conditions)}, expected {expected}")
    for key, value in conditions.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}[{key!r}] is {_kind(value)}, expected {expected}")


def check_generator(generator: object) -> None:
    """Raise unless `generator` is one of torch's, or None for the global one."""
    if generator is not None and not isinstance(generator, Generator):
        raise TypeError(f"generator is {_kind(generator)}, expected a torch.Generator or None")


def check_levels(sigma: float, sigma_next: float) -> None:
    """Raise unless a step from sigma goes down to sigma_next, 0 or more."""
    check_number(sigma, "sigma", "a finite level above 0", lambda level: level > 0)
    check_number(
        sigma_next, "sigma_next", f"a level in [0, sigma = {sigma})", lambda level: 0 <= level < sigma
    )


def check_callable(value: object, name: str, call: str) -> None:
    """Raise unless `value` can be called."""
    if not callable(value):
        raise TypeError(f"{name} is {_kind(value)}, expected a callable {call}")


RANGE_RTOL = 1e-3
"""The part by which levels may leave a model's range: float32 tables round."""


def check_model(model: object, name: str, levels: Sequence[float] = (), rtol: float = RANGE_RTOL) -> None:
    """Raise unless `model` can be called as a denoiser, at these levels (0 aside) if it knows its range."""
    if hasattr(model, "components") and hasattr(model, "scheduler"):
        raise TypeError(
            f"{name} is {_kind(model)}, a pipeline, expected a denoiser: from_pipeline(pipe, ...).model"
        )
    if not callable(model):
        raise TypeError(f"{name} is {_kind(model)}, expected a callable model(x, sigma, **extra_args)")
    if len(levels) == 0:
        return
    low, high = float(getattr(model, "sigma_min", 0.0)), float(getattr(model, "sigma_max", math.inf))
    for sigma in levels:
        if sigma > 0 and not low * (1 - rtol) <= sigma <= high * (1 + rtol):
            raise ValueError(
                f"sigmas has {sigma:.6g}, outside the range [{low:.6g}, {high:.6g}] of {name} "
                f"({type(model).__name__})"
            )


def check_result(
    result: object, x: Tensor, shape: tuple[int, ...], name: str, *, same_device: bool = True
) -> None:
    """Raise unless what `name` returned for `x` is a floating-point tensor of this shape on its device."""
    if not isinstance(result, Tensor) or not result.is_floating_point():
        raise TypeError(f"{name} returned {_kind(result)}, expected a floating-point tensor")
    if result.shape != shape:
        expected = f"that of x: {shape}" if shape == x.shape else shape
        raise ValueError(f"{name} returned shape {tuple(result.shape)}, expected {expected}")
    if same_device and result.device != x.device:
        raise ValueError(f"{name} returned a tensor on {result.device}, expected x's {x.device}")


def per_model(value: Any, num_models: int, name: str) -> list[Any]:
    """One entry per model: a list as it is, anything else N times."""
    if not isinstance(value, list | tuple):
        return [value] * num_models
    if len(value) != num_models:
        raise ValueError(
            f"{name} has {len(value)} entries but there are {num_models} models: expected {num_models}"
        )
    return list(value)


def check_finite(value: object, name: str) -> None:
    """Raise unless `value` is a finite number."""
    check_number(value, name, "a finite number", lambda _: True)


def check_number(value: object, name: str, expected: str, holds: Callable[[float], bool]) -> None:
    """Raise unless `value` is a finite number for which `holds`; numpy's scalars are numbers."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} is {_kind(value)}, expected {expected}")
    if not (math.isfinite(value) and holds(float(value))):
        raise ValueError(f"{name} is {value}, expected {expected}")


def check_whole(value: object, name: str, expected: str, holds: Callable[[int], bool]) -> None:
    """Raise unless `value` is a whole number for which `holds`; numpy's are such."""
    if not isinstance(value, Integral):
        raise TypeError(f"{name} is {value!r}, expected {expected}")
    if not holds(int(value)):
        raise ValueError(f"{name} is {value}, expected {expected}")


def check_count(values: object, num_models: int, name: str) -> None:
    """Raise unless `values` is a list of as many entries as there are models."""
    if not isinstance(values, Sized) or getattr(values, "ndim", 1) == 0:
        raise TypeError(f"{name} is {_kind(values)}, expected a list of {num_models}, one per model")
    if len(values) != num_models:
        raise ValueError(f"{name} has {len(values)} entries but there are {num_models} models")


def _kind(value: object) -> str:
    return f"a {value.dtype} tensor" if isinstance(value, Tensor) else f"{type(value).__name__}"
