import math

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import latents, pair_at, randn, seeds, shares
from tolerances import ROUNDING, assert_equal

from amdm import geometry
from amdm.geometry import angle, fold_shares, lerp_fold, orthogonal_mix, slerp, slerp_fold

FOLDS = list(geometry.FOLDS.values())
ANGLES = [0.0, 1e-4, 1e-3, 1e-2, 0.1, 1.0, math.pi / 2, 2.5]


def latents_at(theta: float, num: int) -> list[torch.Tensor]:
    """N latents that are pairwise about `theta` apart, of slightly different norms."""
    first, second = pair_at(theta, norm=100.0)
    others = [
        pair_at(theta, seed, norm=100.0)[1] - pair_at(0.0, seed, norm=100.0)[1] for seed in range(1, num - 1)
    ]
    return [first, 1.003 * second, *(0.998 * (first + other) for other in others)]


@given(latents(num=1))
def test_fold_of_one_is_the_identity_bit_for_bit(xs):
    assert torch.equal(slerp_fold(xs, []), xs[0]) and torch.equal(lerp_fold(xs, []), xs[0])


@given(latents(num=1), st.lists(shares, min_size=1, max_size=4))
def test_fold_of_equal_latents_returns_them_bit_for_bit(xs, weights):
    same = [xs[0].clone() for _ in range(len(weights) + 1)]
    assert torch.equal(slerp_fold(same, weights), xs[0])
    assert torch.equal(lerp_fold(same, weights), xs[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("theta", ANGLES)
@pytest.mark.parametrize("num", [2, 3, 5])
def test_slerp_fold_is_the_formula_pass_by_pass(num, theta, dtype):
    xs = [x.to(dtype) for x in latents_at(theta, num)]
    weights = [0.5, 0.65, 0.2, 0.9][: num - 1]
    exact = oracles.slerp_fold([x.double() for x in xs], weights)
    assert_equal(slerp_fold(xs, weights), exact.to(dtype))


@pytest.mark.parametrize("gap", [0.3, 0.14, 1e-2, 1e-3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_slerp_fold_loses_the_condition_number_near_pi(gap, dtype):
    """No more than the amplification 1/(pi - theta) that any formula has."""
    a, b = (x.to(dtype) for x in pair_at(math.pi - gap))
    merged, exact = slerp_fold([a, b], [0.5]).double(), oracles.slerp(a.double(), b.double(), 0.5)
    assert (merged - exact).norm(dim=1).max() <= 8 * torch.finfo(dtype).eps / gap


@pytest.mark.parametrize("fold", FOLDS)
@pytest.mark.parametrize("ambient", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(fold, ambient):
    xs = [14.6 * x.float() for x in randn(0, 3, 2, 4, 16, 16)]
    alone = fold(xs, [0.5, 1 / 3])
    with torch.autocast("cpu", dtype=ambient):
        assert torch.equal(fold(xs, [0.5, 1 / 3]), alone)


@given(latents(), st.data())
def test_fold_is_rotation_equivariant(xs, data):
    weights = data.draw(st.lists(shares, min_size=len(xs) - 1, max_size=len(xs) - 1))
    n = xs[0][0].numel()
    rotation = torch.linalg.qr(randn(data.draw(seeds), n, n)).Q
    rotated = slerp_fold([(x.flatten(1) @ rotation).view_as(x) for x in xs], weights)
    assert_equal(rotated, (slerp_fold(xs, weights).flatten(1) @ rotation).view_as(rotated), 1e-9)


@given(latents(), st.sampled_from([1e-3, 0.5, 2.0, 1e4]), st.data())
def test_fold_is_homogeneous(xs, factor, data):
    weights = data.draw(st.lists(shares, min_size=len(xs) - 1, max_size=len(xs) - 1))
    assert_equal(slerp_fold([factor * x for x in xs], weights), factor * slerp_fold(xs, weights), 1e-9)


@given(latents(num=3))
def test_weight_zero_keeps_what_was_and_weight_one_takes_the_later(xs):
    assert torch.equal(slerp_fold(xs, [0.0, 0.0]), xs[0])
    assert_equal(slerp_fold(xs, [0.0, 1.0]), xs[2], 1e-9)
    assert_equal(slerp_fold(xs, [1.0, 0.0]), xs[1], 1e-9)


@given(st.integers(2, 5), seeds, st.data())
def test_fold_keeps_unit_norm(num, seed, data):
    weights = data.draw(st.lists(shares, min_size=num - 1, max_size=num - 1))
    xs = [x / x.norm(dim=1, keepdim=True) for x in randn(seed, num, 2, 64)]
    assert (slerp_fold(xs, weights).norm(dim=1) - 1).abs().max() <= 1e-12


def test_fold_is_a_left_fold():
    xs = list(randn(0, 3, 2, 40))
    assert_equal(slerp_fold(xs, [0.5, 0.65]), slerp(slerp(xs[0], xs[1], 0.5), xs[2], 0.65))
    assert not torch.allclose(slerp_fold(xs, [0.5, 0.65]), slerp_fold(xs[::-1], [0.35, 0.5]), rtol=1e-3)


def test_no_sample_depends_on_its_batch_mates():
    xs = list(randn(0, 3, 4, 2, 5))
    alone = torch.cat([slerp_fold([x[[i]] for x in xs], [0.5, 0.65]) for i in range(4)])
    assert_equal(slerp_fold(xs, [0.5, 0.65]), alone, 1e-14)


def test_weights_can_differ_between_samples():
    xs = list(randn(0, 3, 2, 2, 5))
    per_sample = torch.tensor([0.2, 0.9], dtype=torch.float64)
    for fold in (slerp_fold, lerp_fold, orthogonal_mix):
        merged = fold(xs, [per_sample, 0.65])
        for i, weight in enumerate([0.2, 0.9]):
            assert_equal(merged[[i]], fold([x[[i]] for x in xs], [weight, 0.65]), 1e-14)


@pytest.mark.parametrize("fold", FOLDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_weights_may_be_of_another_dtype_than_the_latents(fold, dtype):
    xs = [x.to(dtype) for x in randn(0, 3, 2, 5)]
    weights = [torch.tensor([0.2, 0.9], dtype=torch.float64), torch.tensor(0.65, dtype=torch.float64)]
    merged = fold(xs, weights)
    for i, weight in enumerate([0.2, 0.9]):
        assert_equal(merged[[i]], fold([x[[i]] for x in xs], [weight, 0.65]))


@pytest.mark.parametrize("fold", FOLDS)
def test_weights_that_would_broadcast_by_accident_are_refused(fold, unchecked):
    message = r"weights\[0\] has shape \(1,\), expected a number or one per sample: \(2,\)"
    with pytest.raises(ValueError, match=message):
        fold(list(randn(0, 2, 2, 5)), [torch.tensor([0.5])])


def test_inputs_are_not_modified():
    xs = list(randn(0, 3, 2, 2, 5))
    before = [x.clone() for x in xs]
    for fold in (slerp_fold, lerp_fold, orthogonal_mix):
        fold(xs, [0.5, 0.65])
    assert all(torch.equal(x, y) for x, y in zip(xs, before, strict=True))


def test_fold_shares_are_the_shares_of_a_fold_at_small_angles():
    weights = [0.5, 0.65, 0.2]
    base, *offsets = randn(0, 5, 1, 6)
    shares = fold_shares(weights)
    merged = slerp_fold([base + 1e-7 * d for d in offsets], weights)
    expected = base + 1e-7 * sum(s * d for s, d in zip(shares, offsets, strict=True))
    assert (merged - expected).abs().max() <= 1e-12 and abs(sum(shares) - 1) <= 1e-15


def test_equal_shares_come_from_harmonic_weights():
    assert fold_shares([1 / 2, 1 / 3, 1 / 4]) == pytest.approx((0.25,) * 4, abs=1e-15)


@given(latents(num=3), shares, shares)
def test_lerp_fold_is_the_left_fold_of_lerp(xs, first, second):
    expected = torch.lerp(torch.lerp(xs[0], xs[1], first), xs[2], second)
    assert_equal(lerp_fold(xs, [first, second]), expected, 1e-12)


def test_slerp_fold_tends_to_lerp_fold_at_small_angles():
    a, b = pair_at(1e-5)
    assert_equal(slerp_fold([a, b], [0.3]), lerp_fold([a, b], [0.3]), 1e-9)


def test_orthogonal_mix_is_slerp_at_two_thirds_for_orthogonal_vectors():
    a, b = pair_at(math.pi / 2)
    assert_equal(orthogonal_mix([a, b], [0.5]), slerp(a, b, 2 / 3))


def test_orthogonal_mix_stretches_equal_vectors():
    a = randn(0, 1, 8)
    assert_equal(orthogonal_mix([a, a], [0.5]), (0.5 + 0.75**0.5) * a)


def test_antipodal_pairs_and_zero_vectors_are_those_of_slerp():
    a = randn(0, 2, 9)
    zero = torch.zeros_like(a)
    assert_equal(slerp_fold([a, -a], [0.3]), math.cos(0.3 * math.pi) * a, 1e-6)
    assert_equal(slerp_fold([a, zero], [0.3]), 0.7 * a)
    assert_equal(slerp_fold([zero, a], [0.3]), 0.3 * a)
    assert torch.equal(slerp_fold([zero, zero], [0.3]), zero)


@pytest.mark.parametrize("fold", [slerp_fold, lerp_fold, orthogonal_mix])
def test_nan_in_is_nan_out_in_its_sample(fold):
    xs = list(randn(0, 3, 2, 8))
    xs[1][0, 3] = math.nan
    merged = fold(xs, [0.5, 0.5])
    assert merged[0].isnan().any() and merged[1].isfinite().all()


@pytest.mark.parametrize("theta", [0.0, 1e-7, 1e-3, 1.0])
def test_gradients_of_the_fold_are_right(theta):
    xs = [x.requires_grad_() for x in (*pair_at(theta, n=4), *pair_at(theta, 1, n=4)[1:])]
    assert torch.autograd.gradcheck(lambda *xs: slerp_fold(xs, [0.3, 0.6]), xs)


def test_the_fold_vmaps():
    a, b, c = randn(0, 3, 3, 2, 5)
    mapped = torch.vmap(lambda a, b, c: slerp_fold([a, b, c], [0.5, 0.65]))(a, b, c)
    one_by_one = [slerp_fold(list(xs), [0.5, 0.65]) for xs in zip(a, b, c, strict=True)]
    assert_equal(mapped, torch.stack(one_by_one), 1e-14)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_whose_squared_norm_overflows_comes_out_right(dtype):
    xs = [x.to(dtype) for x in 14 * randn(0, 3, 1, 4, 128, 128)]
    exact = oracles.slerp_fold([x.double() for x in xs], [0.5, 0.65])
    assert_equal(slerp_fold(xs, [0.5, 0.65]), exact.to(dtype), ROUNDING[dtype])


def test_the_norm_of_independent_latents_is_kept_by_slerp_and_lost_by_lerp():
    a, b = randn(0, 2, 1, 16384)
    assert abs(slerp_fold([a, b], [0.5]).norm() / 128 - 1) <= 0.02
    assert abs(lerp_fold([a, b], [0.5]).norm() / 128 - 0.5**0.5) <= 0.02
    assert abs(float(angle(a, b)) - math.pi / 2) <= 0.04


@pytest.mark.parametrize("fold", [slerp_fold, lerp_fold, orthogonal_mix])
def test_a_wrong_number_of_weights_is_refused(fold):
    with pytest.raises(ValueError, match="weights has 2 entries but there are 2 latents: expected N - 1"):
        fold([torch.ones(1, 2)] * 2, [0.5, 0.5])
    with pytest.raises(ValueError, match="there are 0 latents"):
        fold([], [])


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match=r"xs\[1\] has shape \(1, 4\)"):
        slerp_fold([torch.ones(2, 4), torch.ones(1, 4)], [0.5])
