"""Ways to join two latents, and the remaining norm after a run with each."""

import math
from collections.abc import Callable, Sequence
from itertools import chain, repeat
from typing import NamedTuple

from amdm.geometry import karcher_mean, lerp_fold, orthogonal_mix, slerp_fold
from amdm.noise import start_noise
from amdm.samplers import auto_length, sample_amdm
from amdm.types import Denoiser, ExtraArgs, Latent, Sigmas, Weight

Fold = Callable[[Sequence[Latent], Sequence[Weight]], Latent]
SD_ENTRIES = 4 * 64 * 64
"""The dimension of Stable Diffusion's latents."""


class Way(NamedTuple):
    """The fold of the first aggregation, that of all later ones, and eq. (8)'s length."""

    first: Fold
    others: Fold
    length: float = auto_length(SD_ENTRIES)
    """VP, for latents of SD_ENTRIES; in proportion to sqrt(n) for others."""


WAYS = {
    "slerp": Way(slerp_fold, slerp_fold),
    "lerp": Way(lerp_fold, lerp_fold),
    "Karcher": Way(karcher_mean, karcher_mean),
    "first lerp, then slerp": Way(lerp_fold, slerp_fold),
    "first slerp, then lerp": Way(slerp_fold, lerp_fold),
    "authors' mix": Way(orthogonal_mix, orthogonal_mix),
    "authors' mix, length 50": Way(orthogonal_mix, orthogonal_mix, 50.0),
}
"""The authors' code mixes as for orthogonal latents, and corrects by about 50 units."""


def in_turn(first: Fold, others: Fold) -> Fold:
    """Return a fold that is `first` at its first call and `others` at later ones; use it for one run."""
    folds = chain([first], repeat(others))
    return lambda xs, weights: next(folds)(xs, weights)


def last_norm(
    way: Way,
    models: Sequence[Denoiser],
    shape: Sequence[int],
    sigmas: Sigmas,
    window: int,
    extra_args: Sequence[ExtraArgs | None] | None = None,
    seeds: Sequence[int] = range(4),
) -> float:
    """Return the mean norm of DDIM's result over sqrt(n), with the first `window` steps joined in this way.

    Own arguments:
        way: the way to join.
        shape: `(*event)`, with n entries.
        seeds: one for each sample, with an independent start for each model.
    """
    n = math.prod(shape)
    x = sample_amdm(
        models,
        start_noise(seeds, shape, sigmas[0], 2),
        sigmas,
        extra_args,
        disable=True,
        window=window,
        fold=in_turn(way.first, way.others),
        correction=way.length * math.sqrt(n / SD_ENTRIES),
    )
    return float(x.flatten(1).norm(dim=1).mean()) / math.sqrt(n)
