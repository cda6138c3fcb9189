"""The axis of noise levels."""

import pytest

from amdm.page.levels import PARTS, levels_of, positions_of
from amdm.page.methods import ALL_LEVELS, HIGHEST, LOWEST
from amdm.samplers import resolve_window, sigma_window
from amdm.schedules import karras_sigmas


def test_the_ends_hold_every_level_of_every_schedule():
    assert positions_of(ALL_LEVELS) == [0, PARTS] and levels_of([0, PARTS]) == ALL_LEVELS
    for steps in (2, 10, 50, 999):
        levels = karras_sigmas(steps, LOWEST, HIGHEST).tolist()
        assert resolve_window(sigma_window(*ALL_LEVELS), levels) == (0, steps)


def test_positions_are_equal_ratios_of_levels():
    low, high = levels_of([250, 500])
    middle = (LOWEST * HIGHEST) ** 0.5
    assert low == pytest.approx(middle, rel=5e-3) and high == pytest.approx(
        (middle * HIGHEST) ** 0.5, rel=5e-3
    )
    assert positions_of((low, high)) == [pytest.approx(250, abs=1), pytest.approx(500, abs=1)]


@pytest.mark.parametrize("positions", [None, "all", [3], [700, 300], {"from": 1}])
def test_wrong_positions_are_refused(positions):
    with pytest.raises(ValueError, match=r"^The window "):
        levels_of(positions)
