"""The partners that join a diffusers pipeline inside its own loop: one call of it, step by step.

Latents are VP, and steps are diffusers' own DDIM steps. Needs the extra `diffusers`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from diffusers import DDIMScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from amdm.checks import (
    check_callable,
    check_latent,
    check_model,
    check_models,
    check_number,
    per_model,
)
from amdm.compatibility import LatentSpace, check_same_ecosystem
from amdm.denoisers import Prediction, scaling
from amdm.diffusers.levels import ddim_target, sigmas_of, training_sigmas
from amdm.geometry import slerp_fold
from amdm.geometry.rows import SHARE
from amdm.samplers import AMDM, Aggregation, Step, join
from amdm.samplers.amdm import (
    LENGTH,
    Fold,
    Lengths,
    Weights,
    Window,
    as_lengths,
    as_weights,
    check_option,
    resolve_window,
)
from amdm.samplers.known import Mask, masks_of
from amdm.samplers.march import Watch, Watched
from amdm.samplers.projective_guidance import (
    FINITE,
    ControlWeights,
    ProjectiveGuidance,
    as_control_weights,
    as_factors,
    directions,
    named_backgrounds,
)
from amdm.types import Denoiser, Latent
from amdm.writes import Seen


@dataclass(frozen=True)
class Partners:
    """The models that join a pipeline's own.

    `weights`, `correction`, `window` and `fold` are those of `sample_amdm`; model 1 is the pipeline's. If the
    window is None, it is the method's default. Functions of the step get its `Step` in VE.

    Args:
        models: `model(x, sigma) -> denoised`, VE, guidance included: `from_pipeline(...).model`. Without
            models the scheduler is DDIM.
        latents: the models' starts, VP as diffusers' `latents` (not `Prepared.x`, which is VE): one for all
            or one each; None for the pipeline's own. Algorithm 1 uses independent starts.
        mask: where the models are joined: 1 where the pipeline draws, 0 where it puts a known image; it
            broadcasts to the latents. Or a list of one per step. None joins where the pipeline did not write
            into its latents since the last step: everywhere, or with inpainting in the region that is drawn.
            In any case the partners' latents get what the pipeline writes. Outside a given mask they have
            the pipeline's values, since inpainting networks see the known image and write nothing.
        background: selects `sample_projective_guidance` instead of `sample_amdm`: its background, VE, such as
            `from_pipeline(...).without_control()`; None for AMDM. The first step of the window is then AMDM's
            if there are `latents`. In all others the partners' controls guide the pipeline's model, and the
            partners have no latents of their own.
        guidance: the scale of that guidance, the pipeline's `guidance_scale`. Required with a background.
        control_weights: the weights of the controls: a list of numbers or tensors, one for each partner, or
            one for all.
        window_eta: the eta of the window's steps; None for the pipeline's `eta`.
        validate: warn when the window closes if the norm of `latents` is not one of VP latents.
    """

    models: Sequence[Denoiser]
    latents: Latent | Sequence[Latent] | None = None
    weights: Weights | Callable[[Step], Weights] = 0.5
    correction: Lengths | Callable[[Step], Lengths] = "auto"
    window: Window | None = None
    fold: Fold = slerp_fold
    mask: Mask | Sequence[Mask] | None = None
    validate: bool = True
    background: Denoiser | Sequence[Denoiser] | None = None
    guidance: float | None = None
    control_weights: ControlWeights = 1.0
    window_eta: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.models, Sequence) or len(self.models) > 0:
            check_models(self.models)
        for i, model in enumerate(self.models):
            check_model(model, f"models[{i}]")
        if not callable(self.weights):
            for k, share in enumerate(as_weights(self.weights, len(self.models) + 1)):
                check_option(share, f"weights[{k}]", SHARE, 1.0)
        if not callable(self.correction):
            for k, length in enumerate(as_lengths(self.correction, len(self.models) + 1, 1)):
                check_option(length, f"correction[{k}]", LENGTH)
        check_callable(self.fold, "fold", "fold(xs, weights)")
        for i, start in enumerate(self.starts):
            if start is not None:
                check_latent(start, f"latents[{i}]")
        for name, background in self.backgrounds.items():
            check_model(background, name)
        if self.background is not None:
            expected = "a finite number with a background: the pipeline's guidance_scale"
            check_number(self.guidance, "guidance", expected, lambda _: True)
        if self.window_eta is not None:
            expected = "a finite number of 0 or more, or None"
            check_number(self.window_eta, "window_eta", expected, lambda eta: eta >= 0)
        weights = as_control_weights(self.control_weights, len(self.models) + 1, "control_weights")
        for k, weight in enumerate(weights):
            check_option(weight, f"control_weights[{k}]", FINITE, least=-math.inf)

    @property
    def backgrounds(self) -> dict[str, Denoiser]:
        """Return the background, or that of each partner, by name; nothing for AMDM."""
        return {} if self.background is None else named_backgrounds(self.background, len(self.models) + 1)

    @property
    def starts(self) -> list[Latent | None]:
        """Return the start of each model; None for the pipeline's own."""
        return per_model(self.latents, len(self.models), "latents")


class DDIMStep(NamedTuple):
    """One model's DDIM step, with the fields of `Step`, in VP."""

    x: Tensor
    denoised: Tensor
    mean: Tensor
    std: Tensor
    x_next: Tensor


@dataclass
class Run:
    """One call of the pipeline, with the partners' latents as they advance."""

    timesteps: list[int]
    """The pipeline's, from the first that it steps from to the last, as far as that is known."""
    levels: list[float]
    """The VE level of every training step."""
    latents: list[Tensor]
    """VP, float32 or better whatever the pipeline's are."""
    start: int
    stop: int
    """The window, [0, 0) if nothing is aggregated."""
    watch: Watch
    masks: Sequence[Tensor] | None = None
    """The masks of all steps, if they are given."""
    guided_from: int | None = None
    """The first step with a latent for all and guidance by the partners' controls; None for AMDM."""
    last: int | None = None
    """The timestep of the step before."""
    returned: Seen | None = None
    """The return value of that step."""

    def index(self, timestep: int) -> int:
        """Return the number of the step; outside the schedule that of the next step, or of the last."""
        return min(sum(t > timestep for t in self.timesteps), len(self.timesteps) - 1)

    def joins(self, timestep: int) -> bool:
        """Return True for a step in the window."""
        return self.start <= self.index(timestep) < self.stop

    def outside(self, latents: Sequence[Tensor], lead: Tensor, index: int) -> list[Tensor]:
        """Return the partners' latents, with the pipeline's where a given mask is 0."""
        if self.masks is None:
            return list(latents)
        return [torch.where(self.masks[index] > 0, latent, lead.to(latent)) for latent in latents]

    def follow(self, sample: Tensor) -> Tensor | None:
        """Write into the partners' latents what the pipeline wrote into its own since the last step.

        Returns:
            The mask of what it did not write, and of samples that it wrote as a whole; None if it wrote
            nothing.
        """
        if self.returned is None or self.returned.is_untouched(sample):
            return None
        written = sample != self.returned.was
        self.latents = [torch.where(written, sample.to(latent), latent) for latent in self.latents]
        everywhere = written.flatten(1).all(1).reshape(-1, *[1] * (sample.ndim - 1))
        return ~written | everywhere


def begin(scheduler: DDIMScheduler, partners: Partners, timesteps: list[int], sample: Tensor) -> Run:
    """Check the partners against each other and the pipeline's shape, and start a run at its first step.

    The pipeline's autoencoder is not known here: `check_same_ecosystem([from_pipeline(pipe, ...).model,
    *models])` compares that too.
    """
    levels: list[float] = training_sigmas(scheduler).tolist()
    sigmas = [levels[t] for t in timesteps]
    stops_early = timesteps[-1] > int(scheduler.timesteps[-1])
    end = levels[max(ddim_target(scheduler, timesteps[-1]), 0)] if stops_early else 0.0
    window = partners.window
    if window is None:
        window = AMDM.window if partners.background is None else ProjectiveGuidance.window
    start, stop = resolve_window(window, [*sigmas, end], warn=True)
    _check_shapes(partners, sample, sigmas[start:stop])
    if start == stop or len(partners.models) == 0:
        start, stop = 0, 0
    dtype = torch.promote_types(sample.dtype, torch.float32)
    watch = Watch(sigma=sigmas[0])
    for i, latent in enumerate(partners.starts):
        if latent is not None:
            in_ve = latent.to(dtype) * math.sqrt(1 + sigmas[0] ** 2)
            watch.start(in_ve, f"latents[{i}]", partners.validate)
    latents = [(sample if latent is None else latent).to(sample.device, dtype) for latent in partners.starts]
    masks = None
    if partners.mask is not None:
        masks = masks_of(partners.mask, sample.to(dtype), len(timesteps), "mask")
    run = Run(timesteps, levels, latents, start, stop, watch, masks)
    if partners.background is not None:
        run.guided_from = start + any(latent is not None for latent in partners.starts)
        as_factors(partners.control_weights, 1 + len(latents), sample, "control_weights")
    run.latents = run.outside(latents, sample, 0)
    return run


@torch.no_grad()
def advance(
    scheduler: DDIMScheduler,
    partners: Partners,
    run: Run,
    timestep: int,
    lead: DDIMStep,
    ddim: Callable[[Tensor, Tensor], DDIMStep],
) -> Aggregation | None:
    """Take the partners' steps beside the pipeline's own, and join them in the window; None outside it.

    Raises:
        ValueError: a step back while partners take part: a timestep that is not below the last one.
        FloatingPointError: when the window closes, if a model or the fold returned NaN or infinity.
    """
    index, sigma, last = run.index(timestep), run.levels[timestep], run.last
    run.last = timestep
    if index >= run.stop:
        return None
    if last is not None and timestep >= last:
        raise ValueError(
            f"timestep is {timestep} after {last}, expected a lower one: set_timesteps begins a new run"
        )
    if run.guided_from is not None and (run.guided_from == run.start or index >= run.guided_from):
        if index + 1 == run.stop:
            run.watch.read()
        return None
    free = run.follow(lead.x)
    steps = [DDIMStep(*(part.to(torch.promote_types(part.dtype, torch.float32)) for part in lead))]
    run.watch.i, run.watch.sigma = index, sigma
    run.watch.finite(steps[0].denoised, "the pipeline's model returned")
    for i, (model, latent) in enumerate(zip(partners.models, run.latents, strict=True)):
        watched = Watched(model, f"models[{i}]", run.watch)
        steps.append(ddim(_output(watched, latent, sigma, scheduler.config.prediction_type), latent))
    run.latents = run.outside([step.x_next for step in steps[1:]], steps[0].x_next, index)
    if index < run.start:
        return None
    in_ve = partial(_in_ve, scheduler, run, timestep, steps[0])
    weights, correction = partners.weights, partners.correction
    aggregation = join(
        [step.x_next for step in steps],
        [step.mean for step in steps],
        weights=weights(in_ve()) if callable(weights) else weights,
        correction=(lambda so_far: correction(in_ve(so_far))) if callable(correction) else correction,
        fold=partners.fold,
        mask=free if run.masks is None else run.masks[index],
    )
    run.watch.finite(aggregation.merged, "fold returned")
    if index + 1 == run.stop:
        run.watch.read()
    run.latents = run.outside(aggregation.corrected[1:], aggregation.corrected[0], index)
    return aggregation


@torch.no_grad()
def guided(
    scheduler: DDIMScheduler, partners: Partners, run: Run, timestep: int, output: Tensor, sample: Tensor
) -> Tensor:
    """Return the pipeline's guided output, with the partners' controls at steps that they guide.

    D = guided_1 + g sum_i w_i (c_i - c_0), converted to the kind of prediction that the network makes.
    """
    index, sigma = run.index(timestep), run.levels[timestep]
    if run.guided_from is None or not run.guided_from <= index < run.stop:
        return output
    run.watch.i, run.watch.sigma = index, sigma
    x = sample.to(torch.promote_types(sample.dtype, torch.float32)) * math.sqrt(1 + sigma**2)
    models = [Watched(model, f"models[{i}]", run.watch) for i, model in enumerate(partners.models)]
    backgrounds = [Watched(model, name, run.watch) for name, model in partners.backgrounds.items()]
    _, controls = directions(models, backgrounds, x, sigma, [x] * len(models))
    factors = as_factors(partners.control_weights, 1 + len(models), x, "control_weights")
    total = sum(factor * control for factor, control in zip(factors, controls, strict=True))
    if run.masks is not None:
        total = torch.where(run.masks[index] > 0, total, 0.0)
    _, _, c_out = scaling(scheduler.config.prediction_type, torch.tensor(sigma, dtype=torch.float64))
    added = cast("float", partners.guidance) * cast("Tensor", total) / c_out.item()
    return run.watch.finite(output + added.to(output), "the pipeline's model returned")


def _check_shapes(partners: Partners, sample: Tensor, sigmas: Sequence[float]) -> None:
    """Raise unless the partners share one latent space and the pipeline's shape, and accept these levels."""
    for i, latent in enumerate(partners.starts):
        if latent is not None and latent.shape != sample.shape:
            raise ValueError(
                f"latents[{i}] has shape {tuple(latent.shape)}, expected the pipeline's: "
                f"{tuple(sample.shape)}"
            )
    if len(partners.models) > 0:
        models = [*partners.models, *partners.backgrounds.values()]
        check_same_ecosystem(models, torch.tensor(sigmas or [0.0]))
    for i, model in enumerate(partners.models):
        shape = (getattr(model, "latent_space", None) or LatentSpace()).shape
        if shape is not None and shape != sample.shape[1:]:
            raise ValueError(
                f"models[{i}] denoises {tuple(shape)}, expected the pipeline's {tuple(sample.shape[1:])}"
            )


def ddim_step(
    scheduler: DDIMScheduler,
    timestep: int,
    eta: float,
    use_clipped: bool,
    generator: Any,
    output: Tensor,
    x: Tensor,
    noise: Tensor | None = None,
) -> DDIMStep:
    """Return diffusers' DDIM step, with its mean before the noise. The noise is drawn unless it is given."""
    options = {"use_clipped_model_output": use_clipped, "return_dict": False}
    mean, denoised = DDIMScheduler.step(
        scheduler, output, timestep, x, eta, variance_noise=torch.zeros_like(x), **options
    )
    std = eta * scheduler._get_variance(timestep, ddim_target(scheduler, timestep)) ** 0.5
    if noise is None and eta > 0:
        noise = randn_tensor(output.shape, generator=generator, device=output.device, dtype=output.dtype)
    return DDIMStep(x, denoised, mean, std, mean if noise is None else mean + std * noise)


def _output(model: Denoiser, latent: Tensor, sigma: float, prediction: Prediction) -> Tensor:
    """Return the output of a network of this kind of prediction for a denoised prediction."""
    x = latent * math.sqrt(1 + sigma**2)
    denoised = model(x, x.new_full((len(x),), sigma))
    _, c_skip, c_out = scaling(prediction, torch.tensor(sigma, dtype=torch.float64))
    return (denoised - c_skip.item() * x) / c_out.item()  # as numbers: not every device has float64


def _in_ve(
    scheduler: DDIMScheduler,
    run: Run,
    timestep: int,
    step: DDIMStep,
    aggregation: Aggregation | None = None,
) -> Step:
    """Return the pipeline's step in VE coordinates, as `sample_amdm` passes it to functions of the step."""
    target, sigma = ddim_target(scheduler, timestep), run.levels[timestep]
    sigma_next = run.levels[target] if target >= 0 else float(sigmas_of(scheduler.final_alpha_cumprod))
    scale, scale_next = math.sqrt(1 + sigma**2), math.sqrt(1 + sigma_next**2)
    if aggregation is not None:
        aggregation = replace(
            aggregation,
            xs=tuple(scale_next * x for x in aggregation.xs),
            means=tuple(scale_next * mean for mean in aggregation.means),
            merged=scale_next * aggregation.merged,
            scale=scale_next,
        )
    return Step(
        index=run.index(timestep),
        sigma=sigma,
        sigma_next=sigma_next,
        x=scale * step.x,
        denoised=step.denoised,
        mean=scale_next * step.mean,
        std=scale_next * float(step.std),
        x_next=scale_next * step.x_next,
        aggregation=aggregation,
    )
