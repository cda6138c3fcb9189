"""The exact pair: means by hand, one mode in common, unit variance."""

import pytest
import torch

from theory_checks.mixtures import attribute_pair


def test_each_model_knows_one_attribute_and_they_agree_in_one_mode():
    n = 4096
    one, other = attribute_pair([n], 20.0)
    assert one.means.shape == other.means.shape == (4, n)
    torch.testing.assert_close(one.means[0], other.means[0])
    # Random vectors of length 20 in 4096 dimensions are at right angles, to a few percent.
    between = torch.cdist(one.means, other.means)
    assert (between == 0).sum() == 1
    assert between[1:, 1:].min() > 0.9 * 20 * 2 and between[1:, 1:].max() < 1.1 * 20 * 2


def test_latents_have_unit_variance():
    one, _ = attribute_pair([8, 512], 20.0, seed=3)
    power = one.means.square().mean() + one.variances.mean()
    assert power.item() == pytest.approx(1, abs=0.02)


def test_a_radius_that_leaves_no_variance_is_refused():
    with pytest.raises(ValueError, match=r"radius must lie in 0 to 8 for the shape \(128,\), got 9.0"):
        attribute_pair([128], 9.0)
