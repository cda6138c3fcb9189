"""A loaded diffusers pipeline and the arguments of its call, as a denoiser.

The pipeline prepares its own arguments: it runs with a network that does nothing, and the denoiser passes to
the network at each level what the pipeline passed there. `decode` runs the pipeline once more, with a
scheduler that returns the given latents.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.compatibility import LatentSpace
from amdm.denoisers import Prediction, scaling
from amdm.diffusers.contexts import as_switched, without_randomness
from amdm.diffusers.controls import Control, Replay, check_controlnet, without_control
from amdm.diffusers.levels import Compat, Levels, is_flow, training_sigmas, visited
from amdm.diffusers.network import NetworkDenoiser, guidance_of
from amdm.diffusers.recording import Recording, finish, record
from amdm.diffusers.solvers import sampler_of
from amdm.diffusers.told import check_told, clock_of, first_step, guidance_told, scale_of, warn_of_flow
from amdm.samplers.step import Sampler
from amdm.types import Latent

# Arguments that act in the pipeline's own loop, beside its network.
REFUSED = {
    "eta": "it is the sampler's: sample_ddim(..., eta=...)",
    "callback": "the sampler has one",
    "callback_on_step_end": "the sampler has a callback",
    "gligen_inpaint_image": "it mixes latents at every step",
    "mask_image": (
        "it mixes latents at every step; sample_amdm(..., known=Known(latent, mask)) does too, and for "
        "projective guidance the pipeline itself with AggregatingScheduler"
    ),
    "skip_guidance_layers": "it calls the network a third time",
}


@dataclass(frozen=True)
class Decoder:
    """Run the rest of a pipeline, `decode(x, sigma=None)`: from a VE latent to the pipeline's output.

    The text encoders run again, and so does the safety checker if there is one. No random generator is
    advanced.
    """

    pipe: Any = field(repr=False)
    network: Any = field(repr=False)
    call_kwargs: Mapping[str, Any] = field(repr=False)
    prediction: Prediction
    is_ve: bool
    """True if the pipeline's latents are VE (Euler's scheduler) and not its network's."""
    dtype: torch.dtype
    last: float
    """The level that the pipeline's own schedule ends at."""

    @torch.no_grad()
    def __call__(self, x: Latent, sigma: float | None = None) -> Any:
        """Return the output for `x` at `sigma`: another schedule's last level, or None for the pipeline's."""
        level = torch.as_tensor(self.last if sigma is None else sigma, dtype=x.dtype, device=x.device)
        latents = x if self.is_ve else scaling(self.prediction, level).c_in * x
        return finish(self.pipe, self.network, latents.to(self.dtype), self.call_kwargs)


class Prepared(NamedTuple):
    """The parts of a pipeline for a sampler.

    `sample_amdm(models, starts, prepared.sigmas, sampler=prepared.sampler)` takes them.
    """

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

    def __repr__(self) -> str:
        network, first, last = (
            type(self.model.network).__name__,
            self.sigmas[0].item(),
            self.sigmas[-1].item(),
        )
        steps, shape = len(self.sigmas) - 1, tuple(self.x.shape)
        return f"Prepared({network}, {steps} steps from sigma {first:.4g} to {last:.4g}, x={shape})"

    def without_control(self, *controls: Control) -> NetworkDenoiser:
        """Return the denoiser of the same network, prompt and guidance with its controls switched off.

        It is the pipeline's denoiser with a ControlNet, T2I-Adapter or IP-Adapter at scale 0, with GLIGEN's
        or InteractDiffusion's fusers or MIGC off from the first step, or with the network's LoRAs disabled
        (those of text encoders stay in the prompt). `projective_guidance` takes it as the partner's
        background.

        Args:
            controls: some of "controlnet", "t2i_adapter", "gligen" (InteractDiffusion's too), "ip_adapter",
                "lora" or "migc"; by default all that are on.

        Raises:
            ValueError: no such control is on; a LoRA that is fused into the weights.
        """
        return without_control(self.model, *controls)


def from_pipeline(pipe: Any, *, compat: Compat = "diffusers", **call_kwargs: Any) -> Prepared:
    """Turn a loaded pipeline and the arguments of its call into a denoiser, levels, start and decoder.

    It supports pipelines with one U-Net or transformer: Stable Diffusion, SDXL, SD3, FLUX; with ControlNets,
    T2I-Adapter, GLIGEN, IP-Adapter, LoRA; and others built alike, such as InteractDiffusion's and MIGC's.
    Conditions that change with the step change with the level in the denoiser. What the pipeline passes to
    its network and its scheduler at every step (time, scale of the latents, guidance) is compared with what
    the denoiser will pass.

    With DDIM's, Euler's, DPM-Solver++(2M)'s and the flows' schedulers the result of `Prepared.sampler` is the
    pipeline's, to rounding. From others (UniPC's) only the levels are taken, and you choose the sampler.

    LoRAs and IP-Adapter scales are bound as they are now (`as_switched`), so one network can be prepared
    several times: N models in the memory of one.

    Args:
        pipe: the pipeline. As a call does, this sets its scheduler's timesteps and advances its generator
            (torch's global one if none is given). The rest is left as it was.
        compat: see `sigmas_from_scheduler`.
        call_kwargs: as for `pipe(...)`: prompts, sizes, `latents` or `generator`, `guidance_scale`, ...

    Raises:
        TypeError: a pipeline without a U-Net or transformer, or a modular one, which calls its network once
            for each side of guidance; a scheduler or ControlNet of another kind.
        ValueError: an argument that acts in the pipeline's own loop; a network that sees more than latents,
            is called more than twice a step, gets another time than its level's, or reuses earlier calls (a
            cache); guidance of another kind; a scheduler that follows no schedule of levels.

    Warns:
        UserWarning: a flow's pipeline under a scheduler of another kind.
    """
    network = _network(pipe)
    arguments = _arguments(pipe, call_kwargs)
    rescale = float(arguments.get("guidance_rescale") or 0.0)

    def join(uncond: Tensor, cond: Tensor, calls: int) -> Tensor:
        return guidance_of(uncond, cond, scale_of(arguments, calls), rescale)

    recording = record(pipe, network, call_kwargs, join)
    levels = visited(pipe.scheduler, compat)
    warn_of_flow(pipe)
    start = first_step(pipe.scheduler, levels, recording)
    sigmas = levels.sigmas[start : start + len(recording.steps) + 1]
    timesteps = levels.timesteps[start : start + len(sigmas) - 1]
    flow = is_flow(pipe.scheduler)
    prediction: Prediction = "flow" if flow else pipe.scheduler.config.prediction_type
    samples, device = len(recording.latents), recording.latents.device
    model = NetworkDenoiser(
        network=network,
        prediction=prediction,
        training_sigmas=None if flow else training_sigmas(pipe.scheduler),
        recipes=[_replay(getattr(pipe, "controlnet", None), recording, sigmas)],
        contexts=[as_switched(network), *([without_randomness(device)] if _is_migc(recording) else [])],
        guidance=guidance_told(pipe, arguments, recording),
        guidance_rescale=rescale,
        uncond=None if recording.calls == 1 else [_replay(None, recording, sigmas, uncond=True)],
        time_scale=pipe.scheduler.config.num_train_timesteps / clock_of(recording),
        separable=not _is_migc(recording),
        batch=samples,
        latent_space=_latent_space(pipe, recording.latents),
    )
    is_ve = not torch.equal(recording.x[:samples], recording.latents.to(recording.x.dtype))
    check_told(pipe, recording, model, Levels(timesteps, sigmas), is_ve)
    x = recording.latents.to(torch.promote_types(recording.latents.dtype, torch.float32))
    sigmas = sigmas.to(x)
    decode = Decoder(
        pipe, network, call_kwargs, prediction, is_ve, recording.latents.dtype, last=sigmas[-1].item()
    )
    start_x = x if is_ve else x / scaling(prediction, sigmas[0]).c_in
    return Prepared(
        model, sigmas, start_x, decode, sampler_of(pipe.scheduler, model, sigmas, timesteps.to(x))
    )


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
    """Return the call's arguments with the pipeline's defaults; raise for those of its own loop."""
    if getattr(pipe, "free_init_enabled", False):
        raise ValueError(
            "free_init is on, with which the pipeline's loop runs several times, expected it off"
        )
    bound = inspect.signature(pipe.__call__).bind_partial(**call_kwargs)
    bound.apply_defaults()
    for name, why in REFUSED.items():
        value = call_kwargs.get(name)
        if value is not None and not (isinstance(value, float | int) and value == 0):
            shown = " ".join(repr(value).split())[:50]
            raise ValueError(f"{name} is {type(value).__name__} {shown}, expected none: {why}")
    return dict(bound.arguments)


def _replay(
    controlnet: Any, recording: Recording, sigmas: Float[Tensor, " levels"], uncond: bool = False
) -> Replay:
    """Return the recipe of the recorded steps, or with `uncond` that of each step's second call."""
    steps = recording.steps[: len(sigmas) - 1]  # a last step from a level to itself has none
    if any(step.controlnet for step in steps):
        check_controlnet(controlnet)
    half = recording.controlnet_rows < len(recording.x)
    return Replay(steps, sigmas, controlnet, half, uncond)


def _is_migc(recording: Recording) -> bool:
    """Return True for MIGC's pipeline, the only one that passes the step's number to its processors."""
    return "ith" in (recording.steps[0].network.get("cross_attention_kwargs") or {})


def _latent_space(pipe: Any, x: Tensor) -> LatentSpace:
    vae = getattr(pipe, "vae", None)
    config = {} if vae is None else vae.config
    return LatentSpace(
        scaling=config.get("scaling_factor"), shift=config.get("shift_factor"), shape=tuple(x.shape[1:])
    )
