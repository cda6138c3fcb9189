"""Finite in, finite out: norms over the whole range of the dtype, gradients where there is no direction."""

import math

import pytest
import torch
from strategies import randn

from amdm.geometry import FOLDS, angle, fold_shares, karcher_mean, radial_correct, slerp
from amdm.geometry.rows import norms

FOLDS = list(FOLDS.values())
EXPONENTS = [-126, -70, -40, 0, 40, 64, 120]
"""Of factors 2^k, which round nothing: from float32's least normal number to near its largest."""


def pair(scale: float = 1.0, other: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    a, b = randn(0, 2, 3, 40).float()
    return scale * a, other * b


@pytest.mark.parametrize("k", EXPONENTS)
@pytest.mark.parametrize("other", EXPONENTS)
def test_angles_do_not_depend_on_the_scale_of_either(k, other):
    assert torch.allclose(angle(*pair(2.0**k, 2.0**other)), angle(*pair()), rtol=1e-5)


@pytest.mark.parametrize("k", [-120, -70, -40, 40, 64, 120])
@pytest.mark.parametrize("fold", FOLDS)
def test_folds_are_homogeneous_over_the_whole_range(k, fold):
    xs, factor = randn(1, 3, 2, 4, 5).float(), 2.0**k
    assert torch.allclose(fold(list(factor * xs), [0.5, 0.3]) / factor, fold(list(xs), [0.5, 0.3]), rtol=1e-5)


@pytest.mark.parametrize("k", [-1000, -600, 600, 1000])
@pytest.mark.parametrize("fold", FOLDS)
def test_folds_are_homogeneous_over_the_range_of_float64(k, fold):
    xs, factor = randn(1, 3, 2, 4, 5), 2.0**k
    assert torch.allclose(fold(list(factor * xs), [0.5, 0.3]) / factor, fold(list(xs), [0.5, 0.3]))


@pytest.mark.parametrize("k", [-120, -70, -40, 40, 64, 120])
@pytest.mark.parametrize("options", [{}, {"radius": True}, {"clip": False}])
def test_the_correction_is_homogeneous_over_the_whole_range(k, options):
    (x, mean), factor = pair(), 2.0**k

    def corrected(factor: float) -> torch.Tensor:
        given = {**options, "radius": 3.0 * factor} if "radius" in options else options
        return radial_correct(factor * x, factor * mean, 2.0 * factor, **given) / factor

    assert torch.allclose(corrected(factor), corrected(1.0), rtol=1e-5, atol=1e-6)


def test_subnormal_and_largest_numbers_have_norms_and_angles():
    x = torch.tensor([[1e-45, 0.0], [3e-42, 4e-42], [1.2e38, 1.6e38], [0.0, 0.0]])
    assert torch.allclose(norms(x).double(), x.double().norm(dim=1), rtol=1e-6, atol=2e-45)
    turned = torch.stack([-x[:, 1], x[:, 0]], dim=1)
    assert torch.allclose(angle(x, turned), torch.tensor([math.pi / 2] * 3 + [0.0]), rtol=1e-3)


def test_norms_of_mixed_sizes_in_one_fold():
    a, b, c = (torch.eye(3)[[i]] for i in range(3))
    mean = karcher_mean([1e-30 * a, b, 1e30 * c], [1 / 2, 1 / 3])
    assert torch.allclose(mean / norms(mean), torch.full((1, 3), 3**-0.5))


def zero_and_other() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(1, 3, dtype=torch.float64), torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)


PAIRS = {
    "zero first": zero_and_other(),
    "zero second": zero_and_other()[::-1],
    "both zero": (zero_and_other()[0],) * 2,
    "antipodes": (zero_and_other()[1], -zero_and_other()[1]),
    "antipodes of two lengths": (zero_and_other()[1], -3 * zero_and_other()[1]),
    "equal": (zero_and_other()[1],) * 2,
}
FUNCTIONS = {
    "angle": angle,
    "slerp": lambda a, b: slerp(a, b, 0.3),
    "radial_correct": lambda a, b: radial_correct(a, b, 0.3),
    "radial_correct to a shell": lambda a, b: radial_correct(a, b, 0.3, radius=1.0),
    "radial_correct by its length": lambda a, b: radial_correct(a, b, 0.3, clip=False),
    **{f"{fold.__name__} of 2": lambda a, b, fold=fold: fold([a, b], [0.3]) for fold in FOLDS},
    **{f"{fold.__name__} of 3": lambda a, b, fold=fold: fold([a, b, a], [0.5, 0.5]) for fold in FOLDS},
    **{
        f"{fold.__name__} of 4": lambda a, b, fold=fold: fold([a, b, b, a], [0.5, 0.3, 0.2]) for fold in FOLDS
    },
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_values_and_gradients_are_finite_where_there_is_no_direction(function, name, dtype):
    a, b = (x.to(dtype).requires_grad_() for x in PAIRS[name])
    result = function(a, b)
    gradients = torch.autograd.grad((result * torch.arange(1.0, 1.0 + result.shape[-1])).sum(), (a, b))
    assert result.isfinite().all() and all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("fold", FOLDS)
def test_nan_is_not_lost(fold):
    xs = randn(0, 3, 2, 5).float()
    xs[1, 0, 2] = math.nan
    merged = fold(list(xs), [0.5, 0.3])
    assert merged[0].isnan().any() and merged[1].isfinite().all()
    assert angle(xs[0], xs[1]).isnan().tolist() == [True, False]
    assert radial_correct(xs[0], xs[1], 0.1).isnan().any(1).tolist() == [True, False]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 2, 64])
def test_karchers_mean_on_the_far_side_is_finite_and_of_the_mean_norm(n, dtype):
    """Beyond a half sphere, where the mean need not be unique: c = -t (a + b), and whatever comes."""
    a, b, c = randn(n, 3, 200, n).to(dtype)
    t = torch.linspace(0.01, 2, 200, dtype=dtype)[:, None]
    for xs in ([a, b, -t * (a + b)], [a, b, c], [a, -a, a], [a, a, -a], [a, -t * a, b], [a, -a, b, -b]):
        for weights in ([0.5] * (len(xs) - 1), [1 / (k + 2) for k in range(len(xs) - 1)]):
            mean = karcher_mean(xs, weights)
            expected = sum(s * norms(x) for s, x in zip(fold_shares(weights), xs, strict=True))
            assert torch.allclose(norms(mean), expected.to(norms(mean)), rtol=3e-3)


def test_karchers_mean_of_a_triple_on_the_far_side_is_stationary():
    """On a circle the mean of angles that are less than pi from it is the weighted mean of the angles."""
    a, b, c = (torch.tensor([[math.cos(t), math.sin(t)]]).double() for t in (0.0, 1.0, -2.2))
    mean = karcher_mean([a, b, c], [0.5, 0.2])
    direction = math.atan2(mean[0, 1], mean[0, 0])
    shares = fold_shares([0.5, 0.2])
    assert direction == pytest.approx(shares[1] * 1.0 - shares[2] * 2.2, abs=1e-6)
