"""The vocabulary shared by all of `amdm`: latents, denoisers, samplers and the record of a step.

Shapes are jaxtyping's. `batch` is the first axis; `*event` is everything else, n numbers in all.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from amdm.samplers.aggregation import Aggregation

__all__ = [
    "Denoiser",
    "ExtraArgs",
    "Latent",
    "NoiseSampler",
    "PerSample",
    "Restart",
    "Sampler",
    "Sigmas",
    "Step",
    "Steps",
    "Weight",
]

Latent = Float[Tensor, "batch *event"]
PerSample = Float[Tensor, " batch"]
Sigmas = Float[Tensor, " levels"]
Weight = float | Float[Tensor, ""] | Float[Tensor, " batch"]
ExtraArgs = Mapping[str, Any]


@runtime_checkable
class Denoiser(Protocol):
    """k-diffusion's model contract: the posterior mean E[x0 | x] of x = x0 + sigma * noise (VE)."""

    def __call__(self, x: Latent, sigma: PerSample, /, *args: Any, **extra_args: Any) -> Latent:
        """The prediction at noise level `sigma`, one per sample."""


@runtime_checkable
class NoiseSampler(Protocol):
    """k-diffusion's noise contract: standard normal noise for the step from sigma to sigma_next."""

    def __call__(self, sigma: Tensor, sigma_next: Tensor, /) -> Tensor:
        """Noise of the latent's shape."""


@dataclass(frozen=True, eq=False, slots=True)
class Step:
    """What a sampler generator yields after each step, in VE coordinates.

    `x_next = mean + std * noise`, eq. (4) of the paper, unless an aggregation replaced it or resampling
    permuted its samples (`fkc`, whose `Particles.ancestors` tell how).
    """

    index: int
    sigma: float
    sigma_next: float
    x: Tensor
    """What the model saw: the step's input."""
    denoised: Tensor
    mean: Tensor
    std: float
    x_next: Tensor
    """What follows: the next step's input."""
    aggregation: "Aggregation | None" = None
    """How the models' results were joined, on the aggregated steps of `amdm`."""
    record: Any = None
    """What else the sampler notes of a step: its own documentation says what."""


class Restart(NamedTuple):
    """Send this instead of a tensor to go on from `x` as from a fresh start.

    A multistep sampler then forgets its history; for the others it is the same as sending `x`.
    """

    x: Tensor


Steps = Generator[Step, Tensor | Restart | None, None]


@runtime_checkable
class Sampler(Protocol):
    """A sampler generator: `ddim` and its kin, anything that `amdm` can drive."""

    def __call__(
        self,
        model: Denoiser,
        x: Tensor,
        sigmas: Tensor,
        extra_args: ExtraArgs | None = None,
        *,
        eta: float,
        noise_sampler: NoiseSampler | None,
    ) -> Steps:
        """Check the arguments, then return the generator."""
