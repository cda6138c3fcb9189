"""Records decide by their own numbers; intervals cover; sample sizes have the power they promise."""

import math
from bisect import bisect

import numpy as np
import pytest
from scipy.stats import binom

from theory_checks.record import Record
from theory_checks.schedule import coefficients
from theory_checks.statistics import ALPHA, frequency, mean, sample_size, slope


def record(**numbers):
    return Record(statement="", claim="", assumptions="", **numbers)


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        ({"claimed": 0.05, "low": 0.01, "high": 0.04}, "holds"),
        ({"claimed": 0.05, "low": 0.04, "high": 0.06}, "holds"),
        ({"claimed": 0.05, "low": 0.06, "high": 0.08}, "fails"),
        ({"claimed": 0.05, "low": 0.01, "high": 0.04, "exact": 0.06}, "fails"),
        ({"claimed": 0.05, "low": math.nan, "high": math.nan}, "fails"),
        ({"claimed": 0.9, "low": 0.7, "high": 0.8, "sense": "at least"}, "fails"),
        ({"claimed": 0.9, "low": 0.7, "high": 0.95, "sense": "at least"}, "holds"),
        ({"claimed": 1.0, "low": 1.05, "high": 1.1, "sense": "equal"}, "fails"),
        ({"claimed": 1.0, "low": 1.05, "high": 1.1, "sense": "equal", "tolerance": 0.06}, "holds"),
        ({"claimed": 0.05, "low": 0.0, "high": 0.01, "bound": 4.0, "trivial": math.pi}, "holds but vacuous"),
        ({"claimed": 0.05, "low": 0.0, "high": 0.01, "bound": 3.0, "trivial": math.pi}, "holds"),
        ({"claimed": 0.05, "low": 0.0, "high": 0.01, "bound": -0.1, "trivial": 0.0}, "holds but vacuous"),
    ],
)
def test_verdicts(numbers, verdict):
    assert record(**numbers).verdict == verdict
    assert record(**numbers).as_dict()["verdict"] == verdict


def test_unknown_numbers_are_none_in_json():
    assert record(claimed=0.5).as_dict()["exact"] is None


@pytest.mark.parametrize("probability", [0.05, 0.2])
def test_sample_sizes_have_their_power(probability):
    samples = sample_size(probability)
    counts = range(samples + 1)
    critical = bisect(counts, False, key=lambda count: frequency(count, samples)[1] > probability)
    assert binom.sf(critical - 1, samples, 1.5 * probability) >= 0.9
    assert binom.sf(critical - 1, samples, probability) <= ALPHA / 2


def test_means_and_slopes_cover_the_truth():
    generator = np.random.default_rng(0)
    _, low, high = mean(generator.exponential(size=500))
    assert low < 1 < high and high - low < 0.5
    x = np.arange(20)
    value, low, high = slope(x, 3 * x + generator.normal(size=20))
    assert low < 3 < high and abs(value - 3) < 0.2


def test_coefficients_are_ddims():
    c = coefficients(10, eta=0.7)
    abar, after = 1 / (1 + c.sigma**2), 1 / (1 + c.sigma_next**2)
    assert c.a == pytest.approx(math.sqrt(after / abar))
    sigma_up = 0.7 * math.sqrt(c.sigma_next**2 * (c.sigma**2 - c.sigma_next**2) / c.sigma**2)
    scale = math.sqrt(1 + c.sigma_next**2)
    assert c.s * scale == pytest.approx(sigma_up)
    assert -c.b * scale == pytest.approx(c.sigma - math.sqrt(c.sigma_next**2 - sigma_up**2))
    assert coefficients(49, eta=1.0).sigma_next == 0 and coefficients(0, 0.0).sigma == pytest.approx(
        13.12, abs=0.01
    )
    with pytest.raises(ValueError, match="index must lie in 0 to 49, got 50"):
        coefficients(50, 0.0)
