"""Detection of writes into a tensor since some moment."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def writes_to(tensor: Tensor) -> int | None:
    """Return how many writes torch has counted; None for inference tensors, whose writes it does not count.

    No values are read, so the host does not wait. Writes around torch (numpy's, through `data`) are not
    counted.
    """
    return None if tensor.is_inference() else tensor._version


class Seen(NamedTuple):
    """A tensor, and its values at some moment."""

    tensor: Tensor
    was: Tensor
    version: int | None
    """The count of writes. None if values are compared instead: on the CPU, where that is cheap and detects
    numpy's writes too, and for inference tensors, which have no count."""

    @classmethod
    def of(cls, tensor: Tensor) -> Seen:
        """Record the tensor as it is now."""
        return cls(tensor, tensor.clone(), None if tensor.device.type == "cpu" else writes_to(tensor))

    def is_written(self) -> bool:
        """Return True if the tensor was written into. Waits for the device of inference tensors only."""
        if self.version is None:
            return not torch.equal(self.tensor, self.was)
        return self.tensor._version != self.version

    def is_untouched(self, now: Tensor) -> bool:
        """Return True if `now` is this tensor and certainly unchanged. The host does not wait."""
        waits = self.version is None and now.device.type != "cpu"
        return now is self.tensor and not waits and not self.is_written()
