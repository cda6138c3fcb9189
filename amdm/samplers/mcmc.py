"""Annealed MCMC on composed scores: moves that keep a level's density, before the step to the next level."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Literal, NamedTuple, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.checks import (
    check_choice,
    check_exponents,
    check_generator,
    check_log_densities,
    check_number,
    check_whole,
)
from amdm.geometry.rows import float64
from amdm.samplers.ddim import ddim_step
from amdm.samplers.march import At, Rule, Start, of_models
from amdm.samplers.markov import Place, move
from amdm.samplers.scores import LogDensity, composed_log_density, narrowed, pull
from amdm.samplers.step import Step
from amdm.schedules import check_no_infinite_level
from amdm.types import Latent

ADAPTATION = 0.1
"""By how much a step's logarithm follows one move's surplus of acceptance."""
Kernel = Literal["ula", "mala", "uhmc", "hmc"]
StepSize = float | Callable[[float, float], float]
NumMoves = int | Callable[[float, float], int]


class Moves(NamedTuple):
    """`Step.record` of `mcmc`."""

    acceptance: Float[Tensor, " batch"]
    """The mean acceptance probability over the moves at this level; 1 for kernels that accept all."""
    step_size: Float[Tensor, " batch"]
    """h of this level's last move, VE length squared; of the next one if there was none."""
    x: Latent
    """The end of the moves, where `denoised` was predicted."""


class Chain(NamedTuple):
    """The state that the moves of one level pass to the next."""

    velocity: Tensor
    log_scale: Tensor
    """The logarithm of what the step sizes were adapted by."""


@dataclass(frozen=True, kw_only=True)
class MCMC(Rule):
    """Draw samples of prod_i q_i^beta_i at every level by annealed MCMC ("Reduce, reuse, recycle").

    Each level has `moves` Markov moves on the composed score S = sum_i beta_i s_i, then DDIM's step along it.
    The next level's moves undo the step's error in law. "ula" makes Langevin steps x + h S + sqrt(2 h) noise.
    "uhmc" makes leapfrogs of step sqrt(2 h) with a momentum of unit mass that is kept in part. "mala" and
    "hmc" accept or reject each sample by itself, so their law does not depend on h. For a Gaussian of
    precision P the two unadjusted kernels have variances 1/(P (1 - h P/2)); they diverge from h P = 2 on.

    Args:
        x: `(batch, *event)` at `sigmas[0]`, VE, as for one model. It is multiplied by 1/sqrt(B), B the sum
            of the exponents, which gives the start of the product.
        exponents: beta, N numbers of sum B > 0; None for a product, all 1.
        kernel: "ula", "mala", "uhmc" or "hmc".
        moves: the number of moves per level, 0 or more, or a function of sigma and sigma_next returning it.
        step_size: h as a fraction of sigma^2, or a function of sigma and sigma_next that returns h (VE length
            squared). For data much smaller than sigma, P is B/sigma^2. A VP step h is (1 + sigma^2) h here;
            the published 2 beta_t of the Langevin moves is `lambda s, t: 2 * (s**2 - t**2)`.
        leaps: leapfrogs per move of "uhmc" and "hmc".
        damping: the part of the momentum that "uhmc" and "hmc" keep from move to move, in [0, 1).
        log_densities: for "mala" and "hmc", N functions `(x, sigma) -> log q_i`, one number per sample, up to
            constants in x; None for the line integral of the score.
        points: the number of points of the line integral, 2 or more; the inner ones cost N evaluations each.
        acceptance: for "mala" and "hmc", a probability in (0, 1). Every sample adapts its own step size from
            move to move to reach it, which keeps a level's density only approximately. None does not adapt.
        eta: the eta of DDIM's steps, 0 or more.
        noise_sampler: the noise of DDIM's steps; None draws `randn_like(x)` as k-diffusion does.
        generator: the random generator of the moves; None for the global one.

    Returns:
        A generator of `Step`s with `Moves` as record; `x` is the step's input, `denoised` is that of S at
        the end of the moves. Each step costs N (1 + moves) evaluations, N (1 + moves leaps) with leaps, and N
        moves (points - 2) more for the line integral. A `Restart` renews momentum and step sizes.

    Raises:
        TypeError, ValueError: an argument is not as above; a schedule begins at the level that stands for an
            infinite one (flows, zero terminal SNR) and B is not 1.
        FloatingPointError: as for `ddim`. A proposal of "mala" and "hmc" that is not finite is rejected like
            any other.

    References:
        Du et al. 2023, "Reduce, reuse, recycle: compositional generation with energy-based diffusion models
        and MCMC", arXiv:2302.11552.
    """

    exponents: Sequence[float] | None = None
    kernel: Kernel = "ula"
    moves: NumMoves = 10
    step_size: StepSize = 0.1
    leaps: int = 3
    damping: float = 0.5
    log_densities: Sequence[LogDensity] | None = None
    points: int = 5
    acceptance: float | None = None
    eta: float = 1.0
    generator: torch.Generator | None = None

    def begin(self, xs: Sequence[Tensor], levels: Sequence[float], num_models: int) -> Start:
        """Check and resolve the options. The start is that of the product."""
        super().begin(xs, levels, num_models)
        exponents = check_exponents(self.exponents, num_models)
        if sum(exponents) != 1:
            check_no_infinite_level(levels, "mcmc with exponents whose sum is not 1")
        check_choice(self.kernel, "kernel", get_args(Kernel))
        number = 0 if callable(self.moves) else self.moves
        check_whole(number, "moves", "a whole number of 0 or more, or a function", lambda count: count >= 0)
        check_whole(self.leaps, "leaps", "a whole number of 1 or more", lambda count: count >= 1)
        check_whole(self.points, "points", "a whole number of 2 or more", lambda count: count >= 2)
        if not callable(self.step_size):
            expected = "a positive share of sigma^2 or a function"
            check_number(self.step_size, "step_size", expected, lambda share: share > 0)
        check_number(self.damping, "damping", "a part in [0, 1)", lambda part: 0 <= part < 1)
        if self.acceptance is not None:
            check_number(self.acceptance, "acceptance", "a probability in (0, 1)", lambda part: 0 < part < 1)
        check_generator(self.generator)
        for name in ("acceptance", "log_densities"):
            if getattr(self, name) is not None and not self.adjusted:
                raise ValueError(
                    f"{name} is given, expected none: kernel is {self.kernel!r}, which rejects nothing"
                )
        check_log_densities(self.log_densities, num_models)
        return Start(replace(self, exponents=exponents), narrowed(xs[0], exponents))

    @property
    def adjusted(self) -> bool:
        """Return True for kernels that accept or reject proposals."""
        return self.kernel in ("mala", "hmc")

    def step(self, at: At, x: Tensor, memory: Chain | None) -> tuple[Step, Chain]:
        """Make the moves at this level, then take DDIM's step to the next one."""
        exponents = cast("Sequence[float]", self.exponents)

        def score(y: Tensor, watched: bool = not self.adjusted) -> Tensor:
            """Return the composed score. A proposal that is not finite is rejected and raises no error."""
            predictions = [denoise(y.to(x.dtype), at.sigma, watched=watched) for denoise in at.denoise]
            return pull(y, predictions, exponents) / at.sigma**2

        def log_density(y: Tensor) -> Tensor:
            return composed_log_density(self.log_densities or (), exponents, y.to(x.dtype), at.sigma)

        wide = x.to(
            torch.promote_types(x.dtype, torch.float32)
        )  # many small moves are lost in half precision
        chain = memory or Chain(self._normal(wide), float64(x.new_zeros(len(x))))
        place, velocity, log_scale = Place(wide, score(wide, watched=True)), chain.velocity, chain.log_scale
        h, count = self._step_size(at), self._moves(at)
        hamiltonian = self.kernel in ("uhmc", "hmc")
        total, last = torch.zeros_like(log_scale), h * log_scale.exp()
        for _ in range(count):
            last = h * log_scale.exp()
            place, velocity, accepted = move(
                score,
                log_density if self.log_densities is not None else None,
                place,
                velocity,
                last,
                leaps=self.leaps if hamiltonian else 1,
                damping=self.damping if hamiltonian else 0.0,
                adjusted=self.adjusted,
                points=self.points,
                noise=self._normal(wide),
                u=_draw(torch.rand, log_scale, self.generator),
            )
            total = total + accepted
            if self.acceptance is not None:
                log_scale = log_scale + ADAPTATION * (accepted - self.acceptance)
        denoised = place.x + at.sigma**2 * place.score
        mean, std = ddim_step(place.x, denoised, at.sigma, at.sigma_next, self.eta)
        record = Moves(total / count if count > 0 else torch.ones_like(total), last, place.x)
        step = at.step(x, denoised.to(x.dtype), mean.to(x.dtype), std, record=record)
        return step, Chain(velocity, log_scale)

    def _normal(self, like: Tensor) -> Tensor:
        return _draw(torch.randn, like, self.generator)

    def _step_size(self, at: At) -> float:
        """Return h at this level, VE length squared."""
        if not callable(self.step_size):
            return self.step_size * at.sigma**2
        h = self.step_size(at.sigma, at.sigma_next)
        if not isinstance(h, Real) or not 0 < h < math.inf:
            raise ValueError(
                f"step_size returned {h!r} at sigma = {at.sigma:.6g}, expected a positive length squared"
            )
        return h

    def _moves(self, at: At) -> int:
        """Return the number of moves at this level."""
        if not callable(self.moves):
            return self.moves
        count = self.moves(at.sigma, at.sigma_next)
        if not isinstance(count, Integral) or count < 0:
            raise ValueError(
                f"moves returned {count!r} at sigma = {at.sigma:.6g}, expected a whole number of 0 or more"
            )
        return count


def _draw(kind: Callable[..., Tensor], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Return random numbers of a tensor's shape, drawn on the generator's device, moved to the tensor's."""
    device = like.device if generator is None else generator.device
    return kind(like.shape, generator=generator, dtype=like.dtype, device=device).to(like.device)


mcmc, sample_mcmc = of_models("mcmc", MCMC)
