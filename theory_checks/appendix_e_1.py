"""Appendix E.1: how fast the forward process makes any data Gaussian, by its first two moments.

dx = -(1/2) beta(t) x dt + sqrt(beta(t)) dW on [0, 1], in VP, one coordinate; B(t) the integral of beta:

    m(t) = m0 exp(-B/2),  v(t) = 1 + (v0 - 1) exp(-B).

The paper says "the linear schedule in SD": Stable Diffusion's is linear in sqrt(beta), which gives B(1) =
5.348 and exp(-B(1)) = 0.00476; beta itself linear between the same ends would give 6.425 and 0.00162.

Its figure 9 takes E[x_0] = 1 and Var[x_0] = 1/4 as the extremes for data in [0, 1]. Each is one, but not
together: Var <= E (1 - E), so they are (1, 0) and (1/2, 1/4). Nor are SD's x_0 in [0, 1]: they are latents
scaled to about mean 0 and variance 1, whose moments are those of the limit from the start. Two moments do
not make a Gaussian: for that the appendix has no argument.
"""

import math
from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from scipy.integrate import solve_ivp
from scipy.optimize import linprog

from amdm.schedules import stable_diffusion_betas
from theory_checks.draws import normals
from theory_checks.record import Check, Record, Size, grid
from theory_checks.statistics import exactly, mean

Moment = Literal["mean", "variance"]
Mistake = Literal["the other exponent", "linear beta"]
_equal = partial(Record, assumptions="SD's beta", sense="equal")
FORMULA = {"mean": "m(t) = m0 exp(-B/2)", "variance": "v(t) = 1 + (v0 - 1) exp(-B)"}


class Start(NamedTuple):
    """The moments of one coordinate of x_0."""

    mean: float
    variance: float


STARTS = (Start(1.0, 0.0), Start(0.5, 0.25), Start(0.0, 1.0))
"""The extremes of data in [0, 1], and latents of unit variance."""


def beta(t: float) -> float:
    """Return the rate beta at time t in [0, 1]. Its root is linear, from 0.85^(1/2) to 12^(1/2)."""
    return (math.sqrt(0.85) + (math.sqrt(12) - math.sqrt(0.85)) * t) ** 2


def integral(t: float, control: Mistake | None = None) -> float:
    """Return B(t)."""
    if control == "linear beta":
        return 0.85 * t + (12 - 0.85) * t**2 / 2
    rise = math.sqrt(12) - math.sqrt(0.85)
    return (math.sqrt(beta(t)) ** 3 - math.sqrt(beta(0.0)) ** 3) / (3 * rise)


def moment(which: Moment, t: float, start: Start, control: Mistake | None = None) -> float:
    """Return the closed form."""
    decay = integral(t, control) * (0.5 if which == "mean" else 1.0)
    if control == "the other exponent":
        decay *= 2.0 if which == "mean" else 0.5
    if which == "mean":
        return start.mean * math.exp(-decay)
    return 1 + (start.variance - 1) * math.exp(-decay)


def check_solution(
    which: Moment = "mean", t: float = 1.0, start: Start = STARTS[0], *, control: Mistake | None = None
) -> Record:
    """Check the closed form against scipy's solution of m' = -beta m/2, v' = beta (1 - v).

    Own arguments:
        which: "mean" or "variance".
        t: the time, 0 to 1.
        start: the moments of the data.
        control: "the other exponent" takes exp(-B) for exp(-B/2) and the other way round, "linear beta" takes
            the schedule that the paper's words describe.
    """

    def slope(time: float, values: Any) -> list[float]:
        return [-beta(time) * values[0] / 2, beta(time) * (1 - values[1])]

    solution = solve_ivp(slope, (0.0, t), list(start), method="DOP853", rtol=1e-12, atol=1e-13)
    return _equal(
        statement=f"Appendix E.1, {which}, solution",
        claim=FORMULA[which],
        setting={"which": which, "t": t, "m0": start.mean, "v0": start.variance},
        claimed=moment(which, t, start, control),
        **exactly(float(solution.y[0 if which == "mean" else 1, -1]))._asdict(),
        tolerance=1e-10,
    )


def check_simulation(
    which: Moment = "mean",
    t: float = 1.0,
    start: Start = STARTS[0],
    *,
    steps: int = 1000,
    samples: int = 20000,
    seed: int = 0,
    device: str = "cpu",
    control: Mistake | None = None,
) -> Record:
    """Check the closed form against simulated paths of the SDE, by Euler-Maruyama.

    With steps of h its moments are off by first order in h: at most |m0| h beta(t)/4 for the mean and h
    beta(t) for the variance (v0 in [0, 1], beta rising). `exact` are the moments of Euler's chain itself.

    Own arguments:
        which, t, control: as in `check_solution`.
        start: the moments of the data, two points with equal probability.
        steps: the number of steps, of equal length.
        samples: the number of paths, a multiple of 500.
    """
    h, spread = t / steps, math.sqrt(start.variance)
    x = torch.full((samples,), start.mean, dtype=torch.float64, device=device)
    x[::2] += spread
    x[1::2] -= spread
    exact = start
    levels = iter([beta(h * k) for k in range(steps)])
    for piece in normals(steps, samples, seed, device):
        for xi in piece[0]:
            level = next(levels)
            x = (1 - level * h / 2) * x + math.sqrt(level * h) * xi
            exact = Start(
                (1 - level * h / 2) * exact.mean, (1 - level * h / 2) ** 2 * exact.variance + level * h
            )
    # Below, means of blocks: as many as a bootstrap can bear.
    values = x if which == "mean" else (x - x.mean()).square()
    return _equal(
        statement=f"Appendix E.1, {which}, simulation",
        claim=FORMULA[which],
        setting={"which": which, "t": t, "m0": start.mean, "v0": start.variance, "steps": steps},
        claimed=moment(which, t, start, control),
        **mean(values.reshape(500, -1).mean(dim=1).cpu())._asdict(),
        tolerance=h * beta(t) * (abs(start.mean) / 4 if which == "mean" else 1),
        exact=exact.mean if which == "mean" else exact.variance,
        samples=samples,
    )


def check_product(steps: int = 1000, *, control: Mistake | None = None) -> Record:
    """Check exp(-B) against abar, the product of 1 - beta_k over the first `steps` of SD's 1000.

    They differ by log(1 - beta_k) + beta_k = -beta_k^2/2 per step. They also differ by the place in a step of
    the integral at which beta_k is taken, at most half a step off: (beta_steps - beta_1)/2 in all.

    Own arguments:
        steps: 1 to 1000.
        control: as in `check_solution`.
    """
    used = stable_diffusion_betas()[:steps]
    claimed = 1 - moment("variance", steps / 1000, Start(0.0, 0.0), control)
    return _equal(
        statement="Appendix E.1, product",
        claim="abar_k = exp(-B(k/1000)) (1 + O(beta))",
        setting={"steps": steps},
        claimed=claimed,
        **exactly(float((1 - used).prod()))._asdict(),
        tolerance=claimed * float(used.square().sum() + used[-1] - used[0]) / 2,
    )


def check_range(
    expectation: float = 0.8,
    variance: float | None = None,
    *,
    control: Literal["no expectation"] | None = None,
) -> Record:
    """Check the largest variance of data in [0, 1] with this mean, by a linear program over 101 points.

    Own arguments:
        expectation: E, a multiple of 0.01.
        variance: None claims that the largest is E (1 - E); a number claims that some data have it (the
            paper's pair is E = 1 and 1/4).
        control: "no expectation" leaves the mean of the data free.
    """
    points = np.linspace(0, 1, 101)
    rows = [np.ones_like(points)] if control else [np.ones_like(points), points]
    result = linprog(-(points**2), A_eq=np.stack(rows), b_eq=[1.0, expectation][: len(rows)])
    measured = float(-result.fun) - expectation**2
    return Record(
        statement="Appendix E.1, range",
        claim="max Var = E (1 - E)" if variance is None else "E and Var occur together",
        assumptions="data in [0, 1]",
        setting={"E": expectation} | ({} if variance is None else {"Var": variance}),
        sense="equal" if variance is None else "at least",
        claimed=expectation * (1 - expectation) if variance is None else variance,
        **exactly(measured)._asdict(),
        tolerance=1e-9,
        exact=expectation * (1 - expectation),
        ours=variance is None or variance <= expectation * (1 - expectation),
    )


@grid
def checks(size: Size) -> Iterator[Check]:
    """Yield the points of this statement."""
    times = {"small": [1.0], "default": [0.5, 1.0], "thorough": [0.1 * k for k in range(1, 11)]}[size]
    moments: tuple[Moment, Moment] = ("mean", "variance")
    for which, start, t in product(moments, STARTS, times):
        yield partial(check_solution, which, t, start)
        yield partial(check_simulation, which, t, start)
    for steps in (100, 500, 1000):
        yield partial(check_product, steps)
    for expectation in (0.5, 0.8, 1.0):
        yield partial(check_range, expectation)
    for expectation, variance in ((0.5, 0.25), (1.0, 0.0), (1.0, 0.25)):
        yield partial(check_range, expectation, variance)
