"""Markov moves that keep a density known by its score: Langevin and Hamiltonian, rejected sample by sample.

One move covers all four kernels of Du et al. 2023. With unit mass and a leapfrog of step sqrt(2 h), one leap
from fresh momentum is Langevin's step of size h, and both have the same acceptance probability.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from amdm.geometry.rows import as_rows, float64
from amdm.types import Latent, PerSample

Score = Callable[[Tensor], Tensor]
LogPi = Callable[[Tensor], Tensor]


class Place(NamedTuple):
    """A point of the chain, and the values computed there."""

    x: Tensor
    score: Tensor
    log_density: Tensor | None = None


def leapfrog(
    score: Score, place: Place, velocity: Latent, step_size: PerSample, leaps: int
) -> tuple[Place, Latent]:
    """Take `leaps` leapfrog steps of size sqrt(2 h) from a place, with one evaluation each.

    Args:
        score: the score of the density, a function of `(batch, *event)`.
        place: the place to start from, with its score.
        velocity: `(batch, *event)`, of unit mass.
        step_size: h, one per sample, in the units of x squared.
        leaps: the number of leapfrog steps.

    Returns:
        The place reached and the velocity there.
    """
    delta = (2 * step_size).sqrt().to(place.x).reshape(-1, *[1] * (place.x.ndim - 1))
    x, s = place.x, place.score
    for _ in range(leaps):
        velocity = velocity + delta / 2 * s
        x = x + delta * velocity
        s = score(x)
        velocity = velocity + delta / 2 * s
    return Place(x, s), velocity


def line_integral(score: Score, start: Place, end: Place, points: int) -> PerSample:
    """Return log pi(end) - log pi(start) by the trapezoidal rule on the score's line integral; float64.

    The integral is int_0^1 s(x + u (x' - x)) . (x' - x) du. It has `points` nodes, 2 or more, and evaluates
    the inner ones. With 2 it is exact if log pi is quadratic.

    References:
        Sjoberg et al. 2023, "MCMC-correction of score-based diffusion models for model composition",
        arXiv:2307.14012.
    """
    way = float64(as_rows(end.x)) - float64(as_rows(start.x))
    total = (float64(as_rows(start.score)) + float64(as_rows(end.score))) / 2
    for k in range(1, points - 1):
        total = total + float64(as_rows(score(torch.lerp(start.x, end.x, k / (points - 1)))))
    return (total * way).sum(1) / (points - 1)


def metropolis(
    start: Place, end: Place, velocity: Latent, velocity_end: Latent, log_ratio: PerSample, u: PerSample
) -> tuple[Place, Latent, PerSample]:
    """Move each sample to `end` with probability min(1, pi(end) K(v_end)/(pi(start) K(v))), or leave it.

    A sample that stays reverses its velocity; otherwise a momentum that is kept for the next move would break
    detailed balance. A ratio of NaN gives a probability of 0.

    Args:
        start: the place before the leaps.
        end: the place after them.
        velocity: the velocity before the leaps, unit mass.
        velocity_end: the velocity after them.
        log_ratio: log pi(end) - log pi(start).
        u: one number in [0, 1) per sample.

    Returns:
        The place and the velocity after the decision, and the probabilities.
    """
    kinetic = (float64(as_rows(velocity)) ** 2 - float64(as_rows(velocity_end)) ** 2).sum(1) / 2
    acceptance = (log_ratio + kinetic).nan_to_num(nan=-math.inf).clamp(max=0).exp()
    accepted = (u < acceptance).reshape(-1, *[1] * (start.x.ndim - 1)).to(start.x.device)
    log_density = None
    if start.log_density is not None and end.log_density is not None:
        log_density = torch.where(u < acceptance, end.log_density, start.log_density)
    place = Place(
        torch.where(accepted, end.x, start.x), torch.where(accepted, end.score, start.score), log_density
    )
    return place, torch.where(accepted, velocity_end, -velocity), acceptance


def move(
    score: Score,
    log_density: LogPi | None,
    place: Place,
    velocity: Latent,
    step_size: PerSample,
    *,
    leaps: int,
    damping: float,
    adjusted: bool,
    points: int,
    noise: Latent,
    u: PerSample,
) -> tuple[Place, Latent, PerSample]:
    """Make one move: renew the momentum up to `damping`, leap, and if `adjusted` accept or reject.

    The decision uses `log_density`, evaluated at the move's end, or the line integral if there is none.

    Returns:
        The place and the velocity after it, and the acceptance probabilities (1 if not `adjusted`).
    """
    velocity = damping * velocity + (1 - damping**2) ** 0.5 * noise
    end, velocity_end = leapfrog(score, place, velocity, step_size, leaps)
    if not adjusted:
        return end, velocity_end, torch.ones_like(u)
    if log_density is None:
        log_ratio = line_integral(score, place, end, points)
    else:
        if place.log_density is None:
            place = place._replace(log_density=log_density(place.x))
        end = end._replace(log_density=log_density(end.x))
        assert place.log_density is not None and end.log_density is not None
        log_ratio = end.log_density - place.log_density
    return metropolis(place, end, velocity, velocity_end, log_ratio, u)
