import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import latents, pair_at, randn, seeds, shares
from tolerances import ROUNDING, assert_equal

from amdm.geometry import angle, fold_shares, karcher_mean, slerp, slerp_fold


def units(seed: int, num: int, spread: float = 1.0, n: int = 40) -> list[torch.Tensor]:
    """Unit vectors around a common one; `spread` = 1 is about pi/3 from it."""
    base = 0.5 * n**0.5 * torch.nn.functional.normalize(randn(seed, 1, 2, n), dim=-1)
    return list(torch.nn.functional.normalize(base + spread * randn(seed + 1, num, 2, n), dim=-1))


def weights_for(shares: list[float]) -> list[float]:
    """The fold weights that have these shares."""
    return [share / sum(shares[: k + 1]) for k, share in enumerate(shares)][1:]


def assert_pulls_cancel(mean, xs, weights):
    """The gradient of the sum of share * angle^2 on the sphere is zero at the mean, which is on it."""
    pull = torch.zeros_like(mean)
    for share, x in zip(fold_shares(weights), xs, strict=True):
        theta = angle(mean, x)[:, None]
        tangent = x - mean - ((x - mean) * mean).sum(1, keepdim=True) * mean
        pull += share * theta / theta.sin() * tangent
    assert pull.norm() <= 1e-13
    assert (mean.norm(dim=1) - 1).abs().max() <= 1e-13


@pytest.mark.parametrize("spread", [1e-6, 1e-2, 1.0])
@pytest.mark.parametrize("num", [2, 3, 5])
def test_the_mean_is_where_the_pulls_cancel(num, spread):
    xs, weights = units(0, num, spread), [0.5, 0.65, 0.2, 0.4][: num - 1]
    assert_pulls_cancel(karcher_mean(xs, weights), xs, weights)


def test_one_of_little_weight_may_be_nearly_opposite():
    """150 degrees from the other two, which are close: its distance to the mean is not cut off."""
    a, b = pair_at(math.radians(150), seed=0)
    xs, weights = [a, slerp(a, b, 0.01), b], [0.5, 0.05]
    mean = karcher_mean(xs, weights)
    assert math.radians(130) < angle(mean, b).min()
    assert_pulls_cancel(mean, xs, weights)


@given(latents(num=1), shares)
def test_of_equal_latents_is_them(xs, share):
    for num in (2, 3):
        assert_equal(karcher_mean([xs[0]] * num, [share] * (num - 1)), xs[0], 1e-14)


def test_of_one_is_the_identity():
    x = randn(0, 2, 3)
    assert torch.equal(karcher_mean([x], []), x)


@given(seeds, st.floats(0.01, 3), shares)
def test_of_two_of_one_norm_is_slerp(seed, theta, weight):
    a, b = pair_at(theta, seed, norm=100.0)
    assert_equal(karcher_mean([a, b], [weight]), slerp(a, b, weight))


def test_does_not_depend_on_the_order():
    xs, shares = units(3, 3), [0.2, 0.3, 0.5]
    means = [
        karcher_mean([xs[i] for i in order], weights_for([shares[i] for i in order]))
        for order in itertools.permutations(range(3))
    ]
    for mean in means[1:]:
        assert_equal(mean, means[0], 1e-12)
    folds = [slerp_fold([xs[i] for i in order], [0.5, 1 / 3]) for order in itertools.permutations(range(3))]
    assert max((fold - folds[0]).abs().max() for fold in folds) > 1e-3


def test_the_norm_is_the_mean_of_the_norms():
    xs = [c * x for c, x in zip([1.0, 2.0, 4.0], units(0, 3), strict=True)]
    shares = fold_shares([0.5, 0.65])
    expected = shares[0] + 2 * shares[1] + 4 * shares[2]
    assert (karcher_mean(xs, [0.5, 0.65]).norm(dim=1) - expected).abs().max() <= 1e-12


def test_is_rotation_equivariant_and_homogeneous():
    xs, rotation = units(0, 3), torch.linalg.qr(randn(9, 40, 40)).Q
    mean = karcher_mean(xs, [0.5, 0.65])
    assert_equal(karcher_mean([3 * x @ rotation for x in xs], [0.5, 0.65]), 3 * mean @ rotation)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_lower_precision_comes_out_right(dtype):
    xs = [(14 * 160 * x).to(dtype) for x in units(0, 3, n=25600)]
    exact = karcher_mean([x.double() for x in xs], [0.5, 0.65])
    assert_equal(karcher_mean(xs, [0.5, 0.65]), exact.to(dtype), ROUNDING[dtype])


@pytest.mark.parametrize("num", [2, 3])
def test_gradients_are_right_and_finite_at_angle_zero(num):
    xs = [x.requires_grad_() for x in units(0, num, n=4)]
    weights = [0.5, 0.65][: num - 1]
    assert torch.autograd.gradcheck(lambda *xs: karcher_mean(xs, weights), xs)
    same = [xs[0].detach().clone().requires_grad_() for _ in xs]
    gradients = torch.autograd.grad(karcher_mean(same, weights).sum(), same)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_zero_vectors_give_something_finite_and_nan_stays():
    xs = [x.clone() for x in units(0, 3)]
    xs[1][0] = 0
    xs[2][1, 0] = torch.nan
    mean = karcher_mean(xs, [0.5, 0.65])
    assert mean[0].isfinite().all() and mean[1].isnan().any()


def test_per_sample_weights_and_vmap():
    xs = units(0, 3)
    per_sample = torch.tensor([0.2, 0.9], dtype=torch.float64)
    mean = karcher_mean(xs, [per_sample, 0.65])
    for i, weight in enumerate([0.2, 0.9]):
        assert_equal(mean[[i]], karcher_mean([x[[i]] for x in xs], [weight, 0.65]), 1e-13)
    mapped = torch.vmap(lambda *xs: karcher_mean(xs, [0.5, 0.65]))(*(x[None] for x in xs))
    assert_equal(mapped[0], karcher_mean(xs, [0.5, 0.65]), 1e-13)


def test_plain_gram_matrix_would_fail_at_small_angles():
    """The reason for differences: the cosine in float32 does not see an angle of 1e-4."""
    a, b = (x.float() for x in pair_at(1e-4, n=4096))
    gram = torch.stack([a, b], 1) @ torch.stack([a, b], 1).mT
    cosine = gram[:, 0, 1] / (gram[:, 0, 0] * gram[:, 1, 1]).sqrt()
    assert (cosine.clamp(-1, 1).arccos() / 1e-4 - 1).abs().max() > 0.1
