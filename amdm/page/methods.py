"""The ways to join two models that the page offers, each as the call that does it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any, NamedTuple

import torch

from amdm import seeded_noise, sigma_window
from amdm.denoisers import Guided, conjunction, linear, projective
from amdm.geometry import lerp_fold, slerp_fold
from amdm.page.source import Script, Source, source
from amdm.samplers import SAMPLERS, auto_length, resolve_window
from amdm.schedules import karras_sigmas
from amdm.shapes import denoisers, latents

MODELS = ("layout", "attribute")
"""The two models; each has a start of its own, and noise of its own."""
SAMPLERS_OFFERED = ("ddim", "dpmpp_2m", "dpmpp_2m_sde", "heun", "res_multistep", "uni_pc", "lcm")
FEWEST, MOST = 2, 1000
"""Numbers of steps."""
LOWEST, HIGHEST = (float(f"{sigma:.7g}") for sigma in denoisers.sigmas(50)[[-2, 0]].tolist())
"""The last and the first level of the shapes' models at 50 steps of DDIM, as a program writes them."""
ALL_LEVELS = (0.041, 13.2)
"""A window with all of them."""
SHAPE = Source(latents.SHAPE, "latents.SHAPE", frozenset(["from amdm.shapes import latents"]))
LENGTH = round(auto_length(torch.Size(latents.SHAPE).numel()), 2)
"""The default length of eq. (8)'s correction for these latents."""


@dataclass(frozen=True)
class Settings:
    """The choices of a visitor, apart from the scene.

    Attributes:
        method: a name of METHODS.
        lead: the model that is A; the other is B.
        steps: the number of steps.
        sampler: the sampler that every model runs, of SAMPLERS_OFFERED.
        eta: the share of fresh noise.
        window: the lowest and the highest level at which the models are joined.
        weight: B's share or weight, as the method has it.
        guidance: the scale of guidance, as the method has it.
        correction: the length of eq. (8)'s correction, VP.
        seed: the seed of all random numbers.
        images: draw this many, from the seed on.
    """

    method: str
    lead: str = MODELS[0]
    steps: int = 10
    sampler: str = "dpmpp_2m"
    eta: float = 0.0
    window: tuple[float, float] = ALL_LEVELS
    weight: float = 0.5
    guidance: float = denoisers.GUIDANCE
    correction: float = LENGTH
    seed: int = 7
    images: int = 1

    @property
    def other(self) -> str:
        """Return the model that is B."""
        return MODELS[1 - MODELS.index(self.lead)]

    @property
    def seeds(self) -> list[int]:
        """Return the seed of each image."""
        return list(range(self.seed, self.seed + self.images))


class Parts(NamedTuple):
    """The parts of a method's call: sources, some of them by the models' names."""

    script: Script
    names: tuple[str, ...]
    settings: Settings
    seeds: Source
    scenes: Source
    sigmas: Source
    starts: Mapping[str, Source]

    def model(self, name: str, guidance: float) -> Source:
        """Return a model with this scale of guidance; 1 is its conditional prediction alone."""
        return self.script.let(name, partial(LOAD, name, guidance))

    def told(self, name: str) -> Source:
        """Return what a model is told about the scenes."""
        return self.script.let(f"told_{name}", partial(source(denoisers.extra_args), name, self.scenes))

    def nothing(self) -> Source:
        """Return what the lead is told where it has to predict without conditions."""
        zeros = self.told(self.names[0])["uncond"]
        text = f'{{"cond": {zeros.text}, "uncond": {zeros.text}}}'
        made = Source({"cond": zeros.value, "uncond": zeros.value}, text)
        return self.script.let("nothing", lambda: made)

    def noise(self, name: str) -> Source:
        """Return a model's noise sampler."""
        return source(seeded_noise)(self.seeds, SHAPE, stream=MODELS.index(name))

    @property
    def x(self) -> list[Source]:
        """Return every model's start."""
        return [self.starts[name] for name in self.names]

    @property
    def inner(self) -> dict[str, Any]:
        """Return the options of the sampler that every model runs."""
        noises = [self.noise(name) for name in self.names]
        options = {"sampler": SAMPLERS[self.settings.sampler], "eta": self.settings.eta}
        return options | {"window": source(sigma_window)(*self.settings.window), "noise_sampler": noises}


@cache
def loaded(name: str) -> Guided:
    """Return a shipped model, loaded once for everybody: it has no state."""
    return denoisers.load(name)


def load(name: str, guidance: float) -> Guided:
    """Return the same with this scale of guidance: what `denoisers.load` returns."""
    return Guided(loaded(name).model, guidance)


def run(name: str) -> Source:
    """Return a sampler's generator, in whose place the program has the function that runs it."""
    return Source(SAMPLERS[name], f"sample_{name}", frozenset([f"from amdm import sample_{name}"]))


LOAD = replace(source(denoisers.load), value=load)


# A method's call. A, the lead, comes first in `parts.names`.


def alone(parts: Parts) -> Source:
    """Return the call of one model alone, guided as it is."""
    (name,), settings = parts.names, parts.settings
    model, told, noise = parts.model(name, denoisers.GUIDANCE), parts.told(name), parts.noise(name)
    start, eta = parts.starts[name], settings.eta
    return run(settings.sampler)(model, start, parts.sigmas, told, eta=eta, noise_sampler=noise)


def by_amdm(parts: Parts, fold: Callable[..., Any]) -> Source:
    """Return the call of AMDM with this fold."""
    settings = parts.settings
    models = [parts.model(name, settings.guidance) for name in parts.names]
    told = [parts.told(name) for name in parts.names]
    options = {"weights": settings.weight, "correction": settings.correction, "fold": fold}
    return run("amdm")(models, parts.x, parts.sigmas, told, **options, **parts.inner)


def by_projective_guidance(parts: Parts) -> Source:
    """Return the call of projective guidance: the model `base` is told the caption alone."""
    settings = parts.settings
    models = [parts.model(name, denoisers.GUIDANCE) for name in parts.names]
    told = [parts.told(name) for name in (*parts.names, "base")]
    options = {"background": parts.model("base", 1.0), "guidance": settings.guidance}
    options |= {"weights": settings.weight} | parts.inner
    return run("projective_guidance")(models, parts.x, parts.sigmas, told, **options)


def by_one_denoiser(parts: Parts, composed: Source) -> Source:
    """Return the call that samples a composed denoiser from the lead's start."""
    settings, composed = parts.settings, parts.script.let("composed", lambda: composed)
    noise = parts.noise(parts.names[0])
    return run(settings.sampler)(composed, parts.x[0], parts.sigmas, eta=settings.eta, noise_sampler=noise)


def by_linear(parts: Parts) -> Source:
    """Return the call that samples the mean of the models' guided predictions."""
    weight = parts.settings.weight
    models = [parts.model(name, parts.settings.guidance) for name in parts.names]
    told = [parts.told(name) for name in parts.names]
    return by_one_denoiser(parts, source(linear)(models, [1 - weight, weight], told))


def by_conjunction(parts: Parts) -> Source:
    """Return the call that samples both conditions, relative to the lead without any."""
    models, told = unguided(parts)
    told = [parts.nothing(), *told]
    return by_one_denoiser(parts, source(conjunction)(models[0], models, relative(parts), told))


def by_projective(parts: Parts) -> Source:
    """Return the call that samples both conditions, relative to the caption."""
    models, told = unguided(parts)
    told = [parts.told("base"), *told]
    return by_one_denoiser(parts, source(projective)(parts.model("base", 1.0), models, told))


def by_superdiff(parts: Parts, combine: str) -> Source:
    """Return the call of SuperDiff, guided relative to the lead without conditions."""
    models, told = unguided(parts)
    options = {"combine": combine, "unconditional": models[0], "guidance": parts.settings.guidance}
    told = [*told, parts.nothing()]
    return run("superdiff")(models, parts.x[0], parts.sigmas, told, **options, **own_random(parts))


def by_exponents(parts: Parts, sampler: str, **options: Any) -> Source:
    """Return the call of a sampler of a product of powers: both conditions' and the lead's without any."""
    models, told = unguided(parts)
    weights = relative(parts)
    exponents = [1 - sum(weights), *weights]
    every, told = [models[0], *models], [parts.nothing(), *told]
    return run(sampler)(
        every, parts.x[0], parts.sigmas, told, exponents=exponents, **options, **own_random(parts)
    )


def unavailable(parts: Parts, why: str) -> Source:
    """Raise ValueError: the method is listed, but these models cannot be joined by it."""
    raise ValueError(f"{parts.settings.method} cannot join these models: {why}. Choose another method.")


def unguided(parts: Parts) -> tuple[list[Source], list[Source]]:
    """Return the models' conditional predictions, and what they are told."""
    return [parts.model(name, 1.0) for name in parts.names], [parts.told(name) for name in parts.names]


def relative(parts: Parts) -> list[float]:
    """Return the weights of both conditions relative to none: the guidance, and B's part of it."""
    return [parts.settings.guidance, round(parts.settings.guidance * parts.settings.weight, 6)]


def own_random(parts: Parts) -> dict[str, Any]:
    """Return the options of samplers that draw random numbers for the batch as a whole."""
    seed = parts.settings.seed
    text, imports = f"torch.Generator().manual_seed({seed})", frozenset(["import torch"])
    generator = Source(torch.Generator().manual_seed(seed), text, imports)
    noise = parts.noise(parts.names[0])
    return {"eta": parts.settings.eta, "noise_sampler": noise, "generator": generator}


# What a method costs: passes of a network for an image of A(+B). A guided prediction takes two.


def passes_of_a_window(settings: Settings, alone: int, joined: int) -> int:
    """Return the passes of a method with a window: so many in a step after it, and in one before its end."""
    levels = karras_sigmas(settings.steps, LOWEST, HIGHEST).tolist()
    _, stop = resolve_window(sigma_window(*settings.window), levels)
    return of_sampler(settings, joined * stop + alone * (settings.steps - stop))


def passes_of_steps(settings: Settings, each: int) -> int:
    """Return the passes of a method with this number of passes in every step."""
    return of_sampler(settings, each * settings.steps)


def of_sampler(settings: Settings, passes: int) -> int:
    """Return the passes of a sampler that calls its model once or twice a step."""
    return passes * (2 if settings.sampler == "heun" else 1)


PUBLISHED = 140
"""The passes of AMDM as published: 50 steps of one model, 20 of the other."""


@dataclass(frozen=True)
class Method:
    """A way to join two models.

    Attributes:
        call: returns the call for the parts of one picture.
        says: what it does, for somebody who does not know it.
        passes: returns what A(+B) costs.
        uses: the settings that it has, apart from those of all methods.
        defaults: the settings that suit it.
        particles: latents for an image, of which the first is shown.
    """

    call: Callable[[Parts], Source]
    says: str
    passes: Callable[[Settings], int]
    uses: Sequence[str] = ("sampler", "eta")
    defaults: Mapping[str, Any] = field(default_factory=dict)
    particles: int = 1


TO_40_PERCENT = (2.8, ALL_LEVELS[1])
"""The levels of the first four of ten steps."""
OF_AMDM = ("sampler", "eta", "window", "weight", "guidance", "correction")
NOISY = {"sampler": "ddim", "eta": 1.0}
NO_DENSITIES = "it needs the models' densities, and a network that predicts noise has none"

METHODS: dict[str, Method] = {
    "Projective guidance (recommended)": Method(
        by_projective_guidance,
        "Each control is added in full; what both models are told, the caption, counts once.",
        partial(passes_of_a_window, alone=2, joined=4),
        ("sampler", "eta", "window", "weight", "guidance"),
        {"sampler": "dpmpp_2m_sde", "eta": 1.0, "weight": 1.0, "guidance": 2.0},
    ),
    "AMDM (the paper's)": Method(
        partial(by_amdm, fold=slerp_fold),
        "In the window the two latents are merged on the sphere after every step; then A finishes alone.",
        partial(passes_of_a_window, alone=2, joined=4),
        OF_AMDM,
        {"window": TO_40_PERCENT},
    ),
    "Linear fold": Method(
        partial(by_amdm, fold=lerp_fold),
        "AMDM with the latents' mean in the place of the sphere, without the correction.",
        partial(passes_of_a_window, alone=2, joined=4),
        OF_AMDM,
        {"window": TO_40_PERCENT, "correction": 0.0},
    ),
    "Mean of predictions": Method(
        by_linear,
        "Linear aggregation: one latent follows the mean of the two predictions (Liu et al. 2022).",
        partial(passes_of_steps, each=4),
        ("sampler", "eta", "weight", "guidance"),
        {"steps": 35, **NOISY},
    ),
    "Conjunction": Method(
        by_conjunction,
        "Both conditions are added, relative to no condition (Liu et al. 2022).",
        partial(passes_of_steps, each=3),
        ("sampler", "eta", "weight", "guidance"),
        {"steps": 46, "weight": 1.0, "guidance": 1.5, **NOISY},
    ),
    "Projective composition": Method(
        by_projective,
        "Both conditions are added, relative to the caption, without guidance (Bradley et al. 2025).",
        partial(passes_of_steps, each=3),
        ("sampler", "eta"),
        {"steps": 46, **NOISY},
    ),
    "SuperDiff AND": Method(
        partial(by_superdiff, combine="and"),
        "Seeks what both models find equally likely (Skreta et al. 2025). Published with 999 steps: 21 times "
        "AMDM's cost.",
        partial(passes_of_steps, each=3),
        ("eta", "guidance"),
        {"steps": 46, "guidance": 4.5, **NOISY},
    ),
    "SuperDiff OR": Method(
        partial(by_superdiff, combine="or"),
        "Draws what either model finds likely, so it joins nothing (Skreta et al. 2025). Published with 999 "
        "steps: 21 times AMDM's cost.",
        partial(passes_of_steps, each=3),
        ("eta", "guidance"),
        {"steps": 46, "guidance": 7.5, **NOISY},
    ),
    "FKC": Method(
        partial(by_exponents, sampler="fkc", particles=2),
        "Two particles for an image, resampled by their weights (Skreta et al. 2025). Published with 64 "
        "steps of 8 particles: 11 times AMDM's cost.",
        partial(passes_of_steps, each=6),
        ("eta", "weight", "guidance"),
        {"steps": 23, "weight": 1.0, "guidance": 1.5, **NOISY},
        particles=2,
    ),
    "ULA": Method(
        partial(by_exponents, sampler="mcmc", kernel="ula", moves=3, step_size=0.03),
        "Three Langevin moves at every level (Du et al. 2023). Published with 20 moves: 24 times "
        "AMDM's cost.",
        partial(passes_of_steps, each=12),
        ("eta", "weight", "guidance"),
        {"steps": 11, "weight": 1.0, "guidance": 1.0, **NOISY},
    ),
    "MALA": Method(
        partial(by_exponents, sampler="mcmc", kernel="mala", moves=3, step_size=0.03, points=3),
        "Langevin moves that are accepted or rejected (Du et al. 2023), by the score's line integral.",
        partial(passes_of_steps, each=21),
        ("eta", "weight", "guidance"),
        {"steps": 11, "weight": 1.0, "guidance": 1.0, **NOISY},
    ),
    "UHMC": Method(
        partial(by_exponents, sampler="mcmc", kernel="uhmc", moves=1, leaps=2, step_size=0.01),
        "A move of two leapfrogs at every level (Du et al. 2023).",
        partial(passes_of_steps, each=9),
        ("eta", "weight", "guidance"),
        {"steps": 15, "weight": 1.0, "guidance": 1.5, **NOISY},
    ),
    "HMC": Method(
        partial(by_exponents, sampler="mcmc", kernel="hmc", moves=1, leaps=2, step_size=0.01, points=2),
        "A move of two leapfrogs, accepted or rejected (Du et al. 2023), by the score's line integral.",
        partial(passes_of_steps, each=9),
        ("eta", "weight", "guidance"),
        {"steps": 15, "weight": 1.0, "guidance": 1.5, **NOISY},
    ),
    "HMC on energies": Method(
        partial(unavailable, why=NO_DENSITIES),
        "Not possible here: it needs the models' densities, which networks do not have (Du et al. 2023).",
        lambda settings: 0,
        (),
    ),
    "Energy SMC": Method(
        partial(unavailable, why=NO_DENSITIES),
        "Not possible here: it needs the models' densities, which networks do not have "
        "(Thornton et al. 2025).",
        lambda settings: 0,
        (),
    ),
    "Weight averaging": Method(
        partial(
            unavailable, why="it averages fine-tunes of one network, and these are two different networks"
        ),
        "Not possible here: it averages fine-tunes of one network (Biggs et al. 2024).",
        lambda settings: 0,
        (),
    ),
}
RECOMMENDED = next(iter(METHODS))
COMMON = ("steps", "lead", "seed", "images")


def defaults_of(method: str) -> Settings:
    """Return the settings that suit a method."""
    return Settings(method, **METHODS[method].defaults)
