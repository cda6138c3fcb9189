"""Scores: known counts on scenes made by hand, intervals that cover, chance in closed form."""

import numpy as np
import pytest
import torch
from scenes import hand_made

from amdm.shapes import scores, world
from amdm.shapes.scores import Counts, Found, chance, compare, difference, everything, find, rate, truth


def test_renders_score_full_marks():
    scenes = world.sample_scenes(world.TEST[:100])
    counts = compare(find(world.render(scenes), scenes), scenes)
    assert all(torch.equal(count.right, count.wanted) for count in counts.values())
    assert rate(everything(counts, scores.ATTRIBUTES))[0] == 1


def test_counts_of_a_scene_drawn_half_right():
    wanted = hand_made([("disc", "red"), ("square", "blue"), ("cross", "red")], [("holding", 0, 1)])
    drawn = hand_made([("disc", "red"), ("cross", "blue"), ("cross", "green")], [("holding", 1, 0)])
    counts = compare(find(world.render(drawn), wanted), wanted)
    seen = {name: (count.right.item(), count.wanted.item()) for name, count in counts.items()}
    assert seen == {"shapes": (2, 3), "colours": (2, 3), "interactions": (0, 1), "style": (1, 1)}
    assert everything(counts, ("style",)).right.item() == 1
    assert everything(counts, ("style", "shapes")).right.item() == 0


def test_nothing_wanted_is_nothing_missed():
    alone = hand_made([("disc", "red"), ("square", "blue")])
    counts = compare(find(world.render(alone), alone), alone)
    assert counts["interactions"] == Counts(torch.tensor([0]), torch.tensor([0]))


@pytest.mark.slow
def test_intervals_cover_the_truth_and_respect_clusters():
    # 300 sets of 200 scenes with four parts that are right or wrong together, with probability 0.7.
    right = 4 * torch.from_numpy(np.random.default_rng(0).binomial(1, 0.7, (300, 200)))
    wanted = torch.full((200,), 4)
    covered = 0
    for row in right:
        _, low, high = rate(Counts(row, wanted))
        covered += low <= 0.7 <= high
    # 95% +- four standard deviations of a share of 300; without clusters it would be 67%.
    assert 0.90 <= covered / 300 <= 1.0


def test_full_and_empty_marks_have_the_rule_of_three():
    ones = torch.ones(100, dtype=torch.long)
    assert rate(Counts(ones, ones)) == (1.0, pytest.approx(0.97), 1.0)
    assert rate(Counts(0 * ones, ones)) == (0.0, 0.0, pytest.approx(0.03))


def test_a_difference_is_paired():
    generator = np.random.default_rng(0)
    base = torch.from_numpy(generator.binomial(1, 0.5, 500))
    ones = torch.ones_like(base)
    more = torch.where(torch.arange(500) < 50, ones, base)
    value, low, high = difference(Counts(more, ones), Counts(base, ones))
    assert value == pytest.approx((more - base).sum().item() / 500)
    # Unpaired the interval would be +- 6 points.
    assert 0 < low < value < high and high - low < 0.06
    nothing = difference(Counts(base, ones), Counts(base, ones))
    assert nothing == (0.0, pytest.approx(-3 / 500), pytest.approx(3 / 500))


@pytest.mark.slow
def test_chance_in_closed_form():
    three = hand_made([("disc", "red"), ("disc", "blue"), ("cross", "red")], [("holding", 0, 1)])
    random = chance(truth(three), three, draws=6000)
    # Sums of squared multiplicities: (4 + 1) / 9; one ordered pair of six. Five standard deviations.
    assert random["shapes"][0] == pytest.approx(5 / 9, abs=5 * 0.5 / 6000**0.5)
    assert random["colours"][0] == pytest.approx(5 / 9, abs=5 * 0.5 / 6000**0.5)
    assert random["interactions"][0] == pytest.approx(1 / 6, abs=5 * 0.38 / 6000**0.5)


def test_who_ignores_the_boxes_is_right_by_chance_and_who_does_not_is_not():
    scenes = world.sample_scenes(world.TEST[:400])
    blind = scores._exchange(truth(scenes), scenes, torch.Generator().manual_seed(5))
    _, low, high = chance(blind, scenes, draws=400)["colours"]
    counts = compare(blind, scenes)["colours"]
    assert low <= counts.right.sum() / counts.wanted.sum() <= high
    _, _, high = chance(truth(scenes), scenes, draws=400)["colours"]
    assert high < 0.6


def test_absent_objects_stay_absent():
    two = hand_made([("disc", "red"), ("cross", "blue")], [("wearing", 0, 1)])
    marked = Found(
        torch.tensor([[0, 3, 1, 2]]), torch.tensor([[0, 2, 4, 5]]), world.link_matrix(two), two.styles
    )
    for seed in range(10):
        mixed = scores._exchange(marked, two, torch.Generator().manual_seed(seed))
        assert set(mixed.shapes[0, :2].tolist()) == {0, 3}
        assert mixed.interactions[0, :2, :2].sum() == world.KINDS.index("wearing")
