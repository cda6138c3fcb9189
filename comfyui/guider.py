"""AMDM as a ComfyUI GUIDER: several guiders, each with its own latent, joined after every step of a window.

A guider is what ComfyUI has for a model, its conditions and its guidance. `AMDMGuider` lets each of its
guiders prepare itself by its own code: `sample` is called on the partners and then on the lead, each inside
the one before, with a SAMPLER that only notes what it was given (`Prepared`). Inside the innermost all models
are loaded and all conditions are processed, and AMDM runs there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.sample
import comfy.samplers
import numpy as np
from torch import Tensor

import amdm
from amdm import Known, LatentSpace
from amdm.types import NoiseSampler

from .coordinates import Coordinates, is_flow
from .denoiser import CFGDenoiser, GuiderDenoiser, Prepared
from .report import Report
from .stepping import Stepping
from .weights import give_back


@dataclass(frozen=True)
class Window:
    """Which steps are joined: from `start` to `end`, as shares of the steps, or as the host's sigmas."""

    start: float = 0.0
    end: float = 0.4
    sigmas: bool = False

    def __post_init__(self) -> None:
        if self.sigmas and not 0 <= self.end <= self.start:
            raise ValueError(
                f"The window is from sigma {self.start} to {self.end}, expected a start at or above the end: "
                "sigmas fall from the first step to the last"
            )
        if not self.sigmas and not 0 <= self.start <= self.end <= 1:
            raise ValueError(
                f"The window is from {self.start} to {self.end} of the steps, expected shares from 0 to 1 "
                "and a start at or before the end"
            )

    def __call__(self, sigmas: Sequence[float]) -> tuple[int, int]:
        """Return the window as (start, stop), two step indices, for the host's sigmas."""
        steps = len(sigmas) - 1
        if not self.sigmas:
            return int(self.start * steps + 0.5), int(self.end * steps + 0.5)
        inside = [i for i, sigma in enumerate(sigmas[:-1]) if self.end <= sigma <= self.start]
        return (inside[0], inside[-1] + 1) if inside else (0, 0)


class AMDMGuider:
    """A lead guider that partners enrich.

    Args:
        lead: the guider that is enriched, and that finishes alone.
        partners: one or more guiders whose models share the lead's latent space.
        weights: how much each partner counts beside the lead, whose weight is 1.
        window: which steps are joined. None is the first 40% for AMDM, all for projective guidance.
        background: for projective guidance: a guider that is told the prompt alone. None for AMDM.
        noise: "independent" starts and draws, or "shared" ones.
        options: those of `amdm.amdm` or `amdm.projective_guidance`.

    Raises:
        ValueError: in a sentence, if the guiders cannot be joined.
    """

    def __init__(
        self,
        lead: Any,
        partners: Sequence[Any] = (),
        weights: Sequence[float] = (),
        *,
        window: Window | None = None,
        background: Any = None,
        noise: str = "independent",
        **options: Any,
    ) -> None:
        named = {"The lead": lead} | {f"Partner {k}": each for k, each in enumerate(partners, 1)}
        if background is not None:
            named["The background"] = background
        check_guiders(named, apart=background is not None)
        self.names, self.guiders = list(named), [own_copy(each) for each in named.values()]
        self.count = 1 + len(partners)
        self.weights = [1.0, *weights, *[1.0] * (len(partners) - len(weights))]
        self.projective = background is not None
        self.window = window or Window(end=1.0 if self.projective else 0.4)
        self.shared = noise == "shared"
        self.options = options
        self.model_patcher = self.guiders[0].model_patcher
        firsts = {id(each.model_patcher.model): each.model_patcher for each in reversed(self.guiders)}
        self.loaded = list(firsts.values())
        self.report = Report()

    def sample(
        self,
        noise: Tensor,
        latent_image: Tensor,
        sampler: Any,
        sigmas: Tensor,
        denoise_mask: Tensor | None = None,
        callback: Callable[..., Any] | None = None,
        disable_pbar: bool = False,
        seed: int | None = None,
    ) -> Tensor:
        """Return the lead's last latent: what SamplerCustomAdvanced calls."""
        if sigmas.shape[-1] == 0:
            return latent_image
        stepping = Stepping.of(sampler, is_flow(self.model_patcher.get_model_object("model_sampling")))
        prepared: list[Prepared] = []
        results: list[Tensor] = []

        def within(i: int, inside: Prepared) -> Tensor:
            prepared.insert(0, inside)
            if i == 0:
                try:
                    return self._run(prepared, stepping, seed)
                finally:
                    self.model_patcher.set_additional_models("amdm", [])
                    for each in self.loaded:
                        give_back(each)
            results.append(prepare(i - 1))
            return inside.noise  # a partner's own result: not used

        def prepare(i: int) -> Tensor:
            if i == 0:
                self.model_patcher.set_additional_models("amdm", self._other_models(prepared))
            start = noise if self.shared or i == 0 else partner_noise(noise, latent_image, seed, i)
            shown = callback if i == 0 else None
            inside = Prepared(lambda own: within(i, own))
            return self.guiders[i].sample(
                start, latent_image, inside, sigmas, denoise_mask, shown, disable_pbar, seed
            )

        own = prepare(len(self.guiders) - 1)
        return results[0] if results else own

    def _other_models(self, prepared: Sequence[Prepared]) -> list[Any]:
        """Return what else is sampled with, ControlNets too: the last load is the lead's, and for all."""
        theirs = [model for each in prepared for model in getattr(each.guider, "loaded_models", ())]
        own, others = self.model_patcher.model, {id(each): each for each in [*self.loaded, *theirs]}
        return [each for each in others.values() if each.model is not own]

    def _run(self, prepared: Sequence[Prepared], stepping: Stepping, seed: int | None) -> Tensor:
        """All guiders are ready: run the method on them and return the lead's latent."""
        lead, one = prepared[0], prepared[0].model_sampling
        at = Coordinates.of(one, stepping.sigmas(lead.sigmas, one))
        for name, each in zip(self.names, prepared, strict=True):
            check_range(name, each.model_sampling, lead)
        for each in prepared:  # the lead's load may have moved the others' patches off the device
            each.guider.model_patcher.model_patches_to(each.guider.model_patcher.load_device)
        known_noise = stepping.known_noise(lead.noise, seed)
        models = [
            denoiser_of(name.lower(), each, at, known_noise)
            for name, each in zip(self.names, prepared, strict=True)
        ]
        starts = [
            at.to_ve(each.start(), at.levels[0]) for each in prepared[: 1 if self.shared else self.count]
        ]
        self.report, sigmas = Report(), at.sigmas.tolist()

        def note(info: dict[str, Any]) -> None:
            step = info["step"]
            self.report.note(step, sigmas[step.index])
            if lead.callback is not None:
                x = at.from_ve(info["x"], info["sigma"])
                lead.callback(step.index, info["denoised"], x, len(sigmas) - 1)

        noises = [stepping.noise(x, at, lead.sigmas, noise_seed(seed, i)) for i, x in enumerate(starts)]
        sample, options = self._method(models, prepared, at, known_noise)
        x = sample(
            models[: self.count],
            starts if len(starts) > 1 else starts[0],
            at.levels,
            callback=note,
            disable=lead.disable,
            window=lambda levels: self.window(sigmas),
            sampler=stepping.generator,
            eta=stepping.eta,
            noise_sampler=self._noises(noises),
            validate=False,
            **options,
        )
        return one.inverse_noise_scaling(at.sigmas[-1], at.from_ve(x, at.levels[-1]))

    def _noises(self, noises: list[NoiseSampler]) -> NoiseSampler | list[NoiseSampler]:
        if not self.shared:
            return noises
        return noises[0] if self.projective else amdm.shared_noise(noises[0], self.count)

    def _method(
        self, models: Sequence[GuiderDenoiser], prepared: Sequence[Prepared], at: Coordinates, noise: Tensor
    ) -> tuple[Callable[..., Tensor], dict[str, Any]]:
        """Return the function of `amdm` and its options."""
        lead, options = prepared[0], dict(self.options)
        masks = None if lead.mask is None or self.count == 1 else drawn(lead, lead.mask, at)
        if self.projective:
            if masks is not None and not self.shared:
                options["fold"] = within_mask(
                    options.get("fold", amdm.slerp_fold), masks[self.window(at.sigmas.tolist())[0]]
                )
            return amdm.sample_projective_guidance, {
                "weights": self.weights[1:],
                "background": models[self.count] if self.count > 1 else None,
                **options,
            }
        if masks is not None:
            options["known"] = Known(lead.latent, masks, noise)
        if self.count > 1:
            options["weights"] = merge_shares(self.weights)
        return amdm.sample_amdm, options


def check_guiders(named: dict[str, Any], apart: bool) -> None:
    """Raise, in a sentence, unless the guiders can be joined; with `apart` by projective guidance."""
    (lead_name, lead), *_ = named.items()
    for name, guider in named.items():
        if not (callable(guider) and hasattr(guider, "sample") and hasattr(guider, "model_patcher")):
            raise ValueError(
                f"{name} is a {type(guider).__name__}, which AMDM cannot step, expected a guider of one "
                "model, such as those of CFGGuider, BasicGuider and DualCFGGuider"
            )
        if apart and not has_cfg(guider):
            raise ValueError(
                f"{name} is a {type(guider).__name__}, whose predictions cannot be had apart, expected for "
                "projective guidance a guider of CFGGuider or BasicGuider; AMDM takes any"
            )
        own, leads = (space_of(each) for each in (guider, lead))
        if own != leads:
            raise ValueError(
                f"{name} and {lead_name.lower()} do not share a latent space: {own.autoencoder} "
                f"(scale {own.scaling}) and {leads.autoencoder} (scale {leads.scaling}). AMDM joins "
                "latents, so choose models of one family, such as two of SD 1.5 or two of SDXL"
            )
        if is_flow(sampling_of(guider)) != is_flow(sampling_of(lead)):
            raise ValueError(f"{name} and {lead_name.lower()} differ: one is a flow model, the other is not")


def check_range(name: str, own: Any, lead: Prepared) -> None:
    """Raise, in a sentence, if a partner of a smaller range does not know the schedule's first sigma."""
    levels = lead.sigmas[0], own.sigma_max, lead.model_sampling.sigma_max
    first, most, leads = (float(level) for level in levels)
    if first > most * (1 + 1e-3) and most < leads * (1 - 1e-3):
        raise ValueError(
            f"{name} knows sigmas up to {most:.4g}, and the schedule begins at {first:.4g}, "
            "expected a schedule from its range, or models that were trained with the same noise"
        )


def has_cfg(guider: Any) -> bool:
    """Return True if a guider predicts as CFGGuider does."""
    return getattr(type(guider), "predict_noise", None) is comfy.samplers.CFGGuider.predict_noise


def sampling_of(guider: Any) -> Any:
    """Return the guider's model sampling."""
    return guider.model_patcher.get_model_object("model_sampling")


def space_of(guider: Any) -> LatentSpace:
    """Return the latent space that a guider's model works in."""
    form = guider.model_patcher.get_model_object("latent_format")
    return LatentSpace(type(form).__name__, float(form.scale_factor), getattr(form, "shift_factor", None))


def own_copy(guider: Any) -> Any:
    """Return a copy with a patcher of its own: one guider in two inputs must not share its state."""
    own = copy.copy(guider)
    own.model_patcher = guider.model_patcher.clone()
    if guider.model_options is guider.model_patcher.model_options:
        own.model_options = own.model_patcher.model_options
    return own


def denoiser_of(name: str, prepared: Prepared, at: Coordinates, known_noise: Tensor) -> GuiderDenoiser:
    """Return the guider as a denoiser of a name, with guidance if its predictions can be had apart."""
    guider = prepared.guider
    apart = (
        type(guider).predict_noise is comfy.samplers.CFGGuider.predict_noise and "negative" in guider.conds
    )
    return (CFGDenoiser if apart else GuiderDenoiser)(name, prepared, at, known_noise)


def merge_shares(weights: Sequence[float]) -> list[float]:
    """Return the shares of the fold's merges for models that count as these weights say.

    >>> merge_shares([1.0, 1.0, 2.0])
    [0.5, 0.5]
    """
    sums = np.cumsum(weights)
    return [float(weight / total) for weight, total in zip(weights[1:], sums[1:], strict=True)]


def noise_seed(seed: int | None, i: int) -> int | None:
    """Return the seed of model i's draws: the run's for the lead, one of its own for each partner."""
    if seed is None or i == 0:
        return seed
    return int(np.random.SeedSequence([seed, i]).generate_state(1, np.uint64)[0]) >> 1


def partner_noise(noise: Tensor, latent: Tensor, seed: int | None, i: int) -> Tensor:
    """Return the start noise of partner i: none if the lead has none (DisableNoise)."""
    if not bool(noise.any()):
        return noise
    return comfy.sample.prepare_noise(latent, noise_seed(seed or 0, i)).to(noise)


def drawn(lead: Prepared, mask: Tensor, at: Coordinates) -> list[Tensor]:
    """Return for each step where something is drawn: 1 there, 0 in the known region."""
    function = lead.extra_args["model_options"].get("denoise_mask_function")
    if function is None:
        return [(mask > 0).to(mask)] * max(len(at.sigmas) - 1, 1)
    extra = {"model": lead.guider, "sigmas": lead.sigmas}
    sigmas = [sigma.expand(len(lead.noise)) for sigma in at.sigmas[:-1]]
    return [(function(sigma, mask, extra_options=extra) > 0).to(mask) for sigma in sigmas]


def within_mask(fold: Callable[..., Tensor], mask: Tensor) -> Callable[..., Tensor]:
    """Return the fold of what is drawn; the first latent elsewhere."""

    def folded(xs: Sequence[Tensor], weights: Any) -> Tensor:
        free = mask > 0
        return fold([x.where(free, 0.0) for x in xs], weights).where(free, xs[0])

    return folded
