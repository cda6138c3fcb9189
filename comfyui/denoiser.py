"""A prepared guider as amdm's denoiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.samplers
import torch
from torch import Tensor

from .coordinates import Coordinates
from .weights import put_in


class Prepared(comfy.samplers.Sampler):
    """A SAMPLER that a guider's own `sample` ends in: it notes what it was given and calls `then`."""

    def __init__(self, then: Callable[[Prepared], Tensor]) -> None:
        self.then = then

    def sample(
        self,
        guider: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        noise: Tensor,
        latent_image: Any = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        """Return what `then` does. The guider's model is loaded and its conditions are processed."""
        self.guider, self.sigmas, self.extra_args, self.callback = guider, sigmas, extra_args, callback
        self.noise, self.latent, self.mask, self.disable = noise, latent_image, denoise_mask, disable_pbar
        self.model_sampling = guider.inner_model.model_sampling
        return self.then(self)

    def start(self) -> Tensor:
        """Return the latent that the host's sampler begins with."""
        to_noise = self.max_denoise(self.guider, self.sigmas)
        return self.model_sampling.noise_scaling(self.sigmas[0], self.noise.clone(), self.latent, to_noise)


@dataclass(frozen=True)
class GuiderDenoiser:
    """A prepared guider as a denoiser in VE coordinates. Inpainting is the host's, at every call."""

    name: str
    """What messages call it, such as "partner 1"."""
    prepared: Prepared
    at: Coordinates
    known_noise: Tensor
    """The noise of the known region; the lead's for all models."""

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the guided prediction."""
        return self._predict(self.prepared.guider, x, sigma, self.prepared.extra_args)

    def _predict(self, model: Any, x: Tensor, level: Tensor, extra_args: dict[str, Any]) -> Tensor:
        put_in(self.prepared.guider.model_patcher)
        inpaint = comfy.samplers.KSamplerX0Inpaint(model, self.prepared.sigmas)
        inpaint.latent_image, inpaint.noise = self.prepared.latent, self.known_noise
        x, sigma = self.at.from_ve(x, level), self.at.sigma(level)
        return inpaint(x, sigma, **{**extra_args, "denoise_mask": self.prepared.mask})


class CFGDenoiser(GuiderDenoiser):
    """The same for a guider with one positive and one negative prompt: its predictions apart too."""

    def both(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return the unconditional and the conditional prediction."""
        unconditional, conditional = self._apart(x, sigma, scale=None).unbind()
        return unconditional, conditional

    def conditional(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return the conditional prediction, at half the cost."""
        return self._apart(x, sigma, scale=1.0)[1]

    def guidance_at(self, sigma: Tensor) -> float:
        """Return the guider's own scale."""
        return float(self.prepared.guider.cfg)

    def _apart(self, x: Tensor, level: Tensor, scale: float | None) -> Tensor:
        options = dict(self.prepared.extra_args["model_options"])
        options.pop("sampler_post_cfg_function", None)
        options["disable_cfg1_optimization"] = scale is None
        apart = Apart(self.prepared.guider, scale)
        return self._predict(apart, x, level, {**self.prepared.extra_args, "model_options": options})


@dataclass(frozen=True)
class Apart:
    """A guider that returns its unconditional and its conditional prediction, stacked."""

    guider: Any
    scale: float | None
    """1 to leave the unconditional one out; None for the guider's own."""

    @property
    def inner_model(self) -> Any:
        """Return the network, which inpainting asks for."""
        return self.guider.inner_model

    def __call__(self, x: Tensor, sigma: Tensor, model_options: dict[str, Any], seed: int | None) -> Tensor:
        """Return `(2, batch, ...)`."""
        seen: list[Tensor] = []

        def note(given: dict[str, Any]) -> Tensor:
            seen.append(torch.stack([given["uncond_denoised"], given["cond_denoised"]]))
            return torch.zeros_like(x)

        own = self.guider.cfg
        self.guider.cfg = own if self.scale is None else self.scale
        try:
            self.guider(x, sigma, model_options={**model_options, "sampler_cfg_function": note}, seed=seed)
        finally:
            self.guider.cfg = own
        return seen[0]
