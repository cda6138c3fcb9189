"""The trained networks of the repository's `shapes` as the checks need them.

The installed package has none: then these checks are skipped, and say so.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch

from amdm.noise import start_noise
from amdm.types import Denoiser, Latent
from theory_checks.pair import NOISE
from theory_checks.record import Check, Record

NEEDED = ("shapes", "diffusers", "safetensors")


def or_skipped(check: Check, statement: str) -> Check:
    """The check, or one that says what it lacks here."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if not missing:
        return check
    reason = f"{statement}: {' and '.join(missing)} not found; it needs the repository and its extra `demo`"
    return lambda: Record(statement=statement, claim="", assumptions="", skipped=reason)


@cache
def told(names: tuple[str, str], seed: int, device: str) -> tuple[Denoiser, Denoiser]:
    """Two models with guidance, both told the same one test scene for whatever batch."""
    from shapes import denoisers, world

    scene = world.sample_scenes([world.TEST[seed]])

    def bind(name: str) -> Denoiser:
        model, args = denoisers.load(name, device=device), denoisers.extra_args(name, scene)

        def denoise(x: Latent, sigma: torch.Tensor) -> Latent:
            return model(x, sigma, **_map(args, lambda part: part.to(x).expand(len(x), *part.shape[1:])))

        return denoise

    first, second = names
    return bind(first), bind(second)


def noised(seed: int, sigma: float, starts: int, device: str) -> Latent:
    """The latent of that scene's render with so many draws of noise at a level, VE, float32."""
    from shapes import latents, world

    latent = latents.encode(world.render(world.sample_scenes([world.TEST[seed]])))
    seeds = range(seed + NOISE, seed + NOISE + starts)
    noise = start_noise(seeds, latents.SHAPE, sigma, num_models=1, convention="ve")[0]
    return (latent + noise).to(device)


def _map(args: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """Applied to all tensors of nested dictionaries."""
    return {
        key: change(value) if isinstance(value, torch.Tensor) else _map(value, change)
        for key, value in args.items()
    }
