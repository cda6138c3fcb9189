"""Denoisers: exact ones to test against, and adapters that turn other models into k-diffusion's contract.

eps and v networks need no adapter of ours: `k_diffusion.external` has them.
"""

from amdm.denoisers.ecosystem import LatentSpace, check_same_ecosystem
from amdm.denoisers.empirical import Empirical
from amdm.denoisers.flow import RectifiedFlow, flow_sigmas
from amdm.denoisers.guided import Guided
from amdm.denoisers.mixture import GaussianMixture

__all__ = [
    "Empirical",
    "GaussianMixture",
    "Guided",
    "LatentSpace",
    "RectifiedFlow",
    "check_same_ecosystem",
    "flow_sigmas",
]
