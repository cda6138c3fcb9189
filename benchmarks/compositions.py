"""Other ways to compose two models, as data: their scores summed, superposed, corrected or sampled at length.

Three predictions are composed: the unconditional one of one network, and each model's conditional one. If the
caption is to count once, the prediction of a model that is told the caption alone is added. Only `linear`
composes the two guided predictions. `afa` is one prediction of both networks, by trained aggregators.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from amdm import dpmpp_2m, seeded_noise, start_noise
from amdm.denoisers import compose, linear
from amdm.samplers import ddim, fkc, mcmc, superdiff
from amdm.samplers.step import Step, Steps
from amdm.shapes import denoisers, latents
from amdm.shapes.world import Image, Scenes
from amdm.types import Denoiser, NoiseSampler
from benchmarks.methods import STARTS, Schedule, Solver, ensemble, extra_args, levels, model, seeds_of

Kind = Literal["linear", "conjunction", "superdiff", "fkc", "mcmc", "afa"]
STEP_SIZES: dict[str, Callable[[float, float], float]] = {
    "2 delta": lambda sigma, sigma_next: 2 * (sigma**2 - sigma_next**2),
}


class Background(NamedTuple):
    """A prediction that the models' are relative to: of a network that is told the caption, or nothing."""

    name: str
    told: Literal["the caption", "nothing"]
    exponent: float


@dataclass(frozen=True)
class Composition:
    """Two models composed at every step, on one latent: the first one's start.

    An image depends on its own seed alone, except for `mcmc`, whose moves draw for the batch as a whole, and
    for `fkc` with several particles, whose resampling and final choice of a particle do.

    Attributes:
        kind: the denoiser or sampler; `linear`, `conjunction` and `afa` are sampled by `solver`.
        weights: the weights of the two scores: of sum 1 for `linear`; relative to the unconditional one, or
            to the caption's, for `conjunction`, `fkc` and `mcmc`; `superdiff` and `afa` have their own.
        guidance: the guidance of `linear`'s two models, of `afa` and `superdiff`, or of a caption that counts
            once.
        unconditional: the model that makes the unconditional prediction.
        caption: the model that is told the caption alone, to which the conditions are relative; "" for none.
        particles: the number of `fkc`'s particles for one image, which is drawn from them by their weights.
        above: the level above which `mcmc` moves.
        options: the sampler's other options.
    """

    kind: Kind
    steps: int
    weights: tuple[float, float] = (1.0, 1.0)
    guidance: float = 3.0
    unconditional: str = "layout"
    caption: str = ""
    solver: Solver = "ddim"
    schedule: Schedule = "linspace"
    particles: int = 1
    above: float = 0.0
    options: tuple[tuple[str, Any], ...] = ()
    models: tuple[str, str] = ("layout", "attribute")

    @property
    def passes(self) -> int:
        """Return the number of times a network runs for an image; a guided evaluation is two passes."""
        options, sigmas = dict(self.options), levels(self.schedule, self.steps)[:-1]
        leaps = options.get("leaps", 3) if options.get("kernel") in ("uhmc", "hmc") else 1
        if options.get("kernel") in ("mala", "hmc"):
            leaps += options.get("points", 5) - 2
        moves: int = options.get("moves", 0) * leaps * int((sigmas > self.above).sum())
        return len(self._networks) * self.particles * (self.steps + moves)

    @property
    def calls(self) -> Counter[str]:
        """Return the number of evaluations of each network for an image, two passes counted as one."""
        each = self.passes // len(self._networks)
        return Counter({name: -(-each * count // 2) for name, count in Counter(self._networks).items()})

    @property
    def _networks(self) -> list[str]:
        """Return the networks whose passes make one composed prediction."""
        if self.kind in ("linear", "afa"):
            return [*self.models, *self.models]
        return [*self.models, *(each.name for each in self._backgrounds)]

    @property
    def _backgrounds(self) -> list[Background]:
        """Return what the two are relative to."""
        total = sum(self.weights)
        if not self.caption:
            return [Background(self.unconditional, "nothing", 1 - total)]
        caption = Background(self.caption, "the caption", self.guidance - total)
        if self.kind == "superdiff" or self.guidance == 1:
            return [caption]
        return [Background(self.unconditional, "nothing", 1 - self.guidance), caption]

    def draw(self, scenes: Scenes, seed: int, device: str = "cpu") -> Image:
        """Return images of scenes from the starts of this seed."""
        seeds, sigmas = seeds_of(scenes, seed), levels(self.schedule, self.steps).to(device)
        noise = start_noise(seeds, latents.SHAPE, sigmas[0], len(STARTS) + self.particles - 1, device=device)
        x = torch.stack([noise[STARTS.index(self.models[0])], *noise[len(STARTS) :]], 1).flatten(0, 1)
        steps = seeded_noise(seeds, (self.particles, *latents.SHAPE))
        g = torch.Generator().manual_seed(seeds[0])

        def noise_sampler(sigma: Tensor, sigma_next: Tensor, /) -> Tensor:
            return steps(sigma, sigma_next).flatten(0, 1)

        # Only the last of a thousand steps is kept.
        step: Step = deque(self._steps(scenes, x, sigmas, noise_sampler, g), maxlen=1)[0]
        return latents.decode(self._one_of_each(step, g))

    def _steps(
        self, scenes: Scenes, x: Tensor, sigmas: Tensor, noise_sampler: NoiseSampler, g: torch.Generator
    ) -> Steps:
        device, options = str(x.device), dict[str, Any](self.options)
        args = [self._extra_args(name, scenes, device) for name in self.models]
        if self.kind == "linear":
            guided = [model(name, self.guidance, device) for name in self.models]
            return self._solve(linear(guided, self.weights, args), x, sigmas, noise_sampler)
        if self.kind == "afa":
            one = denoisers.aggregated(
                ensemble(self.kind, device), [denoisers.rows(each) for each in args], self.guidance
            )
            return self._solve(one, x, sigmas, noise_sampler)
        backgrounds = [model(each.name, 1.0, device) for each in self._backgrounds]
        told = [self._told(each, scenes, device) for each in self._backgrounds]
        conditional = [model(name, 1.0, device) for name in self.models]
        random: dict[str, Any] = {"noise_sampler": noise_sampler, "generator": g}
        if self.kind == "superdiff":
            options |= {"unconditional": backgrounds[0], "guidance": self.guidance}
            return superdiff(conditional, x, sigmas, [*args, *told], **options, **random)
        every, args = [*backgrounds, *conditional], [*told, *args]
        exponents = [*(each.exponent for each in self._backgrounds), *self.weights]
        if self.kind == "conjunction":
            return self._solve(compose(every, exponents, args), x, sigmas, noise_sampler)
        options["exponents"] = exponents
        if self.kind == "fkc":
            return fkc(every, x, sigmas, args, particles=self.particles, **options, **random)
        moves, step_size = options["moves"], options["step_size"]
        options["moves"] = lambda sigma, sigma_next: moves if sigma > self.above else 0
        options["step_size"] = STEP_SIZES.get(step_size, step_size)
        return mcmc(every, x, sigmas, args, **options, **random)

    def _extra_args(self, name: str, scenes: Scenes, device: str) -> dict[str, dict[str, Tensor]]:
        """Return a model's conditions, for every particle."""
        return {
            side: {key: value.repeat_interleave(self.particles, 0) for key, value in part.items()}
            for side, part in extra_args(name, scenes, device).items()
        }

    def _told(self, background: Background, scenes: Scenes, device: str) -> dict[str, dict[str, Tensor]]:
        """Return the conditions that a background is told."""
        args = self._extra_args(background.name, scenes, device)
        nothing = {"cond": args["uncond"], "uncond": args["uncond"]}
        return args if background.told == "the caption" else nothing

    def _solve(self, denoiser: Denoiser, x: Tensor, sigmas: Tensor, noise_sampler: NoiseSampler) -> Steps:
        if self.solver == "dpmpp_2m":
            return dpmpp_2m(denoiser, x, sigmas)
        return ddim(denoiser, x, sigmas, noise_sampler=noise_sampler, **dict(self.options))

    def _one_of_each(self, step: Step, g: torch.Generator) -> Tensor:
        """Return one particle of each image, drawn by the weights."""
        if self.particles == 1:
            return step.x_next
        weights = step.record.log_weights.reshape(-1, self.particles).softmax(1).cpu()
        chosen = torch.multinomial(weights, 1, generator=g)[:, 0]
        first = self.particles * torch.arange(len(chosen))
        return step.x_next[(first + chosen).to(step.x_next.device)]
