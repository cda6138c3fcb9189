"""Samplers: generators of steps, the functions that run them, and the formulas they are made of."""

from amdm.samplers.aggregation import Aggregation
from amdm.samplers.amdm import AMDM, amdm, auto_length, join, resolve_window, sample_amdm, sigma_window
from amdm.samplers.ancestral import euler_ancestral_flow, lcm, sample_euler_ancestral_flow, sample_lcm
from amdm.samplers.ddim import DDIM, ddim, ddim_step, sample_ddim
from amdm.samplers.dpmpp import dpmpp_2m, dpmpp_2m_sde, dpmpp_2m_step, sample_dpmpp_2m, sample_dpmpp_2m_sde
from amdm.samplers.fkc import Particles, fkc, fkc_log_weight, sample_fkc
from amdm.samplers.heun import heun, heun_flow, heun_step, sample_heun, sample_heun_flow
from amdm.samplers.known import Known
from amdm.samplers.march import SAMPLERS, At, Rule, of_models, of_one_model
from amdm.samplers.mcmc import Moves, mcmc, sample_mcmc
from amdm.samplers.multistep import (
    dpmpp_2m_flow,
    res_multistep,
    res_multistep_flow,
    sample_dpmpp_2m_flow,
    sample_res_multistep,
    sample_res_multistep_flow,
)
from amdm.samplers.particles import effective_samples, systematic_resample
from amdm.samplers.projective_guidance import Controls, projective_guidance, sample_projective_guidance
from amdm.samplers.rne import rne_log_density, rne_log_ratio, smc_log_weight
from amdm.samplers.step import Restart, Sampler, Step
from amdm.samplers.superdiff import Superposition, sample_superdiff, superdiff
from amdm.samplers.unipc import sample_uni_pc, sample_uni_pc_flow, uni_pc, uni_pc_flow

__all__ = [
    "AMDM",
    "DDIM",
    "SAMPLERS",
    "Aggregation",
    "At",
    "Controls",
    "Known",
    "Moves",
    "Particles",
    "Restart",
    "Rule",
    "Sampler",
    "Step",
    "Superposition",
    "amdm",
    "auto_length",
    "ddim",
    "ddim_step",
    "dpmpp_2m",
    "dpmpp_2m_flow",
    "dpmpp_2m_sde",
    "dpmpp_2m_step",
    "effective_samples",
    "euler_ancestral_flow",
    "fkc",
    "fkc_log_weight",
    "heun",
    "heun_flow",
    "heun_step",
    "join",
    "lcm",
    "mcmc",
    "of_models",
    "of_one_model",
    "projective_guidance",
    "res_multistep",
    "res_multistep_flow",
    "resolve_window",
    "rne_log_density",
    "rne_log_ratio",
    "sample_amdm",
    "sample_ddim",
    "sample_dpmpp_2m",
    "sample_dpmpp_2m_flow",
    "sample_dpmpp_2m_sde",
    "sample_euler_ancestral_flow",
    "sample_fkc",
    "sample_heun",
    "sample_heun_flow",
    "sample_lcm",
    "sample_mcmc",
    "sample_projective_guidance",
    "sample_res_multistep",
    "sample_res_multistep_flow",
    "sample_superdiff",
    "sample_uni_pc",
    "sample_uni_pc_flow",
    "sigma_window",
    "smc_log_weight",
    "superdiff",
    "systematic_resample",
    "uni_pc",
    "uni_pc_flow",
]
