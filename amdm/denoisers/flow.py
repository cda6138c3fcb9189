"""Rectified-flow networks (SD3, FLUX) as denoisers in VE coordinates."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from amdm.checks import check_callable, check_latent, check_number, check_result, check_sigma
from amdm.denoisers.prediction import scaling
from amdm.types import Latent, PerSample


@dataclass(frozen=True)
class RectifiedFlow:
    """A velocity network as a denoiser: x_s = (1 - s) x0 + s noise, v = noise - x0, denoised = x_s - s v.

    In VE coordinates sigma = s/(1 - s) and x = x_s/(1 - s), so that x = x0 + sigma noise.

    Args:
        network: `network(x_s, time, **extra_args) -> v`, `time` of shape `(batch,)`.
        time_scale: `time = time_scale * s`: 1000 for SD3's transformer, 1 for FLUX's.

    References:
        Liu, Gong, Liu 2022, "Flow straight and fast", arXiv:2209.03003; Esser et al. 2024, arXiv:2403.03206.
    """

    network: Callable[..., Tensor]
    time_scale: float = 1000.0

    def __post_init__(self) -> None:
        check_callable(self.network, "network", "network(x_s, time, **extra_args)")
        check_number(self.time_scale, "time_scale", "a positive number", lambda scale: scale > 0)

    def __call__(self, x: Latent, sigma: PerSample, **extra_args: Any) -> Latent:
        """Return the denoised prediction at VE noise level `sigma`, one per sample."""
        check_latent(x)
        check_sigma(sigma, x)
        c_in, c_skip, c_out = scaling("flow", sigma.reshape(-1, *[1] * (x.ndim - 1)))
        velocity = self.network(c_in * x, self.time_scale * (sigma / (1 + sigma)), **extra_args)
        check_result(velocity, x, tuple(x.shape), "network")
        return c_skip * x + c_out * velocity
