"""Classifier-free guidance around a conditional denoiser."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from amdm.checks import (
    check_conditions,
    check_finite,
    check_floating,
    check_latent,
    check_model,
    check_result,
    check_sigma,
)
from amdm.types import Denoiser, Latent, PerSample


@dataclass(frozen=True)
class Guided:
    """`uncond + scale (cond - uncond)`, both predictions from one batched call (k-diffusion's CFG order).

    Args:
        model: a denoiser that takes the conditions as keyword arguments.
        scale: 1 is the conditional model alone, called once on the plain batch; 0 the unconditional one.

    References:
        Ho, Salimans 2022, "Classifier-free diffusion guidance", arXiv:2207.12598.
    """

    model: Denoiser
    scale: float

    def __post_init__(self) -> None:
        check_model(self.model, "model")
        if isinstance(self.scale, Tensor) and self.scale.ndim == 0:
            check_floating(self.scale, "scale")  # whose value is read at the call
            if self.scale.is_meta:
                raise ValueError("scale is on the meta device, which has no values: expected a number")
        else:
            check_finite(self.scale, "scale")

    def __getattr__(self, name: str) -> Any:
        """Return the attribute of the model: its latent space and its levels."""
        if name not in ("latent_space", "sigma_min", "sigma_max"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.model, name)

    def __call__(
        self,
        x: Latent,
        sigma: PerSample,
        *,
        cond: Mapping[str, Tensor],
        uncond: Mapping[str, Tensor],
        **extra_args: Any,
    ) -> Latent:
        """Return the guided prediction.

        `cond` and `uncond` hold the same keywords, with tensors `(batch, ...)` that are concatenated,
        uncond first; `extra_args` go to the model unchanged, beside the doubled batch.

        Raises:
            TypeError: `cond` or `uncond` is not a dictionary of tensors.
            ValueError: they have different keywords, or rows that are not the batch's; `uncond` differs in
                shape, dtype or device; or the model returned another shape.
        """
        if self.scale == 1:
            _check_conditions(cond, uncond, x, sigma)
            return self.model(x, sigma, **cond, **extra_args)
        without, given = self.both(x, sigma, cond=cond, uncond=uncond, **extra_args)
        return without + self.scale * (given - without)

    def both(
        self,
        x: Latent,
        sigma: PerSample,
        *,
        cond: Mapping[str, Tensor],
        uncond: Mapping[str, Tensor],
        **extra_args: Any,
    ) -> tuple[Latent, Latent]:
        """Return the unconditional and the conditional prediction, from one batched call."""
        _check_conditions(cond, uncond, x, sigma)
        _check_alike(cond, uncond)
        both = {key: torch.cat([uncond[key], cond[key]]) for key in cond}
        joined = torch.cat([x, x])
        denoised = self.model(joined, torch.cat([sigma, sigma]), **both, **extra_args)
        check_result(denoised, joined, tuple(joined.shape), "model of Guided, called for 2 x batch samples,")
        without, given = denoised.chunk(2)
        return without, given

    def conditional(
        self,
        x: Latent,
        sigma: PerSample,
        *,
        cond: Mapping[str, Tensor],
        uncond: Mapping[str, Tensor] | None = None,
        **extra_args: Any,
    ) -> Latent:
        """Return the conditional prediction, from a call on the plain batch. `uncond` is not used."""
        _check_conditions(cond, cond, x, sigma)
        return self.model(x, sigma, **cond, **extra_args)

    def guidance_at(self, sigma: PerSample) -> float:
        """Return the scale, the same at all levels."""
        return self.scale


@dataclass(frozen=True)
class GuidedPair:
    """`unconditional + scale (conditional - unconditional)` of two denoisers, each called as it is.

    For exact models, and for guidance of one network by another (Karras et al. 2024, arXiv:2406.02507).
    `extra_args` of a call go to both.

    Args:
        conditional: a denoiser.
        unconditional: a denoiser that shares its latent space.
        scale: 1 calls the conditional denoiser alone.

    >>> one, other = (lambda x, sigma: 0 * x + 1), (lambda x, sigma: 0 * x)
    >>> GuidedPair(one, other, 3.0)(torch.zeros(1, 2), torch.ones(1))
    tensor([[3., 3.]])
    """

    conditional: Denoiser
    unconditional: Denoiser
    scale: float

    def __post_init__(self) -> None:
        check_model(self.conditional, "conditional")
        check_model(self.unconditional, "unconditional")
        check_finite(self.scale, "scale")

    def __getattr__(self, name: str) -> Any:
        """Return the attribute of the conditional model: its latent space and its levels."""
        if name not in ("latent_space", "sigma_min", "sigma_max"):
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return getattr(self.conditional, name)

    def __call__(self, x: Latent, sigma: PerSample, **extra_args: Any) -> Latent:
        """Return the guided prediction."""
        if self.scale == 1:
            return self.conditional(x, sigma, **extra_args)
        without, given = self.both(x, sigma, **extra_args)
        return without + self.scale * (given - without)

    def both(self, x: Latent, sigma: PerSample, **extra_args: Any) -> tuple[Latent, Latent]:
        """Return the unconditional and the conditional prediction, from a call of each model."""
        check_latent(x)
        both = self.unconditional(x, sigma, **extra_args), self.conditional(x, sigma, **extra_args)
        for name, denoised in zip(("unconditional", "conditional"), both, strict=True):
            check_result(denoised, x, tuple(x.shape), name)
        return both

    def guidance_at(self, sigma: PerSample) -> float:
        """Return the scale, the same at all levels."""
        return self.scale


def _check_conditions(
    cond: Mapping[str, Tensor], uncond: Mapping[str, Tensor], x: Latent, sigma: PerSample
) -> None:
    """Raise unless both have the same keywords, with one row per sample of the batch."""
    check_latent(x)
    check_sigma(sigma, x)
    check_conditions(cond, "cond")
    check_conditions(uncond, "uncond")
    if cond.keys() != uncond.keys():
        raise ValueError(f"cond has the keys {sorted(cond)} but uncond has {sorted(uncond)}")
    _check_rows(cond, "cond", len(x))
    _check_rows(uncond, "uncond", len(x))


def _check_rows(conditions: Mapping[str, Tensor], name: str, batch: int) -> None:
    """Raise unless every tensor has a row for every sample."""
    for key, tensor in conditions.items():
        if tensor.ndim == 0 or len(tensor) != batch:
            shape = tuple(tensor.shape)
            raise ValueError(
                f"{name}[{key!r}] has shape {shape}, expected a row for each of x's {batch} samples"
            )


def _check_alike(cond: Mapping[str, Tensor], uncond: Mapping[str, Tensor]) -> None:
    """Raise unless the two tensors can be concatenated."""
    for key, there in cond.items():
        here = uncond[key]
        if here.shape != there.shape:
            raise ValueError(
                f"uncond[{key!r}] has shape {tuple(here.shape)}, expected that of cond: {tuple(there.shape)} "
                "(pad the shorter one)"
            )
        for what in ("dtype", "device"):
            own, wanted = getattr(here, what), getattr(there, what)
            if own != wanted:
                raise ValueError(f"uncond[{key!r}] has the {what} {own}, expected that of cond: {wanted}")
