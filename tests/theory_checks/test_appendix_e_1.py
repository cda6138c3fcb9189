"""Appendix E.1: the schedule's integral by quadrature, the records, and the controls to be rejected."""

import math
from itertools import product

import pytest
from scipy.integrate import quad

from amdm.schedules import stable_diffusion_betas
from theory_checks.appendix_e_1 import (
    STARTS,
    Start,
    beta,
    check_product,
    check_range,
    check_simulation,
    check_solution,
    checks,
    integral,
    moment,
)


def test_the_schedule_is_stable_diffusions():
    assert [beta(k / 999) / 1000 for k in (0, 500, 999)] == pytest.approx(
        stable_diffusion_betas()[[0, 500, 999]].tolist()
    )
    for t in (0.3, 1.0):
        assert integral(t) == pytest.approx(quad(beta, 0, t)[0])
        linear = quad(lambda t: 0.85 + 11.15 * t, 0, t)[0]
        assert integral(t, "linear beta") == pytest.approx(linear)


def test_known_values():
    assert integral(0.0) == 0 and integral(1.0) == pytest.approx(5.348, abs=5e-4)
    assert moment("variance", 1.0, Start(0.0, 0.0)) == pytest.approx(1 - 0.00476, abs=5e-6)
    assert moment("mean", 1.0, Start(1.0, 0.0)) == pytest.approx(math.sqrt(0.00476), abs=5e-5)
    assert [moment("variance", t, Start(0.0, 1.0)) for t in (0.0, 0.4, 1.0)] == [1, 1, 1]
    record = check_product(1000)
    assert record.verdict == "holds" and record.measured == pytest.approx(0.00466, abs=5e-6)
    assert record.tolerance < 0.03 * record.claimed


def test_data_in_the_unit_interval():
    assert (
        check_range(0.8).verdict == check_range(0.5, 0.25).verdict == check_range(1.0, 0.0).verdict == "holds"
    )
    pair = check_range(1.0, 0.25)
    assert pair.verdict == "fails" and not pair.ours and pair.measured == pytest.approx(0, abs=1e-9)
    for expectation in (0.5, 0.8):
        assert check_range(expectation, control="no expectation").verdict == "fails"


@pytest.mark.slow
@pytest.mark.parametrize("t", [0.5, 1.0])
def test_moments_hold_and_their_controls_are_rejected(t):
    for which, start in product(("mean", "variance"), STARTS[:2]):
        assert check_solution(which, t, start).verdict == "holds"
        simulated = check_simulation(which, t, start, samples=5000)
        # Euler's own moments are off by less than the tolerance says, and not by nothing.
        assert simulated.verdict == "holds" and simulated.exact != simulated.claimed
        assert abs(simulated.exact - simulated.claimed) < simulated.tolerance < 0.02
        for control in ("the other exponent", "linear beta"):
            assert check_solution(which, t, start, control=control).verdict == "fails"
        wrong = check_simulation(which, t, start, samples=5000, control="the other exponent")
        assert wrong.verdict == "fails"


def test_eulers_error_falls_with_the_step():
    one, half = (check_simulation("variance", 0.5, steps=steps, samples=500) for steps in (200, 400))
    assert (one.exact - one.claimed) / (half.exact - half.claimed) == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize("steps", [100, 1000])
def test_products_reject_their_controls(steps):
    assert check_product(steps).verdict == "holds"
    assert check_product(steps, control="the other exponent").verdict == "fails"
    assert check_product(steps, control="linear beta").verdict == "fails"


@pytest.mark.slow
def test_the_grid():
    records = [check() for check in checks("small")]
    assert [r.setting for r in records if not r.ours] == [{"E": 1.0, "Var": 0.25}]
    assert all(r.verdict == ("holds" if r.ours else "fails") for r in records)
