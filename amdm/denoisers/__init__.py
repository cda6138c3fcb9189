"""Denoisers: exact ones to test against, adapters to k-diffusion's contract, and compositions of several.

eps and v networks need no adapter of ours: `k_diffusion.external` has them.
"""

from amdm.denoisers.compose import Composed, compose, conjunction, linear, projective
from amdm.denoisers.ecosystem import LatentSpace, check_same_ecosystem
from amdm.denoisers.empirical import Empirical
from amdm.denoisers.flow import RectifiedFlow, flow_sigmas
from amdm.denoisers.guided import Guided
from amdm.denoisers.mixture import GaussianMixture

__all__ = [
    "Composed",
    "Empirical",
    "GaussianMixture",
    "Guided",
    "LatentSpace",
    "RectifiedFlow",
    "check_same_ecosystem",
    "compose",
    "conjunction",
    "flow_sigmas",
    "linear",
    "projective",
]
