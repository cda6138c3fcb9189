"""AMDM: sample from several pretrained diffusion models at once, without training."""

from amdm import denoisers, geometry, samplers, schedules
from amdm.compatibility import LatentSpace, check_same_ecosystem
from amdm.geometry import fold_shares, karcher_mean, lerp_fold, radial_correct, slerp, slerp_fold
from amdm.noise import seeded_noise, shared_noise, start_noise
from amdm.samplers import (
    Known,
    Restart,
    Sampler,
    Step,
    amdm,
    ddim,
    dpmpp_2m,
    dpmpp_2m_sde,
    fkc,
    heun,
    mcmc,
    sample_amdm,
    sample_ddim,
    sample_dpmpp_2m,
    sample_dpmpp_2m_sde,
    sample_fkc,
    sample_heun,
    sample_mcmc,
    sample_superdiff,
    sigma_window,
    superdiff,
)
from amdm.types import Denoiser, NoiseSampler

__version__ = "0.1.0"

__all__ = [
    "Denoiser",
    "Known",
    "LatentSpace",
    "NoiseSampler",
    "Restart",
    "Sampler",
    "Step",
    "amdm",
    "check_same_ecosystem",
    "ddim",
    "denoisers",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "fkc",
    "fold_shares",
    "geometry",
    "heun",
    "karcher_mean",
    "lerp_fold",
    "mcmc",
    "radial_correct",
    "sample_amdm",
    "sample_ddim",
    "sample_dpmpp_2m",
    "sample_dpmpp_2m_sde",
    "sample_fkc",
    "sample_heun",
    "sample_mcmc",
    "sample_superdiff",
    "samplers",
    "schedules",
    "seeded_noise",
    "shared_noise",
    "sigma_window",
    "slerp",
    "slerp_fold",
    "start_noise",
    "superdiff",
]
