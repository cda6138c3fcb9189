"""Features and the distances of sets of images: floors, what they must see, and independent references."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from amdm.shapes import features, latents, quality
from amdm.shapes.world import TEST, TRAIN, render, sample_scenes

GROUPS = 10


def images(first, count=500):
    return render(sample_scenes(TEST[first : first + count], uniform_kinds=True))


@pytest.fixture(scope="module")
def others():
    return features.features(images(1000))


def t_statistic(found):
    return found.value / (found.pseudo.std(ddof=1) / len(found.pseudo) ** 0.5)


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
    from amdm.shapes.world import captions

    ids = captions(scenes)
    return (ids - 1).where(ids > 0, ids[:, :1] - 1)


def test_kid_of_renders_is_zero_within_its_interval(others):
    """Ten groups: |t| of 9 degrees of freedom is below 3.25 in 99% of the draws; the draw is fixed."""
    assert abs(t_statistic(quality.kid(features.features(images(0)), others, GROUPS))) < 3.25


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["noise", "blur"])
def test_kid_grows_with_noise_and_with_blur(kind, others):
    clean = images(0)
    found = []
    for level in (0.0, 0.3, 0.6, 1.0):
        levels = torch.tensor([level, 0.0] if kind == "noise" else [0.0, level]).expand(500, 2)
        disturbed = features.disturb(clean, levels, torch.Generator().manual_seed(0))
        found.append(quality.kid(features.features(disturbed), others, GROUPS))
    assert all(after.value > before.value for before, after in pairwise(found))
    assert t_statistic(found[-1]) > 10


def test_kid_is_torch_fidelitys_own(others):
    """The unbiased estimate of the whole; a pseudo-value is ten of it less nine without a group."""
    kernel_distance = quality._fidelity("metric_kid").kid_features_to_metric

    def theirs(one, other):
        size = {"kid_subsets": 1, "kid_subset_size": len(one), "verbose": False}
        return 1000 * kernel_distance(one, other, **size)["kernel_inception_distance_mean"]

    mine = features.features(latents.decode(0.9 * latents.encode(images(0))))
    found = quality.kid(mine, others, GROUPS)
    assert found.value == pytest.approx(theirs(mine, others), rel=1e-4)
    assert found.pseudo[0] == pytest.approx(10 * found.value - 9 * theirs(mine[50:], others[50:]), rel=1e-3)


def test_kid_of_more_others_is_the_mean_over_parts_of_them(others):
    """The others' own pairs apart, of which there are more."""
    mine, (one, other) = features.features(images(0, 250)), others.chunk(2)
    kernel = quality._fidelity("metric_kid").kernel_poly
    between = kernel(one.double().numpy(), other.double().numpy()).mean()
    within = [kernel(part.double().numpy(), part.double().numpy()) for part in (one, other)]
    inside = [(k.sum() - np.trace(k)) / (250 * 249) for k in within]
    means = np.mean([quality.kid(mine, part, GROUPS).value for part in (one, other)])
    # Of the pairs of 500 others 249/499 are within a half.
    more = 1000 * 250 / 499 * (between - np.mean(inside))
    assert quality.kid(mine, others, GROUPS).value == pytest.approx(means + more, rel=1e-6)


def test_the_interval_of_kid_includes_that_of_the_others():
    """Of normal features, over many draws of both sets, the jackknife's error is the deviation."""
    generator = torch.Generator().manual_seed(0)
    values, errors = [], []
    for _ in range(100):
        mine, others = torch.randn(2, 200, 4, generator=generator) + torch.tensor([0.7, 0.0])[:, None, None]
        found = quality.kid(mine, others, GROUPS)
        values.append(found.value)
        errors.append(found.pseudo.std(ddof=1) / GROUPS**0.5)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.2)


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
    for images, reference, groups in ((500, 500, 7), (500, 499, 10), (500, 500, 1)):
        expected = f"images are {images}, others {reference} and groups {groups}, expected two groups or more"
        with pytest.raises(ValueError, match=expected):
            quality.kid(others[:images], others[:reference], groups)


@pytest.mark.slow
def test_training_reduces_the_loss_and_leaves_the_global_generator_alone():
    state = torch.random.get_rng_state()
    short, long = (features.train(steps, quiet=True)[1] for steps in (5, 50))
    assert long < 0.9 * short
    assert torch.equal(torch.random.get_rng_state(), state)
    assert TRAIN.stop <= TEST.start
