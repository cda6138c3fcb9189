"""Inpainting: a region of the latent that is known and not drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from amdm.checks import kind_of
from amdm.samplers.step import Step

AnyShape = Float[Tensor, "..."]
Mask = AnyShape | Bool[Tensor, "..."]


@dataclass(frozen=True, eq=False, repr=False)
class Known:
    """The part of a latent that is given, for `amdm(..., known=...)`.

    It is noised to the level and put into every model's latent before the first step and after each step.
    Folds, angles and corrections leave it out.

    Args:
        latent: the latent without noise; broadcasts to `(batch, *event)`, like `mask` and `noise`.
        mask: 1 where models draw, 0 where the latent is known, as in diffusers; values between blend the two.
            Or a list of one mask per step. For Differential Diffusion (Levin & Fried 2023,
            arXiv:2306.00950), which draws a pixel in the last fraction `change` of the steps, pass
            `[change > 1 - (i + 1) / steps for i in range(steps)]`.
        noise: the standard normal noise that is added to the latent at all levels. None for the noise of
            model 1's start, (x - latent)/sigmas[0]: a straight path from the start to the latent.
    """

    latent: AnyShape
    mask: Mask | Sequence[Mask]
    noise: AnyShape | None = None

    def begin(self, x: Tensor, levels: Sequence[float]) -> Region:
        """Return the known region of a run that begins at `x`; raise unless latent, mask and noise fit it."""
        latent = fitted(self.latent, x, "known.latent").expand(x.shape)
        masks = masks_of(self.mask, x, len(levels) - 1, "known.mask")
        if self.noise is None:
            noise = (x - latent) / (levels[0] or 1.0)
        else:
            noise = fitted(self.noise, x, "known.noise").expand(x.shape)
        return Region(latent, masks, noise)


@dataclass(frozen=True, eq=False, repr=False)
class Region:
    """The known region of a run."""

    latent: Tensor
    masks: Sequence[Tensor]
    """One per step."""
    noise: Tensor

    def put(self, x: Tensor, sigma: float, i: int) -> Tensor:
        """Return `x` at `sigma` with the known region of step `i` in it."""
        known = self.latent if sigma == 0 else self.latent + sigma * self.noise
        return torch.lerp(known.to(x), x, self.masks[i].to(x))

    def stepped(self, step: Step) -> Step:
        """Return the step with the known region in its `x_next` and its mean."""
        x_next, mean = (self.put(each, step.sigma_next, step.index) for each in (step.x_next, step.mean))
        return replace(step, x_next=x_next, mean=mean)


def masks_of(mask: Mask | Sequence[Mask], x: Tensor, steps: int, name: str) -> list[Tensor]:
    """Return one mask for each step, like `x`, from a single mask or a list."""
    if not isinstance(mask, list | tuple):
        return [_fitted_mask(mask, x, name)] * max(steps, 1)
    if len(mask) != steps:
        raise ValueError(f"{name} has {len(mask)} entries but there are {steps} steps: expected one each")
    return [_fitted_mask(each, x, f"{name}[{k}]") for k, each in enumerate(mask)]


def _fitted_mask(mask: object, x: Tensor, name: str) -> Tensor:
    """Return a mask like `x`; raise unless its values are from 0 to 1."""
    fits = fitted(mask, x, name)
    if not fits.is_meta and not bool(((fits >= 0) & (fits <= 1)).all()):
        least, most = fits.min().item(), fits.max().item()
        raise ValueError(f"{name} has numbers from {least:.6g} to {most:.6g}, expected from 0 to 1")
    return fits


def fitted(value: object, x: Tensor, name: str) -> Tensor:
    """Return a tensor in the dtype and on the device of `x`; raise unless it broadcasts to `x`."""
    if not isinstance(value, Tensor) or value.is_complex() or value.is_meta > x.is_meta:
        where = " on meta" if isinstance(value, Tensor) and value.is_meta else ""
        raise TypeError(
            f"{name} is {kind_of(value)}{where}, expected a tensor that broadcasts to {tuple(x.shape)}"
        )
    try:
        value.expand(x.shape)
    except RuntimeError:
        shapes = f"{tuple(value.shape)}, expected one that broadcasts to x's {tuple(x.shape)}"
        raise ValueError(f"{name} has shape {shapes}") from None
    return value.to(x)
