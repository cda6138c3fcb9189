"""Rectified-flow networks (SD3, FLUX) as denoisers in VE coordinates."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from amdm.checks import (
    check_callable,
    check_choice,
    check_latent,
    check_number,
    check_result,
    check_sigma,
    kind_of,
)
from amdm.compatibility import LatentSpace
from amdm.denoisers.prediction import scaling
from amdm.schedules import Levels, check_flow_times
from amdm.types import Latent, PerSample


@dataclass(frozen=True)
class RectifiedFlow:
    """A velocity network as a denoiser: x_s = (1 - s) x0 + s noise, v = noise - x0, denoised = x_s - s v.

    In VE coordinates sigma = s/(1 - s) and x = x_s/(1 - s), so that x = x0 + sigma noise.

    Args:
        network: `network(x_s, time, **extra_args) -> v`, `time` of shape `(batch,)`.
        time_scale: `time = time_scale * s`: 1000 for SD3's transformer, 1 for FLUX's.
        prediction: what the network returns: "flow", the velocity v, or "sample", x0. A program that
            samples flows has functions of the second kind, as ComfyUI's guiders: `RectifiedFlow(guider,
            time_scale=1.0, prediction="sample")`.
        name: a text by which messages call this model, "models[1] (name)".
        latent_space: where it denoises, for `check_same_ecosystem`.
        times: the times of the schedule, on the latents' device. The network is told the nearest of them,
            where s = sigma/(1 + sigma) has a rounding error: for conditions that begin and end at exact
            times. Samplers call their models at the schedule's levels only.

    References:
        Liu, Gong, Liu 2022, "Flow straight and fast", arXiv:2209.03003; Esser et al. 2024, arXiv:2403.03206.
    """

    network: Callable[..., Tensor]
    time_scale: float = 1000.0
    prediction: Literal["flow", "sample"] = "flow"
    name: str | None = None
    latent_space: LatentSpace | None = None
    times: Levels | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_callable(self.network, "network", "network(x_s, time, **extra_args)")
        check_number(self.time_scale, "time_scale", "a positive number", lambda scale: scale > 0)
        check_choice(self.prediction, "prediction", ("flow", "sample"))
        if not isinstance(self.name, str | None):
            raise TypeError(f"name is {kind_of(self.name)}, expected a text or None")
        if not isinstance(self.latent_space, LatentSpace | None):
            raise TypeError(f"latent_space is {kind_of(self.latent_space)}, expected a LatentSpace or None")
        if self.times is not None:
            check_flow_times(self.times)

    def __call__(self, x: Latent, sigma: PerSample, **extra_args: Any) -> Latent:
        """Return the denoised prediction at VE noise level `sigma`, one per sample."""
        check_latent(x)
        check_sigma(sigma, x)
        c_in, c_skip, c_out = scaling("flow", sigma.reshape(-1, *[1] * (x.ndim - 1)))
        predicted = self.network(c_in * x, self.time_scale * self._time(sigma), **extra_args)
        check_result(predicted, x, tuple(x.shape), "network")
        return predicted if self.prediction == "sample" else c_skip * x + c_out * predicted

    def _time(self, sigma: PerSample) -> PerSample:
        time = sigma / (1 + sigma)
        if self.times is None:
            return time
        return self.times[(self.times - time[:, None]).abs().argmin(dim=1)]
