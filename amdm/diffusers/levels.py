"""Diffusers' schedules as VE noise levels: sigma^2 = (1 - abar)/abar, or s/(1 - s) for a flow's time s."""

import copy
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.schedules import INFINITE_SIGMA, flow_sigmas

Compat = Literal["diffusers", "exact"]

# A level stored in float32 gives its training step to 1e-4; nearer than this to a step is the step itself.
SAME_STEP = 1e-3


class Levels(NamedTuple):
    """The levels that a scheduler visits, and the timesteps that it passes to its network."""

    timesteps: Float[Tensor, " steps"]
    sigmas: Float[Tensor, " levels"]


def training_sigmas(scheduler: Any) -> Float[Tensor, " steps"]:
    """Return the VE level of every training step of a diffusers scheduler, increasing, in float64.

    The infinite level of a zero terminal signal-to-noise ratio is 1e6.
    """
    return sigmas_of(scheduler.alphas_cumprod)


def sigmas_of(alphas_cumprod: Float[Tensor, "*steps"]) -> Float[Tensor, "*steps"]:
    """Return the VE levels of a scheduler's cumulative products of alphas, in float64 on the CPU.

    `amdm.schedules.sigmas_from_betas` multiplies in float64; diffusers steps with these products.
    """
    abar = _float64(alphas_cumprod)
    return ((1 - abar) / abar).sqrt().clamp(max=INFINITE_SIGMA)


def sigma_to_t(
    sigma: Float[Tensor, " batch"], log_sigmas: Float[Tensor, " steps"]
) -> Float[Tensor, " batch"]:
    """Return the training step of a level: between steps linear in log sigma, as in k-diffusion.

    Results within 1e-3 of a step are rounded to it, so that levels kept in float32 come back as the integers
    they were made from. Levels beyond the table get its end.

    Args:
        sigma: positive levels.
        log_sigmas: the logarithms of `training_sigmas`, increasing, on `sigma`'s device.
    """
    log_sigma = sigma.to(log_sigmas.dtype).log()
    low = (torch.searchsorted(log_sigmas, log_sigma) - 1).clamp(0, len(log_sigmas) - 2)
    part = (log_sigma - log_sigmas[low]) / (log_sigmas[low + 1] - log_sigmas[low])
    t = low + part.clamp(0, 1)
    return torch.where((t - t.round()).abs() < SAME_STEP, t.round(), t)


def sigmas_from_scheduler(
    scheduler: Any, steps: int, compat: Compat = "diffusers", **options: Any
) -> Float[Tensor, " levels"]:
    """Return the VE levels of a diffusers scheduler for `sample_*`: decreasing, `(steps + 1,)`, in float64.

    A step from a level to itself is left out: DDIM's step from training step 0 (`set_alpha_to_one` False, no
    offset), and the last step of `final_sigmas_type="sigma_min"`.

    `DDIMScheduler` goes from t to t - T//steps, which is not always the timestep that it calls the network
    with next: with "linspace", or with "trailing" where steps does not divide T, it does not follow one
    schedule (3% to 27% off for 10 to 50 steps). Where it does, this is it, its last level included, which is
    positive if `set_alpha_to_one` is False: the sampler then ends there, and a VP latent is x/sqrt(1 +
    sigma^2).

    Args:
        scheduler: `DDIMScheduler`, `FlowMatchEulerDiscreteScheduler` or one with `sigmas` and
            `alphas_cumprod` (Euler's, DPM-Solver's). It is not changed.
        steps: 1 or more.
        compat: "diffusers" returns what the scheduler does or raises; "exact" returns the schedule of the
            timesteps that it passes to the network.
        options: passed to the scheduler's `set_timesteps`: a flow's `mu`, its own `sigmas`, ...

    Raises:
        TypeError: a scheduler of another kind.
        ValueError: no steps; an unknown `compat`; with "diffusers" a scheduler that follows no schedule of
            levels: use `AggregatingScheduler` inside its pipeline.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}, expected 1 or more")
    scheduler = copy.copy(scheduler)  # its timesteps are set anew, not in place; partners are not copied
    scheduler.set_timesteps(steps, **options)
    return visited(scheduler, compat).sigmas


def ddim_target(scheduler: Any, timestep: int) -> int:
    """Return the training step that DDIM goes to from a timestep; negative for the last level."""
    return int(timestep - scheduler.config.num_train_timesteps // scheduler.num_inference_steps)


def is_flow(scheduler: Any) -> bool:
    """Return True if the scheduler's levels are a rectified flow's times in [0, 1]."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return isinstance(scheduler, FlowMatchEulerDiscreteScheduler)


def visited(scheduler: Any, compat: Compat) -> Levels:
    """Return the levels and timesteps that the scheduler visits with its present timesteps."""
    from diffusers import DDIMScheduler

    if compat not in ("diffusers", "exact"):
        raise ValueError(f"compat is {compat!r}, expected 'diffusers' or 'exact'")
    timesteps = _float64(scheduler.timesteps)
    if isinstance(scheduler, DDIMScheduler):
        return Levels(timesteps, _ddim_levels(scheduler, compat))
    if not is_flow(scheduler) and not _is_known(scheduler):
        raise TypeError(
            f"scheduler is {type(scheduler).__name__}, whose levels are unknown, expected "
            f"{advised(scheduler)}"
        )
    sigmas = _float64(scheduler.sigmas)
    sigmas = flow_sigmas(sigmas) if is_flow(scheduler) else sigmas
    if len(sigmas) > 2 and sigmas[-1] == sigmas[-2]:
        sigmas, timesteps = sigmas[:-1], timesteps[:-1]
    if len(sigmas) != len(timesteps) + 1 or not bool((sigmas.diff() < 0).all()):
        raise TypeError(
            f"scheduler is {type(scheduler).__name__} with {len(timesteps)} timesteps and the levels "
            f"{sigmas[0]:.4g} to {sigmas[-1]:.4g}, expected one more level than timesteps, decreasing: take "
            f"{advised(scheduler)}, and a sampler of amdm such as `sample_heun`"
        )
    return Levels(timesteps, sigmas)


def _is_known(scheduler: Any) -> bool:
    """Return True if the scheduler's `sigmas` are VE levels of a DDPM."""
    config = scheduler.config
    has_levels = hasattr(scheduler, "sigmas") and hasattr(scheduler, "alphas_cumprod")
    return has_levels and config.get("timestep_type") != "continuous" and not config.get("use_flow_sigmas")


def is_of_flow(config: Mapping[str, Any]) -> bool:
    """Return True for the configuration of a rectified flow's scheduler, or one derived from it."""
    is_velocity = config.get("prediction_type") == "flow_prediction"
    return bool(config.get("use_flow_sigmas")) or is_velocity or "shift" in config


def advised(scheduler: Any) -> str:
    """Return the advice for a scheduler whose levels are not known: what to use in its place.

    DDIM is advised if it has this scheduler's levels: not for networks with another clock ("continuous"),
    and not if its configuration leaves something out (CogVideoX's shift of the levels).
    """
    config = scheduler.config
    if is_of_flow(config):
        shift = config.get("shift", config.get("flow_shift", 1.0))
        return f"FlowMatchEulerDiscreteScheduler.from_config(scheduler.config, shift={shift})"
    if hasattr(scheduler, "alphas_cumprod") and config.get("timestep_type") != "continuous":
        from diffusers import DDIMScheduler

        if has_levels_of(DDIMScheduler.from_config(config), scheduler):
            return "DDIMScheduler.from_config(scheduler.config, clip_sample=False) or Euler's"
    return "one with the levels that its network was trained at (none is made from this configuration)"


def has_levels_of(made: Any, scheduler: Any) -> bool:
    """Return True if a scheduler made from another's configuration has the same training levels."""
    one, other = _float64(made.alphas_cumprod), _float64(scheduler.alphas_cumprod)
    return one.shape == other.shape and torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def _float64(values: Tensor) -> Tensor:
    return values.detach().cpu().double()  # Apple's GPUs have no float64


def _ddim_levels(scheduler: Any, compat: Compat) -> Float[Tensor, " levels"]:
    config, timesteps = scheduler.config, scheduler.timesteps.tolist()
    if timesteps[0] >= config.num_train_timesteps:
        raise ValueError(
            f"steps is {len(timesteps)}, with which the scheduler begins at step {timesteps[0]} of "
            f"{config.num_train_timesteps}, expected fewer"
        )
    following = [ddim_target(scheduler, t) for t in timesteps]
    if compat == "diffusers":
        trouble = None
        if following[:-1] != timesteps[1:] or following[-1] >= 0:
            trouble = "its steps do not end where the next ones begin"
        elif config.clip_sample or config.thresholding:
            trouble = "it clips what is denoised but not the noise (clip_sample or thresholding is on)"
        if trouble is not None:
            raise ValueError(
                f"the scheduler with {len(timesteps)} {config.timestep_spacing!r} steps follows no schedule "
                f"of levels: {trouble}. `amdm.diffusers.scheduler.AggregatingScheduler` works inside it; "
                "compat='exact' takes the schedule that it approximates"
            )
    last = sigmas_of(scheduler.final_alpha_cumprod).reshape(1)
    sigmas = torch.cat([training_sigmas(scheduler)[torch.tensor(timesteps)], last])
    return sigmas[:-1] if timesteps[-1] == 0 and not config.set_alpha_to_one else sigmas
