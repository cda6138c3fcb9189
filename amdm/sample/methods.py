"""The method of a configuration: its options, its steps, and what they cost."""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from amdm.checks import check_whole
from amdm.denoisers import linear
from amdm.geometry import FOLDS
from amdm.noise import seeded_noise, start_noise
from amdm.samplers import SAMPLERS
from amdm.samplers.fkc import Particles
from amdm.samplers.step import Step, Steps
from amdm.schedules import karras_sigmas
from amdm.types import Denoiser, NoiseSampler

# Options that no file can give: functions, tensors, generators, and what is set by the seed.
NOT_WRITTEN = {
    "background", "debug_nans", "generator", "known", "log_densities", "noise_sampler", "sampler",
    "unconditional", "validate",
}  # fmt: skip
ONE = [name for name, make in SAMPLERS.items() if "model" in inspect.signature(make).parameters]
MANY = ["linear", *(name for name in SAMPLERS if name not in ONE)]
APART = {"amdm": "independent", "projective_guidance": "shared"}
"""The methods whose models may start from latents of their own, and whether they do by default."""
INNER = ("amdm", "projective_guidance", "linear")
"""The methods that step with a sampler of one model."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The way in which the models are joined; see the method's own documentation for its options."""

    method: str = "amdm"
    """One of MANY."""
    sampler: str = "ddim"
    """One of ONE: the steps of each model, and of a model alone."""
    starts: str = "shared"
    """"independent" or "shared": whether each model has a start of its own."""
    background: str = "each"
    """For projective guidance: "each" partner's network with its control off, or the first's, "shared"."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The method's other options, as its function takes them; `fold` by name."""

    def readable(self) -> list[str]:
        """Return the names of the keys that this method reads, beside its options."""
        kept = {"sampler": INNER, "starts": APART, "background": ("projective_guidance",)}
        return ["method", *(name for name, those in kept.items() if self.method in those)]

    @property
    def eta(self) -> float:
        """Return the share of fresh noise of a model alone."""
        return float(self.options.get("eta", 0.0))


def options_of(method: str) -> list[str]:
    """Return the names of a method's options that a file can give."""
    if method == "linear":
        return ["weights", "eta"]
    rule: Any = SAMPLERS[method].rule
    hidden = NOT_WRITTEN | ({"guidance"} if method == "superdiff" else set())
    return [each.name for each in fields(rule) if each.name not in hidden]


def starts_of(sampling: Sampling, seed: int, shape: Sequence[int], sigma: Any, number: int) -> list[Tensor]:
    """Return each model's start: N latents, or one latent N times."""
    starts = start_noise([seed], shape, sigma, number)
    return starts if sampling.starts == "independent" else starts[:1] * number


def steps_of(
    sampling: Sampling,
    models: Sequence[Denoiser],
    starts: Sequence[Tensor],
    sigmas: Tensor,
    seed: int,
    backgrounds: Sequence[Denoiser] = (),
    stream: int = 0,
    **options: Any,
) -> Steps:
    """Return the generator of a picture's steps: of the method, or of a single model's sampler.

    Args:
        sampling: the method and its options.
        models: one or more denoisers, the lead first.
        starts: their starts.
        sigmas: the levels.
        seed: of the noise that is drawn on the way.
        backgrounds: those of projective guidance: one, or one for each partner.
        stream: the first model's number in the configuration; each model has noise of its own.
        options: `validate` and `debug_nans`.
    """
    noise = [seeded_noise([seed], starts[0].shape[1:], stream=stream + k) for k in range(len(models))]
    inner, x = SAMPLERS[sampling.sampler], starts[0]
    given = {name: _as_taken(name, value) for name, value in sampling.options.items()}
    if len(models) == 1 or sampling.method == "linear":
        shares = given.get("weights")
        model = models[0] if len(models) == 1 else linear(models, shares)
        return _run(inner, model, x, sigmas, eta=sampling.eta, noise_sampler=noise[0], **options)
    make: Any = SAMPLERS[sampling.method]
    if sampling.method == "fkc":
        models, x, noise = _of_particles(given.get("particles", 1), models, x, sigmas[0], seed)
    if "fold" in given:
        given["fold"] = FOLDS[given["fold"]]
    if sampling.method in INNER:
        given["sampler"] = inner
    if sampling.method == "projective_guidance":
        given["background"] = backgrounds[0] if len(backgrounds) == 1 else list(backgrounds)
    if "generator" in {each.name for each in fields(make.rule)}:
        given["generator"] = torch.Generator().manual_seed(seed)
    apart = sampling.starts == "independent"
    several = apart or sampling.method == "amdm"
    given["noise_sampler"] = noise if several else noise[0]
    return _run(make, models, list(starts) if apart else x, sigmas, **given, **options)


def _of_particles(
    particles: Any, models: Sequence[Denoiser], x: Tensor, sigma: Any, seed: int
) -> tuple[list[Denoiser], Tensor, list[NoiseSampler]]:
    """Return models that take a picture's particles, their starts, and their noise.

    The models are those of one picture, so they are called for each particle in turn.
    """
    check_whole(particles, "particles", "a whole number of 1 or more", lambda count: count > 0)
    shape = x.shape[1:]
    starts = torch.cat(list(start_noise([seed], shape, sigma, particles))).to(x)
    each = [seeded_noise([seed], shape, stream=stream) for stream in range(particles)]

    def noise_sampler(sigma: Tensor, sigma_next: Tensor, /) -> Tensor:
        return torch.cat([noise(sigma, sigma_next) for noise in each])

    return [partial(_one_by_one, model) for model in models], starts, [noise_sampler]


def _one_by_one(model: Denoiser, x: Tensor, sigma: Tensor) -> Tensor:
    """Return a model's predictions, from one call for each latent."""
    return torch.cat([model(x[k : k + 1], sigma[k : k + 1]) for k in range(len(x))])


def latent_of(step: Step, seed: int) -> Tensor:
    """Return a picture's latent after its last step: of FKC's particles one, drawn by its weight."""
    if not isinstance(step.record, Particles):
        return step.x_next
    weights = step.record.log_weights.softmax(0).cpu().numpy()
    k = int(np.random.default_rng(seed).choice(len(weights), p=weights))
    return step.x_next[k : k + 1]


def _as_taken(name: str, value: Any) -> Any:
    """Return an option as functions take it: TOML's 2 may be 2.0, and a window from and to is a pair."""
    if name == "window":
        return tuple(value) if isinstance(value, list) else value
    if isinstance(value, list):
        return [_as_taken(name, each) for each in value]
    whole = name in ("moves", "leaps", "points", "particles")
    return float(value) if type(value) is int and not whole else value


def _run(make: Any, *arguments: Any, **options: Any) -> Steps:
    steps: Steps = make(*arguments, **options)
    return steps


@dataclass
class Counted:
    """A denoiser without a network that counts the passes it would take: two with guidance."""

    guided: bool = True
    passes: int = 0

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return zeros."""
        self.passes += 1 + self.guided
        return 0 * x

    def both(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return zeros twice."""
        if not self.guided:
            raise ValueError("guidance is not 1, expected call.guidance_scale above 1, which it needs")
        return self(x, sigma), 0 * x

    def conditional(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Return zeros, of one pass."""
        self.passes += 1
        return 0 * x

    def guidance_at(self, sigma: Tensor) -> float:
        """Return a scale."""
        return 7.5 if self.guided else 1.0


def evaluations(
    sampling: Sampling, number: int, steps: int, guided: bool = True, levels: Tensor | None = None
) -> list[float]:
    """Return how many evaluations of each model's network a picture takes, by sampling without one.

    An evaluation is two passes of the network if the models are guided, else one. `levels` are the
    scheduler's: a sampler may take its last step otherwise if it ends above 0.

    >>> evaluations(Sampling(options={"window": 5}), number=2, steps=10)
    [10.0, 5.0]
    """
    models = [Counted(guided) for _ in range(number)]
    backgrounds = [Counted(guided) for _ in range(1 if sampling.background == "shared" else number - 1)]
    for _ in _uncalled(sampling, models, backgrounds, _levels(steps) if levels is None else levels):
        pass
    for k, background in enumerate(backgrounds):  # a partner's own network
        models[k + 1 if number > 1 else 0].passes += background.passes
    return [model.passes / (2 if guided else 1) for model in models]


def _uncalled(
    sampling: Sampling, models: Sequence[Counted], backgrounds: Sequence[Counted], levels: Tensor
) -> Steps:
    """Return the steps with models that have no network. The method checks its options at this call."""
    x = torch.zeros(1, 4, 2, 2)
    starts = [x if sampling.starts == "shared" else x.clone() for _ in models]
    return steps_of(sampling, models, starts, levels, 0, backgrounds, validate=False)


def _levels(steps: int) -> Tensor:
    return karras_sigmas(steps, 0.1, 10.0)


def wrong_options(sampling: Sampling, number: int, steps: int, guided: bool) -> Iterator[str]:
    """Yield what the method says of its options: of each alone, and if that is nothing, of all together."""
    fold = sampling.options.get("fold", "slerp_fold")
    if not isinstance(fold, str) or fold not in FOLDS:
        yield f"fold is {fold!r}, expected one of {', '.join(FOLDS)}"
        return
    if found := sampling.method == "fkc" and "particles" not in sampling.options:
        yield "particles is missing, expected the number of latents that are weighed for one picture"
    for name, value in sampling.options.items():
        alone = replace(sampling, options={name: value})
        models = [Counted(guided) for _ in range(number)]
        problem = _said(partial(_uncalled, alone, models, models[1:], _levels(steps)))
        if problem is not None:
            found = True
            yield (
                problem
                if problem.startswith(name)
                else f"{name} is {value!r}, expected what the method takes: {problem}"
            )
    problem = None if found else _said(partial(evaluations, sampling, number, steps, guided))
    if problem is not None:
        yield problem


def _said(function: Callable[[], Any]) -> str | None:
    """Return the error or the warning of a call as one line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            function()
    except (TypeError, ValueError, UserWarning) as error:
        return " ".join(str(error).split())
    return None
