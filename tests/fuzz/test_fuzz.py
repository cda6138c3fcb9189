"""2,000 calls with fixed seeds; `make fuzz` makes 100,000."""

import math

import pytest
import torch

from amdm import geometry
from fuzz import laws
from fuzz.calls import outcome, run

pytestmark = pytest.mark.usefixtures("unchecked")
PART = 250


@pytest.mark.parametrize("first", range(0, 2000, PART))
def test_no_call_is_a_fault(first):
    found = run(first, PART)
    faults = [f"seed {each.seed}: {each.call}: {each.why}" for each in found if each.kind == "fault"]
    assert not faults, "\n".join(faults)
    kinds = {each.kind for each in found}
    assert kinds == {"right", "clear"}


def test_a_seed_repeats_its_call():
    assert [outcome(seed)[:2] for seed in range(20)] == [outcome(seed)[:2] for seed in range(20)]


def faults_with(monkeypatch, owner, name, broken, law):
    """How many of some calls of a law are faults with a function replaced by a broken one."""
    monkeypatch.setattr(owner, name, broken)
    monkeypatch.setattr("fuzz.calls.LAWS", [law])
    return sum(each.kind == "fault" for each in run(0, 200))


def test_a_fold_that_mixes_samples_is_found(monkeypatch):
    broken = lambda xs, weights: geometry.lerp_fold(xs, weights) + 1e-3 * xs[0].flip(0)
    monkeypatch.setitem(geometry.FOLDS, "lerp_fold", broken)
    monkeypatch.setattr("fuzz.calls.LAWS", [laws.folds])
    assert any(each.kind == "fault" for each in run(0, 200))


def test_silent_nan_is_found(monkeypatch):
    angle = geometry.angle
    broken = lambda a, b: torch.where(angle(a, b).isnan(), 0.0, angle(a, b))
    assert faults_with(monkeypatch, laws, "angle", broken, laws.pairs) > 0


def test_a_changed_input_is_found(monkeypatch):
    def broken(x, mean, length, **options):
        return x.mul_(1 - math.ulp(1.0) * 2**40)

    assert faults_with(monkeypatch, geometry, "radial_correct", broken, laws.corrections) > 0
