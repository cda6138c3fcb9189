"""Pure functions on latents: batched over the first axis, norms per sample, no sigmas and no models."""

from amdm.geometry.fold import fold_shares, lerp_fold, orthogonal_mix, slerp_fold
from amdm.geometry.karcher import karcher_mean
from amdm.geometry.radial import radial_correct, shell_radius
from amdm.geometry.sphere import angle, slerp

__all__ = [
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
