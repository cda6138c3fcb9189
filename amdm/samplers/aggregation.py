"""The record of an aggregation: the quantities of the paper's Table 5, in VP units, computed when read."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.geometry import angle
from amdm.geometry.rows import norms
from amdm.types import Weight


@dataclass(frozen=True, eq=False, repr=False)
class Aggregation:
    """N models' next latents and means, their aggregate, and the lengths of its correction.

    The properties are in the paper's VP units at the step's end. They have one row per model or pair and one
    column per sample. The latents themselves are VE. Pairs are (model 1, model 2), (model 1, model 3), ...
    """

    xs: tuple[Tensor, ...]
    """The models' x_next before the aggregation."""
    means: tuple[Tensor, ...]
    merged: Tensor
    """x', the fold of `xs`."""
    corrected: tuple[Tensor, ...]
    """x''_i, the latents that the models continue from."""
    lengths: tuple[Weight, ...]
    """The requested correction lengths, VP."""
    scale: float
    """sqrt(1 + sigma_next^2), VE length per VP length."""

    def __repr__(self) -> str:
        lengths = ", ".join("per sample" if isinstance(v, Tensor) else f"{v:.4g}" for v in self.lengths)
        return f"Aggregation({len(self.xs)} models, x={tuple(self.merged.shape)}, lengths=({lengths}))"

    @property
    def angle(self) -> Float[Tensor, "pairs batch"]:
        """Return the angle between x_1 and x_j, in radians."""
        return torch.stack([angle(self.xs[0], x) for x in self.xs[1:]])

    @property
    def distance(self) -> Float[Tensor, "pairs batch"]:
        """Return |x_1 - x_j|, VP."""
        return torch.stack([norms(self.xs[0], x) / self.scale for x in self.xs[1:]])

    @property
    def norm_gap(self) -> Float[Tensor, "pairs batch"]:
        """Return | |x_1| - |x_j| |, VP."""
        first, *others = [norms(x) for x in self.xs]
        return torch.stack([(first - norm).abs() / self.scale for norm in others])

    @property
    def deviation(self) -> Float[Tensor, "models batch"]:
        """Return |x' - mean_i|, VP: the distance that eq. (8) shortens."""
        return torch.stack([norms(self.merged, mean) / self.scale for mean in self.means])

    @property
    def correction_share(self) -> Float[Tensor, "models batch"]:
        """Return length_i / |x' - mean_i|. Above 1 the correction stops at the mean; 0/0 is NaN."""
        deviation = self.deviation
        return torch.stack([length / row for length, row in zip(self.lengths, deviation, strict=True)])
