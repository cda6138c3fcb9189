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
"""Of float64, with room for sums: in radians, and of a length relative to the norms that it comes from."""


class Estimate(NamedTuple):
    """A measured number and its interval of confidence 1 - ALPHA: the fields of a record."""

    measured: float
    low: float
    high: float


def exactly(value: float) -> Estimate:
    """A number that is not random."""
    return Estimate(value, value, value)


def frequency(count: int, samples: int) -> Estimate:
    """A share and its Clopper-Pearson interval."""
    interval = binomtest(count, samples).proportion_ci(1 - ALPHA, method="exact")
    return Estimate(count / samples, float(interval.low), float(interval.high))


@cache
def sample_size(probability: float, ratio: float = 1.5, power: float = 0.9) -> int:
    """The number of draws that reject `at most probability` with this power if the truth is `ratio` times it.

    Within a tenth of the least one.
    """
    samples = math.ceil(1 / probability)
    while True:
        # `frequency`'s interval excludes the claim from this count on.
        critical = binom.isf(ALPHA / 2, samples, probability) + 1
        if binom.sf(critical - 1, samples, min(1.0, ratio * probability)) >= power:
            return samples
        samples = math.ceil(1.1 * samples)


def affordable(n: int, size: Size) -> float:
    """The failure probability that a grid tests in n dimensions: one of 0.2 needs a fifth of 0.05's draws."""
    return 0.2 if n > 1024 and size != "thorough" else 0.05


def mean(values: ArrayLike) -> Estimate:
    """A mean and its bootstrap interval."""
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
    """The count of each sample in each bootstrap draw: `(draws, samples)`, the same at every call.

    Statistics of the same samples that share the draws have paired differences.
    """
    generator = np.random.default_rng(0)
    return generator.multinomial(samples, np.full(samples, 1 / samples), size=draws).astype(float)


def ratios(
    parts: NDArray[np.float64], wholes: NDArray[np.float64], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The sum of the parts over the sum of the wholes in each of `redraws`; NaN where all wholes are 0."""
    total = counts @ wholes
    return np.divide(counts @ parts, total, out=np.full_like(total, np.nan), where=total > 0)


def percentiles(drawn: NDArray[np.float64], level: float = 0.95) -> tuple[float, float]:
    """The bootstrap's percentile interval of confidence `level`; draws that are NaN do not count."""
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def rule_of_three(share: float, samples: int, least: float = 0.0) -> tuple[float, float]:
    """The 95% interval of a share that no sample changes: 3/samples on both sides, within `least` and 1."""
    return max(least, share - 3 / samples), min(1.0, share + 3 / samples)


def slope(x: ArrayLike, y: ArrayLike) -> Estimate:
    """The slope of a least-squares line and its interval, errors taken as normal."""
    fit = linregress(x, y)
    width = float(t.isf(ALPHA / 2, len(np.asarray(x)) - 2) * fit.stderr)
    return Estimate(float(fit.slope), float(fit.slope) - width, float(fit.slope) + width)
