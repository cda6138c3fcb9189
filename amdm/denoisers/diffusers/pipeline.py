"""A loaded diffusers pipeline and the arguments of its call, as a denoiser.

The pipeline makes its own preparations: it is stopped where it first calls its network, and what it was
about to say there is what the denoiser says at every call, but for what depends on the step. `decode` lets it
finish: it runs once more with a network that does nothing and a scheduler that returns the given latents.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.denoisers.diffusers.levels import Compat, is_flow, training_sigmas, visited
from amdm.denoisers.diffusers.network import NetworkDenoiser, Prediction, WithoutRandomness, scaling
from amdm.denoisers.diffusers.recipes import (
    Recipe,
    Span,
    as_switched,
    controlnet,
    gligen,
    migc,
    span_of,
    t2i_adapter,
    told,
)
from amdm.denoisers.ecosystem import LatentSpace
from amdm.types import Latent

# Arguments that act in the pipeline's own loop, beside its network.
REFUSED = {
    "eta": "it is the sampler's: sample_ddim(..., eta=...)",
    "callback": "the sampler has one",
    "callback_on_step_end": "the sampler has a callback",
    "denoising_end": "cut the sigmas instead",
    "gligen_inpaint_image": "it mixes latents at every step",
    "mask_image": "it mixes latents at every step",
    "skip_guidance_layers": "it calls the network a third time",
}


class Prepared(NamedTuple):
    """What a sampler needs of a pipeline: `sample_ddim(prepared.model, prepared.x, prepared.sigmas)`."""

    model: NetworkDenoiser
    sigmas: Float[Tensor, " levels"]
    """Decreasing, float64; the last one is positive where the scheduler's last step ends at a level."""
    x: Latent
    """The pipeline's own start at `sigmas[0]`, VE, float32 or better."""
    decode: Callable[[Latent], Any]
    """A VE latent at `sigmas[-1]` to the pipeline's output: its `images` are what it would have drawn."""


class Seen(NamedTuple):
    """The first call of a network, taken apart."""

    x: Tensor
    t: float
    kwargs: Mapping[str, Any]
    control: Mapping[str, Any]
    """The ControlNet's first call, if there is one."""


def from_pipeline(pipe: Any, *, compat: Compat = "diffusers", **call_kwargs: Any) -> Prepared:
    """A loaded pipeline and the arguments of its call as denoiser, levels, start and decoder.

    For pipelines of one U-Net or transformer: Stable Diffusion, SDXL, SD3, FLUX; with ControlNets,
    T2I-Adapter, GLIGEN, IP-Adapter, LoRA; and others of that shape, InteractDiffusion's and MIGC's among
    them. With DDIM the result of `sample_ddim` is the pipeline's, to rounding. LoRAs and IP-Adapter scales
    are bound as they are now, so that a pipeline can be prepared several times over one network: N models
    for the memory of one.

    Args:
        pipe: the pipeline. Its scheduler's timesteps are set, and a generator given for it is drawn from, as
            by a call.
        compat: see `sigmas_from_scheduler`.
        call_kwargs: as for `pipe(...)`: prompts, sizes, `latents` or `generator`, `guidance_scale`, ...

    Raises:
        TypeError: a pipeline without a U-Net or transformer, a scheduler or ControlNet of another kind.
        ValueError: an argument that acts in the pipeline's own loop; a network that sees more than latents; a
            scheduler that follows no schedule of levels.
    """
    network = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    if network is None:
        raise TypeError(f"pipe is {type(pipe).__name__}, expected a pipeline with a unet or a transformer")
    arguments = _arguments(pipe, call_kwargs)
    seen = _first_call(pipe, network, call_kwargs)
    levels = visited(pipe.scheduler, compat)
    start, clock = _begin(seen.t, levels.timesteps)
    sigmas = levels.sigmas[start:]
    flow = is_flow(pipe.scheduler)
    prediction: Prediction = "flow" if flow else pipe.scheduler.config.prediction_type
    guidance = _guidance(pipe, arguments)
    samples = _samples(seen.x, guidance)
    model = NetworkDenoiser(
        network=WithoutRandomness(network) if _is_migc(seen) else network,
        prediction=prediction,
        sigmas=None if flow else training_sigmas(pipe.scheduler),
        recipes=_recipes(pipe, network, arguments, seen, sigmas),
        guidance=guidance,
        guidance_rescale=float(arguments.get("guidance_rescale") or 0.0),
        time_scale=pipe.scheduler.config.num_train_timesteps / clock,
        batch=samples,
        latent_space=_latent_space(pipe, seen.x),
    )
    x = seen.x[:samples].to(torch.promote_types(seen.x.dtype, torch.float32))
    x = x / scaling(prediction, sigmas[0]).c_in.to(x)
    return Prepared(
        model, sigmas, x, _decoder(pipe, network, call_kwargs, prediction, sigmas[-1], seen.x.dtype)
    )


def _arguments(pipe: Any, call_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the call with the pipeline's defaults."""
    bound = inspect.signature(pipe.__call__).bind_partial(**call_kwargs)
    bound.apply_defaults()
    arguments = dict(bound.arguments)
    for name, why in REFUSED.items():
        value = call_kwargs.get(name)
        if value is not None and not (isinstance(value, float | int) and value == 0):
            raise ValueError(f"{name} is {type(value).__name__} {value!r:.50}, expected none: {why}")
    negative = ("negative_prompt", "negative_prompt_embeds")
    if arguments.get("true_cfg_scale", 1.0) > 1 and any(
        call_kwargs.get(name) is not None for name in negative
    ):
        raise ValueError(
            f"true_cfg_scale is {arguments['true_cfg_scale']}, expected 1: it calls the network twice a step"
        )
    return arguments


class _Reached(Exception):  # noqa: N818 (not an error)
    """The pipeline has come to its network."""


def _first_call(pipe: Any, network: Any, call_kwargs: Mapping[str, Any]) -> Seen:
    """Run the pipeline up to its network's first call."""
    calls: dict[str, dict[str, Any]] = {}

    def note(name: str, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
        arguments = dict(bound.arguments)
        calls[name] = {**arguments, **arguments.pop("kwargs", {})}

    def stop(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        note("network", module, args, kwargs)
        raise _Reached

    def pass_on(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        note("control", module, args, kwargs)

    with contextlib.ExitStack() as stack:
        stack.enter_context(_replaced(pipe, "_progress_bar_config", {"disable": True}))
        stack.callback(getattr(pipe, "maybe_free_model_hooks", lambda: None))
        stack.callback(network.register_forward_pre_hook(stop, with_kwargs=True).remove)
        if getattr(pipe, "controlnet", None) is not None:
            stack.callback(pipe.controlnet.register_forward_pre_hook(pass_on, with_kwargs=True).remove)
        stack.enter_context(contextlib.suppress(_Reached))
        pipe(**call_kwargs)
    if "network" not in calls:
        raise ValueError(f"{type(pipe).__name__} did not call its network, expected one step or more")
    kwargs = calls["network"]
    x = kwargs.pop(next(iter(kwargs)))
    return Seen(
        x, float(torch.as_tensor(kwargs.pop("timestep")).flatten()[0]), kwargs, calls.get("control", {})
    )


def _begin(t: float, timesteps: Float[Tensor, " steps"]) -> tuple[int, float]:
    """The step that the network is first called for, and what its clock is slower by (FLUX's by 1000)."""
    for clock in (1.0, 1000.0):
        gaps = (timesteps - clock * t).abs()
        if gaps.min() <= 5e-3 * clock * t:  # a timestep in bfloat16 is as near as that
            return int(gaps.argmin()), clock
    raise ValueError(
        f"the network is first called at {t}, expected one of the scheduler's {timesteps.tolist()}"
    )


def _guidance(pipe: Any, arguments: Mapping[str, Any]) -> float:
    """`guidance_scale` where the pipeline doubles its batch for it, 1 where it does not."""
    scale = float(arguments.get("guidance_scale") or 1.0)
    doubles = getattr(pipe, "do_classifier_free_guidance", None)
    if doubles is None:  # old pipelines do not say; FLUX's scale is told to its network
        doubles = "true_cfg_scale" not in arguments
    return scale if doubles else 1.0


def _samples(x: Tensor, guidance: float) -> int:
    """The batch size behind the rows of the network's first call."""
    if guidance <= 1:
        return len(x)
    if len(x) % 2 or not torch.equal(*x.chunk(2)):
        raise ValueError(f"the network sees {len(x)} rows, expected every latent twice: for guidance alone")
    return len(x) // 2


def _recipes(
    pipe: Any, network: Any, arguments: Mapping[str, Any], seen: Seen, sigmas: Float[Tensor, " levels"]
) -> list[Recipe]:
    """What the pipeline says at its first step, at every step; and what changes with the step, by level."""
    steps, kwargs = len(sigmas) - 1, dict(seen.kwargs)
    residuals = kwargs.pop("down_intrablock_additional_residuals", None)
    if seen.control:
        kwargs = {name: value for name, value in kwargs.items() if "block_additional_residual" not in name}
    recipes = [as_switched(network), told(**kwargs)]
    if residuals is not None:
        share = arguments.get("adapter_conditioning_factor", 1.0)
        recipes.append(t2i_adapter(residuals, span_of(sigmas, 0, int(steps * share))))
    for name, beta in arguments.items():
        if name.endswith("scheduled_sampling_beta"):
            recipes.append(gligen(pipe.enable_fuser, span=span_of(sigmas, 0, int(beta * steps))))
    if _is_migc(seen):
        recipes.append(migc(sigmas))
    if seen.control:
        recipes.append(_controlnet(pipe.controlnet, arguments, seen.control, sigmas))
    return recipes


def _is_migc(seen: Seen) -> bool:
    """MIGC is the one whose processors are told the step's number."""
    return "ith" in (seen.kwargs.get("cross_attention_kwargs") or {})


def _controlnet(
    network: Any, arguments: Mapping[str, Any], control: Mapping[str, Any], sigmas: Float[Tensor, " levels"]
) -> Recipe:
    """One ControlNet or several, each with its scale and its steps."""
    from diffusers import ControlNetModel, MultiControlNetModel

    if not isinstance(network, ControlNetModel | MultiControlNetModel):
        raise TypeError(f"controlnet is {type(network).__name__}, expected ControlNetModel, one or several")
    several = isinstance(network, MultiControlNetModel)
    number = len(network.nets) if several else 1
    scales, starts, stops = (
        list(value) if isinstance(value, list | tuple) else [value] * number
        for value in (
            arguments["controlnet_conditioning_scale"],
            arguments["control_guidance_start"],
            arguments["control_guidance_end"],
        )
    )
    spans = [_kept(sigmas, start, stop) for start, stop in zip(starts, stops, strict=True)]
    return controlnet(
        network,
        control["controlnet_cond"],
        scales if several else scales[0],
        guess_mode=bool(control.get("guess_mode")),
        span=spans if several else spans[0],
    )


def _kept(sigmas: Float[Tensor, " levels"], start: float, stop: float) -> Span:
    """The levels of the steps i of N with start <= i/N and (i + 1)/N <= stop."""
    steps = len(sigmas) - 1
    kept = [i for i in range(steps) if not (i / steps < start or (i + 1) / steps > stop)]
    return span_of(sigmas, kept[0], kept[-1] + 1) if kept else span_of(sigmas, 0, 0)


def _latent_space(pipe: Any, x: Tensor) -> LatentSpace:
    unet, vae = getattr(pipe, "unet", None), getattr(pipe, "vae", None)
    if unet is not None and unet.config.out_channels != x.shape[1]:
        raise ValueError(
            f"the unet sees {x.shape[1]} channels and predicts {unet.config.out_channels}, expected as many: "
            "models of inpainting and editing are not denoisers of their latents alone"
        )
    config = {} if vae is None else vae.config
    return LatentSpace(
        scaling=config.get("scaling_factor"), shift=config.get("shift_factor"), shape=tuple(x.shape[1:])
    )


def _decoder(
    pipe: Any,
    network: Any,
    call_kwargs: Mapping[str, Any],
    prediction: Prediction,
    sigma: Float[Tensor, ""],
    dtype: torch.dtype,
) -> Callable[[Latent], Any]:
    """Let the pipeline finish from these latents."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
    from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput

    def idle(*args: Any, **kwargs: Any) -> Any:
        return UNet2DConditionOutput(sample=next(iter([*args, *kwargs.values()])))

    def idle_control(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        return [], x

    @torch.no_grad()
    def decode(x: Latent) -> Any:
        latents = (scaling(prediction, sigma.to(x)).c_in * x).to(dtype)
        with contextlib.ExitStack() as stack:
            stack.enter_context(_replaced(pipe, "_progress_bar_config", {"disable": True}))
            stack.enter_context(_replaced(network, "forward", idle))
            if getattr(pipe, "controlnet", None) is not None:
                stack.enter_context(_replaced(pipe.controlnet, "forward", idle_control))
            finished = DDIMSchedulerOutput(prev_sample=latents)
            stack.enter_context(_replaced(pipe.scheduler, "step", lambda *args, **kwargs: finished))
            stack.enter_context(torch.random.fork_rng(devices=[x.device] if x.is_cuda else []))
            return pipe(**_with_own_generators(call_kwargs))

    return decode


def _with_own_generators(call_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with copies of the generators, which are drawn from and thrown away."""
    generator = call_kwargs.get("generator")
    if generator is None:
        return dict(call_kwargs)
    several = isinstance(generator, list)
    copies = [one.clone_state() for one in (generator if several else [generator])]
    return {**call_kwargs, "generator": copies if several else copies[0]}


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An instance's attribute replaced for a while, and what was there before put back."""
    had, before = name in vars(owner), vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if had:
            setattr(owner, name, before)
        else:
            delattr(owner, name)
