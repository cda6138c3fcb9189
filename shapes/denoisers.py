"""The models as denoisers in k-diffusion's sense, with guidance, and what they are told about scenes.

In VE coordinates (x = z + sigma noise) every network F is used as in Karras et al. 2022, eq. (7):
denoised = c_skip x + c_out F(c_in x, c_noise), with the coefficients that its kind of prediction implies.
"""

from dataclasses import dataclass
from functools import cache
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.compatibility import LatentSpace
from amdm.denoisers import Guided
from shapes import conditions, latents, networks
from shapes.conditions import Maps, Tokens
from shapes.latents import Latent
from shapes.networks import EDM_SIGMAS, Network
from shapes.recipes import RECIPES
from shapes.world import Image, Scenes

GUIDANCE = 3.0


class Scaling(NamedTuple):
    """The coefficients of Karras et al. 2022, eq. (7), at some levels; c_noise tells it the level."""

    c_in: Float[Tensor, " batch"]
    c_skip: Float[Tensor, " batch"]
    c_out: Float[Tensor, " batch"]
    c_noise: Float[Tensor, " batch"]


def training_sigmas() -> Float[Tensor, "1000"]:
    """The VE levels of Stable Diffusion's 1000 training steps, increasing, in float64."""
    alphas_cumprod = latents.alphas_cumprod()
    return ((1 - alphas_cumprod) / alphas_cumprod).sqrt()


def sigma_to_t(sigma: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """The training step of a level, between steps linear in log sigma, as in k-diffusion."""
    table = _log_sigmas(sigma.device)
    log_sigma = sigma.double().log()
    low = (torch.searchsorted(table, log_sigma) - 1).clamp(0, len(table) - 2)
    part = (log_sigma - table[low]) / (table[low + 1] - table[low])
    return (low + part.clamp(0, 1)).float()


@cache
def _log_sigmas(device: torch.device) -> Float[Tensor, "1000"]:
    """Made once per device, not at every call of a network."""
    return training_sigmas().log().to(device)


def scaling(predicts: str, sigma: Float[Tensor, " batch"]) -> Scaling:
    """What makes a network's prediction of this kind a denoiser, for latents of unit variance."""
    variance = 1 + sigma.square()
    c_in, ones = variance.rsqrt(), torch.ones_like(sigma)
    if predicts == "epsilon":
        return Scaling(c_in, ones, -sigma, sigma_to_t(sigma))
    if predicts == "v_prediction":
        return Scaling(c_in, 1 / variance, -sigma * c_in, sigma_to_t(sigma))
    return Scaling(c_in, 1 / variance, sigma * c_in, sigma.log() / 4)


@dataclass(frozen=True)
class NetworkDenoiser:
    """A network as `model(x, sigma, **conditions) -> denoised`."""

    network: Network
    predicts: str
    sigma_min: float
    sigma_max: float

    latent_space: ClassVar = LatentSpace("shapes", scaling=latents.SCALE, shape=latents.SHAPE)

    def __call__(
        self,
        x: Latent,
        sigma: Float[Tensor, " batch"],
        *,
        encoder_hidden_states: Tokens,
        maps: Maps | None = None,
    ) -> Latent:
        """The denoised latents, in the latents' dtype; the network runs in its own."""
        c_in, c_skip, c_out, c_noise = scaling(self.predicts, sigma)
        c_in, c_skip, c_out = (c[:, None, None, None] for c in (c_in, c_skip, c_out))
        dtype = self.network.unet.dtype
        tokens, maps = encoder_hidden_states.to(dtype), None if maps is None else maps.to(dtype)
        predicted = networks.predict(self.network, (c_in * x).to(dtype), c_noise.to(dtype), tokens, maps)
        return c_skip * x + c_out * predicted.to(x.dtype)


def load(name: str, guidance: float = GUIDANCE, device: torch.device | str = "cpu") -> Guided:
    """A shipped model as a denoiser with guidance: `model(x, sigma, **extra_args(name, scenes))`.

    Raises ValueError for a name that is not in RECIPES.
    """
    if name not in RECIPES:
        raise ValueError(f"name must be one of {', '.join(RECIPES)}, got {name!r}")
    predicts = RECIPES[name].predicts
    table = training_sigmas()
    low, high = EDM_SIGMAS if predicts == "edm" else (table[0].item(), table[-1].item())
    network = networks.load(name).to(device)
    return Guided(NetworkDenoiser(network, predicts, low, high), guidance)


def extra_args(
    name: str, scenes: Scenes, *, say_style: bool = True, reference: Image | None = None
) -> dict[str, dict[str, Tensor]]:
    """What a model is told about scenes, and the nothing that guidance leads away from.

    Args:
        name: the model's; each is told only what it controls, and the caption.
        scenes: what is wanted.
        say_style: whether the captions name the style; those of `style` never do.
        reference: for `style` an image of the wanted style per scene; other renders by default.
    """
    cond = conditions.told(RECIPES[name], scenes, styles=say_style, reference=reference)
    return {"cond": cond, "uncond": {key: torch.zeros_like(value) for key, value in cond.items()}}


def sigmas(steps: int = 50) -> Float[Tensor, " levels"]:
    """The levels of DDIM in diffusers (leading, offset 1) in VE, decreasing, then 0; in float32.

    Raises ValueError unless steps lies in 1 to 999.
    """
    if not 1 <= steps < 1000:
        raise ValueError(f"steps must lie in 1 to 999, got {steps}")
    grid = training_sigmas()[torch.arange(steps).flip(0) * (1000 // steps) + 1]
    return torch.cat([grid, torch.zeros(1)]).float()
