"""Comparison of what a pipeline passed to its network with what a denoiser will pass."""

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from amdm.denoisers import scaling
from amdm.diffusers.levels import SAME_STEP, Levels, is_flow, is_of_flow
from amdm.diffusers.network import NetworkDenoiser
from amdm.diffusers.recording import Recording


def first_step(scheduler: Any, levels: Levels, recording: Recording) -> int:
    """Return the index of the pipeline's first step among the scheduler's."""
    begin: int | None = getattr(scheduler, "begin_index", None)
    first = recording.clocks[0].timestep
    found = int((levels.timesteps - first).abs().argmin())
    twice = int((levels.timesteps == first).sum()) > 1
    return begin if begin is not None and twice else found


def check_told(pipe: Any, recording: Recording, model: NetworkDenoiser, levels: Levels, is_ve: bool) -> None:
    """Raise unless the denoiser will pass its network what the pipeline passed: the latents' scale and time.

    The scheduler's timesteps may be those of its levels, rounded to integers; its sampler is not known then.
    """
    name, clock = type(pipe).__name__, clock_of(recording)
    count, steps = len(levels.timesteps), len(recording.steps)
    if steps - count not in (0, 1):  # a last step from a level to itself is left out
        raise ValueError(
            f"{name} takes {steps} steps, expected {count} of its scheduler's, from its first on"
        )
    ours = (model.timestep(levels.sigmas[:-1]) * (clock if model.training_sigmas is None else 1)).tolist()
    near = SAME_STEP if model.training_sigmas is None else 1.0
    # The scheduler, which took no step, scales as at its first.
    of_ve = scaling(model.prediction, levels.sigmas[0]).c_in.item()
    scale = of_ve if is_ve else 1.0
    told = zip(recording.clocks[:count], levels.timesteps.tolist(), ours, strict=True)
    eps = torch.finfo(recording.x.dtype).eps
    for i, (heard, timestep, time) in enumerate(told):
        where = f"at step {i} {name}"
        if abs(heard.timestep - timestep) > SAME_STEP:
            raise ValueError(
                f"{where} steps from timestep {heard.timestep:.6g}, expected its scheduler's {timestep:.6g}"
            )
        if abs(timestep - time) > near:
            raise ValueError(
                f"{where} steps from timestep {timestep:.6g}, expected {time:.6g}, its level's: timesteps "
                "that do not follow the levels are not supported"
            )
        if abs(heard.t * clock - timestep) > SAME_STEP + 2 * heard.rounding * abs(timestep):
            raise ValueError(
                f"{where} passes its network the time {heard.t:.6g}, expected {timestep / clock:.6g}, the "
                f"scheduler's timestep {timestep:.6g}: an unknown clock"
            )
        if not abs(heard.scale - scale) <= (1e-5 + 4 * eps) * scale:
            raise ValueError(
                f"{where} multiplies its network's latents by {heard.scale:.6g}, expected 1, or {of_ve:.6g} "
                "for VE latents (NaN is no multiple of them)"
            )


def warn_of_flow(pipe: Any) -> None:
    """Warn about a flow's network under another scheduler: the pipeline's own images are wrong then."""
    expected = inspect.signature(type(pipe).__init__).parameters.get("scheduler")
    of_flow = is_of_flow(pipe.scheduler.config) or "FlowMatch" in str(getattr(expected, "annotation", ""))
    prediction = pipe.scheduler.config.get("prediction_type")
    if of_flow and prediction is not None and not is_flow(pipe.scheduler):
        warnings.warn(
            f"scheduler is {type(pipe.scheduler).__name__}, and {type(pipe).__name__} or the scheduler's "
            "configuration is a rectified flow's: its network is taken for one that predicts "
            f"{prediction!r}, expected FlowMatchEulerDiscreteScheduler",
            stacklevel=3,
        )


def clock_of(recording: Recording) -> float:
    """Return the scheduler's timestep divided by the network's: 1000 for FLUX, else 1."""
    first = recording.clocks[0]
    return min((1.0, 1000.0), key=lambda clock: abs(clock * first.t - first.timestep))


def scale_of(arguments: Mapping[str, Any], calls: int) -> float:
    """Return the guidance scale of the rows of one call, or of two calls (FLUX's `true_cfg_scale`)."""
    true = arguments.get("true_cfg_scale") if calls == 2 else None
    return float(true or arguments.get("guidance_scale") or 1.0)


def guidance_told(pipe: Any, arguments: Mapping[str, Any], recording: Recording) -> float:
    """Return the scale of guidance if the network sees every latent twice, 1 if it sees it once.

    Raises:
        ValueError: other numbers of rows; a pipeline that computes something else from the network's outputs.
    """
    rows, samples, calls = len(recording.x), len(recording.latents), recording.calls
    scale, name = scale_of(arguments, calls), type(pipe).__name__
    doubled = calls == 1 and rows == 2 * samples and torch.equal(*recording.x.chunk(2))
    guided = (doubled or (calls == 2 and rows == samples)) and scale > 1
    if not (guided and getattr(pipe, "do_classifier_free_guidance", True)) and (calls, rows) != (1, samples):
        raise ValueError(
            f"the network sees {rows} rows for {samples} latents at guidance_scale {scale}, "
            "expected every latent once, or twice for guidance alone"
        )
    if not recording.joined:
        expected = f"uncond + {scale} (cond - uncond)" if guided else "it as it is"
        raise ValueError(
            f"{name} combines its network's outputs in an unknown way (another sign, guidance that is "
            f"normalised or changes with the step, a part of the channels), expected {expected}"
        )
    return scale if guided else 1.0
