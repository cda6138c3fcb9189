"""Whether predictions are finite: flags that stay on the device until they are read."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor


class _Noted(NamedTuple):
    """One evaluation of all models: finite or not, not read yet."""

    step: int
    sigma: float
    finite: Bool[Tensor, "models batch"]


class Watch:
    """Notes of evaluations, in their order. `names` are the models' in messages."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._noted: list[_Noted] = []

    def note(self, step: int, sigma: float, predictions: Sequence[Tensor]) -> None:
        """Keep whether each model's prediction is finite, per sample, on the first one's device."""
        finite = [each.isfinite().flatten(1).all(1).to(predictions[0].device) for each in predictions]
        self._noted.append(_Noted(step, sigma, torch.stack(finite)))

    def raise_unless_finite(self) -> None:
        """Read what was noted since the last reading: a wait for the device.

        Raises:
            FloatingPointError: naming the model, the sample and the step of the first that was not finite.
        """
        if not self._noted:
            return
        flags = torch.stack([noted.finite for noted in self._noted])
        if not bool(flags.all()):
            row, model, sample = (~flags).nonzero()[0].tolist()
            step, sigma, _ = self._noted[row]
            raise FloatingPointError(
                f"{self._names[model]} returned NaN or infinity for sample {sample}, first at step "
                f"{step} (sigma = {sigma:.6g})"
            )
        self._noted.clear()
