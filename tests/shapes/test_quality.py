"""Features and the distances of sets of images: floors, what they must see, and independent references."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from shapes import features, latents, quality
from shapes.world import TEST, TRAIN, render, sample_scenes

GROUPS = 10


def images(first, count=500):
    return render(sample_scenes(TEST[first : first + count], uniform_kinds=True))


@pytest.fixture(scope="module")
def others():
    return features.features(images(1000))


def t_statistic(values):
    return values.mean() / (values.std(ddof=1) / len(values) ** 0.5)


def test_features_read_the_words_and_the_disturbance_of_unseen_renders():
    scenes = sample_scenes(TEST[:500], uniform_kinds=True)
    clean = render(scenes)
    network = features.load()
    spoken = torch.zeros(500, 18, dtype=torch.bool).scatter(1, _words(scenes), True)
    assert ((network(clean)[:, :18] > 0) == spoken).float().mean() > 0.95
    levels = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
    guessed = network(features.disturb(clean, levels, torch.Generator().manual_seed(1)))[:, 18:].sigmoid()
    for level, guess in zip(levels.T, guessed.T, strict=True):
        assert torch.corrcoef(torch.stack([level, guess]))[0, 1] > 0.9


def _words(scenes):
    from shapes.world import captions

    ids = captions(scenes)
    return (ids - 1).where(ids > 0, ids[:, :1] - 1)


def test_kid_of_renders_is_zero_within_its_interval(others):
    """Ten groups: |t| of 9 degrees of freedom is below 3.25 in 99% of the draws; the draw is fixed."""
    values = quality.kid(features.features(images(0)), others, GROUPS)
    assert abs(t_statistic(values)) < 3.25


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["noise", "blur"])
def test_kid_grows_with_noise_and_with_blur(kind, others):
    clean = images(0)
    means = []
    for level in (0.0, 0.3, 0.6, 1.0):
        levels = torch.tensor([level, 0.0] if kind == "noise" else [0.0, level]).expand(500, 2)
        disturbed = features.disturb(clean, levels, torch.Generator().manual_seed(0))
        means.append(quality.kid(features.features(disturbed), others, GROUPS))
    assert all(after.mean() > before.mean() for before, after in pairwise(means))
    assert t_statistic(means[-1]) > 10


def test_kid_is_torch_fidelitys_own_of_the_whole(others):
    """One group of all is the unbiased estimate; in groups its mean is the same but for the split."""
    from torch_fidelity.metric_kid import kid_features_to_metric

    mine = features.features(latents.decode(0.9 * latents.encode(images(0))))
    whole = kid_features_to_metric(mine, others, kid_subsets=1, kid_subset_size=500, verbose=False)
    value = 1000 * whole["kernel_inception_distance_mean"]
    assert quality.kid(mine, others, 1)[0] == pytest.approx(value, rel=1e-4)
    groups = quality.kid(mine, others, GROUPS)
    assert abs(groups.mean() - value) < 3.25 * groups.std(ddof=1) / GROUPS**0.5


def test_fid_is_the_closed_form_and_only_of_many(others):
    with pytest.raises(ValueError, match="images are 500 and others 500, expected 5000"):
        quality.fid(others, others)
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(5000, 4, generator=generator)
    other = 2 * torch.randn(5000, 4, generator=generator) + 1
    a, b = (np.cov(side.numpy(), rowvar=False) for side in (one, other))
    gap = (one.mean(0) - other.mean(0)).square().sum().item()
    assert quality.fid(one, other) == pytest.approx(gap + np.trace(a + b - 2 * sqrtm(a @ b).real), rel=1e-4)
    # Between the distributions themselves: |mean|^2 + 4 (2 - 1)^2.
    assert quality.fid(one, other) == pytest.approx(8, rel=0.05)


def test_few_scenes_over_and_over_are_precise_but_miss_most(others):
    precision, recall = quality.precision_recall(features.features(images(0)), others)
    few = features.features(images(0, 10).repeat(50, 1, 1, 1))
    few_precision, few_recall = quality.precision_recall(few, others)
    assert few_precision > 0.5 and few_recall < 0.2 * recall
    noise = features.features(torch.rand(500, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert quality.precision_recall(noise, others)[0] < 0.05 < precision


def test_groups_must_fit(others):
    with pytest.raises(ValueError, match="images are 500 and others 500"):
        quality.kid(others, others, 7)
    with pytest.raises(ValueError, match="others 499"):
        quality.kid(others, others[:499], 10)


@pytest.mark.slow
def test_training_reduces_the_loss_and_leaves_the_global_generator_alone():
    state = torch.random.get_rng_state()
    short, long = (features.train(steps, quiet=True)[1] for steps in (5, 50))
    assert long < 0.9 * short
    assert torch.equal(torch.random.get_rng_state(), state)
    assert TRAIN.stop <= TEST.start
