"""The models as denoisers with guidance, `model(x, sigma, **extra_args(name, scenes))`, in VE coordinates."""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.compatibility import LatentSpace
from amdm.denoisers import Guided
from amdm.diffusers import Call, NetworkDenoiser, Recipe, controlnet, text
from amdm.schedules import ddim_sigmas, sigmas_from_betas, stable_diffusion_betas
from amdm.shapes import conditions, latents, networks
from amdm.shapes.configs import CONFIGS, Prediction
from amdm.shapes.networks import EDM_SIGMAS, Ensemble, Network
from amdm.shapes.world import Image, Scenes

GUIDANCE = 3.0
LATENT_SPACE = LatentSpace("shapes", scaling=latents.SCALE, shape=latents.SHAPE)


def training_sigmas() -> Float[Tensor, "1000"]:
    """Return the VE levels of Stable Diffusion's 1000 training steps, increasing, in float64."""
    return sigmas_from_betas(stable_diffusion_betas())


def sigmas(steps: int = 50) -> Float[Tensor, " levels"]:
    """Return the levels of DDIM in diffusers (leading, offset 1) in VE, decreasing, then 0; in float32.

    Raises ValueError unless steps lies in 1 to 999.
    """
    if not 1 <= steps < 1000:
        raise ValueError(f"steps must lie in 1 to 999, got {steps}")
    return ddim_sigmas(training_sigmas(), steps).float()


def denoiser(network: Network, predicts: Prediction) -> NetworkDenoiser:
    """Return a network as a denoiser `model(x, sigma, **conditions) -> denoised`.

    For latents of unit variance EDM's preconditioning (Karras et al. 2022, table 1) is that of v with the
    opposite sign; the network's timestep is log(sigma)/4.
    """
    if predicts != "edm":
        return NetworkDenoiser(network, predicts, training_sigmas(), latent_space=LATENT_SPACE)

    def negative(*args: Tensor, **kwargs: Tensor) -> tuple[Tensor]:
        return (-network(*args, **kwargs)[0],)

    levels = torch.tensor(EDM_SIGMAS, dtype=torch.float64)
    return NetworkDenoiser(negative, "v_prediction", levels, [edm_time], latent_space=LATENT_SPACE)


def edm_time(call: Call) -> Call:
    """Return the call with EDM's noise condition, log(sigma)/4, as its timestep."""
    return call._replace(t=call.sigma.log() / 4)


def load(name: str, guidance: float = GUIDANCE, device: torch.device | str = "cpu") -> Guided:
    """Return a shipped model as a denoiser with guidance: `model(x, sigma, **extra_args(name, scenes))`.

    Raises ValueError for a name that is not in CONFIGS.
    """
    if name not in CONFIGS:
        raise ValueError(f"name must be one of {', '.join(CONFIGS)}, got {name!r}")
    return Guided(denoiser(networks.load(name).to(device), CONFIGS[name].predicts), guidance)


def extra_args(
    name: str, scenes: Scenes, *, say_style: bool = True, reference: Image | None = None
) -> dict[str, dict[str, Tensor]]:
    """Return a model's conditions for scenes, "cond", and zeros of their shapes, "uncond", for guidance.

    Args:
        name: the model's name; each model gets the caption and what it controls.
        scenes: the wanted scenes.
        say_style: True if the captions name the style; those of `style` never do.
        reference: for `style`, an image of the wanted style per scene; other renders by default.
    """
    cond = conditions.encode(CONFIGS[name], scenes, styles=say_style, reference=reference)
    return {"cond": cond, "uncond": {key: torch.zeros_like(value) for key, value in cond.items()}}


def aggregated(
    ensemble: Ensemble, told: Sequence[Mapping[str, Tensor]], guidance: float = 1.0
) -> NetworkDenoiser:
    """Return an ensemble, told each expert's conditions, as a denoiser `model(x, sigma)`.

    With guidance above 1 conditions have two rows for each sample, unconditional rows first: `rows`.
    """
    from amdm.diffusers import afa  # loads diffusers

    experts = [expert(network, each, guidance) for network, each in zip(ensemble.experts, told, strict=True)]
    return afa.aggregated(experts, ensemble.aggregators)


def expert(network: Network, told: Mapping[str, Tensor], guidance: float = 1.0) -> NetworkDenoiser:
    """Return a network that predicts eps, told its conditions, as a denoiser of its U-Net and recipes."""
    recipes: list[Recipe] = [text(told["encoder_hidden_states"])]
    if network.controlnet is not None:
        recipes.append(controlnet(network.controlnet, told["maps"]))
    elif "maps" in told:
        recipes.append(partial(_beside, maps=told["maps"]))
    table = training_sigmas()
    return NetworkDenoiser(
        network.unet, "epsilon", table, recipes, guidance=guidance, latent_space=LATENT_SPACE
    )


def _beside(call: Call, maps: Tensor) -> Call:
    return call._replace(x=networks.beside(call.x, call.rows_of(maps).to(call.x)))


def rows(args: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the conditions of `extra_args` as a guided call has them: unconditional rows first."""
    return {key: torch.cat([args["uncond"][key], value]) for key, value in args["cond"].items()}
