"""AMDM inside an unmodified diffusers pipeline: by its scheduler, or by its callback.

Both work in the pipeline's VP latents with diffusers' own DDIM steps, so they follow it also where its steps
do not meet and no schedule of levels does ("linspace", clipping). Needs the extra `diffusers`.
"""

import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from diffusers import DDIMParallelScheduler, DDIMScheduler
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from amdm.checks import check_callable, check_latent, check_models, per_model
from amdm.compatibility import LatentSpace, check_same_ecosystem
from amdm.diffusers.levels import training_sigmas
from amdm.geometry import slerp_fold
from amdm.samplers import join
from amdm.samplers.aggregation import Aggregation
from amdm.samplers.amdm import Fold, Lengths, Weights, Window, as_lengths, as_weights, resolve_window
from amdm.samplers.march import Watch, Watched
from amdm.samplers.step import Step
from amdm.types import Denoiser, Latent

__all__ = ["AggregatingScheduler", "Partners", "aggregate_on_step_end"]


@dataclass(frozen=True)
class Partners:
    """The models that a pipeline's own is enriched with, and how: `amdm`'s arguments for models 2..N.

    Args:
        models: `model(x, sigma) -> denoised`, VE, guidance included: `from_pipeline(...).model`. With none of
            them the scheduler is DDIM.
        latents: their starts, VP as diffusers' `latents` (not `Prepared.x`, which is VE): one for all or one
            each; None for the pipeline's own, Algorithm 1 has independent ones.
        weights: N - 1 shares, or one for every merge; numbers, or tensors of one per sample. Or a function of
            the pipeline's `Step`, VE as `sample_amdm`'s, that returns them.
        correction: eq. (8)'s VP length: one, N of them with the pipeline's model first, or "auto"; or a
            function of the `Step`.
        window: which of the pipeline's steps aggregate.
        fold: `slerp_fold`, `lerp_fold`, `karcher_mean` or your own.
        validate: warn when the window closes if the norm of `latents` is not one of VP latents.
    """

    models: Sequence[Denoiser]
    latents: Latent | Sequence[Latent] | None = None
    weights: Weights | Callable[[Step], Weights] = 0.5
    correction: Lengths | Callable[[Step], Lengths] = "auto"
    window: Window = 0.4
    fold: Fold = slerp_fold
    validate: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.models, Sequence) or len(self.models) > 0:
            check_models(self.models)
        for i, model in enumerate(self.models):
            check_callable(model, f"models[{i}]", "model(x, sigma)")
        if not callable(self.weights):
            as_weights(self.weights, len(self.models) + 1)
        if not callable(self.correction):
            as_lengths(self.correction, len(self.models) + 1, 1)
        check_callable(self.fold, "fold", "fold(xs, weights)")
        for i, start in enumerate(per_model(self.latents, len(self.models), "latents")):
            if start is not None:
                check_latent(start, f"latents[{i}]")


class Moved(NamedTuple):
    """One model's DDIM step: where it led, its mean and standard deviation, and what was denoised; VP."""

    latent: Tensor
    mean: Tensor
    denoised: Tensor
    std: float | Tensor = 0.0


@dataclass
class Run:
    """One call of the pipeline: the partners' latents as they go along."""

    partners: Partners
    timesteps: list[int]
    """The pipeline's, from the first that it steps from."""
    levels: list[float]
    """The VE level of every training step."""
    latents: list[Tensor]
    """VP, float32 or better whatever the pipeline's are."""
    start: int
    stop: int
    watch: Watch
    aggregation: Aggregation | None = None
    last: int | None = None
    """The timestep of the step before."""

    def index(self, timestep: int) -> int:
        """The number of the step; outside the schedule that of the next one, or the last."""
        return min(sum(t > timestep for t in self.timesteps), len(self.timesteps) - 1)


class AggregatingScheduler(DDIMScheduler):  # type: ignore[misc]
    """DDIM that runs the partners beside the pipeline's model and joins them: A(+B) from `pipe(...)`.

        pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([other.model]))

    `eta`, `generator` and the rest are the pipeline's. With `eta` above 0 all models draw from its generator
    in turn, its own first. After each aggregated step `aggregation` says how the latents met (VP); it is None
    after the others. A step from a timestep outside the schedule is DDIM's, and in the window if the next one
    is. NaN or infinity from a model is a `FloatingPointError` when the window closes.

    `save_pretrained`, the pipeline's too, saves it as the `DDIMScheduler` of its configuration, which loads
    where `amdm` is not installed; the partners are not saved. It works in modular pipelines too:
    `pipe.update_components(scheduler=AggregatingScheduler.of(pipe.scheduler, partners))`.
    """

    partners: Partners | None = None
    aggregation: Aggregation | None = None
    _run: Run | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (), vars(self)

    @classmethod
    def of(cls, scheduler: Any, partners: Partners) -> "AggregatingScheduler":
        """The DDIM scheduler of this one's configuration, with partners.

        It clips what is denoised if the other one's configuration says so, and not by DDIM's default.

        Warns:
            UserWarning: a scheduler of another kind (Euler's, DPM-Solver's), whose steps are not taken.

        Raises:
            TypeError: partners that are none; a scheduler without a DDPM's betas, a flow's say.
        """
        if not isinstance(partners, Partners):
            raise TypeError(f"partners is {type(partners).__name__}, expected Partners(models, ...)")
        config = dict(scheduler.config)
        if not hasattr(scheduler, "alphas_cumprod") or config.get("use_flow_sigmas"):
            raise TypeError(
                f"scheduler is {type(scheduler).__name__}, expected one of a DDPM, which has alphas_cumprod"
            )
        if not isinstance(scheduler, DDIMScheduler | DDIMParallelScheduler):
            warnings.warn(
                f"scheduler is {type(scheduler).__name__}, and AggregatingScheduler takes DDIMScheduler's "
                "steps: images differ from the pipeline's without partners too. `from_pipeline` and "
                "`sample_amdm(..., sampler=prepared.sampler)` take its own where they can",
                stacklevel=2,
            )
        made: AggregatingScheduler = cls.from_config({"clip_sample": False, **config})
        made.partners = partners
        return made

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        """DDIM's; whatever was under way is forgotten."""
        super().set_timesteps(num_inference_steps, device)
        self._run = self.aggregation = None

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool = False,
        generator: Any = None,
        variance_noise: Tensor | None = None,
        return_dict: bool = True,
    ) -> Any:
        """DDIM's step for the pipeline's model, and in the window for the partners, joined."""
        timestep = int(timestep)
        if self.partners is None:
            raise ValueError("partners is None, expected a scheduler made by AggregatingScheduler.of")
        if self._run is None:
            self._run = begin(self, self.partners, timestep, sample)
        if variance_noise is None and eta > 0:
            variance_noise = _noise(model_output, generator)
        lead = ddim(self, model_output, timestep, sample, eta, use_clipped_model_output, variance_noise)
        latent = advance(self, self._run, timestep, lead, sample, eta, use_clipped_model_output, generator)
        self.aggregation = self._run.aggregation
        if not return_dict:
            return latent, lead.denoised
        return DDIMSchedulerOutput(prev_sample=latent, pred_original_sample=lead.denoised)


# Configurations and pipelines are saved with a class's name and module: this one's is DDIM on disk.
AggregatingScheduler.__name__ = DDIMScheduler.__name__
AggregatingScheduler.__module__ = DDIMScheduler.__module__


def _unpickled() -> AggregatingScheduler:
    return AggregatingScheduler.__new__(AggregatingScheduler)


def aggregate_on_step_end(
    partners: Partners,
) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
    """The same as a pipeline's `callback_on_step_end`, where its DDIMScheduler is to stay; for eta = 0.

    The callback comes after the step and does not see where it began, so the partners need `latents` of their
    own (the pipeline's, for a common start), and a step with noise would hide its mean.

    Raises:
        ValueError: partners without `latents`; at the first step, a pipeline called with `eta` above 0.
        TypeError: weights or a correction that are functions of the step; at the first step, a scheduler of
            another kind.
    """
    for name in ("weights", "correction"):
        if callable(getattr(partners, name)):
            raise TypeError(f"{name} is function, expected numbers: a callback does not see the whole step")
    if any(start is None for start in per_model(partners.latents, len(partners.models), "latents")):
        raise ValueError(
            "latents is None, expected the partners' starts: a callback does not see the pipeline's"
        )
    run: Run | None = None

    def on_step_end(pipe: Any, i: int, t: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        nonlocal run
        scheduler, latent = pipe.scheduler, kwargs["latents"]
        if type(scheduler) is not DDIMScheduler:
            raise TypeError(f"scheduler is {type(scheduler).__name__}, expected DDIMScheduler")
        eta = _eta_of(pipe)
        if eta > 0:
            raise ValueError(
                f"eta is {eta}, expected 0: take AggregatingScheduler, which sees the steps' means"
            )
        if i == 0 or run is None:
            run = begin(scheduler, partners, int(t), latent)
        lead = Moved(latent, latent, latent)
        return {"latents": advance(scheduler, run, int(t), lead, latent, 0.0, False, None)}

    return on_step_end


def begin(scheduler: DDIMScheduler, partners: Partners, timestep: int, sample: Tensor) -> Run:
    """What is known when the pipeline first steps: the starts, and which steps aggregate.

    The partners are checked against each other and the pipeline's shape. Its autoencoder is not known here:
    `check_same_ecosystem([from_pipeline(pipe, ...).model, *models])` compares that too.
    """
    timesteps = [timestep, *(t for t in scheduler.timesteps.tolist() if t < timestep)]
    levels: list[float] = training_sigmas(scheduler).tolist()
    sigmas = [levels[t] for t in timesteps]
    start, stop = resolve_window(partners.window, [*sigmas, 0.0], warn=True)
    dtype = torch.promote_types(sample.dtype, torch.float32)
    latents = per_model(partners.latents, len(partners.models), "latents")
    for i, latent in enumerate(latents):
        if latent is not None and latent.shape != sample.shape:
            raise ValueError(
                f"latents[{i}] has shape {tuple(latent.shape)}, expected the pipeline's: "
                f"{tuple(sample.shape)}"
            )
    if len(partners.models) > 0:
        check_same_ecosystem(partners.models, torch.tensor(sigmas[start:stop] or [0.0]))
    for i, model in enumerate(partners.models):
        shape = (getattr(model, "latent_space", None) or LatentSpace()).shape
        if shape is not None and shape != sample.shape[1:]:
            raise ValueError(
                f"models[{i}] denoises {tuple(shape)}, expected the pipeline's {tuple(sample.shape[1:])}"
            )
    watch = Watch(sigma=sigmas[0])
    for i, latent in enumerate(latents):
        if latent is not None:
            ve = latent.to(dtype) * math.sqrt(1 + sigmas[0] ** 2)
            watch.start(ve, f"latents[{i}]", partners.validate)
    return Run(
        partners,
        timesteps,
        levels,
        [(sample if latent is None else latent).to(sample.device, dtype) for latent in latents],
        start,
        stop,
        watch,
    )


@torch.no_grad()
def advance(
    scheduler: DDIMScheduler,
    run: Run,
    timestep: int,
    lead: Moved,
    sample: Tensor,
    eta: float,
    use_clipped: bool,
    generator: Any,
) -> Tensor:
    """The partners' steps beside the pipeline's own, joined in the window: what the pipeline goes on from.

    Raises:
        ValueError: a step back while partners go along: a timestep that is not below the last one.
        FloatingPointError: when the window closes, if a model returned NaN or infinity before.
    """
    index, sigma, partners = run.index(timestep), run.levels[timestep], run.partners
    run.aggregation = None
    if len(partners.models) == 0 or index >= run.stop or run.start == run.stop:
        run.last = timestep
        return lead.latent
    if run.last is not None and timestep >= run.last:
        raise ValueError(
            f"timestep is {timestep} after {run.last}, expected a lower one: set_timesteps begins a new run"
        )
    run.last = timestep
    run.watch.i, run.watch.sigma = index, sigma
    moved = [_as_float(lead)]
    run.watch.finite(lead.denoised, "the pipeline's model returned")
    for i, (model, latent) in enumerate(zip(partners.models, run.latents, strict=True)):
        output = _output(
            Watched(model, f"models[{i}]", run.watch), latent, sigma, scheduler.config.prediction_type
        )
        noise = _noise(latent, generator) if eta > 0 else None
        moved.append(ddim(scheduler, output, timestep, latent, eta, use_clipped, noise))
    if index + 1 == run.stop:
        run.watch.read()
    run.latents = [own.latent for own in moved[1:]]
    if index < run.start:
        return lead.latent
    step_of = partial(_step_of, scheduler, run, timestep, moved[0], sample)
    weights, correction = partners.weights, partners.correction
    run.aggregation = join(
        [own.latent for own in moved],
        [own.mean for own in moved],
        weights=weights(step_of()) if callable(weights) else weights,
        correction=(lambda so_far: correction(step_of(so_far))) if callable(correction) else correction,
        fold=partners.fold,
    )
    run.latents = list(run.aggregation.corrected[1:])
    return run.aggregation.corrected[0].to(lead.latent.dtype)


def ddim(
    scheduler: DDIMScheduler,
    output: Tensor,
    timestep: int,
    latent: Tensor,
    eta: float,
    use_clipped: bool,
    noise: Tensor | None,
) -> Moved:
    """Diffusers' DDIM step, its mean apart from its noise."""
    still = torch.zeros_like(latent)
    options = {"use_clipped_model_output": use_clipped, "variance_noise": still, "return_dict": False}
    mean, denoised = DDIMScheduler.step(scheduler, output, timestep, latent, eta, **options)
    if noise is None:
        return Moved(mean, mean, denoised)
    std = eta * scheduler._get_variance(timestep, _before(scheduler, timestep)) ** 0.5
    return Moved(mean + std * noise, mean, denoised, std)


def _eta_of(pipe: Any) -> float:
    """The eta that a running pipeline was called with: it tells its callback nothing of it."""
    if "eta" not in inspect.signature(pipe.__call__).parameters:
        return 0.0
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_locals.get("self") is pipe and "eta" in frame.f_locals:
            return float(frame.f_locals["eta"])
        frame = frame.f_back
    raise RuntimeError(f"{type(pipe).__name__} does not show its eta, expected to find it in its call")


def _output(model: Denoiser, latent: Tensor, sigma: float, prediction: str) -> Tensor:
    """What a network of this kind of prediction would have said where the denoiser denoises."""
    scale = math.sqrt(1 + sigma**2)
    x = latent * scale
    denoised = model(x, x.new_full((len(x),), sigma))
    if prediction == "sample":
        return denoised
    eps = (x - denoised) / sigma
    return eps if prediction == "epsilon" else (eps - sigma * denoised) / scale


def _step_of(
    scheduler: DDIMScheduler,
    run: Run,
    timestep: int,
    lead: Moved,
    sample: Tensor,
    aggregation: Aggregation | None = None,
) -> Step:
    """The pipeline's step in VE coordinates, as `sample_amdm` shows it to functions of the step."""
    before, final = _before(scheduler, timestep), float(scheduler.final_alpha_cumprod)
    sigma = run.levels[timestep]
    sigma_next = run.levels[before] if before >= 0 else math.sqrt((1 - final) / final)
    scale, scale_next = math.sqrt(1 + sigma**2), math.sqrt(1 + sigma_next**2)
    if aggregation is not None:
        aggregation = Aggregation(
            tuple(scale_next * x for x in aggregation.xs),
            tuple(scale_next * mean for mean in aggregation.means),
            scale_next * aggregation.merged,
            corrected=(),
            lengths=(),
            scale=scale_next,
        )
    return Step(
        index=run.index(timestep),
        sigma=sigma,
        sigma_next=sigma_next,
        x=scale * sample.to(lead.latent.dtype),
        denoised=lead.denoised,
        mean=scale_next * lead.mean,
        std=scale_next * float(lead.std),
        x_next=scale_next * lead.latent,
        aggregation=aggregation,
    )


def _before(scheduler: DDIMScheduler, timestep: int) -> int:
    """The training step that DDIM goes to; negative for the last level."""
    return int(timestep - scheduler.config.num_train_timesteps // scheduler.num_inference_steps)


def _noise(like: Tensor, generator: Any) -> Tensor:
    noise: Tensor = randn_tensor(like.shape, generator=generator, device=like.device, dtype=like.dtype)
    return noise


def _as_float(moved: Moved) -> Moved:
    """The pipeline's latents for the fold: float32 where they are shorter."""
    latent, mean, denoised = (part.to(torch.promote_types(part.dtype, torch.float32)) for part in moved[:3])
    return Moved(latent, mean, denoised, moved.std)
