"""AMDM for code that takes k-diffusion's samplers."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from amdm.checks import check_extra_args, check_model, check_models, per_model
from amdm.samplers import sample_amdm
from amdm.samplers.march import Callback
from amdm.types import Denoiser, ExtraArgs, Latent, Sigmas

__all__ = ["sampler_with"]


def sampler_with(
    partners: Sequence[Denoiser],
    extra_args: ExtraArgs | Sequence[ExtraArgs | None] | None = None,
    **options: Any,
) -> Callable[..., Latent]:
    """Return a function with `sample_euler`'s arguments that samples A(+partners).

    >>> from amdm.denoisers import GaussianMixture
    >>> import torch
    >>> one, other = (GaussianMixture(torch.full((1, 2), m), torch.ones(1)) for m in (0.0, 1.0))
    >>> sample = sampler_with([other], window=2)
    >>> sample(one, torch.ones(1, 2), torch.tensor([3.0, 1.0, 0.0]), disable=True).shape
    torch.Size([1, 2])

    Args:
        partners: models 2..N. Model 1 is an argument of the function.
        extra_args: the partners' extra arguments: one dictionary for all, or one each.
        options: keywords of `sample_amdm`: weights, correction, window, fold, sampler, eta, ...; others raise
            TypeError.

    Returns:
        `sample(model, x, sigmas, extra_args=None, callback=None, disable=None, s_churn=0., s_tmin=0.,
        s_tmax=inf, s_noise=1.)`. It raises ValueError for `s_churn` other than 0; without churn the other
        three have no effect.
    """
    check_models(partners, "partners")
    for i, partner in enumerate(partners):
        check_model(partner, f"partners[{i}]")
    inspect.signature(sample_amdm).bind_partial(**options)
    theirs = per_model(extra_args, len(partners), "extra_args")
    for i, args in enumerate(theirs):
        check_extra_args(args, f"extra_args[{i}]")

    def sample(
        model: Denoiser,
        x: Latent,
        sigmas: Sigmas,
        extra_args: ExtraArgs | None = None,
        callback: Callback | None = None,
        disable: bool | None = None,
        s_churn: float = 0.0,
        s_tmin: float = 0.0,
        s_tmax: float = math.inf,
        s_noise: float = 1.0,
    ) -> Tensor:
        """Sample A(+partners) with `sample_amdm`."""
        if s_churn != 0:
            raise ValueError(
                f"s_churn is {s_churn}, expected 0: for fresh noise use sampler_with(..., eta=1.0)"
            )
        return sample_amdm([model, *partners], x, sigmas, [extra_args, *theirs], callback, disable, **options)

    return sample
