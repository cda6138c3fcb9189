"""Models merged in their parameters: one network at the cost of one."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from amdm.checks import check_conditions, kind_of
from amdm.denoisers.compose import mean_weights


def average_state_dicts(
    state_dicts: Sequence[Mapping[str, Tensor]], weights: Sequence[float] | None = None
) -> dict[str, Tensor]:
    """Return the weighted mean of several networks' parameters (Biggs et al.'s diffusion soup).

    The networks are fine-tuned from a common ancestor. Where the prediction is affine in the parameters the
    merged network predicts the mean of the predictions, as `linear` does at N times the cost. Elsewhere that
    holds to first order in the parameters' differences; the mean of very different networks is meaningless.

    Args:
        state_dicts: N state dicts of one architecture: the same names, shapes and dtypes.
        weights: N numbers of sum 1; None for equal ones.

    Returns:
        A state dict; means are taken in float32 or better and returned in the parameters' dtype. Integers
        (counters, indices) must be equal.

    Raises:
        TypeError: not a list of dictionaries of tensors.
        ValueError: no networks, weights that are not as above, or networks that differ; the first difference
            is named.

    References:
        Biggs et al. 2024, "Diffusion soup: model merging for text-to-image diffusion models",
        arXiv:2406.08431.

    >>> one, other = {"w": torch.tensor([0.0])}, {"w": torch.tensor([1.0])}
    >>> average_state_dicts([one, other], [0.75, 0.25])
    {'w': tensor([0.2500])}
    """
    if not isinstance(state_dicts, Sequence) or isinstance(state_dicts, str | bytes):
        raise TypeError(f"state_dicts is {kind_of(state_dicts)}, expected a list of state dicts")
    for i, each in enumerate(state_dicts):
        check_conditions(each, f"state_dicts[{i}]", "a dictionary of parameters' names and tensors")
    if len(state_dicts) == 0:
        raise ValueError("state_dicts is empty, expected one network or more")
    weights = mean_weights(weights, len(state_dicts))
    first = state_dicts[0]
    for i, other in enumerate(state_dicts[1:], start=1):
        _check_same_architecture(first, other, i)
    return {name: _average([each[name] for each in state_dicts], weights) for name in first}


def _check_same_architecture(first: Mapping[str, Tensor], other: Mapping[str, Tensor], i: int) -> None:
    if first.keys() != other.keys():
        raise ValueError(
            f"state_dicts[{i}] is of another architecture than state_dicts[0]: one alone has "
            f"{sorted(first.keys() ^ other.keys())[:3]}"
        )
    for name, here in first.items():
        there = other[name]
        if (here.shape, here.dtype) != (there.shape, there.dtype):
            raise ValueError(
                f"state_dicts[{i}][{name!r}] is {there.dtype} of shape {tuple(there.shape)}, expected "
                f"state_dicts[0]'s: {here.dtype} of shape {tuple(here.shape)}"
            )
        if not here.is_floating_point() and not torch.equal(here, there):
            raise ValueError(f"state_dicts[{i}][{name!r}] differs from state_dicts[0]'s, and has no mean")


def _average(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    first = tensors[0]
    if not first.is_floating_point():
        return first.clone()
    wide = torch.promote_types(first.dtype, torch.float32)
    mean = sum(weight * each.to(wide) for weight, each in zip(weights, tensors, strict=True))
    assert isinstance(mean, Tensor)
    return mean.to(first.dtype)
