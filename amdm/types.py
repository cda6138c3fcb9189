"""The vocabulary shared by all of `amdm`: latents, noise levels, denoisers.

Shapes are jaxtyping's. `batch` is the first axis; `*event` is everything else, n numbers in all.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

__all__ = [
    "Denoiser",
    "ExtraArgs",
    "GuidedDenoiser",
    "Latent",
    "NoiseSampler",
    "PerSample",
    "Share",
    "Sigmas",
    "Weight",
]

Latent = Float[Tensor, "batch *event"]
PerSample = Float[Tensor, " batch"]
Sigmas = Float[Tensor, " levels"]
Weight = float | Float[Tensor, ""] | Float[Tensor, " batch"]
Share = Weight | Float[Tensor, "#batch *#event"]
"""A weight of a fold: a number, one per sample, or one per element, which broadcasts to the latents."""
ExtraArgs = Mapping[str, Any]


@runtime_checkable
class Denoiser(Protocol):
    """A model as in k-diffusion: it returns the posterior mean E[x0 | x] of x = x0 + sigma * noise (VE).

    It may have attributes: `name`, a text by which messages call it; `sigma_min` and `sigma_max`, its levels;
    `latent_space`, a `LatentSpace`.
    """

    def __call__(self, x: Latent, sigma: PerSample, /, *args: Any, **extra_args: Any) -> Latent:
        """Return the prediction at noise level `sigma`, one per sample."""


@runtime_checkable
class GuidedDenoiser(Denoiser, Protocol):
    """A denoiser with classifier-free guidance that also returns its two predictions."""

    def both(self, x: Latent, sigma: PerSample, /, **extra_args: Any) -> tuple[Latent, Latent]:
        """Return the unconditional and the conditional prediction, from one batched call if possible."""

    def conditional(self, x: Latent, sigma: PerSample, /, **extra_args: Any) -> Latent:
        """Return the conditional prediction alone, at half the cost of both."""

    def guidance_at(self, sigma: PerSample, /) -> float | Tensor:
        """Return the scale at these levels, a number or one per sample; 1 if there is no guidance."""


@runtime_checkable
class NoiseSampler(Protocol):
    """A noise sampler as in k-diffusion: standard normal noise for the step from sigma to sigma_next."""

    def __call__(self, sigma: Tensor, sigma_next: Tensor, /) -> Tensor:
        """Return noise of the latent's shape."""
