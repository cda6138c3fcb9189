"""Lemma A.1: the norm of a standard normal vector is near sqrt(n), by three kinds of bound.

X ~ N(0, I_n), u = ln(1/p); every bound fails with a probability of at most p.

* Laurent and Massart 2000, Lemma 1: |X|^2 >= n + 2 sqrt(n u) + 2 u; |X|^2 <= n - 2 sqrt(n u).
* Chernoff: |X|^2 >= (1 + d) n with (n/2) (d - ln(1 + d)) = u; below (1 - d) n, (n/2) (-d - ln(1 - d)) = u.
* Gaussian concentration of the 1-Lipschitz norm: ||X| - E|X|| >= sqrt(2 (u + ln 2)). A sharper one below:
  |X| <= sqrt(n) - sqrt(u).

Exactly, |X|^2 is chi-square with n degrees of freedom.
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import gammaln
from scipy.stats import chi2
from torch import Tensor

from theory_checks.draws import normals
from theory_checks.record import Check, Record, Size, grid
from theory_checks.statistics import affordable, frequency, sample_size, slope

CLAIMS = {
    "Laurent-Massart above": "P(|X|^2 >= n + 2 sqrt(n u) + 2 u) <= exp(-u)",
    "Laurent-Massart below": "P(|X|^2 <= n - 2 sqrt(n u)) <= exp(-u)",
    "Chernoff above": "P(|X|^2 >= (1+d) n) <= exp(-(n/2)(d - ln(1+d)))",
    "Chernoff below": "P(|X|^2 <= (1-d) n) <= exp(-(n/2)(-d - ln(1-d)))",
    "Lipschitz": "P(||X| - E|X|| >= v) <= 2 exp(-v^2/2)",
    "Lipschitz sharper below": "P(|X| <= sqrt(n) - v) <= exp(-v^2)",
}
Control = Literal["a third of the width", "one size for all"]


class Band(NamedTuple):
    """The norms that the bound allows: `low` to `high`."""

    low: float
    high: float


def mean_norm(n: int) -> float:
    """Return E|X|, the mean of the chi distribution."""
    return math.sqrt(2) * math.exp(gammaln((n + 1) / 2) - gammaln(n / 2))


def band(inequality: str, n: int, probability: float) -> Band:
    """Return the norms outside of which |X| lies with at most this probability, by this inequality."""
    u = math.log(1 / probability)
    if inequality == "Laurent-Massart above":
        return Band(0.0, math.sqrt(n + 2 * math.sqrt(n * u) + 2 * u))
    if inequality == "Laurent-Massart below":
        return Band(math.sqrt(max(0.0, n - 2 * math.sqrt(n * u))), math.inf)
    if inequality == "Chernoff above":
        d = brentq(lambda d: n / 2 * (d - math.log1p(d)) - u, 0, 4 * u / n + 4 * math.sqrt(u / n) + 1)
        return Band(0.0, math.sqrt((1 + d) * n))
    if inequality == "Chernoff below":
        d = brentq(lambda d: n / 2 * (-d - math.log1p(-d)) - u, 0, 1 - 1e-12 * math.exp(-2 * u / n))
        return Band(math.sqrt((1 - d) * n), math.inf)
    if inequality == "Lipschitz":
        width = math.sqrt(2 * (u + math.log(2)))
        return Band(max(0.0, mean_norm(n) - width), mean_norm(n) + width)
    return Band(max(0.0, math.sqrt(n) - math.sqrt(u)), math.inf)


def exact_width(inequality: str, n: int, probability: float) -> float:
    """Return the distance from sqrt(n), to the inequality's side, that |X| exceeds with this probability.

    For the Lipschitz inequality it is the distance from E|X|, to either side.
    """
    law = chi2(n)
    if inequality == "Lipschitz":
        middle = mean_norm(n)

        def outside(width: float) -> float:
            inner = max(0.0, middle - width)
            return float(law.cdf(inner**2) + law.sf((middle + width) ** 2))

        return float(brentq(lambda width: outside(width) - probability, 0, middle + 10))
    edge = law.ppf(probability) if inequality.endswith("below") else law.isf(probability)
    return abs(math.sqrt(edge) - math.sqrt(n))


def check_tail(
    inequality: str = "Laurent-Massart above",
    n: int = 1024,
    probability: float = 0.05,
    *,
    seed: int = 0,
    device: str = "cpu",
    control: Control | None = None,
) -> Record:
    """Check the frequency of |X| beyond a bound that it exceeds with at most this probability.

    Own arguments:
        inequality: one of CLAIMS.
        control: "a third of the width" moves the bound toward sqrt(n), to a third of its distance.
    """
    samples = sample_size(probability)
    norms = _norms(samples, n, seed, device)
    low, high = band(inequality, n, probability)
    middle = mean_norm(n) if inequality == "Lipschitz" else math.sqrt(n)
    if control == "a third of the width":
        low, high = (max(0.0, math.sqrt(n) + (edge - math.sqrt(n)) / 3) for edge in (low, high))
    count = int(((norms < low) | (norms > high)).sum())
    below = inequality.endswith("below")
    law = chi2(n)
    return Record(
        statement=f"Lemma A.1, {inequality}",
        claim=CLAIMS[inequality],
        assumptions="X ~ N(0, I_n)",
        setting={"inequality": inequality, "n": n, "probability": probability},
        claimed=probability,
        **frequency(count, samples)._asdict(),
        exact=float(law.cdf(low**2) + law.sf(high**2)),
        bound=low if below else high,
        trivial=0.0 if below else math.inf,
        slack=float(min((norms - low).min(), (high - norms).min())),
        tightness=exact_width(inequality, n, probability) / abs((low if below else high) - middle),
        samples=samples,
    )


def check_rate(
    largest: int = 65536,
    samples: int = 1000,
    *,
    seed: int = 0,
    device: str = "cpu",
    control: Control | None = None,
) -> Record:
    """Check that the relative width falls as n^(-1/2): the slope of log std(|X|/sqrt(n)) against log n.

    Each of n = 16, 32, ... has its own draws. `exact` is the slope of the same regression on the exact
    standard deviations.

    Own arguments:
        largest: the last n.
        samples: the number of draws per n.
        control: "one size for all" draws in the largest dimension for every n.
    """
    dimensions = [2**k for k in range(4, int(math.log2(largest)) + 1)]
    widths = []
    for n in dimensions:
        size = largest if control == "one size for all" else n
        widths.append(float(_norms(samples, size, seed + n, device).std()) / math.sqrt(size))
    exact = [math.sqrt(n - mean_norm(n) ** 2) / math.sqrt(n) for n in dimensions]
    log_n = np.log(dimensions)
    return Record(
        statement="Lemma A.1, rate",
        claim="std(|X|)/sqrt(n) ~ n^(-1/2)",
        assumptions="X ~ N(0, I_n)",
        setting={"largest": largest},
        sense="equal",
        claimed=-0.5,
        **slope(log_n, np.log(widths))._asdict(),
        tolerance=0.01,
        exact=slope(log_n, np.log(exact)).measured,
        samples=samples * len(dimensions),
    )


@grid
def checks(size: Size) -> Iterator[Check]:
    """Yield the points of this statement."""
    for n in (2, 64, 1024) if size == "small" else (2, 64, 1024, 16384, 65536):
        for inequality in CLAIMS:
            yield partial(check_tail, inequality, n, affordable(n, size))
    yield partial(check_rate, {"small": 1024, "default": 16384, "thorough": 65536}[size])


def _norms(samples: int, n: int, seed: int, device: str) -> Tensor:
    """Return |X| for this number of draws."""
    return torch.cat([x[0].norm(dim=1).cpu() for x in normals(samples, n, seed, device)])
