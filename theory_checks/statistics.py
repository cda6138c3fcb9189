"""Intervals and sample sizes."""

import math
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom, binomtest, bootstrap, linregress, t

from theory_checks.record import Size

ROWS = 400
"""How many rows a run may have for its confidence to hold for all of them at once (Bonferroni)."""
ALPHA = 0.05 / ROWS
"""The probability that one row's interval misses."""


def frequency(count: int, samples: int) -> tuple[float, float, float]:
    """A share and its Clopper-Pearson interval of confidence 1 - ALPHA."""
    interval = binomtest(count, samples).proportion_ci(1 - ALPHA, method="exact")
    return count / samples, float(interval.low), float(interval.high)


@cache
def sample_size(probability: float, ratio: float = 1.5, power: float = 0.9) -> int:
    """How many draws reject `at most probability` with this power where the truth is `ratio` times it.

    The least one after which a doubling has been needed: between it and twice what is necessary.
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


def quantile(values: ArrayLike, probability: float) -> tuple[float, float, float]:
    """A quantile of draws and its interval of confidence 1 - ALPHA, by the law of order statistics."""
    ordered = np.sort(np.asarray(values, dtype=float))
    ranks = binom.ppf([ALPHA / 2, 1 - ALPHA / 2], len(ordered), probability).astype(int)
    low, high = ordered[np.clip([ranks[0] - 1, ranks[1]], 0, len(ordered) - 1)]
    return float(np.quantile(ordered, probability)), float(low), float(high)


def mean(values: ArrayLike) -> tuple[float, float, float]:
    """A mean and its bootstrap interval of confidence 1 - ALPHA."""
    drawn = np.asarray(values, dtype=float)
    result = bootstrap(
        (drawn,),
        np.mean,
        n_resamples=4000,
        confidence_level=1 - ALPHA,
        method="BCa",
        rng=np.random.default_rng(0),
    )
    return float(drawn.mean()), float(result.confidence_interval.low), float(result.confidence_interval.high)


def slope(x: ArrayLike, y: ArrayLike) -> tuple[float, float, float]:
    """The slope of a least-squares line and its interval of confidence 1 - ALPHA, errors taken as normal."""
    fit = linregress(x, y)
    width = float(t.isf(ALPHA / 2, len(np.asarray(x)) - 2) * fit.stderr)
    return float(fit.slope), float(fit.slope) - width, float(fit.slope) + width
