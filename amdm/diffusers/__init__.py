"""Diffusers' pipelines and networks as denoisers: Stable Diffusion, SDXL, their add-ons, SD3 and FLUX.

Needs the extra `diffusers`; `import amdm` does not import this package.
"""

from amdm.diffusers.contexts import as_switched, without_randomness
from amdm.diffusers.levels import sigma_to_t, sigmas_from_scheduler, training_sigmas
from amdm.diffusers.network import NetworkDenoiser
from amdm.diffusers.pipeline import Decoder, Prepared, from_pipeline
from amdm.diffusers.recipes import (
    Call,
    Recipe,
    Span,
    always,
    controlnet,
    gligen,
    ip_adapter,
    keywords,
    migc,
    sdxl,
    span_of,
    stepwise,
    t2i_adapter,
    text,
)

__all__ = [
    "Call",
    "Decoder",
    "NetworkDenoiser",
    "Prepared",
    "Recipe",
    "Span",
    "always",
    "as_switched",
    "controlnet",
    "from_pipeline",
    "gligen",
    "ip_adapter",
    "keywords",
    "migc",
    "sdxl",
    "sigma_to_t",
    "sigmas_from_scheduler",
    "span_of",
    "stepwise",
    "t2i_adapter",
    "text",
    "training_sigmas",
    "without_randomness",
]
