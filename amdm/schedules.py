"""Noise levels: decreasing schedules in VE coordinates and tables, in float64; a flow's times and latents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from amdm.checks import (
    as_level,
    check_axis,
    check_choice,
    check_each_level,
    check_floating,
    check_latent,
    check_number,
    check_sigma,
    check_whole,
)
from amdm.types import Latent, Weight

__all__ = [
    "INFINITE_SIGMA",
    "ddim_sigmas",
    "flow_from_ve",
    "flow_sigmas",
    "flow_times",
    "flow_times_from_sigmas",
    "flow_to_ve",
    "karras_sigmas",
    "sigmas_from_betas",
    "stable_diffusion_betas",
]

INFINITE_SIGMA = 1e6
"""Stands for an infinite level: of a flow's time 1, of a zero terminal signal-to-noise ratio.

Where a step is a mean of the latent and the prediction (`ddim`, `dpmpp_2m` and its SDE form) it is as good
as infinity. float16 does not have it, and samplers whose steps are long in sigma do not take it.
"""

MOST_STEPS = 10**7
"""More would not fit into memory."""

Levels = Float[Tensor, " levels"]
Spacing = Literal["leading", "trailing", "linspace"]


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Levels:
    """Return levels with evenly spaced `rho`-th roots, then 0: k-diffusion's `get_sigmas_karras`.

    Args:
        steps: 1 or more.
        sigma_min: the last level above 0, VE.
        sigma_max: the first level, VE.
        rho: positive; 7 is Karras et al.'s, 1 is evenly spaced. In float64 the levels must differ.

    Returns:
        `(steps + 1,)`, decreasing, ending in 0.

    Raises:
        TypeError, ValueError: an argument is not as above.

    References:
        Karras et al. 2022, "Elucidating the design space", arXiv:2206.00364, eq. (5).

    >>> karras_sigmas(3, 0.1, 10.0, rho=1.0)
    tensor([10.0000,  5.0500,  0.1000,  0.0000], dtype=torch.float64)
    """
    _check_steps(steps)
    check_number(sigma_min, "sigma_min", "a positive level", lambda level: level > 0)
    check_number(sigma_max, "sigma_max", f"a level above {sigma_min}", lambda level: level > sigma_min)
    check_number(rho, "rho", "a positive number", lambda rho: rho > 0)
    try:
        first, last = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    except OverflowError:
        raise ValueError(f"rho is {rho}, expected one with which sigma_max^(1/rho) is finite") from None
    roots = torch.linspace(first, last, steps, dtype=torch.float64, device="cpu")
    return _ending_in_zero(roots**rho, f"rho is {rho}")


def ddim_sigmas(
    table: Float[Tensor, " trained"], steps: int, spacing: Spacing = "leading", offset: int = 1
) -> Levels:
    """Return the levels at which diffusers' `DDIMScheduler` calls its network, then 0.

    Args:
        table: the level of every training step, increasing: `sigmas_from_betas(betas)`.
        steps: from 1 to the number of training steps.
        spacing: the scheduler's `timestep_spacing`.
        offset: its `steps_offset`, 0 or more, for "leading"; Stable Diffusion's is 1.

    Returns:
        `(steps + 1,)`, decreasing, ending in 0.

    Raises:
        TypeError, ValueError: an argument is not as above.

    References:
        Lin et al. 2023, arXiv:2305.08891, table 2.

    >>> ddim_sigmas(sigmas_from_betas(stable_diffusion_betas()), 50)[:2]
    tensor([13.1204, 11.6760], dtype=torch.float64)
    """
    levels = check_axis(table, "table", "one axis of levels")
    for i, (level, after) in enumerate(pairwise([0.0, *levels, math.inf])):
        if not level < after:
            raise ValueError(
                f"table[{i}] is {after} after {level}, expected finite levels that increase from 0"
            )
    trained = len(levels)
    check_whole(
        steps, "steps", f"a whole number from 1 to the table's {trained}", lambda s: 1 <= s <= trained
    )
    check_whole(offset, "offset", "a whole number of 0 or more", lambda offset: offset >= 0)
    check_choice(spacing, "spacing", ("leading", "trailing", "linspace"))
    timesteps: Any
    match spacing:
        case "leading":
            timesteps = np.arange(steps)[::-1] * (trained // steps) + offset
        case "trailing":
            timesteps = np.round(np.arange(trained, 0, -trained / steps)) - 1
        case "linspace":
            timesteps = np.linspace(0, trained - 1, steps).round()[::-1]
    if timesteps[0] >= trained:
        raise ValueError(
            f"steps is {steps}, which begins at training step {timesteps[0]:.0f} of {trained}, "
            f"expected fewer, or a smaller offset than {offset}"
        )
    return _ending_in_zero(table.double()[torch.from_numpy(timesteps.astype(np.int64))])


def stable_diffusion_betas(steps: int = 1000) -> Float[Tensor, " trained"]:
    """Return Stable Diffusion's betas ("scaled_linear"): even roots from 0.00085^(1/2) to 0.012^(1/2)."""
    _check_steps(steps)
    return torch.linspace(0.00085**0.5, 0.012**0.5, steps, dtype=torch.float64, device="cpu").square()


def sigmas_from_betas(betas: Float[Tensor, " trained"]) -> Float[Tensor, " trained"]:
    """Return the level of every training step, increasing.

    sigma^2 = (1 - abar)/abar with abar = cumprod(1 - beta).

    The infinite level of a zero terminal signal-to-noise ratio becomes 1e6.
    """
    for i, beta in enumerate(check_axis(betas, "betas", "one axis of training steps")):
        if not 0 <= beta <= 1:
            raise ValueError(f"betas[{i}] is {beta}, expected a variance in [0, 1]")
    abar = (1 - betas.double()).cumprod(0)
    return ((1 - abar) / abar).sqrt().clamp(max=INFINITE_SIGMA)


def flow_times(steps: int, shift: float = 1.0) -> Levels:
    """Return the times in [0, 1] of diffusers' `FlowMatchEulerDiscreteScheduler`, decreasing from 1, then 0.

    Evenly spaced times s become shift s/(1 + (shift - 1) s); the last one above 0 is that of s = 1/1000.

    Args:
        steps: 1 or more.
        shift: 1 for no shift; SD3's scheduler has 3.

    References:
        Esser et al. 2024, arXiv:2403.03206, section 5.3.2.

    >>> flow_sigmas(flow_times(2, shift=3.0))[1:]
    tensor([0.0090, 0.0000], dtype=torch.float64)
    """
    _check_steps(steps)
    check_number(shift, "shift", "a positive number", lambda value: value > 0)
    # The scheduler shifts twice: its least time when it is made, and all times when they are set.
    least = shift * 1e-3 / (1 + (shift - 1) * 1e-3)
    even = torch.linspace(1.0, least, steps, dtype=torch.float64, device="cpu")
    return _ending_in_zero((shift * even / (1 + (shift - 1) * even)).clamp(max=1.0), f"shift is {shift}")


def flow_sigmas(times: Levels) -> Levels:
    """Return VE noise levels s/(1 - s) for flow times s in [0, 1]; the infinite level of s = 1 becomes 1e6.

    float16 input, which cannot represent 1e6, gives float32.

    >>> flow_sigmas(torch.tensor([1.0, 0.5, 0.0]))
    tensor([1.0000e+06, 1.0000e+00, 0.0000e+00])
    """
    check_flow_times(times)
    times = times.float() if times.dtype == torch.float16 else times
    return (times / (1 - times)).clamp(max=INFINITE_SIGMA)


def check_flow_times(times: Tensor) -> None:
    """Raise unless `times` is one axis of numbers in [0, 1]."""
    if not all(0 <= time <= 1 for time in check_axis(times, "times", "one axis of flow times")):
        raise ValueError(f"times is {times.tolist()}, expected flow times in [0, 1]")


def flow_times_from_sigmas(sigmas: Levels) -> Levels:
    """Return the flow times s = sigma/(1 + sigma) of VE levels, the inverse of `flow_sigmas`; 1 for 1e6.

    >>> flow_times_from_sigmas(torch.tensor([1e6, 1.0, 0.0]))
    tensor([1.0000, 0.5000, 0.0000])
    """
    check_each_level(sigmas)
    return torch.where(_stands_for_infinity(sigmas), 1.0, sigmas / (1 + sigmas)).to(sigmas.dtype)


def flow_to_ve(x: Latent, sigma: Weight) -> Latent:
    """Return the VE latent (1 + sigma) x of a flow's latent x_s = (1 - s) x0 + s noise.

    Args:
        x: `(batch, *event)`, x_s.
        sigma: its VE level s/(1 - s), a number or one per sample: `flow_sigmas(times)[i]`.

    >>> flow_to_ve(torch.ones(1, 2), 3.0)
    tensor([[4., 4.]])
    """
    return x * (1 + _beside_latent(sigma, x))


def flow_from_ve(x: Latent, sigma: Weight) -> Latent:
    """Return the flow's latent x/(1 + sigma) of a VE latent, the inverse of `flow_to_ve`.

    Args:
        x: `(batch, *event)`, VE: what a sampler takes, yields in its `Step`s and returns.
        sigma: its VE level, a number or one per sample. At 0 both latents are the same.

    >>> flow_from_ve(torch.ones(1, 2), 3.0)
    tensor([[0.2500, 0.2500]])
    """
    return x / (1 + _beside_latent(sigma, x))


def _beside_latent(sigma: Weight, x: Latent) -> float | Tensor:
    """Return a level in a form that multiplies latents; the values of tensors are not read."""
    check_latent(x)
    if not isinstance(sigma, Tensor):
        return as_level(sigma, "sigma")
    if sigma.ndim == 0:
        check_floating(sigma, "sigma")
        return sigma
    check_sigma(sigma, x)
    return sigma.reshape(-1, *[1] * (x.ndim - 1))


def _stands_for_infinity(level: Any) -> Any:
    return level >= INFINITE_SIGMA * (1 - 1e-3)  # as a half-precision number too


def check_no_infinite_level(levels: Sequence[float], sampler: str) -> None:
    """Raise ValueError if the first level stands for infinity, from which `sampler` cannot step."""
    if _stands_for_infinity(levels[0]):
        raise ValueError(
            f"sigmas[0] is {levels[0]:.6g}, which stands for an infinite level (a flow's time 1, zero "
            f"terminal SNR): {sampler} cannot step from there, expected a finite first level, or ddim"
        )


def _check_steps(steps: int) -> None:
    check_whole(steps, "steps", "a whole number of 1 or more", lambda count: count >= 1)
    check_whole(steps, "steps", f"at most {MOST_STEPS}", lambda count: count <= MOST_STEPS)


def _ending_in_zero(sigmas: Float[Tensor, " steps"], given: str = "") -> Levels:
    """Return the levels and a last 0; raise, naming the argument `given`, unless they decrease to it."""
    levels = torch.cat([sigmas, sigmas.new_zeros(1)])
    if given and not bool((levels.isfinite() & (levels.diff(append=-levels[:1]) < 0)).all()):
        raise ValueError(f"{given}, expected one with which float64 tells the levels apart")
    return levels
