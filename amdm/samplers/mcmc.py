"""Annealed MCMC on composed scores: moves that keep the density of a level, before the step to the next."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from numbers import Integral, Real
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.checks import (
    check_exponents,
    check_generator,
    check_latent,
    check_log_densities,
    check_models,
    check_number,
    check_whole,
)
from amdm.geometry.rows import working_dtype
from amdm.samplers.loop import At, Move, march
from amdm.samplers.markov import Place, move
from amdm.samplers.runner import Callback, run
from amdm.samplers.scores import LogDensity, composed_log_density, pull
from amdm.samplers.steps import ddim_step
from amdm.types import Denoiser, ExtraArgs, Latent, NoiseSampler, Sigmas, Steps

ADAPTATION = 0.1
"""By how much a step's logarithm follows one move's surplus of acceptance."""
Kernel = Literal["ula", "mala", "uhmc", "hmc"]
StepSize = float | Callable[[float, float], float]
NumMoves = int | Callable[[float, float], int]


class Moves(NamedTuple):
    """`Step.record` of `mcmc`."""

    acceptance: Float[Tensor, " batch"]
    """The mean probability over the moves at this level; 1 without a decision."""
    step_size: Float[Tensor, " batch"]
    """h of this level's last move, VE length squared; of the next one if there was none."""


def mcmc(
    models: Sequence[Denoiser],
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | Sequence[ExtraArgs | None] | None = None,
    *,
    exponents: Sequence[float] | None = None,
    kernel: Kernel = "ula",
    moves: NumMoves = 10,
    step_size: StepSize = 0.1,
    leaps: int = 3,
    damping: float = 0.5,
    log_densities: Sequence[LogDensity] | None = None,
    points: int = 5,
    acceptance: float | None = None,
    eta: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
    generator: torch.Generator | None = None,
    check: bool = False,
    validate: bool = True,
) -> Steps:
    """Reduce, reuse, recycle: a generator whose samples visit prod_i q_i^beta_i at every level.

    At each level `moves` Markov moves on the composed score S = sum_i beta_i s_i, then DDIM's step along it,
    whose error in law the next level's moves undo. "ula": Langevin steps x + h S + sqrt(2 h) noise. "uhmc":
    leapfrogs of step sqrt(2 h), momentum of unit mass kept in part. "mala" and "hmc" reject, each sample by
    itself: their law does not depend on h. The unadjusted two end with variances 1/(P (1 - h P/2)) of a
    Gaussian of precision P, and fly apart from h P = 2 on.

    Args:
        models: N denoisers sharing a latent space.
        x: `(batch, *event)` at `sigmas[0]`, VE, as for one model: it is multiplied by 1/sqrt(B), B the sum
            of the exponents, which is the start of the product.
        sigmas: `(steps + 1,)`, decreasing, finite, usually ending in 0.
        extra_args: passed to the models: one dictionary for all, or N.
        exponents: beta, N numbers of sum B > 0; None for a product, all 1.
        kernel: "ula", "mala", "uhmc" or "hmc".
        moves: per level, 0 or more, or a function of sigma and sigma_next that returns it.
        step_size: h as a share of sigma^2, or a function of sigma and sigma_next that returns h (VE length
            squared). Where the data are small beside sigma P is B/sigma^2. A VP step h is (1 + sigma^2) h
            here; the published 2 beta_t of the Langevin moves is `lambda s, t: 2 * (s**2 - t**2)`.
        leaps: leapfrogs per move of "uhmc" and "hmc".
        damping: the part of the momentum that these keep from move to move, in [0, 1).
        log_densities: for "mala" and "hmc", N functions `(x, sigma) -> log q_i`, one number per sample, up to
            numbers that do not depend on x; None for the line integral of the score.
        points: of the line integral, 2 or more; the inner ones cost N evaluations each.
        acceptance: for "mala" and "hmc", a probability in (0, 1) to which every sample adapts its own step
            size from move to move; None for none. Then a level's density is kept approximately only.
        eta: of DDIM's steps, 0 or more.
        noise_sampler: of DDIM's steps; None draws `randn_like(x)` as k-diffusion does.
        generator: of the moves; None for the global one.
        check: look for NaN and infinity after every step, not only at the last one: a wait for the device
            each time.
        validate: tell likely mistakes, as `amdm` does.

    Returns:
        A generator of `Step`s with `Moves` as record; `x` is the step's input, `denoised` is that of S where
        the moves ended. N (1 + moves) evaluations a step, N (1 + moves leaps) with leaps, and N moves
        (points - 2) more for the line integral. A `Restart` renews momentum and step sizes.

    Raises:
        TypeError, ValueError: an argument is not as above.
        FloatingPointError: a model returned NaN or infinity: its index, the sample and the first step. It is
            raised at the last step; with `check` at the step itself. A proposal of "mala" and "hmc" that is
            not finite is rejected like any other.

    References:
        Du et al. 2023, "Reduce, reuse, recycle: compositional generation with energy-based diffusion models
        and MCMC", arXiv:2302.11552.
    """
    check_latent(x)
    check_models(models)
    exponents = check_exponents(exponents, len(models))
    if kernel not in ("ula", "mala", "uhmc", "hmc"):
        raise ValueError(f"kernel is {kernel!r}, expected 'ula', 'mala', 'uhmc' or 'hmc'")
    number = 0 if callable(moves) else moves
    check_whole(number, "moves", "a whole number of 0 or more, or a function", lambda count: count >= 0)
    check_whole(leaps, "leaps", "a whole number of 1 or more", lambda count: count >= 1)
    check_whole(points, "points", "a whole number of 2 or more", lambda count: count >= 2)
    if not callable(step_size):
        check_number(step_size, "step_size", "a positive share of sigma^2 or a function", lambda h: h > 0)
    check_number(damping, "damping", "a part in [0, 1)", lambda part: 0 <= part < 1)
    if acceptance is not None:
        check_number(acceptance, "acceptance", "a probability in (0, 1)", lambda part: 0 < part < 1)
    check_generator(generator)
    for name, option in (("acceptance", acceptance), ("log_densities", log_densities)):
        if option is not None and kernel not in ("mala", "hmc"):
            raise ValueError(f"{name} is given, expected none: kernel is {kernel!r}, which rejects nothing")
    check_log_densities(log_densities, len(models))
    hamiltonian = kernel in ("uhmc", "hmc")
    rule = partial(
        _rule,
        exponents=exponents,
        log_densities=log_densities,
        moves=moves if callable(moves) else lambda sigma, sigma_next: moves,
        step_size=step_size if callable(step_size) else lambda sigma, sigma_next: step_size * sigma**2,
        acceptance=acceptance,
        eta=float(eta),
        generator=generator,
        leaps=leaps if hamiltonian else 1,
        damping=float(damping) if hamiltonian else 0.0,
        adjusted=kernel in ("mala", "hmc"),
        points=points,
    )
    return march(
        rule,
        models,
        x,
        sigmas,
        extra_args,
        eta,
        noise_sampler,
        check=check,
        validate=validate,
        narrowed=sum(exponents) ** 0.5,
    )


def sample_mcmc(
    models: Sequence[Denoiser],
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | Sequence[ExtraArgs | None] | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    *,
    exponents: Sequence[float] | None = None,
    kernel: Kernel = "ula",
    moves: NumMoves = 10,
    step_size: StepSize = 0.1,
    leaps: int = 3,
    damping: float = 0.5,
    log_densities: Sequence[LogDensity] | None = None,
    points: int = 5,
    acceptance: float | None = None,
    eta: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
    generator: torch.Generator | None = None,
    check: bool = False,
    validate: bool = True,
) -> Latent:
    """Run `mcmc`, which explains the arguments, and return the last latent.

    `callback` and `disable` are k-diffusion's.
    """
    steps = mcmc(
        models,
        x,
        sigmas,
        extra_args,
        exponents=exponents,
        kernel=kernel,
        moves=moves,
        step_size=step_size,
        leaps=leaps,
        damping=damping,
        log_densities=log_densities,
        points=points,
        acceptance=acceptance,
        eta=eta,
        noise_sampler=noise_sampler,
        generator=generator,
        check=check,
        validate=validate,
    )
    return run(steps, x, sigmas, callback, disable)


class _Memory(NamedTuple):
    velocity: Tensor
    log_scale: Tensor
    """Of the step sizes, adapted."""


def _rule(
    at: At,
    memory: _Memory | None,
    *,
    exponents: list[float],
    log_densities: Sequence[LogDensity] | None,
    moves: Callable[[float, float], int],
    step_size: Callable[[float, float], float],
    acceptance: float | None,
    eta: float,
    generator: torch.Generator | None,
    leaps: int,
    damping: float,
    adjusted: bool,
    points: int,
) -> Move:
    def score(x: Tensor, proposed: bool = True) -> Tensor:
        predictions = at.denoise(x.to(at.x.dtype), at.sigma)
        if not (proposed and adjusted):  # a proposal that is not finite is rejected
            at.watch(predictions)
        return pull(x, predictions, exponents) / at.sigma**2

    def log_density(x: Tensor) -> Tensor:
        assert log_densities is not None
        return composed_log_density(log_densities, exponents, x.to(at.x.dtype), at.sigma)

    x = at.x.to(working_dtype(at.x))  # many small moves are lost in half precision
    normal = partial(_draw, torch.randn, x, generator)
    if memory is None:
        memory = _Memory(normal(), torch.zeros(len(x), dtype=torch.float64, device=x.device))
    (velocity, log_scale), place = memory, Place(x, score(x, proposed=False))
    h, count = step_size(at.sigma, at.sigma_next), moves(at.sigma, at.sigma_next)
    if not isinstance(h, Real) or not 0 < h < math.inf:
        raise ValueError(
            f"step_size returned {h!r} at sigma = {at.sigma:.6g}, expected a positive length squared"
        )
    if not isinstance(count, Integral) or count < 0:
        raise ValueError(
            f"moves returned {count!r} at sigma = {at.sigma:.6g}, expected a whole number of 0 or more"
        )
    total, last = torch.zeros_like(log_scale), h * log_scale.exp()
    for _ in range(count):
        last = h * log_scale.exp()
        place, velocity, accepted = move(
            score,
            log_density if log_densities is not None and adjusted else None,
            place,
            velocity,
            last,
            leaps=leaps,
            damping=damping,
            adjusted=adjusted,
            points=points,
            noise=normal(),
            u=_draw(torch.rand, log_scale, generator),
        )
        total = total + accepted
        if acceptance is not None:
            log_scale = log_scale + ADAPTATION * (accepted - acceptance)
    denoised = place.x + at.sigma**2 * place.score
    mean, std = ddim_step(place.x, denoised, at.sigma, at.sigma_next, eta)
    record = Moves(total / count if count > 0 else torch.ones_like(total), last)
    memory = _Memory(velocity, log_scale)
    return Move(denoised.to(at.x.dtype), mean.to(at.x.dtype), std, memory, record=record, moved=place.x)


def _draw(kind: Callable[..., Tensor], like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Random numbers of a tensor's shape, on the generator's device and brought to the tensor's."""
    device = like.device if generator is None else generator.device
    return kind(like.shape, generator=generator, dtype=like.dtype, device=device).to(like.device)
