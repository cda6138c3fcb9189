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
    """k-diffusion's model contract: the posterior mean E[x0 | x] of x = x0 + sigma * noise (VE)."""

    def __call__(self, x: Latent, sigma: PerSample, /, *args: Any, **extra_args: Any) -> Latent:
        """The prediction at noise level `sigma`, one per sample."""


@runtime_checkable
class GuidedDenoiser(Denoiser, Protocol):
    """A denoiser with classifier-free guidance that tells the two predictions it is made of."""

    def both(self, x: Latent, sigma: PerSample, /, **extra_args: Any) -> tuple[Latent, Latent]:
        """The unconditional and the conditional prediction, from one batched call where there is one."""

    def conditional(self, x: Latent, sigma: PerSample, /, **extra_args: Any) -> Latent:
        """The conditional prediction alone, for half the cost of both."""

    def guidance_at(self, sigma: PerSample, /) -> float | Tensor:
        """The scale at these levels, a number or one per sample; 1 where there is no guidance."""


@runtime_checkable
class NoiseSampler(Protocol):
    """k-diffusion's noise contract: standard normal noise for the step from sigma to sigma_next."""

    def __call__(self, sigma: Tensor, sigma_next: Tensor, /) -> Tensor:
        """Noise of the latent's shape."""
