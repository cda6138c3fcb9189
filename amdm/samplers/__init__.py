"""Samplers: generators of steps, the functions that run them, and the steps they are made of."""

from amdm.noise import seeded_noise, shared_noise, start_noise
from amdm.samplers.aggregate import amdm, join, sample_amdm
from amdm.samplers.aggregation import Aggregation
from amdm.samplers.fkc import Particles, fkc, fkc_log_weight, sample_fkc
from amdm.samplers.mcmc import Moves, mcmc, sample_mcmc
from amdm.samplers.particles import effective_samples, systematic_resample
from amdm.samplers.rne import rne_log_density, rne_log_ratio, smc_log_weight
from amdm.samplers.single import (
    ddim,
    dpmpp_2m,
    dpmpp_2m_sde,
    heun,
    sample_ddim,
    sample_dpmpp_2m,
    sample_dpmpp_2m_sde,
    sample_heun,
)
from amdm.samplers.steps import ddim_step, dpmpp_2m_step, heun_step
from amdm.samplers.superdiff import Superposition, sample_superdiff, superdiff
from amdm.samplers.window import sigma_window

__all__ = [
    "Aggregation",
    "Moves",
    "Particles",
    "Superposition",
    "amdm",
    "ddim",
    "ddim_step",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_2m_step",
    "effective_samples",
    "fkc",
    "fkc_log_weight",
    "heun",
    "heun_step",
    "join",
    "mcmc",
    "rne_log_density",
    "rne_log_ratio",
    "sample_amdm",
    "sample_ddim",
    "sample_dpmpp_2m",
    "sample_dpmpp_2m_sde",
    "sample_fkc",
    "sample_heun",
    "sample_mcmc",
    "sample_superdiff",
    "seeded_noise",
    "shared_noise",
    "sigma_window",
    "smc_log_weight",
    "start_noise",
    "superdiff",
    "systematic_resample",
]
