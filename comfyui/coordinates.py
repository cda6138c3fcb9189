"""A host model's noise levels and latents in VE coordinates, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import comfy.model_sampling
from torch import Tensor

from amdm.schedules import flow_from_ve, flow_sigmas, flow_to_ve


@dataclass(frozen=True)
class Coordinates:
    """Of a run: the host's sigmas and the VE levels that `amdm` takes.

    The host's sigmas are VE levels, except for flows: there they are times s, and x_s = (1 - s) x0 + s noise,
    which in VE coordinates is x_s/(1 - s) at the level s/(1 - s).
    """

    flow: bool
    sigmas: Tensor
    levels: Tensor

    @classmethod
    def of(cls, model_sampling: Any, sigmas: Tensor) -> Coordinates:
        """Return the coordinates for a model's sampling and the host's schedule."""
        flow = is_flow(model_sampling)
        return cls(flow, sigmas, flow_sigmas(sigmas) if flow else sigmas)

    def to_ve(self, x: Tensor, level: Tensor) -> Tensor:
        """Return the host's latent in VE coordinates; `level` is a number or one per sample."""
        return flow_to_ve(x, level) if self.flow else x

    def from_ve(self, x: Tensor, level: Tensor) -> Tensor:
        """Return a VE latent in the host's coordinates."""
        return flow_from_ve(x, level) if self.flow else x

    def sigma(self, level: Tensor) -> Tensor:
        """Return the host's sigma of VE levels.

        A level of the schedule gives the schedule's own sigma, not one that is computed back: conditions
        begin and end at exact sigmas. Nothing waits for the device.
        """
        if not self.flow:
            return level
        computed = level / (1 + level)
        nearest = self.sigmas.take((self.levels - level.reshape(-1, 1)).abs().argmin(1)).reshape(level.shape)
        near = (nearest - computed).abs() < 1e-5
        return nearest.where(near, computed).to(level)


def is_flow(model_sampling: Any) -> bool:
    """Return True if the host's sigmas are a flow's times."""
    return isinstance(model_sampling, comfy.model_sampling.CONST)
