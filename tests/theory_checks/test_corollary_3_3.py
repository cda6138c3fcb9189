"""Corollary 3.3: rates by closed form, eq. (8) in the limit, and every control rejected."""

import math
from typing import get_args

import pytest

from theory_checks.corollary_3_3 import ProjectionControl, _starts, check_projection, check_rate, checks
from theory_checks.schedule import coefficients


@pytest.mark.parametrize(("quantity", "rate"), [("step", 1), ("mean", 2), ("correction", 1)])
@pytest.mark.parametrize("n", [64, 1024])
def test_the_rates(quantity, rate, n):
    record = check_rate(quantity, n=n)
    assert record.verdict == "holds" and record.claimed == rate
    assert record.high - record.low < 0.05
    assert record.exact == pytest.approx(rate, abs=1e-3)


def test_in_the_plane_the_rate_is_known_less_well():
    record = check_rate("step", n=2)
    assert record.verdict == "holds" and 0.05 < record.high - record.low < 0.5


@pytest.mark.parametrize(
    ("quantity", "control", "rate"),
    [
        ("step", "s^2 in the noise", 2),
        ("correction", "s^2 in the noise", 2),
        ("mean", "s in b", 1),
        ("step", "the ODE's flow", 0),
        ("mean", "the ODE's flow", 0),
    ],
)
def test_wrong_rates_are_rejected(quantity, control, rate):
    for n in (64, 1024):
        record = check_rate(quantity, n=n, control=control)
        assert record.verdict == "fails" and record.measured == pytest.approx(rate, abs=0.1)


def test_the_flow_of_a_gaussian_keeps_its_quantiles():
    c = coefficients(40, 0.0)
    z, eps, after = _starts(2, 40, 5, 0, "cpu")
    # VP standard deviations at the two levels.
    now, then = (math.sqrt((0.25 + s**2) / (1 + s**2)) for s in (c.sigma, c.sigma_next))
    assert (after / then).flatten().tolist() == pytest.approx((z / now).flatten().tolist())
    assert eps.flatten().tolist() == pytest.approx(
        (c.sigma * math.sqrt(1 + c.sigma**2) / (0.25 + c.sigma**2) * z).flatten().tolist()
    )


@pytest.mark.parametrize("share", [0.3, 1.0, 10.0])
@pytest.mark.parametrize("n", [2, 1024])
def test_eq_8_in_the_limit(share, n):
    assert check_projection(share, n=n).verdict == "holds"


@pytest.mark.parametrize("control", get_args(ProjectionControl))
def test_wrong_corrections_are_rejected(control):
    for n in (64, 1024):
        assert check_projection(n=n, control=control).verdict == "fails"


def test_no_check_of_the_small_size_fails():
    assert {check().verdict for check in checks("small")} == {"holds"}
