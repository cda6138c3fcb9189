import math

import pytest
import torch
from tolerances import assert_equal

from amdm.denoisers import Empirical, GaussianMixture


def draw(*shape: int, rng: torch.Generator) -> torch.Tensor:
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 5.0])
def test_it_is_the_mixture_of_points(sigma, rng):
    data, x = draw(7, 2, 3, rng=rng), draw(5, 2, 3, rng=rng)
    mixture = GaussianMixture(data, torch.full((7,), 1e-12, dtype=torch.float64))
    assert_equal(Empirical(data)(x, sigma), mixture(x, sigma), tol=1e-8)


def test_it_is_the_softmax_of_squared_distances_at_each_samples_level(rng):
    data, x = draw(7, 4, rng=rng), draw(4, 4, rng=rng)
    sigma = torch.tensor([0.1, 0.5, 2.0, 30.0], dtype=torch.float64)
    squared = (x[:, None] - data).square().sum(2)
    expected = (-squared / (2 * sigma[:, None] ** 2)).softmax(dim=1) @ data
    assert_equal(Empirical(data)(x, sigma), expected)


def test_vanishing_noise_gives_the_nearest_point(rng):
    data, x = draw(7, 4, rng=rng), draw(5, 4, rng=rng)
    assert_equal(Empirical(data)(x, 1e-3), data[torch.cdist(x, data).argmin(dim=1)])


def test_overwhelming_noise_gives_the_mean_and_the_first_order_in_1_over_sigma(rng):
    data, z = draw(7, 4, rng=rng), draw(5, 4, rng=rng)
    expected = data.mean(0) + z @ data.mT.cov(correction=0) / 1e6
    assert_equal(Empirical(data)(1e6 * z, 1e6), expected, tol=1e-10)


def test_a_number_is_that_level_for_the_whole_batch_in_full_precision(rng):
    model, x = Empirical(draw(7, 4, rng=rng)), draw(5, 4, rng=rng)
    assert_equal(model(x, 0.3), model(x, x.new_full((5,), 0.3)), tol=1e-15)


def test_float32_in_is_float32_out_but_float64_between(rng):
    model, x = Empirical(draw(7, 4, rng=rng)), draw(5, 4, rng=rng).float()
    assert_equal(model(x, 0.3), model(x.double(), 0.3).float(), tol=1e-7)


@pytest.mark.parametrize("data", [torch.zeros(0, 4), torch.tensor([[1.0, math.nan]])], ids=["none", "nan"])
def test_no_data_or_data_that_are_not_finite_are_named(data):
    with pytest.raises(ValueError, match=r"data has shape .*, expected one finite sample or more"):
        Empirical(data)


def test_another_event_shape_is_named():
    with pytest.raises(ValueError, match=r"x has the event shape \(2, 2\), expected \(4,\)"):
        Empirical(torch.zeros(3, 4))(torch.zeros(1, 2, 2), 1.0)


def test_at_level_0_it_is_the_nearest_of_the_data(rng):
    data = draw(5, 4, rng=rng)
    x = data[[3, 1]] + 0.01 * draw(2, 4, rng=rng)
    for sigma in (0.0, torch.tensor([0.0, 0.0]), torch.tensor([0.0, 1e-6])):
        assert torch.equal(Empirical(data)(x, sigma), data[[3, 1]])
