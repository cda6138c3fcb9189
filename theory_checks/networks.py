"""The trained networks as the checks need them; an installed package has three of five."""

from functools import cache
from typing import Any

import torch

from amdm.command_line.arguments import missing
from amdm.noise import start_noise
from amdm.types import Denoiser, Latent
from theory_checks.pair import NOISE


def available(*names: str) -> bool:
    """Return True if these trained networks can be loaded here: checks on them are listed only then."""
    if missing("diffusers", "einops", "safetensors"):
        return False
    from amdm.shapes.networks import WEIGHTS

    return all((WEIGHTS / name).is_dir() for name in names)


@cache
def conditioned(names: tuple[str, str], seed: int, device: str) -> tuple[Denoiser, Denoiser]:
    """Return two models with guidance, conditioned on the same test scene whatever the batch."""
    from amdm.shapes import denoisers, world

    scene = world.sample_scenes([world.TEST[seed]])

    def bind(name: str) -> Denoiser:
        model, args = denoisers.load(name, device=device), denoisers.extra_args(name, scene)
        return lambda x, sigma: model(x, sigma, **_expanded(args, x))

    first, second = names
    return bind(first), bind(second)


def noised(seed: int, sigma: float, starts: int, device: str) -> Latent:
    """Return the latent of that scene's render with several draws of noise at a level, VE, float32."""
    from amdm.shapes import latents, world

    latent = latents.encode(world.render(world.sample_scenes([world.TEST[seed]])))
    seeds = range(seed + NOISE, seed + NOISE + starts)
    noise = start_noise(seeds, latents.SHAPE, sigma, num_models=1, convention="ve")[0]
    return (latent + noise).to(device)


def _expanded(args: Any, x: Latent) -> Any:
    """Return nested dictionaries of tensors of batch 1, expanded to the batch of `x`."""
    if isinstance(args, torch.Tensor):
        return args.to(x).expand(len(x), *args.shape[1:])
    return {key: _expanded(value, x) for key, value in args.items()}
