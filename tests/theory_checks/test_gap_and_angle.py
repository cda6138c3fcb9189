"""Bounds by hand and by other routes; pairs of steps whose norms and angles are known."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.special import erfc
from scipy.stats import chi, foldnorm, norm

from amdm.denoisers import GaussianMixture
from theory_checks.gap_and_angle import (
    always_fields,
    angle_bound,
    angle_fields,
    distance_bound,
    distance_quantile,
    gap_bound,
    gap_fields,
    gap_probability,
)
from theory_checks.pair import Outcomes, Pair, conditionals, made_up, outcomes, predict_noise
from theory_checks.schedule import coefficients

BETWEEN = np.array([0.0, 0.3, 1.0, 5.0, 50.0])


def pair(mean_1, mean_2, s=0.5):
    mean_1, mean_2 = torch.tensor(mean_1).double(), torch.tensor(mean_2).double()
    between = (mean_1 - mean_2).norm(dim=1).numpy()
    return Pair(mean_1, mean_2, s, between, s)


def test_constants_at_one_in_twenty():
    constants = [gap_bound(c, np.zeros(1), 1.0, 0.05)[0] for c in ("paper", "mean", "median", "sharp")]
    assert constants == pytest.approx([5.9208, 3.8413, 2.7718, 2.7718], abs=1e-4)


def test_the_sharp_gap_bound_is_a_folded_normal_quantile():
    expected = foldnorm(BETWEEN / (math.sqrt(2) * 0.7), scale=math.sqrt(2) * 0.7).isf(0.05)
    assert gap_bound("sharp", BETWEEN, 0.7, 0.05) == pytest.approx(expected, rel=1e-9)
    # Where Delta dominates, one side of the normal is left.
    far = gap_bound("sharp", np.array([50.0]), 0.7, 0.05)[0]
    assert far == pytest.approx(50 + 0.7 * math.sqrt(2) * norm.isf(0.05), rel=1e-9)


@pytest.mark.parametrize("probability", [0.5, 0.2, 0.05, 1e-4])
def test_each_gap_bound_is_below_the_one_before(probability):
    bounds = [gap_bound(c, BETWEEN, 0.7, probability) for c in ("paper", "mean", "median", "sharp")]
    for looser, tighter in itertools.pairwise(bounds):
        assert (tighter <= looser * (1 + 1e-12)).all()


@pytest.mark.parametrize("n", [2, 64, 16384])
def test_the_sharp_gap_bound_says_more_than_the_distance(n):
    assert (gap_bound("sharp", BETWEEN, 0.7, 0.05) < distance_quantile(0.05, n, BETWEEN, 0.7)).all()


def test_distances_without_noise_and_without_distance():
    assert (distance_quantile(0.05, 64, BETWEEN, 0.0) == BETWEEN).all()
    assert distance_quantile(0.05, 64, np.zeros(1), 0.7)[0] == pytest.approx(
        0.7 * math.sqrt(2) * chi(64).isf(0.05)
    )
    # Rayleigh: P(|X| > r) = exp(-r^2/2).
    assert distance_quantile(0.05, 2, np.zeros(1), 1.0)[0] == pytest.approx(2 * math.sqrt(math.log(20)))


def test_the_papers_radius_is_that_of_laurent_and_massart():
    u = math.log(20)
    expected = 3 + math.sqrt(2) * 0.5 * math.sqrt(64 + 2 * math.sqrt(64 * u) + 2 * u)
    assert distance_bound("paper", 64, np.array([3.0]), 0.5, 0.05)[0] == pytest.approx(expected)
    assert distance_bound("exact", 64, np.array([3.0]), 0.5, 0.05)[0] < expected


def test_angles_of_the_triangle_3_4_5():
    drawn, five = Outcomes(np.array([3.0]), np.array([4.0]), np.array([math.pi / 2])), np.array([5.0])
    assert angle_bound("cosines", five, drawn)[0] == pytest.approx(math.pi / 2)
    assert angle_bound("arcsin", five, drawn)[0] == pytest.approx(2 * math.asin(5 / 6))
    assert angle_bound("linear", five, drawn)[0] == pytest.approx(math.pi * 5 / 6)
    # Longer than both norms together: no angle is excluded. Shorter than the gap: every angle is.
    assert angle_bound("arcsin", 2 * five, drawn)[0] == angle_bound("cosines", 2 * five, drawn)[0] == math.pi
    assert angle_bound("cosines", five / 10, drawn)[0] == 0


def test_the_exact_gap_probability_of_two_rayleigh_norms():
    for b in (0.5, 1.0, 3.0):
        half = b * math.sqrt(math.pi) / 4 * erfc(b / 2)
        closed = 2 * math.exp(-(b**2) / 4) * (math.exp(-(b**2) / 4) / 2 - half)
        assert gap_probability(0.3 * b, 0.0, 0.0, 2, 0.3) == pytest.approx(closed, rel=1e-6)


def test_the_exact_gap_probability_of_chi_norms_by_another_quadrature():
    law = chi(64)

    def inner(r):
        return law.pdf(r) * (law.sf(r + 1.5) + law.cdf(r - 1.5))

    assert gap_probability(1.5, 0.0, 0.0, 64, 1.0) == pytest.approx(quad(inner, 0, 30)[0], rel=1e-6)


def test_the_exact_gap_probability_of_long_means_is_normal():
    # |z_i| = |mean_i| + s g_i + O(n s^2/|mean|): the gap is |N(1, 2 s^2)|.
    normal = foldnorm(1 / (math.sqrt(2) * 0.5), scale=math.sqrt(2) * 0.5).sf(2.0)
    assert gap_probability(2.0, 1e4 + 1, 1e4, 16, 0.5) == pytest.approx(normal, rel=1e-3)


def test_outcomes_without_noise_are_those_of_the_means_in_turn():
    drawn = outcomes(pair([[3.0, 0.0], [1.0, 1.0]], [[0.0, 4.0], [2.0, 2.0]], s=0.0), 5, 0)
    assert drawn.norm_1 == pytest.approx([3, 2**0.5, 3, 2**0.5, 3])
    assert drawn.gap == pytest.approx([1, 2**0.5, 1, 2**0.5, 1])
    assert drawn.least == pytest.approx([3, 2**0.5, 3, 2**0.5, 3])
    assert drawn.theta == pytest.approx([math.pi / 2, 0, math.pi / 2, 0, math.pi / 2], abs=1e-12)


def test_shared_noise_moves_equal_means_alike():
    same = pair([[3.0, 1.0]], [[3.0, 1.0]])
    assert outcomes(same, 50, 0, shared=True).gap.max() == 0
    assert outcomes(same, 50, 0).gap.min() > 0


def test_outcomes_do_not_depend_on_the_size_of_the_pieces(monkeypatch):
    whole = outcomes(pair([[3.0, 0.0], [1.0, 1.0], [5.0, 5.0]], [[0.0, 4.0]] * 3, s=0.0), 7, 0)
    monkeypatch.setattr("theory_checks.draws.NUMBERS", 8)
    pieces = outcomes(pair([[3.0, 0.0], [1.0, 1.0], [5.0, 5.0]], [[0.0, 4.0]] * 3, s=0.0), 7, 0)
    assert (whole.norm_1 == pieces.norm_1).all() and (whole.theta == pieces.theta).all()


def test_one_sample_beyond_a_bound_without_probability_fails_it():
    honest = pair([[3.0, 0.0]] * 100, [[2.0, 0.0]] * 100)
    assert always_fields(honest, "norm gap", 0)["low"] == 0
    wrong = honest._replace(between=np.concatenate([[0.5], honest.between[1:]]), s=0.0)
    fields = always_fields(wrong, "norm gap", 0)
    assert fields["low"] > 0 and fields["measured"] == 0.01 and fields["slack"] == pytest.approx(-0.5)


def test_the_fraction_beyond_a_bound_is_the_exact_one():
    fields = gap_fields(pair([[3.0, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 1.0]]), "sharp", 0.2, 0)
    assert fields["low"] < fields["exact"] < fields["high"]
    assert fields["exact"] < 0.2 < fields["exact"] + 0.1


def test_every_start_has_its_own_bound():
    unequal = pair([[30.0, 0.0], [30.0, 0.0]], [[30.0, 0.0], [20.0, 0.0]])
    fields = gap_fields(unequal, "sharp", 0.2, 0)
    assert fields["low"] < fields["exact"] < fields["high"] and fields["exact"] == pytest.approx(
        0.2, abs=0.01
    )
    unequal = pair([[30.0, 0.0], [30.0, 0.0]], [[30.0, 0.0], [0.0, 30.0]])
    fields = angle_fields(unequal, "exact", "cosines", 0.2, 0)
    assert fields["low"] < 0.2 < fields["high"] and fields["exact"] == pytest.approx(0.2)


def test_made_up_predictions_are_delta_apart():
    c = coefficients(10, 1.0)
    for axis in (0, 1):
        z, eps_1, eps_2 = made_up("worst", axis, 64, c, 7.0, 3, 0)
        assert (eps_1 - eps_2).norm(dim=1).numpy() == pytest.approx([7.0] * 3)
        cosines = torch.cosine_similarity(z, eps_2 - eps_1)
        assert cosines.numpy() == pytest.approx([1.0 - axis] * 3, abs=1e-12)
        assert (z.norm(dim=1) >= 8 * max(1, 10 * c.s / c.a)).all()
    z, eps_1, eps_2 = made_up("random", 0, 64, c, 7.0, 3, 0)
    assert (eps_1 - eps_2).norm(dim=1).numpy() == pytest.approx([7.0] * 3)
    assert torch.cosine_similarity(z, eps_2 - eps_1).abs().max() < 0.5


def test_noise_is_predicted_for_any_event_shape_in_batches():
    model = GaussianMixture(
        torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)), torch.ones(3)
    )
    x = torch.randn(100, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    eps = predict_noise(model, x, 1.7)
    assert eps.shape == (100, 32) and eps.dtype == torch.float64
    torch.testing.assert_close(eps, model.eps(x.double(), 1.7).flatten(1), rtol=1e-5, atol=1e-5)


def test_conditionals_are_two_modes_under_two_weights():
    first, second = conditionals(3, 2.0, separation=1.5, centre=10.0, axis=1)
    assert first.means.tolist() == second.means.tolist() == [[10, 3, 0], [10, -3, 0]]
    assert first.weights.tolist() == [0.5, 0.5] and second.weights.tolist() == pytest.approx([0.1, 0.9])
    assert first.variances.tolist() == [1, 1]
