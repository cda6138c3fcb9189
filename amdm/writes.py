"""Whether a tensor was written into since a moment."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def writes_to(tensor: Tensor) -> int | None:
    """Return how many writes torch has counted; None for inference tensors, whose writes it does not count.

    No number is looked at, so the host does not wait. Writes around torch (numpy's, through `data`) are not
    counted.
    """
    return None if tensor.is_inference() else tensor._version


class Seen(NamedTuple):
    """A tensor, and what it was at a moment."""

    tensor: Tensor
    was: Tensor
    version: int | None
    """The count of writes; None where numbers are to be compared: it is cheap on the CPU, and sees numpy's
    writes; and inference tensors have no count."""

    @classmethod
    def of(cls, tensor: Tensor) -> Seen:
        """Remember it."""
        return cls(tensor, tensor.clone(), None if tensor.device.type == "cpu" else writes_to(tensor))

    def is_written(self) -> bool:
        """Whether it was written into since. The host waits for a device's inference tensors alone."""
        if self.version is None:
            return not torch.equal(self.tensor, self.was)
        return self.tensor._version != self.version

    def is_untouched(self, now: Tensor) -> bool:
        """Whether `now` is this tensor and certainly as it was. The host does not wait."""
        waits = self.version is None and now.device.type != "cpu"
        return now is self.tensor and not waits and not self.is_written()
