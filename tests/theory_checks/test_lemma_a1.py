"""Lemma A.1: bounds by hand, and the controls that must be rejected."""

import math

import pytest

from theory_checks.lemma_a1 import CLAIMS, band, check_rate, check_tail, checks, exact_width, mean_norm


def test_bounds_by_hand():
    u = math.log(20)
    assert band("Laurent-Massart above", 64, 0.05).high ** 2 == pytest.approx(
        64 + 2 * math.sqrt(64 * u) + 2 * u
    )
    assert band("Laurent-Massart below", 64, 0.05).low ** 2 == pytest.approx(64 - 2 * math.sqrt(64 * u))
    for side, sign in (("above", 1), ("below", -1)):
        edge = band(f"Chernoff {side}", 64, 0.05)
        d = sign * ((edge.high if sign > 0 else edge.low) ** 2 / 64 - 1)
        assert 32 * (sign * d - math.log1p(sign * d)) == pytest.approx(u)
    assert mean_norm(2) == pytest.approx(math.sqrt(math.pi / 2))
    # 0 < sqrt(n) - E|X| < 1 / (4 sqrt(n))
    for n in (2, 64, 16384):
        assert 0 < math.sqrt(n) - mean_norm(n) < 1 / (4 * math.sqrt(n))


def test_exact_widths_of_a_nearly_normal_norm():
    # std(|X|) is 1/sqrt(2), up to the order of 1/sqrt(n).
    known = {"Chernoff above": 1.6449, "Chernoff below": 1.6449, "Lipschitz": 1.96}
    for inequality, deviations in known.items():
        assert exact_width(inequality, 10**6, 0.05) == pytest.approx(deviations / math.sqrt(2), rel=2e-3)
    # In two dimensions |X|^2/2 is exponential.
    assert exact_width("Chernoff above", 2, 0.05) == pytest.approx(math.sqrt(2 * math.log(20)) - math.sqrt(2))


@pytest.mark.parametrize("inequality", CLAIMS)
def test_every_bound_holds_and_its_control_is_rejected(inequality):
    for n in (2, 64, 1024):
        record = check_tail(inequality, n, 0.2)
        assert record.verdict in ("holds", "holds but vacuous")
        assert record.exact <= 0.2 and record.low <= record.exact <= record.high
    for n in (64, 1024):
        assert check_tail(inequality, n, 0.2).verdict == "holds"
        assert check_tail(inequality, n, 0.2, control="a third of the width").verdict == "fails"


def test_the_rate_is_minus_one_half():
    record = check_rate(1024, 2000)
    assert record.verdict == "holds" and record.high - record.low < 0.15
    assert check_rate(1024, 2000, control="one size for all").verdict == "fails"


def test_no_check_of_the_small_size_fails():
    assert {check().verdict for check in checks("small")} == {"holds", "holds but vacuous"}
