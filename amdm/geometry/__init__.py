"""Pure functions on latents: batched over the first axis, with norms per sample; no sigmas, no models."""

from amdm.geometry.fold import fold_shares, lerp_fold, orthogonal_mix, slerp_fold
from amdm.geometry.karcher import karcher_mean
from amdm.geometry.radial import radial_correct, shell_radius
from amdm.geometry.sphere import angle, slerp

FOLDS = {fold.__name__: fold for fold in (slerp_fold, lerp_fold, karcher_mean, orthogonal_mix)}
"""All folds by name. What holds for every fold is tested for these."""

__all__ = [
    "FOLDS",
    "angle",
    "fold_shares",
    "karcher_mean",
    "lerp_fold",
    "orthogonal_mix",
    "radial_correct",
    "shell_radius",
    "slerp",
    "slerp_fold",
]
