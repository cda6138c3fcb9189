"""Resampling: copies next to their expectation, unbiased, and groups by themselves."""

import pytest
import torch
from strategies import randn

from amdm.samplers import effective_samples, systematic_resample


def test_the_effective_number_is_all_for_equal_weights_and_one_for_one():
    log_weights = torch.tensor([[3.0, 3.0, 3.0, 3.0], [0.0, -1e9, -1e9, -1e9], [0.0, 0.0, -1e9, -1e9]])
    assert effective_samples(log_weights).tolist() == pytest.approx([4, 1, 2])
    w = torch.tensor([[0.5, 0.3, 0.2]])
    assert effective_samples(w.log()).item() == pytest.approx(1 / 0.38)


@pytest.mark.parametrize("u", [0.01, 0.5, 0.99])
def test_every_particle_has_a_number_of_copies_next_to_its_expectation(u):
    log_weights = 3 * randn(0, 5, 40)
    chosen = systematic_resample(log_weights, torch.full((5,), u))
    expected = 40 * log_weights.softmax(1)
    copies = torch.stack([torch.bincount(row, minlength=40) for row in chosen])
    assert bool((copies >= expected.floor()).all()) and bool((copies <= expected.ceil()).all())
    assert bool((chosen.diff(dim=1) >= 0).all())


def test_copies_are_unbiased():
    """Over an even grid of u the mean number of copies is the expectation, to the grid's resolution."""
    log_weights = 2 * randn(1, 1, 7)
    u = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    chosen = systematic_resample(log_weights.expand(2000, 7), u)
    mean = torch.bincount(chosen.flatten(), minlength=7) / 2000
    assert (mean - 7 * log_weights.softmax(1)[0]).abs().max() < 2e-3


@pytest.mark.parametrize("count", [1, 3, 1000])
def test_equal_weights_leave_all_as_they_are(count):
    u = torch.tensor([1e-6, 0.3, 1 - 1e-6])
    chosen = systematic_resample(torch.full((3, count), -5.0), u)
    assert torch.equal(chosen, torch.arange(count).expand(3, count))


def test_groups_do_not_mix():
    log_weights = randn(2, 4, 9)
    u = torch.tensor([0.1, 0.4, 0.6, 0.9])
    together = systematic_resample(log_weights, u)
    for group in range(4):
        alone = systematic_resample(log_weights[group : group + 1], u[group : group + 1])
        assert torch.equal(together[group : group + 1], alone)
