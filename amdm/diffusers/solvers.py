"""The sampler that takes the steps of a diffusers scheduler."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from amdm.diffusers.levels import SAME_STEP, is_flow
from amdm.diffusers.network import NetworkDenoiser
from amdm.samplers import ddim, dpmpp_2m
from amdm.samplers.step import Sampler, Steps


def sampler_of(
    scheduler: Any,
    model: NetworkDenoiser,
    sigmas: Float[Tensor, " levels"],
    timesteps: Float[Tensor, " steps"],
) -> Sampler:
    """Return the generator that takes the scheduler's steps, or one that raises."""
    name = type(scheduler).__name__
    found = _solver(scheduler, len(timesteps))
    if found is None:
        return _no_sampler(f"scheduler is {name}, with this configuration of a solver that is not here")
    if not is_flow(scheduler):
        rounding = (model.timestep(sigmas[:-1]) - timesteps).abs().max().item()
        if rounding > SAME_STEP:
            return _no_sampler(f"scheduler is {name}, whose timesteps are its levels' to {rounding:.2g} only")
    return found


def _solver(scheduler: Any, steps: int) -> Sampler | None:
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

    config = scheduler.config
    if isinstance(scheduler, DDIMScheduler | EulerDiscreteScheduler):
        return ddim
    if is_flow(scheduler):
        return None if config.stochastic_sampling else ddim
    if not isinstance(scheduler, DPMSolverMultistepScheduler):
        return None
    if config.thresholding or config.algorithm_type != "dpmsolver++":
        return None
    if config.solver_order == 1:
        return ddim
    to_zero = config.final_sigmas_type == "zero"
    first_order_last = config.euler_at_final or (config.lower_order_final and steps < 15)
    second_order = config.solver_order == 2 and config.solver_type == "midpoint"
    return dpmpp_2m if second_order and (to_zero or not first_order_last) else None


def _no_sampler(why: str) -> Sampler:
    def sampler(*args: Any, **kwargs: Any) -> Steps:
        raise ValueError(f"{why}, expected sampler=ddim, dpmpp_2m or another of your choice")

    return sampler
