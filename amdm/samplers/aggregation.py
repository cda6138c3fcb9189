"""The record of an aggregation: what the paper's Table 5 logs, in VP units, computed when read."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.geometry import angle
from amdm.geometry.rows import as_rows
from amdm.types import Weight


@dataclass(frozen=True, eq=False)
class Aggregation:
    """N models' next latents and means, their aggregate, and the lengths it was corrected by.

    The properties are in the paper's VP units at the step's end and one row per model or pair, one column
    per sample. The latents themselves are VE. Pairs are (model 1, model 2), (model 1, model 3), ...
    """

    xs: tuple[Tensor, ...]
    """The models' x_next before the aggregation."""
    means: tuple[Tensor, ...]
    merged: Tensor
    """x', the fold of `xs`."""
    corrected: tuple[Tensor, ...]
    """x''_i: what model i goes on from."""
    lengths: tuple[Weight, ...]
    """The correction lengths as asked for, VP."""
    scale: float
    """sqrt(1 + sigma_next^2), VE length per VP length."""

    @property
    def angle(self) -> Float[Tensor, "pairs batch"]:
        """The angle between x_1 and x_j, radians."""
        return torch.stack([angle(self.xs[0], x) for x in self.xs[1:]])

    @property
    def distance(self) -> Float[Tensor, "pairs batch"]:
        """|x_1 - x_j|, VP."""
        return torch.stack([self._length(self.xs[0], x) for x in self.xs[1:]])

    @property
    def norm_gap(self) -> Float[Tensor, "pairs batch"]:
        """| |x_1| - |x_j| |, VP."""
        first, *others = [torch.linalg.vector_norm(as_rows(x), dim=1) for x in self.xs]
        return torch.stack([(first - norm).abs() / self.scale for norm in others])

    @property
    def deviation(self) -> Float[Tensor, "models batch"]:
        """|x' - mean_i|, VP: what eq. (8) moves along."""
        return torch.stack([self._length(self.merged, mean) for mean in self.means])

    @property
    def correction_share(self) -> Float[Tensor, "models batch"]:
        """length_i / |x' - mean_i|: above 1 the correction stops at the mean; 0/0 is NaN."""
        deviation = self.deviation
        return torch.stack([length / row for length, row in zip(self.lengths, deviation, strict=True)])

    def _length(self, a: Tensor, b: Tensor) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(as_rows(a) - as_rows(b), dim=1)
        return norm / self.scale
