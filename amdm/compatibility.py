"""Checks that models can be aggregated: one latent space, and levels that each of them was trained for."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from amdm.checks import RANGE_RTOL, check_each_level, check_model, check_models, check_number, own_name
from amdm.types import Denoiser


class LatentSpace(NamedTuple):
    """The space that a model denoises in; None for what is not known.

    Set it as a denoiser's attribute `latent_space`, and `check_same_ecosystem` compares it.
    """

    autoencoder: str | None = None
    """Its name, path or hash of weights: anything that identifies it."""
    scaling: float | None = None
    shift: float | None = None
    shape: tuple[int, ...] | None = None
    """The event shape of its latents."""


def check_same_ecosystem(
    models: Sequence[Denoiser], sigmas: Float[Tensor, " levels"] | None = None, *, rtol: float = RANGE_RTOL
) -> None:
    """Raise unless the models can be aggregated at these levels (section 3.1 of the paper, restated).

    The paper asks for one latent space and one SDE. In VE coordinates a denoiser does not know its
    training schedule, so other betas, prediction types and dtypes are fine. What must agree is the latent
    space, as far as the models' `latent_space` tells; and the levels must lie between each model's
    `sigma_min` and `sigma_max` where it has them (k-diffusion's wrappers do), up to `rtol`; a last level
    of 0 is not evaluated.

    No model is called, so a network that was not wrapped as a denoiser passes. The samplers warn about one
    at the end of a run (`validate`).

    Raises:
        TypeError: `models` is not a list of denoisers, or `sigmas` not a tensor.
        ValueError: naming both models and what differs, or the model and the level it cannot take; or a level
            that is not finite, 0 or more.
    """
    check_models(models)
    for i, model in enumerate(models):
        check_model(model, f"models[{i}]")
    if not (sigmas is None or isinstance(sigmas, Tensor)):
        raise TypeError(f"sigmas is {type(sigmas).__name__}, expected a floating-point tensor or None")
    levels = [] if sigmas is None else check_each_level(sigmas)
    check_number(rtol, "rtol", "a finite number of 0 or more", lambda part: part >= 0)
    names = [f"models[{i}] ({own_name(model) or type(model).__name__})" for i, model in enumerate(models)]
    spaces = [getattr(model, "latent_space", None) or LatentSpace() for model in models]
    for (i, one), (j, other) in combinations(enumerate(spaces), 2):
        for field, a, b in zip(LatentSpace._fields, one, other, strict=True):
            if a is not None and b is not None and a != b:
                raise ValueError(
                    f"{names[i]} and {names[j]} do not share a latent space: {field} is {a} and {b}"
                )
    for i, model in enumerate(models):
        check_model(model, f"models[{i}]", levels, rtol)
