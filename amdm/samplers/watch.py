"""What a run notes of its tensors: flags that stay on the device until they are read, all in one wait."""

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from amdm.checks import RANGE_RTOL, bounds, check_range
from amdm.types import Denoiser, Latent, PerSample

LARGEST_RMS = 5.0
"""The largest root mean square of data without noise for which a start is expected."""
SLACK = 2.0
"""The factor by which a start's norm may leave what is expected."""
FLUCTUATION = 6.0
"""The norm of n normal numbers is within this of sqrt(n), but for less than one case in 10^7."""


class _Note(NamedTuple):
    """Flags that hold where all is well, not read yet."""

    holds: Bool[Tensor, " flags"]
    tell: Callable[[int], None]
    """Raises or warns, given the index of the first flag that does not hold."""


class Watch:
    """Notes of a run, in their order. `names` are the models' in messages."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._notes: list[_Note] = []

    def note(self, step: int, sigma: float, predictions: Sequence[Tensor]) -> None:
        """Keep whether each model's prediction is finite, per sample, on the first one's device."""
        finite = [each.isfinite().flatten(1).all(1).to(predictions[0].device) for each in predictions]
        self._notes.append(
            _Note(torch.cat(finite), partial(self._raise_not_finite, step, sigma, len(finite[0])))
        )

    def note_start(self, name: str, x: Latent, sigma: float) -> None:
        """Keep whether each sample's norm can be that of data at noise level `sigma`.

        Data of root mean square r under noise have |x| near sqrt(n (r^2 + sigma^2)). Accepted is what lies
        within a factor of 2 of that for some r from 0 to 5: pure noise in either convention, and an image
        from img2img at any level, as long as its own root mean square is not above 10. The noise's
        fluctuation, 6 whatever n is, is allowed besides, so that small vectors are hardly told.
        """
        norm, n = _norm(x), x[0].numel()
        low = sigma * (math.sqrt(n) - FLUCTUATION) / SLACK
        high = SLACK * (math.sqrt(n * (LARGEST_RMS**2 + sigma**2)) + FLUCTUATION * sigma)
        holds = (low <= norm) & (norm <= high) | norm.isnan()
        self._notes.append(_Note(holds, partial(_tell_start, name, norm, n, sigma)))

    def note_last(
        self, name: str, step: int, sigma: float, previous: float | None, x: Latent, denoised: Latent
    ) -> None:
        """Keep whether a prediction is as near to `x`, where it was made, as a denoiser's is.

        An exact denoiser has |denoised - x| = sigma |E[noise | x]|, about sigma sqrt(n) or less, of which 10
        times are accepted. After a long step, from the level `previous`, x can be blurred by that level's
        noise: twice that is accepted too. The noise's fluctuation comes on top, as for the start. A network
        that predicts the noise returns about sqrt(n) whatever sigma is. What is not finite is left to `note`.
        """
        reach = (math.sqrt(x[0].numel()) + FLUCTUATION) * max(10 * sigma, 2 * (previous or 0.0))
        away = _norm(denoised - x)
        holds = (away <= reach) | ~away.isfinite()
        self._notes.append(_Note(holds, partial(_tell_away, name, step, sigma, away, reach)))

    def note_range(self, name: str, model: Denoiser, levels: Sequence[float]) -> None:
        """Check that the levels lie in the model's range: now, or when read if its bounds lie on a device."""
        low, high = bounds(model)
        if _on_host(low) and _on_host(high):
            check_range(levels, model, name)
        elif len(levels) > 0:
            inside = (low * (1 - RANGE_RTOL) <= levels[-1]) & (levels[0] <= high * (1 + RANGE_RTOL))
            self._notes.append(_Note(inside.reshape(1), lambda _: check_range(levels, model, name)))

    def read(self) -> None:
        """Read what was noted since the last reading: one wait for the device, none if nothing was.

        Raises:
            FloatingPointError: naming the model, the sample and the step of the first that was not finite.
        """
        notes, self._notes = self._notes, []
        if not notes:
            return
        device = notes[0].holds.device
        if bool(torch.cat([each.holds.to(device) for each in notes]).all()):
            return
        for each in notes:
            missed = (~each.holds).nonzero()
            if len(missed) > 0:
                each.tell(int(missed[0]))

    def _raise_not_finite(self, step: int, sigma: float, batch: int, index: int) -> None:
        model, sample = divmod(index, batch)
        raise FloatingPointError(
            f"{self._names[model]} returned NaN or infinity for sample {sample}, first at step "
            f"{step} (sigma = {sigma:.6g})"
        )


def _tell_away(name: str, step: int, sigma: float, away: PerSample, reach: float, sample: int) -> None:
    warnings.warn(
        f"{name} returned |denoised - x| = {away[sample].item():.4g} for sample {sample} at step {step} "
        f"(sigma = {sigma:.6g}), expected {reach:.4g} or less: is it an eps network that was not wrapped as "
        "a denoiser, or did the run diverge? (validate=False leaves this check out)",
        stacklevel=2,
    )


def _tell_start(name: str, norm: PerSample, n: int, sigma: float, sample: int) -> None:
    warnings.warn(
        f"{name} has the norm {norm[sample].item():.4g} for sample {sample}, expected about sqrt(n (1 + "
        f"sigma^2)) = {math.sqrt(n * (1 + sigma**2)):.4g} at sigma = {sigma:.6g}: is it a VP latent, noise "
        "that was not scaled, or x of another level? (validate=False leaves this check out)",
        stacklevel=2,
    )


def _on_host(value: object) -> bool:
    """Whether reading the value waits for no device."""
    return not isinstance(value, Tensor) or value.device.type == "cpu"


def _norm(x: Latent) -> PerSample:
    """Norms per sample, in float32 or better: half precision overflows."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    norm: Tensor = torch.linalg.vector_norm(x.detach().flatten(1), dim=1, dtype=dtype)
    return norm
