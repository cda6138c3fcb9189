"""A diffusers network as a denoiser, for all kinds of prediction, with guidance in one call."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.checks import check_finite
from amdm.compatibility import LatentSpace
from amdm.denoisers import Prediction, scaling
from amdm.diffusers.contexts import Context, locked
from amdm.diffusers.levels import sigma_to_t
from amdm.diffusers.recipes import Call, Recipe
from amdm.schedules import INFINITE_SIGMA
from amdm.types import Latent, PerSample


@dataclass(frozen=True, eq=False)
class NetworkDenoiser:
    """A denoiser `model(x, sigma) -> denoised` from a U-Net or a transformer of diffusers, with guidance.

    The latent keeps its dtype, float32 or better; the network is called in its own. `recipes` bind its other
    arguments. In them conditions that depend on the step become spans of sigma, so the denoiser depends on
    x and sigma alone. The batch size is that of the conditions.

    Args:
        network: `network(x, timestep=..., **kwargs)`, with the result first: a diffusers model.
        prediction: what it predicts; "flow" is SD3's and FLUX's velocity.
        training_sigmas: `training_sigmas(scheduler)`, which map a level to a timestep; None for a flow.
        recipes: functions that add the call's arguments, in order (`amdm.diffusers.recipes`).
        contexts: entered around every call, such as `as_switched(network)` and `without_randomness()`.
        guidance: diffusers' `guidance_scale`. Above 1 the network is called once with two rows for each
            sample, unconditional rows first; the conditions have two rows as well. Else each sample has one
            row. For guidance that changes with the step pass a function of the levels: `guidance(sigma)`
            returns a number or one for each sample, and each sample has two rows at all levels.
        guidance_rescale: Lin et al. 2023, arXiv:2305.08891, section 3.4; 0 for none.
        uncond: the recipes of a second call, for guidance in two calls with one row for each sample (FLUX's
            true guidance); None for guidance in one call.
        time_scale: a flow's timestep is `time_scale * s`: 1000 for SD3, 1 for FLUX.
        separable: False if the rows of one call depend on each other or do not form pairs (MIGC's):
            `conditional` then calls the network with the unconditional rows too.
        batch: the number of samples of the conditions; None if any will do.
        latent_space: compared by `check_same_ecosystem`.
    """

    network: Callable[..., Any] = field(repr=False)
    prediction: Prediction
    training_sigmas: Float[Tensor, " steps"] | None = field(default=None, repr=False)
    recipes: Sequence[Recipe] = field(default=(), repr=False)
    contexts: Sequence[Context] = field(default=(), repr=False)
    guidance: float | Callable[[Tensor], float | Tensor] = 1.0
    guidance_rescale: float = 0.0
    uncond: Sequence[Recipe] | None = field(default=None, repr=False)
    time_scale: float = 1000.0
    separable: bool = True
    batch: int | None = None
    latent_space: LatentSpace = field(default_factory=LatentSpace)

    def __post_init__(self) -> None:
        scaling(self.prediction, torch.ones(1))
        if not callable(self.guidance):
            check_finite(self.guidance, "guidance")
        for name in ("recipes", "contexts", "uncond"):
            if callable(getattr(self, name)):
                raise TypeError(f"{name} is one callable, expected a list of them")
        table = self.training_sigmas
        if (table is None) != (self.prediction == "flow"):
            raise ValueError(
                f"training_sigmas is {'None' if table is None else 'given'} with prediction "
                f"{self.prediction!r}, expected the training levels, and None for a flow"
            )
        if table is not None and not (len(table) > 1 and table[0] > 0 and bool((table.diff() > 0).all())):
            shown = f"goes from {table[0]:.4g} to {table[-1]:.4g}" if len(table) > 0 else "is empty"
            raise ValueError(
                f"training_sigmas {shown}, expected the positive, increasing levels of "
                "`training_sigmas(scheduler)`"
            )

    def __call__(self, x: Latent, sigma: PerSample, **extra_args: Any) -> Latent:
        """Return the guided prediction. A recipe with a span requires one level for the whole batch.

        `extra_args` are keyword arguments of the network, beside those of the recipes.
        """
        sigma, scales = self._scales(x, sigma)
        outputs = self._outputs(x, sigma, scales, extra_args, uncond=self._guided)
        scale = self.guidance_at(sigma)
        *uncond, output = outputs
        if uncond:
            output = guidance_of(uncond[0], output, scale, self.guidance_rescale)
        return _denoised(x, output, scales)

    def both(self, x: Latent, sigma: PerSample, **extra_args: Any) -> tuple[Latent, Latent]:
        """Return the unconditional and the conditional prediction, from the call that guidance makes.

        Raises:
            ValueError: there is no guidance, so there are no unconditional conditions; or there is a
                guidance_rescale, whose result is not uncond + scale (cond - uncond).
        """
        if not self._guided:
            raise ValueError(
                f"the model was prepared with guidance_scale {self.guidance} and has no unconditional "
                "prompt, expected guidance_scale above 1: projective guidance needs it of models[0] if "
                "`guidance` is not 1"
            )
        if self.guidance_rescale > 0:
            raise ValueError(
                f"the model was prepared with guidance_rescale {self.guidance_rescale}, expected 0: its "
                "guided prediction is not uncond + scale (cond - uncond)"
            )
        sigma, scales = self._scales(x, sigma)
        uncond, cond = self._outputs(x, sigma, scales, extra_args, uncond=True)
        return _denoised(x, uncond, scales), _denoised(x, cond, scales)

    def conditional(self, x: Latent, sigma: PerSample, **extra_args: Any) -> Latent:
        """Return the conditional prediction, from one row for each sample if `separable`."""
        sigma, scales = self._scales(x, sigma)
        whole = self._guided and self.uncond is None and not self.separable
        *_, cond = self._outputs(x, sigma, scales, extra_args, uncond=whole)
        return _denoised(x, cond, scales)

    def guidance_at(self, sigma: PerSample) -> float | Tensor:
        """Return the scale at these levels; 1 without guidance."""
        if callable(self.guidance):
            return self.guidance(sigma)
        return self.guidance if self._guided else 1.0

    @property
    def _guided(self) -> bool:
        return callable(self.guidance) or self.guidance > 1

    def _scales(self, x: Latent, sigma: PerSample) -> tuple[PerSample, Any]:
        """Return the levels in float32 or better, and the scaling of the network's input and output."""
        if self.batch is not None and len(x) != self.batch:
            raise ValueError(
                f"x has batch {len(x)}, expected that of the conditions: {self.batch} (a pipeline's is "
                "prompts times num_images_per_prompt)"
            )
        sigma = sigma.to(torch.promote_types(x.dtype, torch.float32)).expand(len(x))
        return sigma, scaling(self.prediction, sigma.reshape(-1, *[1] * (x.ndim - 1)))

    def _outputs(
        self, x: Tensor, sigma: Tensor, scales: Any, extra_args: Mapping[str, Any], *, uncond: bool
    ) -> Sequence[Tensor]:
        """Return the network's outputs: the unconditional rows' if requested, then the conditional ones'."""
        x_in, t = (scales.c_in * x).to(getattr(self.network, "dtype", x.dtype)), self.timestep(sigma)
        paired = self._guided and self.uncond is None  # two rows of conditions for each sample
        if paired and uncond:
            x_in, t = torch.cat([x_in, x_in]), torch.cat([t, t])
        with contextlib.ExitStack() as stack:
            stack.enter_context(locked(self.network))
            for context in self.contexts:
                stack.enter_context(context())
            call = Call(x_in, t, sigma, extra_args, halved=paired and not uncond)
            predicted = self._predicted(call, self.recipes).to(x.dtype)
            if uncond and self.uncond is not None:
                return self._predicted(call, self.uncond).to(x.dtype), predicted
        return predicted.chunk(2) if uncond else (predicted,)

    def _predicted(self, call: Call, recipes: Sequence[Recipe]) -> Tensor:
        call = reduce(lambda call, recipe: recipe(call), recipes, call).with_its_rows()
        predicted: Tensor = self.network(call.x, timestep=call.t, **call.kwargs)[0]
        return predicted

    def timestep(self, sigma: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
        """Return the network's timestep for a level: the training step, or a flow's scaled time."""
        if self.training_sigmas is None:
            time = torch.where(sigma < INFINITE_SIGMA * (1 - 1e-6), sigma / (1 + sigma), 1.0)
            return self.time_scale * time
        device, dtype = sigma.device, sigma.dtype
        if (device, dtype) not in self._log_sigmas:
            self._log_sigmas[device, dtype] = self.training_sigmas.log().to(device, dtype)
        return sigma_to_t(sigma, self._log_sigmas[device, dtype])

    @cached_property
    def _log_sigmas(self) -> dict[tuple[torch.device, torch.dtype], Tensor]:
        """Return the cache of the levels' logarithms, by device and dtype."""
        return {}

    @property
    def sigma_min(self) -> float:
        """Return the lowest level that the network was trained for."""
        return 0.0 if self.training_sigmas is None else self.training_sigmas[0].item()

    @property
    def sigma_max(self) -> float:
        """Return the highest level that the network was trained for."""
        return INFINITE_SIGMA if self.training_sigmas is None else self.training_sigmas[-1].item()


def _denoised(x: Tensor, output: Tensor, scales: Any) -> Tensor:
    denoised: Tensor = scales.c_skip * x + scales.c_out * output
    return denoised.to(x.dtype)


def guidance_of(uncond: Tensor, cond: Tensor, scale: float | Tensor, rescale: float = 0.0) -> Tensor:
    """Return uncond + scale (cond - uncond), rescaled in part to the standard deviation of `cond`.

    `scale` is a number or one for each sample; `rescale` is Lin et al.'s share.
    """
    if isinstance(scale, Tensor) and scale.ndim > 0:
        scale = scale.to(cond).reshape(-1, *[1] * (cond.ndim - 1))
    guided = uncond + scale * (cond - uncond)
    if rescale <= 0:
        return guided
    axes = tuple(range(1, cond.ndim))
    factor = cond.std(dim=axes, keepdim=True) / guided.std(dim=axes, keepdim=True)
    return rescale * (guided * factor) + (1 - rescale) * guided
