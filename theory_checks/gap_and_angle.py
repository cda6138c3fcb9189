"""Bounds on the norm gap and on the angle of two steps whose means are `between` apart, and their records.

Proposition 3.1 derives the bounds; D.1 uses them with another `between`. Lengths are VP.
"""

import itertools
import math
from typing import Any, Literal

import numpy as np
from scipy.special import roots_legendre
from scipy.stats import ncx2, norm

from theory_checks.pair import Numbers, Outcomes, Pair, distances, outcomes
from theory_checks.statistics import ROUNDING, frequency, sample_size

Constants = Literal["paper", "mean", "median", "sharp"]
Radius = Literal["paper", "exact"]
Inversion = Literal["linear", "arcsin", "cosines"]
LeastOrPaper = Literal["paper", "sharp"]
Quantity = Literal["norm gap", "angle"]
QUANTITIES: tuple[Quantity, ...] = ("norm gap", "angle")
GAP_CLAIMS: dict[Constants, str] = {
    "paper": "P(||z_1|-|z_2|| > D + 2 sqrt(2) s sqrt(ln(4/p))) <= p",
    "mean": "P(||z_1|-|z_2|| > D + 2 s sqrt(ln(2/p))) <= p",
    "median": "P(||z_1|-|z_2|| > D + sqrt(2) s Phi^-1(1-p/2)) <= p",
    "sharp": "P(||z_1|-|z_2|| > u) <= p, P(|N(D, 2 s^2)| > u) = p",
}
RADIUS_CLAIMS: dict[Radius, str] = {
    "paper": "R = D + sqrt(2) s sqrt(n + 2 sqrt(n ln(1/p)) + 2 ln(1/p))",
    "exact": "R^2/(2 s^2) the noncentral chi-square quantile of n, D^2/(2 s^2)",
}
ANGLE_CLAIMS: dict[Inversion, str] = {
    "linear": "P(theta > pi R/(2 m)) <= p",
    "arcsin": "P(theta > 2 arcsin(R/(2 m))) <= p",
    "cosines": "P(sin^2(theta/2) > (R^2-gap^2)/(4 |z_1||z_2|)) <= p",
}
ALWAYS_CLAIMS: dict[Quantity, str] = {
    "norm gap": "||z_1|-|z_2|| <= D",
    "angle": "theta <= 2 arcsin(D/(2 m))",
}
INDEPENDENT = "xi_1, xi_2 ~ N(0, I_n) independent"
DETERMINISTIC = "no noise, or one draw for both models"
STARTS = 100
"""Draws of a statement without probability, at least."""
NODES, WEIGHTS = roots_legendre(100)


def gap_bound(constants: Constants, between: Numbers, s: float, probability: float) -> Numbers:
    """Return the length that the norm gap exceeds with at most this probability; means `between` apart."""
    if constants == "sharp":
        # |N(D, 2 s^2)| is the distance of two noisy points on a line.
        return distance_quantile(probability, 1, between, s)
    c = {
        "paper": 2 * math.sqrt(2 * math.log(4 / probability)),
        "mean": 2 * math.sqrt(math.log(2 / probability)),
        "median": math.sqrt(2) * float(norm.isf(probability / 2)),
    }[constants]
    return between + s * c


def distance_bound(radius: Radius, n: int, between: Numbers, s: float, probability: float) -> Numbers:
    """Return R, which |z_1 - z_2| exceeds with at most this probability (VP)."""
    if radius == "exact":
        return distance_quantile(probability, n, between, s)
    u = math.log(1 / probability)
    return between + math.sqrt(2) * s * math.sqrt(n + 2 * math.sqrt(n * u) + 2 * u)


def angle_bound(inversion: Inversion, radius: Numbers, drawn: Outcomes) -> Numbers:
    """Return an upper bound on the angle (radians) if |z_1 - z_2| <= `radius`, one per draw."""
    if inversion == "linear":
        return np.asarray(math.pi * radius / (2 * drawn.least))
    if inversion == "arcsin":
        sine = radius / (2 * drawn.least)
    else:
        squared = (radius**2 - drawn.gap**2) / (4 * drawn.norm_1 * drawn.norm_2)
        sine = np.sqrt(np.maximum(0.0, squared))
    return np.asarray(2 * np.arcsin(np.minimum(1.0, sine)))


def distance_quantile(probability: float, n: int, between: Numbers, s: float) -> Numbers:
    """Return the length that |z_1 - z_2| exceeds with exactly this probability, VP.

    With |mean_1 - mean_2| = `between`, |z_1 - z_2|^2 / (2 s^2) is noncentral chi-square with n degrees of
    freedom and noncentrality between^2 / (2 s^2).
    """
    if s == 0:
        return between
    spread = math.sqrt(2) * s
    return np.asarray(spread * np.sqrt(ncx2.isf(probability, n, (between / spread) ** 2)))


def gap_probability(bound: float, norm_1: float, norm_2: float, n: int, s: float) -> float:
    """Return P(||z_1| - |z_2|| > bound) for independent noise and |mean_i| = norm_i, by one quadrature.

    The quadrature is over |z_2|/s. |z_i|/s has the noncentral chi law, with a standard deviation of at most 1
    and Gaussian tails.
    """
    u, law_1, law_2 = bound / s, ncx2(n, (norm_1 / s) ** 2), ncx2(n, (norm_2 / s) ** 2)

    def density(r: Numbers) -> Numbers:
        beyond = law_1.sf((r + u) ** 2) + law_1.cdf(np.maximum(0.0, r - u) ** 2)
        return np.asarray(2 * r * law_2.pdf(r**2) * beyond)

    centre = math.sqrt(n + (norm_2 / s) ** 2)
    low, high = max(0.0, centre - 9), centre + 9
    # Not smooth where r = u.
    edges = (low, min(max(u, low), high), high)
    return sum(
        float((b - a) / 2 * (WEIGHTS * density(a + (b - a) * (NODES + 1) / 2)).sum())
        for a, b in itertools.pairwise(edges)
    )


def gap_fields(pair: Pair, constants: Constants, probability: float, seed: int) -> dict[str, Any]:
    """Return a record's fields for the frequency and probability of a norm gap beyond its bound.

    The noise is independent. The trivial bound is the exact quantile of |z_1 - z_2|, which no norm gap
    exceeds. Without noise, see `always_fields`.
    """
    if pair.s == 0:
        return always_fields(pair, "norm gap", seed)
    n = pair.mean_1.shape[1]
    repeats, drawn = _drawn(pair, sample_size(probability), seed)
    bounds = gap_bound(constants, pair.between, pair.s_bound, probability)
    apart = distances(pair.mean_1, pair.mean_2)
    norms = pair.mean_1.norm(dim=1).tolist(), pair.mean_2.norm(dim=1).tolist()
    each = [gap_probability(u, r_1, r_2, n, pair.s) for u, r_1, r_2 in zip(bounds, *norms, strict=True)]
    return _exceeding(drawn.gap, np.tile(bounds, repeats), probability) | {
        "claim": GAP_CLAIMS[constants],
        "assumptions": INDEPENDENT,
        "trivial": float(np.median(distance_quantile(probability, n, apart, pair.s))),
        "exact": float(np.mean(each)),
    }


def angle_fields(
    pair: Pair, radius: Radius, inversion: Inversion, probability: float, seed: int
) -> dict[str, Any]:
    """Return a record's fields for the frequency of an angle beyond its bound, with independent noise.

    By the law of cosines that is exactly the frequency with which |z_1 - z_2| exceeds R. Without noise, see
    `always_fields`.
    """
    if pair.s == 0:
        return always_fields(pair, "angle", seed)
    n = pair.mean_1.shape[1]
    repeats, drawn = _drawn(pair, sample_size(probability), seed)
    reach = distance_bound(radius, n, pair.between, pair.s_bound, probability)
    bounds = angle_bound(inversion, np.tile(reach, repeats), drawn)
    spread = math.sqrt(2) * pair.s
    apart = distances(pair.mean_1, pair.mean_2)
    beyond = float(ncx2.sf((reach / spread) ** 2, n, (apart / spread) ** 2).mean())
    return _exceeding(drawn.theta, bounds, probability) | {
        "claim": f"{ANGLE_CLAIMS[inversion]}, {RADIUS_CLAIMS[radius]}",
        "assumptions": INDEPENDENT,
        "trivial": math.pi,
        "exact": beyond if inversion == "cosines" else math.nan,
        "tolerance": ROUNDING,
    }


def always_fields(pair: Pair, quantity: Quantity, seed: int) -> dict[str, Any]:
    """Return a record's fields for bounds that hold for every sample: without noise, or with shared noise."""
    repeats, drawn = _drawn(pair, STARTS, seed, shared=True)
    between = np.tile(pair.between, repeats)
    # Where D is |z_1 - z_2| itself, rounding is not to say that it is less.
    apart = np.minimum(distances(pair.mean_1, pair.mean_2), pair.between)
    if quantity == "norm gap":
        numbers = _exceeding(drawn.gap, between, 0.0, ROUNDING * (drawn.norm_1 + drawn.norm_2))
    else:
        numbers = _exceeding(drawn.theta, angle_bound("arcsin", between, drawn), 0.0, ROUNDING)
    return numbers | {
        "claim": ALWAYS_CLAIMS[quantity],
        "assumptions": DETERMINISTIC,
        "trivial": float(np.median(apart)) if quantity == "norm gap" else math.pi,
    }


def fields(
    pair: Pair, quantity: Quantity, constants: LeastOrPaper, probability: float, seed: int
) -> dict[str, Any]:
    """Return a record's fields for the bound on this quantity, with the paper's constants or the least."""
    if quantity == "norm gap":
        return gap_fields(pair, constants, probability, seed)
    if constants == "paper":
        return angle_fields(pair, "paper", "linear", probability, seed)
    return angle_fields(pair, "exact", "arcsin", probability, seed)


def _drawn(pair: Pair, samples: int, seed: int, *, shared: bool = False) -> tuple[int, Outcomes]:
    """Return the number of draws from each start that makes at least `samples` in all, and their outcomes."""
    starts = len(pair.mean_1)
    repeats = math.ceil(samples / starts)
    return repeats, outcomes(pair, repeats * starts, seed, shared=shared)


def _exceeding(
    values: Numbers, bounds: Numbers, probability: float, rounding: Numbers | float = 0.0
) -> dict[str, Any]:
    """Return a record's fields for the frequency of `values` beyond `bounds`, claimed to be <= `probability`.

    The record's bound is the median one; `rounding` is the length by which a value may exceed its bound.
    """
    estimate = frequency(int((values > bounds + rounding).sum()), len(values))
    return estimate._asdict() | {
        "claimed": probability,
        "bound": float(np.median(bounds)),
        "slack": float((bounds - values).min()),
        "tightness": float(np.quantile(values / np.maximum(bounds, 1e-300), 1 - probability)),
        "samples": len(values),
    }
