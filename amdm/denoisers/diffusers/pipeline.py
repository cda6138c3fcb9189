"""A loaded diffusers pipeline and the arguments of its call, as a denoiser.

The pipeline makes its own preparations: it runs to its scheduler's first step with a network that does
nothing, and what it says to it is what the denoiser says at every call, but for what depends on the step.
`decode` lets it finish: it runs once more, with a scheduler that returns the given latents.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.denoisers.diffusers.contexts import as_switched, without_randomness
from amdm.denoisers.diffusers.levels import Compat, is_flow, training_sigmas, visited
from amdm.denoisers.diffusers.network import NetworkDenoiser, Prediction, scaling
from amdm.denoisers.diffusers.recipes import (
    Recipe,
    Span,
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
    """Decreasing, of `x`'s dtype; the last is positive where the scheduler's last step ends at a level."""
    x: Latent
    """The pipeline's own start at `sigmas[0]`, VE, float32 or better."""
    decode: Callable[[Latent], Any]
    """A VE latent at `sigmas[-1]` to the pipeline's output: its `images` are what it would have drawn."""


class Seen(NamedTuple):
    """A pipeline's first step, taken apart."""

    x: Tensor
    """What the network sees: a row or two for each sample."""
    t: float
    kwargs: Mapping[str, Any]
    control: Mapping[str, Any]
    """The ControlNet's call, if there is one."""
    samples: int
    """The batch that the scheduler steps."""


def from_pipeline(pipe: Any, *, compat: Compat = "diffusers", **call_kwargs: Any) -> Prepared:
    """A loaded pipeline and the arguments of its call as denoiser, levels, start and decoder.

    For pipelines of one U-Net or transformer: Stable Diffusion, SDXL, SD3, FLUX; with ControlNets,
    T2I-Adapter, GLIGEN, IP-Adapter, LoRA; and others of that shape, InteractDiffusion's and MIGC's among
    them. With DDIM the result of `sample_ddim` is the pipeline's, to rounding. LoRAs and IP-Adapter scales
    are bound as they are now (`as_switched`), so that a pipeline can be prepared several times over one
    network: N models for the memory of one.

    Args:
        pipe: the pipeline. Its scheduler's timesteps are set, and a generator given for it is drawn from,
            torch's own without one, as by a call.
        compat: see `sigmas_from_scheduler`.
        call_kwargs: as for `pipe(...)`: prompts, sizes, `latents` or `generator`, `guidance_scale`, ...

    Raises:
        TypeError: a pipeline without a U-Net or transformer, a scheduler or ControlNet of another kind.
        ValueError: an argument that acts in the pipeline's own loop; a network that sees more than latents,
            or is called several times a step; a scheduler that follows no schedule of levels.
    """
    network = _network(pipe)
    arguments = _arguments(pipe, call_kwargs)
    seen = _first_step(pipe, network, call_kwargs)
    levels = visited(pipe.scheduler, compat)
    start, clock = _begin(seen.t, levels.timesteps)
    sigmas = levels.sigmas[start:]
    flow = is_flow(pipe.scheduler)
    prediction: Prediction = "flow" if flow else pipe.scheduler.config.prediction_type
    model = NetworkDenoiser(
        network=network,
        prediction=prediction,
        training_sigmas=None if flow else training_sigmas(pipe.scheduler),
        recipes=_recipes(pipe, arguments, seen, sigmas),
        contexts=[as_switched(network), *([without_randomness(seen.x.device)] if _is_migc(seen) else [])],
        guidance=_guidance(pipe, arguments, seen),
        guidance_rescale=float(arguments.get("guidance_rescale") or 0.0),
        time_scale=pipe.scheduler.config.num_train_timesteps / clock,
        batch=seen.samples,
        latent_space=_latent_space(pipe, seen.x),
    )
    x = seen.x[: seen.samples].to(torch.promote_types(seen.x.dtype, torch.float32))
    sigmas = sigmas.to(x)
    x = x / scaling(prediction, sigmas[0]).c_in
    return Prepared(
        model, sigmas, x, _decoder(pipe, network, call_kwargs, prediction, sigmas[-1], seen.x.dtype)
    )


def _network(pipe: Any) -> Any:
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
            raise ValueError(f"{name} is {type(value).__name__} {value!r:.50}, expected none: {why}")
    return dict(bound.arguments)


class _Reached(Exception):  # noqa: N818 (not an error)
    """The pipeline has come to its first step."""


def _first_step(pipe: Any, network: Any, call_kwargs: Mapping[str, Any]) -> Seen:
    """Run the pipeline up to its scheduler's first step, with networks that do nothing but listen."""
    calls: list[dict[str, Any]] = []
    control: list[dict[str, Any]] = []
    samples: list[Tensor] = []

    def stop(*args: Any, **kwargs: Any) -> None:
        samples.append(_named(pipe.scheduler.__class__.step, (pipe.scheduler, *args), kwargs)["sample"])
        raise _Reached

    step = _replaced(pipe.scheduler, "step", stop)
    with _idle(pipe, network, calls, control), step, contextlib.suppress(_Reached):
        pipe(**call_kwargs)
    name = type(pipe).__name__
    if not samples:
        raise ValueError(f"{name} did not come to a step of its scheduler, expected one or more")
    if len(calls) != 1:
        raise ValueError(
            f"{name} calls its network {len(calls)} times a step with these arguments, expected once"
        )
    kwargs = calls[0]
    x = kwargs.pop(next(iter(kwargs)))
    if x.shape[1:] != samples[0].shape[1:]:
        raise ValueError(
            f"{name}'s network sees {tuple(x.shape[1:])} for a latent of {tuple(samples[0].shape[1:])}, "
            "expected the same: models of inpainting and editing are not denoisers of their latents alone"
        )
    t = float(torch.as_tensor(kwargs.pop("timestep")).flatten()[0])
    return Seen(x, t, kwargs, control[0] if control else {}, len(samples[0]))


def _named(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name, those of its `**kwargs` too."""
    arguments = dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    return {**arguments, **arguments.pop("kwargs", {})}


@contextlib.contextmanager
def _idle(
    pipe: Any, network: Any, calls: list[dict[str, Any]], control: list[dict[str, Any]]
) -> Iterator[None]:
    """The pipeline with networks that write down how they are called and return what they got."""
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

    forward = _bare(network).forward
    processors = dict(getattr(network, "attn_processors", {}))

    def restore() -> None:
        """What a pipeline that is stopped does not put back: perturbed attention's processors, offloading."""
        if getattr(network, "attn_processors", {}) != processors:
            network.set_attn_processor(processors)
        getattr(pipe, "maybe_free_model_hooks", lambda: None)()

    def idle(*args: Any, **kwargs: Any) -> Any:
        calls.append(_named(forward, args, kwargs))
        return UNet2DConditionOutput(sample=next(iter(calls[-1].values())))

    with contextlib.ExitStack() as stack:
        stack.callback(restore)
        stack.enter_context(_replaced(pipe, "_progress_bar_config", {"disable": True}))
        stack.enter_context(_replaced(network, "forward", idle))
        if getattr(pipe, "controlnet", None) is not None:
            controlled = _bare(pipe.controlnet).forward

            def idle_control(*args: Any, **kwargs: Any) -> Any:
                control.append(_named(controlled, args, kwargs))
                return [], next(iter(control[-1].values()))

            stack.enter_context(_replaced(pipe.controlnet, "forward", idle_control))
        yield


def _bare(module: Any) -> Any:
    """What `torch.compile` wrapped, which has the signature and the class."""
    return getattr(module, "_orig_mod", module)


def _begin(t: float, timesteps: Float[Tensor, " steps"]) -> tuple[int, float]:
    """The step that the network is first called for, and what its clock is slower by (FLUX's by 1000)."""
    for clock in (1.0, 1000.0):
        gaps = (timesteps - clock * t).abs()
        if gaps.min() <= 5e-3 * clock * t:  # a timestep in bfloat16 is as near as that
            return int(gaps.argmin()), clock
    raise ValueError(
        f"the network is first called at {t}, expected one of the scheduler's {timesteps.tolist()}"
    )


def _guidance(pipe: Any, arguments: Mapping[str, Any], seen: Seen) -> float:
    """`guidance_scale` where the network sees every latent twice for it, 1 where it sees it once."""
    if len(seen.x) == seen.samples:
        return 1.0
    scale = float(arguments.get("guidance_scale") or 1.0)
    doubled = len(seen.x) == 2 * seen.samples and torch.equal(*seen.x.chunk(2))
    if not (doubled and scale > 1 and getattr(pipe, "do_classifier_free_guidance", True)):
        raise ValueError(
            f"the network sees {len(seen.x)} rows for {seen.samples} latents at guidance_scale {scale}, "
            "expected every latent once, or twice for guidance alone"
        )
    return scale


def _recipes(
    pipe: Any, arguments: Mapping[str, Any], seen: Seen, sigmas: Float[Tensor, " levels"]
) -> list[Recipe]:
    """What the pipeline says at its first step, at every step; and what changes with the step, by level."""
    steps, kwargs = len(sigmas) - 1, dict(seen.kwargs)
    residuals = kwargs.pop("down_intrablock_additional_residuals", None)
    if seen.control:
        kwargs = {name: value for name, value in kwargs.items() if "block_additional_residual" not in name}
    recipes = [told(**kwargs)]
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

    kind = _bare(network)
    if not isinstance(kind, ControlNetModel | MultiControlNetModel):
        raise TypeError(f"controlnet is {type(kind).__name__}, expected ControlNetModel, one or several")
    several = isinstance(kind, MultiControlNetModel)
    number = len(kind.nets) if several else 1
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
    vae = getattr(pipe, "vae", None)
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
    from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput

    @torch.no_grad()
    def decode(x: Latent) -> Any:
        finished = DDIMSchedulerOutput(prev_sample=(scaling(prediction, sigma.to(x)).c_in * x).to(dtype))
        own_noise = torch.random.fork_rng(devices=[x.device] if x.is_cuda else [])
        step = _replaced(pipe.scheduler, "step", lambda *args, **kwargs: finished)
        with own_noise, _idle(pipe, network, [], []), step:
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
