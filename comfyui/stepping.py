"""Which of the host's samplers AMDM can step, and how."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import comfy.extra_samplers.uni_pc
import comfy.k_diffusion.sampling as host
import torch
from torch import Tensor

import amdm
from amdm.types import NoiseSampler

from .coordinates import Coordinates


@dataclass(frozen=True)
class Method:
    """A sampler of `amdm` that is one of the host's.

    Attributes:
        generator: amdm's sampler.
        names: those under which the host lists it.
        eta: the host's default share of fresh noise.
        flow: amdm's sampler for flows, where the host's function may be another; None if there is none.
        tree: True if the host draws its noise from a Brownian tree.
        last: the sigma at which the host's function ends in the place of 0.
    """

    generator: Callable[..., Any]
    names: tuple[str, ...]
    eta: float = 0.0
    flow: Callable[..., Any] | None = None
    tree: bool = False
    last: float = 0.0


def uni_pc(names: tuple[str, ...], **options: Any) -> Method:
    """Return UniPC with its options."""
    generators = [partial(each, **options) for each in (amdm.uni_pc, amdm.uni_pc_flow)]
    return Method(generators[0], names, flow=generators[1], last=0.001)


SDE = Method(amdm.dpmpp_2m_sde, ("dpmpp_2m_sde",), eta=1.0, flow=amdm.dpmpp_2m_sde, tree=True)
METHODS = {
    "sample_euler": Method(amdm.ddim, ("euler", "ddim"), flow=amdm.ddim),
    "sample_euler_ancestral": Method(
        amdm.ddim, ("euler_ancestral",), eta=1.0, flow=amdm.euler_ancestral_flow
    ),
    "sample_heun": Method(amdm.heun, ("heun",), flow=amdm.heun_flow),
    "sample_dpmpp_2m": Method(amdm.dpmpp_2m, ("dpmpp_2m",), flow=amdm.dpmpp_2m_flow),
    "sample_dpmpp_2m_sde": SDE,
    "sample_dpmpp_2m_sde_gpu": replace(SDE, names=("dpmpp_2m_sde_gpu",)),
    "sample_ddpm": Method(amdm.ddim, ("ddpm",), eta=1.0),  # on flows not a flow's noise
    "sample_lcm": Method(amdm.lcm, ("lcm",), flow=amdm.lcm),
    "sample_res_multistep": Method(amdm.res_multistep, ("res_multistep",), flow=amdm.res_multistep_flow),
    "sample_res_multistep_ancestral": Method(amdm.res_multistep, ("res_multistep_ancestral",), eta=1.0),
    "sample_unipc": uni_pc(("uni_pc",)),
    "sample_unipc_bh2": uni_pc(("uni_pc_bh2",), variant="bh2"),
}
"""By the name of the host's function."""

UNUSED_WITHOUT_CHURN = {"s_tmin", "s_tmax"}


@dataclass(frozen=True)
class Stepping:
    """A host's SAMPLER, taken apart: amdm's sampler, its eta and how its noise is drawn."""

    generator: Callable[..., Any]
    method: Method
    eta: float
    noise_scale: float
    random_known: bool
    """True if the known region of inpainting gets noise of its own, as the host's ddim does."""

    @classmethod
    def of(cls, sampler: Any, flow: bool) -> Stepping:
        """Read the sampler; raise ValueError, with a list of those that work, unless AMDM can step it."""
        function = cast("Callable[..., Any]", getattr(sampler, "sampler_function", None))
        name = getattr(function, "__name__", type(sampler).__name__)
        method = METHODS.get(name)
        generator = None if method is None else method.flow if flow else method.generator
        if method is None or generator is None or function is not host_function(name):
            kind = "a flow model (SD3, FLUX)" if flow else "this model"
            raise ValueError(
                f"AMDM cannot step the sampler {name.removeprefix('sample_')} of {kind}, expected one of: "
                + ", ".join(sampler_names(flow))
            )
        options = dict(sampler.extra_options)
        eta, scale = float(options.pop("eta", method.eta)), float(options.pop("s_noise", 1.0))
        for option, value in options.items():
            default = inspect.signature(function).parameters[option].default
            if value != default and option not in UNUSED_WITHOUT_CHURN:
                raise ValueError(
                    f"The sampler {method.names[0]} has {option} = {value}, which AMDM cannot do, "
                    f"expected {default}"
                )
        random_known = bool(getattr(sampler, "inpaint_options", {}).get("random", False))
        return cls(generator, method, eta, scale, random_known)

    def sigmas(self, sigmas: Tensor, model_sampling: Any) -> Tensor:
        """Return the levels at which the host's function really steps."""
        if self.method.last and sigmas[-1] == 0:
            return torch.cat([sigmas[:-1], sigmas.new_tensor([self.method.last])])
        return host.offset_first_sigma_for_snr(sigmas, model_sampling) if self.method.tree else sigmas

    def noise(self, x: Tensor, at: Coordinates, sigmas: Tensor, seed: int | None) -> NoiseSampler:
        """Return the draws of the host's function, which is given `sigmas`, for a latent, by the seed."""
        draw = self._draw(x, sigmas, seed)
        return lambda level, level_next: self.noise_scale * draw(at.sigma(level), at.sigma(level_next))

    def _draw(self, x: Tensor, sigmas: Tensor, seed: int | None) -> NoiseSampler:
        if not self.method.tree:
            return host.default_noise_sampler(x, seed=seed)
        cpu, positive = not self.method.names[0].endswith("_gpu"), sigmas[sigmas > 0]
        return host.BrownianTreeNoiseSampler(x, positive.min(), sigmas.max(), seed=seed, cpu=cpu)

    def known_noise(self, noise: Tensor, seed: int | None) -> Tensor:
        """Return the noise of the known region in inpainting."""
        if not self.random_known:
            return noise
        generator = torch.Generator().manual_seed((41 if seed is None else seed) + 1)
        return torch.randn(noise.shape, generator=generator).to(noise)


def host_function(name: str) -> Any:
    """Return the host's own function of a name, None if it has none."""
    return getattr(host, name, getattr(comfy.extra_samplers.uni_pc, name, None))


def sampler_names(flow: bool) -> list[str]:
    """Return the host's names of the samplers that AMDM can step."""
    return [name for each in METHODS.values() if each.flow or not flow for name in each.names]
