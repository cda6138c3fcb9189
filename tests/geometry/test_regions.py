"""A weight per element: the angle is that of the whole latents, the share varies."""

import oracles
import pytest
import torch
from samplers.models import gaussian, karras
from strategies import randn
from tolerances import assert_equal

from amdm import amdm, sample_amdm
from amdm.geometry import angle, fold_shares, karcher_mean, lerp_fold, orthogonal_mix, slerp, slerp_fold

XS = list(randn(0, 3, 2, 3, 4, 4))
SHARES = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
FOLDS = [slerp_fold, lerp_fold, orthogonal_mix]


def test_slerp_is_the_formula_element_by_element():
    a, b = XS[:2]
    theta = angle(a, b).reshape(2, 1, 1, 1)
    expected = (torch.sin((1 - SHARES) * theta) * a + torch.sin(SHARES * theta) * b) / torch.sin(theta)
    assert_equal(slerp(a, b, SHARES), expected)


@pytest.mark.parametrize("fold", FOLDS)
def test_every_element_is_folded_as_with_its_weight(fold):
    weights = [SHARES, torch.tensor([0.2, 0.7]).double()]
    if fold is slerp_fold:  # the second angle is that from what the first merge made
        merged = slerp(XS[0], XS[1], SHARES)
        assert_equal(fold(XS, weights), slerp(merged, XS[2], weights[1]))
        return
    actual = fold(XS, weights)
    for i in range(4):
        share = SHARES[:, 0, i, 1]
        assert_equal(actual[:, :, i, 1], fold(XS, [share, weights[1]])[:, :, i, 1])


@pytest.mark.parametrize("fold", FOLDS)
@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (1, 1, 1, 1), (2, 3, 4, 4)])
def test_one_weight_for_all_elements_is_that_weight(fold, shape):
    value = torch.tensor([0.3, 0.3]).double()
    expected = fold(XS, [value, 0.6])
    assert_equal(fold(XS, [torch.full(shape, 0.3).double(), 0.6]), expected)
    assert_equal(fold(XS, [torch.full(shape, 0.3), torch.tensor(0.6)]), expected, 1e-7)


@pytest.mark.parametrize("fold", [*FOLDS, karcher_mean])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 2)])
def test_one_per_sample_as_it_multiplies_latents_is_one_per_sample(fold, count, shape):
    xs = list(randn(3, count, *shape).float())
    weights = [torch.tensor([0.1, 0.8]), torch.tensor([0.7, 0.4])][: count - 1]
    columns = [weight.reshape(-1, *[1] * (len(shape) - 1)) for weight in weights]
    assert torch.equal(fold(xs, columns), fold(xs, weights))


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_hard_regions_are_the_models_own(weight):
    """Where the share is 0 the fold is the first latent, where it is 1 the second."""
    region = torch.full((1, 1, 4, 4), weight).double()
    region[..., :2] = 1 - weight
    left, right = (XS[0], XS[1]) if weight == 1 else (XS[1], XS[0])
    merged = slerp(XS[0], XS[1], region)
    assert_equal(merged[..., :2], left[..., :2])
    assert_equal(merged[..., 2:], right[..., 2:])


def test_equal_latents_come_back_and_small_angles_are_lerp():
    assert torch.equal(slerp(XS[0], XS[0].clone(), SHARES), XS[0])
    near = XS[0] + 1e-9 * XS[1]
    assert_equal(slerp(XS[0], near, SHARES) - XS[0], 1e-9 * SHARES * XS[1], 1e-6)


def test_norms_of_independent_latents_are_kept():
    """At a right angle the squared coefficients sum to one in every element."""
    a, b = randn(3, 2, 4, 3, 64, 64)
    share = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    assert_equal(slerp(a, b, share).flatten(1).norm(dim=1), a.flatten(1).norm(dim=1), 0.03)


def test_it_has_gradients_and_a_half_precision():
    share = SHARES.clone().requires_grad_()
    torch.autograd.gradcheck(lambda w: slerp(XS[0], XS[1], w), (share,))
    half = slerp(XS[0].half(), XS[1].half(), SHARES.half())
    assert half.dtype == torch.float16
    assert_equal(half.double(), slerp(XS[0], XS[1], SHARES), 2e-3)


def test_a_plain_weight_is_what_it_was():
    assert_equal(slerp(XS[0], XS[1], 0.3), oracles.slerp(XS[0], XS[1], 0.3))
    assert fold_shares([0.5, 0.65]) == pytest.approx((0.175, 0.175, 0.65))


@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"weight has shape \(2, 4\), .* one per element"):
        slerp(XS[0], XS[1], SHARES[:, 0, 0])
    with pytest.raises(ValueError, match=r"weights\[1\] has shape \(2, 1, 4, 5\)"):
        lerp_fold(XS, [0.5, torch.ones(2, 1, 4, 5)])
    with pytest.raises(
        ValueError, match=r"weights\[0\] has shape \(2, 1, 4, 4\), expected a number or one per"
    ):
        karcher_mean(XS, [SHARES, 0.5])


def test_amdm_takes_regions():
    """Two Gaussians, each master of its half: where they meet, each half comes from its own model."""
    left = torch.zeros(8).double()
    left[4:] = 1.0  # the share of model 2
    models = [gaussian([-3.0] * 8, 1e-4), gaussian([3.0] * 8, 1e-4)]
    sigmas, x = karras(20), 20 * randn(4, 5, 8)
    for weights in (left[None], [left[None]], lambda step: left[None]):
        drawn = sample_amdm(models, x, sigmas, weights=weights, window=1.0, correction=0.0, disable=True)
        assert torch.allclose(drawn, torch.where(left > 0, 3.0, -3.0).double(), atol=0.1)
    first = next(amdm(models, x, sigmas, weights=left[None], correction=0.0))
    xs = first.aggregation.xs
    assert_equal(first.x_next, torch.where(left > 0, xs[1], xs[0]))
