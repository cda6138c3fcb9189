"""The caption counted once: what it costs, what it is where that is known, and the trials beside it."""

import pytest
from tolerances import assert_equal

from amdm.shapes import networks
from benchmarks import fronts
from benchmarks.caption_once import CaptionOnce
from benchmarks.compositions import Composition
from benchmarks.methods import Method
from benchmarks.runner import held_out
from benchmarks.table6_caption_sweep import LIMIT, TRIALS, best, label
from benchmarks.table6_sweep import PASSES
from benchmarks.tables import Cell, Row

SCENES = held_out(0, 2)
TWO = ("layout", "attribute")


def test_it_costs_what_amdm_does():
    """As evaluations, two passes each: a step of the window has the lead's two and two more."""
    for steps in (5, 10, 50):
        assert CaptionOnce(TWO, steps).calls.total() == Method(TWO, steps).calls.total()
    assert CaptionOnce((*TWO, "style")).calls == {"layout": 50, "attribute": 11, "style": 11, "base": 9}


@pytest.mark.slow
@pytest.mark.parametrize("first", ["spherical", "shared"])
def test_passes_are_counted(first, monkeypatch):
    rows = 0
    forward = networks.Network.forward

    def counting(network, x, *args, **kwargs):
        nonlocal rows
        rows += len(x)
        return forward(network, x, *args, **kwargs)

    monkeypatch.setattr(networks.Network, "forward", counting)
    once = CaptionOnce(TWO, 6, window=(0, 4), first=first)
    assert once.draw(SCENES, 0).isfinite().all()
    assert rows / 2 == pytest.approx(2 * once.calls.total(), abs=1)


@pytest.mark.slow
@pytest.mark.parametrize("first", ["spherical", "linear"])
def test_its_first_step_is_amdms(first):
    """A window of one step; the linear fold has the correction too."""
    once = CaptionOnce(TWO, 4, window=(0, 1), first=first)
    fold = "slerp" if first == "spherical" else "lerp"
    assert_equal(once.draw(SCENES, 0), Method(TWO, 4, window=(0, 1), fold=fold).draw(SCENES, 0), 1e-5)


def test_everyone_gets_eight_trials_at_one_price():
    for trials in TRIALS.values():
        assert len(trials) == len(set(trials.values())) == 8
        for trial in trials.values():
            passes = trial.passes if isinstance(trial, Composition) else 2 * trial.calls.total()
            assert PASSES - 14 < passes <= PASSES


def test_the_best_trial_has_the_most_right_of_those_that_look_well():
    def row(right, kid):
        return Row(100, 1, 70, {"scene right": Cell(right), "KID": Cell(kid)})

    table = {label(m, t): row(10, LIMIT + 1) for m, trials in TRIALS.items() for t in trials}
    first, second, third, *_ = TRIALS["AMDM"]
    for trial, right, kid in ((first, 90, 2 * LIMIT), (second, 50, LIMIT), (third, 40, 0)):
        table[label("AMDM", trial)] = row(right, kid)
    last = [*TRIALS["linear fold"]][-1]
    table[label("linear fold", last)] = row(1, LIMIT + 0.5)
    chosen = best(table, TRIALS)
    assert (chosen["AMDM"], chosen["linear fold"]) == (second, last)


def test_no_method_takes_more_evaluations_than_the_budget_of_its_point():
    """But for half of one."""
    for budget in fronts.BUDGETS:
        for name, method in fronts.METHODS.items():
            assert 0.5 * budget < method(budget).calls.total() <= budget + 1, (name, budget)
