"""A loaded diffusers pipeline and the arguments of its call, as a denoiser.

The pipeline makes its own preparations: it runs with a network that does nothing, and what it says to it is
what the denoiser says at the same levels. `decode` lets it finish: it runs once more, with a scheduler that
returns the given latents.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.compatibility import LatentSpace
from amdm.diffusers.contexts import as_switched, bare, without_randomness
from amdm.diffusers.levels import SAME_STEP, Compat, is_flow, training_sigmas, visited
from amdm.diffusers.listening import Heard, Said, finish, listen
from amdm.diffusers.network import NetworkDenoiser, Prediction, scaling
from amdm.diffusers.recipes import Call, Recipe, controlled, stepwise, told
from amdm.samplers import ddim, dpmpp_2m
from amdm.samplers.step import Sampler, Steps
from amdm.types import Latent

# Arguments that act in the pipeline's own loop, beside its network.
REFUSED = {
    "eta": "it is the sampler's: sample_ddim(..., eta=...)",
    "callback": "the sampler has one",
    "callback_on_step_end": "the sampler has a callback",
    "gligen_inpaint_image": "it mixes latents at every step",
    "mask_image": "it mixes latents at every step",
    "skip_guidance_layers": "it calls the network a third time",
}


@dataclass(frozen=True)
class Decoder:
    """`decode(x, sigma=None)`: a VE latent to the pipeline's output, which finishes as if it had drawn it.

    Its text encoders run again, and its safety checker if it has one. Nobody's generator is drawn from.
    """

    pipe: Any = field(repr=False)
    network: Any = field(repr=False)
    call_kwargs: Mapping[str, Any] = field(repr=False)
    prediction: Prediction
    is_ve: bool
    """Whether the pipeline's latents are VE (Euler's scheduler) and not its network's."""
    dtype: torch.dtype
    last: float
    """The level that the pipeline's own schedule ends at."""

    @torch.no_grad()
    def __call__(self, x: Latent, sigma: float | None = None) -> Any:
        """The output for `x` at `sigma`: another schedule's last level, or None for the pipeline's own."""
        level = torch.as_tensor(self.last if sigma is None else sigma, dtype=x.dtype, device=x.device)
        latents = x if self.is_ve else scaling(self.prediction, level).c_in * x
        return finish(self.pipe, self.network, latents.to(self.dtype), self.call_kwargs)


class Prepared(NamedTuple):
    """What a sampler needs of a pipeline: `sample_amdm(models, starts, sigmas, sampler=prepared.sampler)`."""

    model: NetworkDenoiser
    sigmas: Float[Tensor, " levels"]
    """Decreasing, of `x`'s dtype; the last is positive where the scheduler's last step ends at a level."""
    x: Latent
    """The pipeline's own start at `sigmas[0]`, VE, float32 or better."""
    decode: Decoder
    """A VE latent at `sigmas[-1]` to the pipeline's output: its `images` are what it would have drawn.
    `decode(x, sigma)` for a latent that another schedule left at `sigma`."""
    sampler: Sampler
    """The generator that takes the steps of the pipeline's scheduler: `ddim` for DDIM's, Euler's and the
    flows', `dpmpp_2m` for DPM-Solver++(2M). For other schedulers it raises a `ValueError`: choose another."""


def from_pipeline(pipe: Any, *, compat: Compat = "diffusers", **call_kwargs: Any) -> Prepared:
    """A loaded pipeline and the arguments of its call as denoiser, levels, start and decoder.

    For pipelines of one U-Net or transformer: Stable Diffusion, SDXL, SD3, FLUX; with ControlNets,
    T2I-Adapter, GLIGEN, IP-Adapter, LoRA; and others of that shape, InteractDiffusion's and MIGC's among
    them. What they tell their network may change with the step: the denoiser tells what belongs to the level.
    With DDIM's, Euler's, DPM-Solver++(2M)'s and the flows' schedulers the result of `Prepared.sampler` is the
    pipeline's, to rounding; of others (UniPC's) the levels are taken, and the sampler is yours.

    LoRAs and IP-Adapter scales are bound as they are now (`as_switched`), so that a pipeline can be prepared
    several times over one network: N models for the memory of one.

    Args:
        pipe: the pipeline. Its scheduler's timesteps are set, and a generator given for it is drawn from,
            torch's own without one, as by a call; the rest is left as it was.
        compat: see `sigmas_from_scheduler`.
        call_kwargs: as for `pipe(...)`: prompts, sizes, `latents` or `generator`, `guidance_scale`, ...

    Raises:
        TypeError: a pipeline without a U-Net or transformer, or a modular one, which calls its network once
            for each side of guidance; a scheduler or ControlNet of another kind.
        ValueError: an argument that acts in the pipeline's own loop; a network that sees more than latents,
            or is called several times a step; a scheduler that follows no schedule of levels.
    """
    network = _network(pipe)
    arguments = _arguments(pipe, call_kwargs)
    heard = listen(pipe, network, call_kwargs)
    levels = visited(pipe.scheduler, compat)
    start = int((levels.timesteps - heard.timestep).abs().argmin())
    sigmas = levels.sigmas[start : start + len(heard.steps) + 1]
    flow = is_flow(pipe.scheduler)
    prediction: Prediction = "flow" if flow else pipe.scheduler.config.prediction_type
    samples, device = len(heard.latents), heard.latents.device
    model = NetworkDenoiser(
        network=network,
        prediction=prediction,
        training_sigmas=None if flow else training_sigmas(pipe.scheduler),
        recipes=_recipes(pipe, heard, sigmas),
        contexts=[as_switched(network), *([without_randomness(device)] if _is_migc(heard) else [])],
        guidance=_guidance(pipe, arguments, heard),
        guidance_rescale=float(arguments.get("guidance_rescale") or 0.0),
        time_scale=pipe.scheduler.config.num_train_timesteps / _clock(heard),
        batch=samples,
        latent_space=_latent_space(pipe, heard.latents),
    )
    is_ve = not torch.equal(heard.x[:samples], heard.latents.to(heard.x.dtype))
    x = heard.latents.to(torch.promote_types(heard.latents.dtype, torch.float32))
    sigmas = sigmas.to(x)
    decode = Decoder(
        pipe, network, call_kwargs, prediction, is_ve, heard.latents.dtype, last=sigmas[-1].item()
    )
    start_x = x if is_ve else x / scaling(prediction, sigmas[0]).c_in
    timesteps = levels.timesteps[start : start + len(sigmas) - 1].to(x)
    return Prepared(model, sigmas, start_x, decode, _sampler(pipe.scheduler, model, sigmas, timesteps))


def _sampler(
    scheduler: Any,
    model: NetworkDenoiser,
    sigmas: Float[Tensor, " levels"],
    timesteps: Float[Tensor, " steps"],
) -> Sampler:
    """The generator whose steps are the scheduler's."""
    name = type(scheduler).__name__
    found = _solver(scheduler, len(timesteps))
    if found is None:
        return _no_sampler(f"scheduler is {name}, with this configuration of a solver that is not here")
    if not is_flow(scheduler):
        rounding = (model.timestep(sigmas[:-1]) - timesteps).abs().max().item()
        if rounding > SAME_STEP:
            return _no_sampler(f"scheduler is {name}, whose timesteps are its levels' to {rounding:.2g} only")
    return found


def _solver(scheduler: Any, steps: int) -> Sampler | None:
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

    config = scheduler.config
    if isinstance(scheduler, DDIMScheduler | EulerDiscreteScheduler):
        return ddim
    if is_flow(scheduler):
        return None if config.stochastic_sampling else ddim
    if not isinstance(scheduler, DPMSolverMultistepScheduler):
        return None
    if config.thresholding or config.algorithm_type != "dpmsolver++":
        return None
    if config.solver_order == 1:
        return ddim
    to_zero = config.final_sigmas_type == "zero"
    first_order_last = config.euler_at_final or (config.lower_order_final and steps < 15)
    second_order = config.solver_order == 2 and config.solver_type == "midpoint"
    return dpmpp_2m if second_order and (to_zero or not first_order_last) else None


def _no_sampler(why: str) -> Sampler:
    def sampler(*args: Any, **kwargs: Any) -> Steps:
        raise ValueError(f"{why}, expected sampler=ddim, dpmpp_2m or another of your choice")

    return sampler


def _network(pipe: Any) -> Any:
    from diffusers import ModularPipeline

    if isinstance(pipe, ModularPipeline):
        raise TypeError(
            f"pipe is {type(pipe).__name__}, expected one that is not modular: for this one call "
            "pipe.update_components(scheduler=AggregatingScheduler.of(pipe.scheduler, Partners(...)))"
        )
    for name in ("unet", "transformer"):
        if getattr(pipe, name, None) is not None:
            return getattr(pipe, name)
    raise TypeError(f"pipe is {type(pipe).__name__}, expected a pipeline with a unet or a transformer")


def _arguments(pipe: Any, call_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the call with the pipeline's defaults."""
    bound = inspect.signature(pipe.__call__).bind_partial(**call_kwargs)
    bound.apply_defaults()
    for name, why in REFUSED.items():
        value = call_kwargs.get(name)
        if value is not None and not (isinstance(value, float | int) and value == 0):
            shown = " ".join(repr(value).split())[:50]
            raise ValueError(f"{name} is {type(value).__name__} {shown}, expected none: {why}")
    return dict(bound.arguments)


def _clock(heard: Heard) -> float:
    """How much slower the network's clock is than the scheduler's: FLUX's by 1000."""
    return min((1.0, 1000.0), key=lambda clock: abs(clock * heard.t - heard.timestep))


def _guidance(pipe: Any, arguments: Mapping[str, Any], heard: Heard) -> float:
    """`guidance_scale` where the network sees every latent twice for it, 1 where it sees it once."""
    rows, samples = len(heard.x), len(heard.latents)
    if rows == samples:
        return 1.0
    scale = float(arguments.get("guidance_scale") or 1.0)
    doubled = rows == 2 * samples and torch.equal(*heard.x.chunk(2))
    if not (doubled and scale > 1 and getattr(pipe, "do_classifier_free_guidance", True)):
        raise ValueError(
            f"the network sees {rows} rows for {samples} latents at guidance_scale {scale}, "
            "expected every latent once, or twice for guidance alone"
        )
    return scale


def _recipes(pipe: Any, heard: Heard, sigmas: Float[Tensor, " levels"]) -> list[Recipe]:
    """What the pipeline says at each step, at the levels of that step.

    A last step from a level to itself has none.
    """
    steps = heard.steps[: len(sigmas) - 1]
    recipes = [_each(sigmas, steps, lambda said: told(**said.network))]
    if any(said.fusers for said in steps):
        recipes.append(_each(sigmas, steps, lambda said: partial(_switched, fusers=said.fusers)))
    if any(said.control for said in steps):
        _check_controlnet(pipe.controlnet)
        half = heard.control_rows < len(heard.x)
        replay = partial(_replayed, network=pipe.controlnet, half=half)
        recipes.append(_each(sigmas, steps, lambda said: partial(replay, said=said.control)))
    return recipes


def _each(sigmas: Float[Tensor, " levels"], steps: Sequence[Said], make: Callable[[Said], Recipe]) -> Recipe:
    """One recipe for each step, and for steps that say the same the same."""
    recipes: list[Recipe] = []
    for i, said in enumerate(steps):
        recipes.append(recipes[-1] if i > 0 and said is steps[i - 1] else make(said))
    return stepwise(sigmas, recipes)


def _switched(call: Call, fusers: Mapping[Any, bool]) -> Call:
    """GLIGEN's fusers as at the step; `as_switched` puts them back after the call."""
    for fuser, on in fusers.items():
        fuser.enabled = on
    return call


def _replayed(call: Call, network: Any, said: Mapping[str, Any], half: bool) -> Call:
    """The ControlNet told what the pipeline told it; not called where its scale is 0."""
    scale = said["conditioning_scale"]
    if not (any(scale) if isinstance(scale, list) else scale):
        return call
    return controlled(call, network, half=half, **said)


def _check_controlnet(network: Any) -> None:
    from diffusers import ControlNetModel, MultiControlNetModel

    if not isinstance(bare(network), ControlNetModel | MultiControlNetModel):
        raise TypeError(
            f"controlnet is {type(bare(network)).__name__}, expected ControlNetModel, one or several"
        )


def _is_migc(heard: Heard) -> bool:
    """MIGC is the one whose processors are told the step's number."""
    return "ith" in (heard.steps[0].network.get("cross_attention_kwargs") or {})


def _latent_space(pipe: Any, x: Tensor) -> LatentSpace:
    vae = getattr(pipe, "vae", None)
    config = {} if vae is None else vae.config
    return LatentSpace(
        scaling=config.get("scaling_factor"), shift=config.get("shift_factor"), shape=tuple(x.shape[1:])
    )
