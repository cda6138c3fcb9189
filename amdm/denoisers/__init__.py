"""Denoisers: exact ones for tests, adapters to k-diffusion's contract, and compositions of several models.

For eps and v networks use the adapters in `k_diffusion.external`.
"""

from amdm.denoisers.compose import Composed, compose, conjunction, linear, projective
from amdm.denoisers.empirical import Empirical
from amdm.denoisers.energy import conservative_projection
from amdm.denoisers.flow import RectifiedFlow
from amdm.denoisers.guided import Guided, GuidedPair
from amdm.denoisers.mixture import GaussianMixture
from amdm.denoisers.prediction import Prediction, scaling
from amdm.denoisers.soup import average_state_dicts

__all__ = [
    "Composed",
    "Empirical",
    "GaussianMixture",
    "Guided",
    "GuidedPair",
    "Prediction",
    "RectifiedFlow",
    "average_state_dicts",
    "compose",
    "conjunction",
    "conservative_projection",
    "linear",
    "projective",
    "scaling",
]
