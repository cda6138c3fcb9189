"""Classifier-free guidance around a conditional denoiser."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from amdm.checks import check_conditions
from amdm.types import Denoiser, Latent, PerSample


@dataclass(frozen=True)
class Guided:
    """`uncond + scale (cond - uncond)`, both predictions from one batched call (k-diffusion's CFG order).

    Args:
        model: a denoiser that takes the conditions as keyword arguments.
        scale: 1 is the conditional model alone, called once on the plain batch; 0 the unconditional one.

    References:
        Ho, Salimans 2022, "Classifier-free diffusion guidance", arXiv:2207.12598.
    """

    model: Denoiser
    scale: float

    def __getattr__(self, name: str) -> Any:
        """Pass on the model's latent space and levels."""
        if name not in ("latent_space", "sigma_min", "sigma_max"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.model, name)

    def __call__(
        self,
        x: Latent,
        sigma: PerSample,
        *,
        cond: Mapping[str, Tensor],
        uncond: Mapping[str, Tensor],
        **extra_args: Any,
    ) -> Latent:
        """Return the guided prediction.

        `cond` and `uncond` hold the same keywords, with tensors `(batch, ...)` that are joined, uncond
        first; `extra_args` go to the model as they are, beside the doubled batch.

        Raises:
            TypeError: `cond` or `uncond` is no dictionary of tensors.
            ValueError: they have different keywords.
        """
        check_conditions(cond, "cond")
        check_conditions(uncond, "uncond")
        if cond.keys() != uncond.keys():
            raise ValueError(f"cond has the keys {sorted(cond)} but uncond has {sorted(uncond)}")
        if self.scale == 1:
            return self.model(x, sigma, **cond, **extra_args)
        both = {key: torch.cat([uncond[key], cond[key]]) for key in cond}
        denoised = self.model(torch.cat([x, x]), torch.cat([sigma, sigma]), **both, **extra_args)
        without, given = denoised.chunk(2)
        return without + self.scale * (given - without)
