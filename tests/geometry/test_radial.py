import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import latents, randn
from tolerances import assert_equal

from amdm.geometry import radial_correct, shell_radius


def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a - b).flatten(1).norm(dim=1)


@given(latents(num=2), st.floats(0, 10))
def test_the_distance_shrinks_by_the_length_and_stops_at_the_mean(xs, length):
    x, mean = xs
    moved = radial_correct(x, mean, length)
    expected = (distance(x, mean) - length).clamp(min=0)
    assert (distance(moved, mean) - expected).abs().max() <= 1e-12 * (1 + float(x.abs().max()))


@given(latents(num=2), st.floats(0, 10))
def test_the_letter_of_eq_8(xs, length):
    x, mean = xs
    gap = (x - mean).flatten(1)
    expected = x.flatten(1) - length * gap / gap.norm(dim=1, keepdim=True)
    assert_equal(radial_correct(x, mean, length, clip=False), expected.view_as(x), 1e-12)


def test_the_letter_of_eq_8_overshoots_and_the_default_does_not():
    x, mean = torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2)
    assert torch.equal(radial_correct(x, mean, 3.0, clip=False), torch.tensor([[-2.0, 0.0]]))
    assert torch.equal(radial_correct(x, mean, 3.0), mean)


@pytest.mark.parametrize("start", [0.5, 4.9, 5.1, 30.0])
@pytest.mark.parametrize("length", [0.0, 0.3, 100.0])
def test_the_shell_is_approached_from_either_side_and_never_passed(start, length):
    direction = randn(0, 2, 7)
    direction = direction / direction.norm(dim=1, keepdim=True)
    mean = randn(1, 2, 7)
    moved = radial_correct(mean + start * direction, mean, length, radius=5.0)
    target = max(start - length, 5.0) if start > 5 else min(start + length, 5.0)
    assert (distance(moved, mean) - target).abs().max() <= 1e-12


def test_the_shell_at_radius_zero_is_the_mean():
    x, mean = randn(0, 2, 3, 2, 4)
    assert torch.equal(radial_correct(x, mean, 0.5, radius=0.0), radial_correct(x, mean, 0.5))


def test_the_shell_corrected_twice_is_the_shell_corrected_once():
    x, mean = randn(0, 2, 3, 9)
    once = radial_correct(x, mean, 50.0, radius=2.0)
    assert_equal(radial_correct(once, mean, 50.0, radius=2.0), once)


@pytest.mark.parametrize("options", [{}, {"radius": 2.0}, {"clip": False}])
@pytest.mark.parametrize("length", [0.3, 1e3])
def test_a_latent_at_its_mean_stays(options, length):
    x = randn(0, 2, 3, 4, dtype=torch.float32)
    assert torch.equal(radial_correct(x, x.clone(), length, **options), x)


def test_rounding_between_equal_models_is_not_blown_up():
    """6e-6 apart, a literal step of 0.3 would be 50,000 times the distance."""
    x = randn(0, 1, 4, 64, 64, dtype=torch.float32)
    mean = x + 5e-8 * randn(1, 1, 4, 64, 64, dtype=torch.float32)
    assert 0 < distance(x, mean) < 1e-5
    assert distance(radial_correct(x, mean, 0.3), x) <= distance(x, mean)
    assert distance(radial_correct(x, mean, 0.3, clip=False), x) > 0.29


def test_lengths_and_radii_can_differ_between_samples():
    x, mean = randn(0, 2, 2, 3, 4)
    lengths = torch.tensor([0.1, 0.7], dtype=torch.float64)
    radii = torch.tensor([1.0, 9.0], dtype=torch.float64)
    moved = radial_correct(x, mean, lengths, radius=radii)
    for i, (length, radius) in enumerate([(0.1, 1.0), (0.7, 9.0)]):
        assert_equal(moved[[i]], radial_correct(x[[i]], mean[[i]], length, radius=radius), 1e-14)


def test_lengths_may_be_of_another_dtype_and_must_be_one_per_sample(unchecked):
    x, mean = randn(0, 2, 2, 3, 4, dtype=torch.float32)
    lengths = torch.tensor([0.1, 0.7], dtype=torch.float64)
    assert_equal(
        radial_correct(x, mean, lengths, radius=lengths),
        radial_correct(x, mean, lengths.float(), radius=lengths.float()),
    )
    with pytest.raises(
        ValueError, match=r"length has shape \(1,\), expected a number or one per sample: \(2,\)"
    ):
        radial_correct(x, mean, lengths[:1])
    with pytest.raises(ValueError, match=r"radius has shape \(3,\)"):
        radial_correct(x, mean, 0.1, radius=torch.ones(3))


def test_no_sample_depends_on_its_batch_mates():
    x, mean = randn(0, 2, 4, 3, 5)
    alone = torch.cat([radial_correct(x[[i]], mean[[i]], 0.3) for i in range(4)])
    assert_equal(radial_correct(x, mean, 0.3), alone, 1e-15)


def test_a_norm_over_the_batch_would_be_seen():
    x, mean = randn(0, 2, 4, 30)
    wrong = x - 0.3 * (x - mean) / (x - mean).norm()
    assert not torch.allclose(radial_correct(x, mean, 0.3), wrong, rtol=1e-3)


@pytest.mark.parametrize("options", [{}, {"radius": 2.0}, {"clip": False}])
def test_nan_in_is_nan_out_in_its_sample(options):
    x, mean = randn(0, 2, 2, 5)
    mean[1, 2] = math.nan
    moved = radial_correct(x, mean, 0.3, **options)
    assert moved[1].isnan().any() and moved[0].isfinite().all()


@pytest.mark.parametrize("options", [{}, {"radius": 2.0}, {"clip": False}])
def test_gradients_are_right(options):
    x, mean = (t.requires_grad_() for t in randn(0, 2, 2, 4))
    assert torch.autograd.gradcheck(lambda x, mean: radial_correct(x, mean, 0.3, **options), (x, mean))


def test_gradient_at_the_mean_is_finite():
    x = randn(0, 2, 4).requires_grad_()
    (gradient,) = torch.autograd.grad(radial_correct(x, x.detach().clone(), 0.3).sum(), x)
    assert gradient.isfinite().all()


def test_it_vmaps():
    x, mean = randn(0, 2, 3, 2, 5)
    mapped = torch.vmap(lambda x, mean: radial_correct(x, mean, 0.3))(x, mean)
    assert_equal(
        mapped, torch.stack([radial_correct(*pair, 0.3) for pair in zip(x, mean, strict=True)]), 1e-15
    )


def test_half_precision_far_from_its_mean_moves_by_the_length():
    x = torch.full((1, 4, 128, 128), 14.0, dtype=torch.float16)
    moved = radial_correct(x, torch.zeros_like(x), 1792.0)
    assert torch.equal(moved, torch.full_like(x, 7.0))


def test_a_negative_length_is_refused():
    with pytest.raises(ValueError, match=r"length is -0.1, expected 0 or more"):
        radial_correct(torch.ones(1, 2), torch.zeros(1, 2), -0.1)


def test_shell_radius_is_where_a_gaussian_lives():
    draws = 0.5 * randn(0, 1000, 16384)
    assert abs(float(draws.norm(dim=1).mean()) - shell_radius(16384, 0.5)) <= 4 * 0.5 / (2 * 1000) ** 0.5


@pytest.mark.parametrize("dtypes", [(torch.float64, torch.float32), (torch.float32, torch.float64)])
def test_a_mean_of_another_dtype_is_taken_in_that_of_x(dtypes):
    x, mean = (randn(k, 2, 6).to(dtype) for k, dtype in enumerate(dtypes))
    corrected = radial_correct(x, mean, 0.25)
    assert corrected.dtype == x.dtype and torch.equal(corrected, radial_correct(x, mean.to(x), 0.25))
