"""The record of a step, which samplers yield, and the restart from a latent, which they accept."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from amdm.samplers.aggregation import Aggregation
from amdm.types import Denoiser, ExtraArgs, NoiseSampler


@dataclass(frozen=True, eq=False, slots=True, repr=False)
class Step:
    """One step of a sampler, which its generator yields, in VE coordinates.

    `x_next = mean + std * noise`, eq. (4) of the paper, unless an aggregation replaced it or resampling
    permuted its samples (see `Particles.ancestors` of `fkc`).
    """

    index: int
    sigma: float
    sigma_next: float
    x: Tensor
    """The step's input, which the model saw."""
    denoised: Tensor
    mean: Tensor
    std: float
    x_next: Tensor
    """The next step's input."""
    aggregation: Aggregation | None = None
    """The record of how the models' results were joined, on the aggregated steps of `amdm`."""
    record: Any = None
    """The sampler's own record of the step; its documentation describes it."""

    def __repr__(self) -> str:
        more = {"aggregation": self.aggregation, "record": self.record and type(self.record).__name__}
        listed = "".join(f", {name}={value}" for name, value in more.items() if value is not None)
        return (
            f"Step(index={self.index}, sigma={self.sigma:.4g}, sigma_next={self.sigma_next:.4g}, "
            f"std={self.std:.4g}, x={tuple(self.x.shape)} {self.x.dtype} on {self.x.device}{listed})"
        )


class Restart(NamedTuple):
    """A message to `send` instead of a tensor: continue from `x` as from a fresh start.

    A multistep sampler then forgets its history; for the others it is the same as sending `x`.
    """

    x: Tensor


class Written(NamedTuple):
    """The `x` and `denoised` of a step as they were before a callback wrote into them.

    The samplers' functions send it, and the generator takes the step again from the new values.
    """

    x: Tensor
    denoised: Tensor


Steps = Generator[Step, Tensor | Restart | None, None]


@runtime_checkable
class Sampler(Protocol):
    """A sampler generator that `amdm` can run inside: `ddim` and its kin, or your own."""

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
