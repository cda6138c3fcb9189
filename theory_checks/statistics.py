"""Intervals and sample sizes."""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom, binomtest, bootstrap, linregress, t

from theory_checks.record import Size

ALPHA = 0.05 / 400
"""The probability that one record's interval misses: 5% for all of a run's 400 at once (Bonferroni)."""
ROUNDING = 1e-12
"""The rounding of float64, with room for sums: in radians, and of a length relative to its norms."""


class Estimate(NamedTuple):
    """A measured number and its interval of confidence 1 - ALPHA: the fields of a record."""

    measured: float
    low: float
    high: float


def exactly(value: float) -> Estimate:
    """Return the estimate of a number that is not random."""
    return Estimate(value, value, value)


def frequency(count: int, samples: int) -> Estimate:
    """Return a share and its Clopper-Pearson interval."""
    interval = binomtest(count, samples).proportion_ci(1 - ALPHA, method="exact")
    return Estimate(count / samples, float(interval.low), float(interval.high))


@cache
def sample_size(probability: float, ratio: float = 1.5, power: float = 0.9) -> int:
    """Return the number of draws that reject `at most probability` with this power.

    The truth is `ratio` times the probability. The number is within a tenth of the least one.
    """
    samples = math.ceil(1 / probability)
    while True:
        # `frequency`'s interval excludes the claim from this count on.
        critical = binom.isf(ALPHA / 2, samples, probability) + 1
        if binom.sf(critical - 1, samples, min(1.0, ratio * probability)) >= power:
            return samples
        samples = math.ceil(1.1 * samples)


def affordable(n: int, size: Size) -> float:
    """Return the failure probability to test in n dimensions: 0.2 needs a fifth of 0.05's draws."""
    return 0.2 if n > 1024 and size != "thorough" else 0.05


def mean(values: ArrayLike) -> Estimate:
    """Return a mean and its bootstrap interval."""
    drawn = np.asarray(values, dtype=float)
    interval = bootstrap(
        (drawn,),
        np.mean,
        n_resamples=4000,
        confidence_level=1 - ALPHA,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(float(drawn.mean()), float(interval.low), float(interval.high))


@cache
def redraws(samples: int, draws: int = 1000) -> NDArray[np.float64]:
    """Return the count of each sample in each bootstrap draw, `(draws, samples)`, the same at every call.

    Statistics of the same samples share the draws, so their differences are paired.
    """
    generator = np.random.default_rng(0)
    return generator.multinomial(samples, np.full(samples, 1 / samples), size=draws).astype(float)


def ratios(
    parts: NDArray[np.float64], wholes: NDArray[np.float64], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the sum of the parts over that of the wholes in each of `redraws`; NaN if all wholes are 0."""
    total = counts @ wholes
    return np.divide(counts @ parts, total, out=np.full_like(total, np.nan), where=total > 0)


def percentiles(drawn: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """Return the bootstrap's percentile interval of confidence `level`; NaN draws do not count."""
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def rule_of_three(share: float, samples: int, least: float = 0.0) -> tuple[float, float]:
    """Return the 95% interval of a share without variation: 3/samples on both sides, within `least` and 1."""
    return max(least, share - 3 / samples), min(1.0, share + 3 / samples)


def slope(x: ArrayLike, y: ArrayLike) -> Estimate:
    """Return the slope of a least-squares line and its interval, for normal errors."""
    fit = linregress(x, y)
    width = float(t.isf(ALPHA / 2, len(np.asarray(x)) - 2) * fit.stderr)
    return Estimate(float(fit.slope), float(fit.slope) - width, float(fit.slope) + width)
