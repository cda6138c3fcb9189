"""AMDM inside an unmodified diffusers pipeline, as its scheduler.

It works on the pipeline's VP latents with diffusers' own DDIM steps, so it follows the pipeline even if no
schedule of levels does ("linspace", clipping). Needs the extra `diffusers`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from diffusers import DDIMParallelScheduler, DDIMScheduler
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from torch import Tensor

from amdm.diffusers.levels import has_levels_of, is_of_flow
from amdm.diffusers.partners import Partners, Run, advance, begin, ddim_step, guided
from amdm.samplers import Aggregation
from amdm.writes import Seen

__all__ = ["AggregatingScheduler", "Partners"]


class LoopedOver(Tensor):
    """A scheduler's timesteps that report to it which of them a pipeline loops over, and when the loop ends.

    Pipelines loop over a part of them (`denoising_end`, `strength`), and inform their scheduler of neither. A
    slice or a copy reports as well; all else that is made from them (numbers, sums, copies by `copy` and
    `pickle`) is that of a plain tensor.
    """

    scheduler: AggregatingScheduler

    @classmethod
    def of(cls, timesteps: Tensor, scheduler: AggregatingScheduler) -> LoopedOver:
        """Return these timesteps, which report to this scheduler."""
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

    `eta` (but for `window_eta`), `generator` and the rest are the pipeline's. With an eta above 0 all models
    draw from its generator in turn, its own first. `aggregation` is the record of the last step (VP), and
    None if that was not aggregated. A step from a timestep outside the schedule is DDIM's, and in the window
    if the next one is. The window counts the steps of the loop over `timesteps` or a slice of it (SDXL's
    `denoising_end`); a loop over other numbers counts as the whole schedule. NaN or infinity from a model
    raises `FloatingPointError` when the window closes, or when the loop ends before that.

    `save_pretrained`, the pipeline's too, saves it as the `DDIMScheduler` of its configuration, which loads
    without `amdm`; the partners are not saved. It works in modular pipelines too:
    `pipe.update_components(scheduler=AggregatingScheduler.of(pipe.scheduler, partners))`.
    """

    partners: Partners | None = None
    aggregation: Aggregation | None = None
    _run: Run | None = None
    _loop: Sequence[int] = ()

    @property
    def timesteps(self) -> LoopedOver:
        """Return the schedule, decreasing."""
        return LoopedOver.of(self._timesteps, self)

    @timesteps.setter
    def timesteps(self, timesteps: Tensor) -> None:
        self._timesteps = timesteps.as_subclass(Tensor)

    def begin_loop(self, timesteps: Tensor) -> None:
        """Record the timesteps that a pipeline begins to loop over."""
        self._loop = timesteps.tolist()

    def end_loop(self) -> None:
        """Raise if a model returned NaN or infinity and the window did not close."""
        if self._run is not None:
            self._run.watch.read()

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (), vars(self)

    @classmethod
    def of(cls, scheduler: Any, partners: Partners) -> AggregatingScheduler:
        """Return a DDIM scheduler with the configuration of `scheduler` and with partners.

        It clips the denoised prediction only if that configuration says so, and not by DDIM's default.

        Warns:
            UserWarning: a scheduler of another kind (Euler's, DPM-Solver's), whose steps are not taken.

        Raises:
            TypeError: `partners` is not a `Partners`; a scheduler without a DDPM's betas (a flow's), or with
                other levels than DDIM has for its configuration (CogVideoX's).
        """
        if not isinstance(partners, Partners):
            raise TypeError(f"partners is {type(partners).__name__}, expected Partners(models, ...)")
        config = dict(scheduler.config)
        is_continuous = config.get("timestep_type") == "continuous"
        if not hasattr(scheduler, "alphas_cumprod") or is_of_flow(config) or is_continuous:
            raise TypeError(
                f"scheduler is {type(scheduler).__name__}, expected one of a DDPM, which has alphas_cumprod "
                "and integer timesteps, not a flow's or one made from a flow's configuration"
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
        """Take DDIM's step for the pipeline's model, and in the window join it with the partners' steps."""
        timestep = int(timestep)
        if self.partners is None:
            raise ValueError("partners is None, expected a scheduler made by AggregatingScheduler.of")
        if self._run is None:
            self._run = begin(self, self.partners, self._ahead(timestep), sample)
        if self.partners.window_eta is not None and self._run.joins(timestep):
            eta = float(self.partners.window_eta)
        ddim = partial(ddim_step, self, timestep, eta, use_clipped_model_output, generator)
        model_output = guided(self, self.partners, self._run, timestep, model_output, sample)
        lead = ddim(model_output, sample, variance_noise)
        met = self.aggregation = advance(self, self.partners, self._run, timestep, lead, ddim)
        x_next = lead.x_next if met is None else met.corrected[0].to(lead.x_next.dtype)
        self._run.returned = Seen.of(x_next) if self._run.index(timestep) + 1 < self._run.stop else None
        if not return_dict:
            return x_next, lead.denoised
        return DDIMSchedulerOutput(prev_sample=x_next, pred_original_sample=lead.denoised)

    def _ahead(self, timestep: int) -> list[int]:
        """Return the timesteps of a run from its first one: the loop's, or else the schedule's."""
        if timestep in self._loop:
            return list(self._loop[self._loop.index(timestep) :])
        return [timestep, *(t for t in self._timesteps.tolist() if t < timestep)]


# Configurations and pipelines are saved with a class's name and module: this one's is DDIM on disk.
AggregatingScheduler.__name__ = DDIMScheduler.__name__
AggregatingScheduler.__module__ = DDIMScheduler.__module__


def _unpickled() -> AggregatingScheduler:
    return AggregatingScheduler.__new__(AggregatingScheduler)
