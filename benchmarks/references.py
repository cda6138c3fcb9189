"""What amdm is measured against: k-diffusion, and the arithmetic of the authors' published code."""

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor


def import_beside_torchvision(name: str) -> Any:
    """Import a package that imports torchvision, also where torch is a CPU build and torchvision a CUDA one.

    There torchvision's operators do not load and importing it stops. k-diffusion and diffusers need its
    image transforms only, so the registration of the operators is left out.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for loaded in [loaded for loaded in sys.modules if loaded.startswith("torchvision")]:
            del sys.modules[loaded]
        sys.modules["torchvision._meta_registrations"] = ModuleType("torchvision._meta_registrations")
    return importlib.import_module(name)


def published_aggregation(
    xs: Sequence[Tensor],
    previous: Sequence[Tensor],
    eps: Sequence[Tensor],
    *,
    omega: float = 0.5,
    pull: float = 0.3,
) -> list[Tensor]:
    """What the authors' published code computes at an aggregated step, for timing and comparison only.

    The mixture has the coefficients omega^(N-1), then products of sqrt(1 - omega^2) and omega (for N = 2
    and 3 theirs, beyond that continued); every model then moves by `pull` toward a one-training-step DDPM
    mean of its previous latent and prediction, divided by a norm over the whole batch
    (github.com/Hammour-steak/AMDM, dba837a, written here anew).
    """
    rest = (1 - omega**2) ** 0.5
    num = len(xs)
    coefficients = [omega ** (num - 1)] + [rest**k * omega ** (num - 1 - k) for k in range(1, num)]
    mixed = sum(c * x for c, x in zip(coefficients, xs, strict=True))
    assert isinstance(mixed, Tensor)
    corrected = []
    alpha, alpha_bar = torch.tensor(0.99), torch.tensor(0.1)  # 0-d tensors, as a scheduler holds them
    for x, noise in zip(previous, eps, strict=True):
        mean = 1 / alpha**0.5 * x - (1 - alpha) / ((1 - alpha_bar) ** 0.5 * alpha**0.5) * noise
        corrected.append(mixed - pull * (mixed - mean) / torch.norm(mixed - mean))
    return corrected
