"""Table 5's experiment: the same latents as `amdm`'s, partners that go on, the paper's rows as printed."""

import math

import pytest
import torch

from amdm import amdm, ddim, start_noise
from amdm.denoisers import GaussianMixture
from theory_checks.trajectories import paper_rows, rows_of

SIGMAS = torch.tensor([10.0, 5.0, 2.0, 1.0, 0.5, 0.0], dtype=torch.float64)


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(2, 3, 64, generator=generator, dtype=torch.float64)
    return [GaussianMixture(mean, torch.full((3,), 0.1, dtype=torch.float64)) for mean in means]


@pytest.fixture
def starts():
    return start_noise([0, 1], [64], 10.0, 2, dtype=torch.float64)


def test_while_the_window_lasts_the_latents_are_amdms(pair, starts):
    rows = rows_of(pair, starts, SIGMAS, window=3)
    assert rows.angle.shape == (6, 2)
    steps = [step.aggregation for step in amdm(pair, starts, SIGMAS, window=3) if step.aggregation]
    for row, step, sigma in zip(rows.distance[1:4], steps, SIGMAS[1:], strict=False):
        expected = (step.xs[0] - step.xs[1]).norm(dim=1) / math.sqrt(1 + sigma**2)
        torch.testing.assert_close(row, expected)
    torch.testing.assert_close(rows.angle[1:4], torch.stack([step.angle[0] for step in steps]))


def test_without_a_window_each_goes_its_own_way(pair, starts):
    rows = rows_of(pair, starts, SIGMAS, window=0)
    ends = []
    for model, x in zip(pair, starts, strict=True):
        *_, last = ddim(model, x, SIGMAS)
        ends.append(last.x_next)
    torch.testing.assert_close(rows.distance[-1], (ends[0] - ends[1]).norm(dim=1))
    torch.testing.assert_close(rows.norm_gap[-1], (ends[0].norm(dim=1) - ends[1].norm(dim=1)).abs())


def test_independent_starts_are_at_right_angles_and_far_apart():
    n = 16384
    model = GaussianMixture(torch.zeros(1, n), torch.ones(1))
    rows = rows_of([model, model], start_noise(range(8), [n], 10.0, 2), SIGMAS.float())
    # Four standard deviations of eight draws: the angle's is 1/sqrt(n), the distance's 1.
    assert abs(rows.angle[0].mean() - math.pi / 2) < 4 / math.sqrt(8 * n)
    assert abs(rows.distance[0].mean() - math.sqrt(2 * n)) < 4 / math.sqrt(8)
    # One model, so all that parts them after the first aggregation are the two corrections of 0.3.
    assert (rows.distance[2] <= 0.6).all() and (rows.distance[2] > 0.1).all()


def test_the_papers_rows_are_as_printed():
    rows = paper_rows()
    assert rows.angle.shape == (50, 1)
    printed = {50: (1.5781, 181.375, 0.0), 29: (0.0, 1.6904, 0.125), 1: (0.4365, 38.9688, 1.5625)}
    for row, values in printed.items():
        assert [column[50 - row].item() for column in rows] == pytest.approx(values)
