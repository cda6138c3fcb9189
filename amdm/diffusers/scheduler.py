"""AMDM inside an unmodified diffusers pipeline, as its scheduler.

It works in the pipeline's VP latents with diffusers' own DDIM steps, so it follows the pipeline also where no
schedule of levels does ("linspace", clipping). Needs the extra `diffusers`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from diffusers import DDIMParallelScheduler, DDIMScheduler
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from amdm.checks import check_callable, check_latent, check_models, per_model
from amdm.compatibility import LatentSpace, check_same_ecosystem
from amdm.denoisers import Prediction, scaling
from amdm.diffusers.levels import ddim_target, has_levels_of, is_of_flow, sigmas_of, training_sigmas
from amdm.geometry import slerp_fold
from amdm.samplers import Aggregation, Step, join
from amdm.samplers.amdm import Fold, Lengths, Weights, Window, as_lengths, as_weights, resolve_window
from amdm.samplers.known import Mask, masks_of
from amdm.samplers.march import Watch, Watched
from amdm.types import Denoiser, Latent
from amdm.writes import Seen

__all__ = ["AggregatingScheduler", "Partners"]


@dataclass(frozen=True)
class Partners:
    """The models that join a pipeline's own.

    `weights`, `correction`, `window` and `fold` are `sample_amdm`'s; model 1 is the pipeline's. Functions of
    the step get its `Step` in VE.

    Args:
        models: `model(x, sigma) -> denoised`, VE, guidance included: `from_pipeline(...).model`. Without any
            the scheduler is DDIM.
        latents: their starts, VP as diffusers' `latents` (not `Prepared.x`, which is VE): one for all or one
            each; None for the pipeline's own. Algorithm 1 has independent ones.
        mask: where the models are joined: 1 where the pipeline draws, 0 where it puts a known image; it
            broadcasts to the latents. Or a list of one per step. None joins where the pipeline did not write
            into its latents since the last step: everywhere, or in inpainting in the region that is drawn.
            What it writes, the partners' latents get in any case, and outside a given mask they have the
            pipeline's numbers: networks that see the known image draw it and write nothing.
        validate: warn when the window closes if the norm of `latents` is not one of VP latents.
    """

    models: Sequence[Denoiser]
    latents: Latent | Sequence[Latent] | None = None
    weights: Weights | Callable[[Step], Weights] = 0.5
    correction: Lengths | Callable[[Step], Lengths] = "auto"
    window: Window = 0.4
    fold: Fold = slerp_fold
    mask: Mask | Sequence[Mask] | None = None
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
        for i, start in enumerate(self.starts):
            if start is not None:
                check_latent(start, f"latents[{i}]")

    @property
    def starts(self) -> list[Latent | None]:
        """The start of each model; None for the pipeline's own."""
        return per_model(self.latents, len(self.models), "latents")


class DDIMStep(NamedTuple):
    """One model's DDIM step: the fields of `Step`, in VP."""

    x: Tensor
    denoised: Tensor
    mean: Tensor
    std: Tensor
    x_next: Tensor


@dataclass
class Run:
    """One call of the pipeline, and the partners' latents as it goes on."""

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
    last: int | None = None
    """The timestep of the step before."""
    returned: Seen | None = None
    """What that returned."""

    def index(self, timestep: int) -> int:
        """Return the number of the step; outside the schedule that of the next one, or the last."""
        return min(sum(t > timestep for t in self.timesteps), len(self.timesteps) - 1)

    def outside(self, latents: Sequence[Tensor], lead: Tensor, index: int) -> list[Tensor]:
        """Return the partners' latents, the pipeline's where a given mask is 0."""
        if self.masks is None:
            return list(latents)
        return [torch.where(self.masks[index] > 0, latent, lead.to(latent)) for latent in latents]

    def follow(self, sample: Tensor) -> Tensor | None:
        """Write into the partners' latents what the pipeline wrote into its own since the last step.

        Returns:
            Where it wrote nothing, or it wrote everywhere in a sample; None if it passes what it was given.
        """
        if self.returned is None or self.returned.is_untouched(sample):
            return None
        written = sample != self.returned.was
        self.latents = [torch.where(written, sample.to(latent), latent) for latent in self.latents]
        everywhere = written.flatten(1).all(1).reshape(-1, *[1] * (sample.ndim - 1))
        return ~written | everywhere


class LoopedOver(Tensor):
    """A scheduler's timesteps, which tell it what its pipeline loops over, and when the loop is at its end.

    Pipelines loop over a part of them (`denoising_end`, `strength`), and tell their scheduler neither. A
    slice or a copy tells it as well; all else that is made of them (numbers, sums, copies by `copy` and
    `pickle`) is as of any tensor.
    """

    scheduler: AggregatingScheduler

    @classmethod
    def of(cls, timesteps: Tensor, scheduler: AggregatingScheduler) -> LoopedOver:
        """Return these timesteps, which tell this scheduler."""
        made = timesteps.as_subclass(cls)
        made.scheduler = scheduler
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            plain = [each.as_subclass(Tensor) if isinstance(each, cls) else each for each in args]
            result = func(*plain, **(kwargs or {}))
        if func in SLICES and isinstance(args[0], cls) and result.ndim == 1:
            return cls.of(result, args[0].scheduler)
        return result

    def __iter__(self) -> Iterator[Tensor]:
        plain = self.as_subclass(Tensor)
        self.scheduler.begin_loop(plain)
        yield from plain.unbind()
        self.scheduler.end_loop()


SLICES = (
    *(Tensor.__getitem__, Tensor.narrow, Tensor.flip),
    *(Tensor.to, Tensor.cpu, Tensor.cuda, Tensor.clone, Tensor.detach, Tensor.contiguous, Tensor.long),
)
"""The functions whose results are looped over in the place of all timesteps."""


class AggregatingScheduler(DDIMScheduler):  # type: ignore[misc]
    """DDIM that runs the partners beside the pipeline's model and joins them: A(+B) from `pipe(...)`.

        pipe.scheduler = AggregatingScheduler.of(pipe.scheduler, Partners([other.model]))

    `eta`, `generator` and the rest are the pipeline's. With `eta` above 0 all models draw from its generator
    in turn, its own first. `aggregation` is the record of the last step (VP), and None if that was not
    aggregated. A step from a timestep outside the schedule is DDIM's, and in the window if the next one is.
    The window counts the steps of the loop over `timesteps` or a slice of it (SDXL's `denoising_end`); a loop
    over numbers of its own counts as the whole schedule. NaN or infinity from a model is a
    `FloatingPointError` when the window closes, or where the loop ends before.

    `save_pretrained`, the pipeline's too, saves it as the `DDIMScheduler` of its configuration, which loads
    where `amdm` is not installed; the partners are not saved. It works in modular pipelines too:
    `pipe.update_components(scheduler=AggregatingScheduler.of(pipe.scheduler, partners))`.
    """

    partners: Partners | None = None
    aggregation: Aggregation | None = None
    _run: Run | None = None
    _loop: Sequence[int] = ()

    @property
    def timesteps(self) -> LoopedOver:
        """The schedule, decreasing."""
        return LoopedOver.of(self._timesteps, self)

    @timesteps.setter
    def timesteps(self, timesteps: Tensor) -> None:
        self._timesteps = timesteps.as_subclass(Tensor)

    def begin_loop(self, timesteps: Tensor) -> None:
        """Take note of the timesteps that a pipeline begins to loop over."""
        self._loop = timesteps.tolist()

    def end_loop(self) -> None:
        """Raise if a model returned NaN or infinity and the window did not close."""
        if self._run is not None:
            self._run.watch.read()

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (), vars(self)

    @classmethod
    def of(cls, scheduler: Any, partners: Partners) -> AggregatingScheduler:
        """Return a DDIM scheduler with this one's configuration, and partners.

        It clips the denoised prediction only if that configuration says so, and not by DDIM's default.

        Warns:
            UserWarning: a scheduler of another kind (Euler's, DPM-Solver's), whose steps are not taken.

        Raises:
            TypeError: `partners` is no `Partners`; a scheduler without a DDPM's betas, such as a flow's, or
                with other levels than its configuration gives to DDIM's (CogVideoX's).
        """
        if not isinstance(partners, Partners):
            raise TypeError(f"partners is {type(partners).__name__}, expected Partners(models, ...)")
        config = dict(scheduler.config)
        is_continuous = config.get("timestep_type") == "continuous"
        if not hasattr(scheduler, "alphas_cumprod") or is_of_flow(config) or is_continuous:
            raise TypeError(
                f"scheduler is {type(scheduler).__name__}, expected one of a DDPM, which has alphas_cumprod "
                "and whole timesteps, not a flow's or one that was made from a flow's configuration"
            )
        if not isinstance(scheduler, DDIMScheduler | DDIMParallelScheduler):
            warnings.warn(
                f"scheduler is {type(scheduler).__name__}, and AggregatingScheduler takes DDIMScheduler's "
                "steps: images differ from the pipeline's without partners too. `from_pipeline` and "
                "`sample_amdm(..., sampler=prepared.sampler)` take its own where they can",
                stacklevel=2,
            )
        made: AggregatingScheduler = cls.from_config({"clip_sample": False, **config})
        if isinstance(scheduler, DDIMScheduler | DDIMParallelScheduler):
            for name in ("alphas_cumprod", "final_alpha_cumprod", "init_noise_sigma"):
                setattr(made, name, getattr(scheduler, name))  # they may have been written by hand
        if not has_levels_of(made, scheduler):
            raise TypeError(
                f"scheduler is {type(scheduler).__name__}, whose levels are not those of its configuration "
                "in DDIMScheduler, expected one with the same"
            )
        made.partners = partners
        return made

    def set_timesteps(self, num_inference_steps: int, device: Any = None) -> None:
        """Set DDIM's timesteps, and begin a new run."""
        super().set_timesteps(num_inference_steps, device)
        self._run, self._loop, self.aggregation = None, (), None

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
        """Take DDIM's step for the pipeline's model, and in the window join it with the partners'."""
        timestep = int(timestep)
        if self.partners is None:
            raise ValueError("partners is None, expected a scheduler made by AggregatingScheduler.of")
        if self._run is None:
            self._run = begin(self, self.partners, self._ahead(timestep), sample)
        ddim = partial(_ddim, self, timestep, eta, use_clipped_model_output, generator)
        lead = ddim(model_output, sample, variance_noise)
        met = self.aggregation = advance(self, self.partners, self._run, timestep, lead, ddim)
        x_next = lead.x_next if met is None else met.corrected[0].to(lead.x_next.dtype)
        self._run.returned = Seen.of(x_next) if self._run.index(timestep) + 1 < self._run.stop else None
        if not return_dict:
            return x_next, lead.denoised
        return DDIMSchedulerOutput(prev_sample=x_next, pred_original_sample=lead.denoised)

    def _ahead(self, timestep: int) -> list[int]:
        """Return the timesteps of a run from its first: the loop's, or else the schedule's."""
        if timestep in self._loop:
            return list(self._loop[self._loop.index(timestep) :])
        return [timestep, *(t for t in self._timesteps.tolist() if t < timestep)]


# Configurations and pipelines are saved with a class's name and module: this one's is DDIM on disk.
AggregatingScheduler.__name__ = DDIMScheduler.__name__
AggregatingScheduler.__module__ = DDIMScheduler.__module__


def _unpickled() -> AggregatingScheduler:
    return AggregatingScheduler.__new__(AggregatingScheduler)


def begin(scheduler: DDIMScheduler, partners: Partners, timesteps: list[int], sample: Tensor) -> Run:
    """Check the partners against each other and the pipeline's shape, and start a run at its first step.

    The pipeline's autoencoder is not known here: `check_same_ecosystem([from_pipeline(pipe, ...).model,
    *models])` compares that too.
    """
    levels: list[float] = training_sigmas(scheduler).tolist()
    sigmas = [levels[t] for t in timesteps]
    stops_early = timesteps[-1] > int(scheduler.timesteps[-1])
    end = levels[max(ddim_target(scheduler, timesteps[-1]), 0)] if stops_early else 0.0
    start, stop = resolve_window(partners.window, [*sigmas, end], warn=True)
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
        ValueError: a step back while partners go along: a timestep that is not below the last one.
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


def _check_shapes(partners: Partners, sample: Tensor, sigmas: Sequence[float]) -> None:
    """Raise unless the partners share one latent space, the pipeline's shape, and take these levels."""
    for i, latent in enumerate(partners.starts):
        if latent is not None and latent.shape != sample.shape:
            raise ValueError(
                f"latents[{i}] has shape {tuple(latent.shape)}, expected the pipeline's: "
                f"{tuple(sample.shape)}"
            )
    if len(partners.models) > 0:
        check_same_ecosystem(partners.models, torch.tensor(sigmas or [0.0]))
    for i, model in enumerate(partners.models):
        shape = (getattr(model, "latent_space", None) or LatentSpace()).shape
        if shape is not None and shape != sample.shape[1:]:
            raise ValueError(
                f"models[{i}] denoises {tuple(shape)}, expected the pipeline's {tuple(sample.shape[1:])}"
            )


def _ddim(
    scheduler: DDIMScheduler,
    timestep: int,
    eta: float,
    use_clipped: bool,
    generator: Any,
    output: Tensor,
    x: Tensor,
    noise: Tensor | None = None,
) -> DDIMStep:
    """Take diffusers' DDIM step, its mean apart from its noise, which is drawn if it is not given."""
    options = {"use_clipped_model_output": use_clipped, "return_dict": False}
    mean, denoised = DDIMScheduler.step(
        scheduler, output, timestep, x, eta, variance_noise=torch.zeros_like(x), **options
    )
    std = eta * scheduler._get_variance(timestep, ddim_target(scheduler, timestep)) ** 0.5
    if noise is None and eta > 0:
        noise = randn_tensor(output.shape, generator=generator, device=output.device, dtype=output.dtype)
    return DDIMStep(x, denoised, mean, std, mean if noise is None else mean + std * noise)


def _output(model: Denoiser, latent: Tensor, sigma: float, prediction: Prediction) -> Tensor:
    """Return what a network of this kind of prediction returns where the denoiser denoises."""
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
