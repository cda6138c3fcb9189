import math

import numpy as np
import oracles
import pytest
import torch
from hypothesis import example, given
from scipy.spatial import geometric_slerp
from strategies import angles, latents, pair_at, randn, seeds, shares
from tolerances import ROUNDING, assert_equal

from amdm.geometry import angle, slerp


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("theta", [0.0, 1e-4, 1e-2, 1.0, math.pi / 2, 3.0, math.pi - 1e-3])
def test_angle_is_right_from_zero_to_pi(theta, dtype):
    a, b = pair_at(theta, norm=100.0)
    error = (angle(a.to(dtype), b.to(dtype)).double() - theta).abs().max()
    assert error <= 4 * torch.finfo(dtype).eps


def test_angle_is_pi_for_opposite_vectors():
    a = randn(0, 2, 9)
    assert_equal(angle(a, -a), torch.full((2,), math.pi, dtype=a.dtype))


@given(latents(num=2))
def test_angle_is_symmetric(xs):
    assert_equal(angle(xs[0], xs[1]), angle(xs[1], xs[0]))


@given(latents(num=2))
def test_angle_does_not_depend_on_norms(xs):
    assert (angle(xs[0], 7 * xs[1]) - angle(xs[0], xs[1])).abs().max() <= 1e-14


@pytest.mark.parametrize("scale", [1e-15, 1e-12, 1e8, 1e15])
def test_angle_is_right_at_any_scale_of_float32(scale):
    a, b = (scale * x.float() for x in pair_at(1.0))
    assert (angle(a, b) - 1.0).abs().max() <= 1e-6
    assert (angle(a, 1e3 * b) - 1.0).abs().max() <= 1e-6


def test_angle_of_a_zero_vector_is_zero():
    a = randn(0, 2, 9)
    zero = torch.zeros_like(a)
    assert angle(a, zero).eq(0).all() and angle(zero, a).eq(0).all() and angle(zero, zero).eq(0).all()


@given(latents(num=1), shares)
def test_slerp_of_equal_vectors_returns_them(xs, weight):
    assert_equal(slerp(xs[0], xs[0].clone(), weight), xs[0], 1e-15)


@given(angles, seeds, shares)
def test_slerp_keeps_unit_norm(theta, seed, weight):
    a, b = pair_at(theta, seed)
    assert (slerp(a, b, weight).norm(dim=1) - 1).abs().max() <= 1e-12


@given(angles, seeds, shares)
def test_slerp_is_at_the_weighted_angle_from_the_first(theta, seed, weight):
    a, b = pair_at(theta, seed)
    assert (angle(a, slerp(a, b, weight)) - weight * theta).abs().max() <= 1e-12


@given(latents(num=2), shares)
def test_slerp_swaps_with_its_complement(xs, weight):
    assert_equal(slerp(xs[0], xs[1], weight), slerp(xs[1], xs[0], 1 - weight), 1e-9)


@given(latents(num=2))
def test_slerp_ends_at_its_arguments(xs):
    assert torch.equal(slerp(xs[0], xs[1], 0.0), xs[0])
    assert_equal(slerp(xs[0], xs[1], 1.0), xs[1], 1e-9)


@pytest.mark.parametrize("theta", [1e-3, 0.1, 1.0, math.pi / 2, 3.0])
@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 1.0])
def test_slerp_is_scipys_geometric_slerp(theta, weight):
    a, b = pair_at(theta, n=5, batch=1)
    expected = geometric_slerp(a[0].numpy(), b[0].numpy(), weight)
    assert np.abs(slerp(a, b, weight)[0].numpy() - expected).max() <= 1e-12


@pytest.mark.parametrize("theta", [0.0, 1e-8, 1e-4, 1e-2, 1.0, math.pi / 2, 3.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_slerp_is_eq_7(theta, dtype):
    a, b = (x.to(dtype) for x in pair_at(theta, norm=100.0))
    assert_equal(slerp(a, 1.3 * b, 0.35), oracles.slerp(a.double(), 1.3 * b.double(), 0.35).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_slerp_loses_only_the_condition_number_near_pi(dtype):
    """The problem itself amplifies rounding by 1/(pi - theta)."""
    a, b = (x.to(dtype) for x in pair_at(math.pi - 1e-3))
    exact = oracles.slerp(a.double(), b.double(), 0.5)
    assert_equal(slerp(a, b, 0.5).double(), exact, 8 * torch.finfo(dtype).eps / 1e-3)


def test_slerp_of_an_antipodal_pair_is_the_average_over_all_arcs():
    a = randn(0, 2, 9)
    assert_equal(slerp(a, -a, 0.3), math.cos(0.3 * math.pi) * a, 1e-7)
    assert slerp(a.float(), -a.float(), 0.5).abs().max() <= 1e-3


def test_slerp_with_a_zero_vector_is_linear():
    a = randn(0, 2, 9)
    zero = torch.zeros_like(a)
    assert_equal(slerp(a, zero, 0.3), 0.7 * a)
    assert_equal(slerp(zero, a, 0.3), 0.3 * a)
    assert torch.equal(slerp(zero, zero, 0.3), zero)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_stays_visible_and_in_its_sample(bad):
    a, b = randn(0, 2, 3, 9)
    b[1, 4] = bad
    merged = slerp(a, b, 0.3)
    assert merged[1].isnan().any() and merged[[0, 2]].isfinite().all()
    assert angle(a, b)[1].isnan()


def test_weights_can_differ_between_samples():
    a, b = randn(0, 2, 3, 2, 4)
    weights = torch.tensor([0.0, 0.3, 1.0], dtype=a.dtype)
    merged = slerp(a, b, weights)
    for i, weight in enumerate([0.0, 0.3, 1.0]):
        assert_equal(merged[[i]], slerp(a[[i]], b[[i]], weight), 1e-15)


@pytest.mark.parametrize("theta", [0.0, 1e-7, 1e-3, 1.0, 3.0])
def test_gradients_of_slerp_are_right(theta):
    a, b = (x.requires_grad_() for x in pair_at(theta, n=4))
    assert torch.autograd.gradcheck(lambda a, b: slerp(a, b, 0.3), (a, b))


def test_gradient_of_angle_is_finite_where_it_is_zero():
    a = randn(0, 2, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(angle(a, a.detach().clone()).sum(), a)
    assert gradient.isfinite().all()


def test_half_precision_whose_squared_norm_overflows_comes_out_right():
    a, b = (x.to(torch.float16) for x in 14 * randn(0, 2, 1, 4, 128, 128))
    assert (a.double() ** 2).sum() > torch.finfo(torch.float16).max
    exact = oracles.slerp(a.double(), b.double(), 0.5)
    assert_equal(slerp(a, b, 0.5), exact.half(), ROUNDING[torch.float16])
    assert abs(float(angle(a, b)) - float(angle(a.double(), b.double()))) <= 1e-5


@example(1e-6)
@given(shares)
def test_slerp_vmaps(weight):
    a, b = randn(0, 2, 3, 2, 5)
    mapped = torch.vmap(lambda a, b: slerp(a, b, weight))(a, b)
    assert_equal(mapped, torch.stack([slerp(x, y, weight) for x, y in zip(a, b, strict=True)]), 1e-14)


def test_shapes_that_differ_are_refused(unchecked):
    with pytest.raises(
        ValueError, match=r"expected equal shapes, but a has shape \(2, 4\), b has shape \(1, 4\)"
    ):
        slerp(torch.ones(2, 4), torch.ones(1, 4), 0.5)
    with pytest.raises(ValueError, match=r"a has shape \(1, 4\), b has shape \(2, 4\)"):
        slerp(torch.ones(1, 4), torch.ones(2, 4), 0.5)
