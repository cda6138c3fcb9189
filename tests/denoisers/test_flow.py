from itertools import pairwise

import pytest
import torch
from tolerances import assert_equal
from torch import Tensor

from amdm import sample_ddim
from amdm.denoisers import GaussianMixture, RectifiedFlow
from amdm.schedules import flow_sigmas


def draw(*shape: int, rng: torch.Generator) -> Tensor:
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def test_the_exact_velocity_of_gaussian_data_gives_their_exact_denoiser(rng):
    mean, variance, x = draw(1, 4, rng=rng), draw(1, 4, rng=rng).exp(), 3 * draw(5, 4, rng=rng)

    def velocity(x_s: Tensor, time: Tensor) -> Tensor:
        """E[noise - x0 | x_s]: the regression of one Gaussian on another."""
        s = time[:, None]
        gain = (s - (1 - s) * variance) / ((1 - s) ** 2 * variance + s**2)
        return -mean + gain * (x_s - (1 - s) * mean)

    sigma = torch.tensor([0.05, 0.4, 1.0, 4.0, 99.0], dtype=torch.float64)
    flow = RectifiedFlow(velocity, time_scale=1.0)
    assert_equal(flow(x, sigma), GaussianMixture(mean, variance)(x, sigma))


@pytest.mark.parametrize("last", [0.0, 0.2])
def test_eulers_method_on_the_flow_is_ddim_in_ve_coordinates(last, rng):
    mixing, x_s = draw(4, 4, rng=rng), draw(3, 4, rng=rng)

    def velocity(x_s: Tensor, time: Tensor) -> Tensor:
        return torch.tanh(x_s @ mixing) + torch.cos(3 * time)[:, None] * x_s

    times = torch.linspace(0.95, last, 12, dtype=torch.float64)
    flow = RectifiedFlow(velocity, time_scale=1.0)
    ve = sample_ddim(flow, x_s / (1 - times[0]), flow_sigmas(times), disable=True)
    for s, s_next in pairwise(times):
        x_s = x_s + (s_next - s) * velocity(x_s, s.expand(3))
    assert_equal((1 - times[-1]) * ve, x_s)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("sigma", [0.1, 1.0, 30.0, 1e6])
def test_the_network_gets_the_flows_own_latent_and_its_scaled_time(sigma, dtype, rng):
    seen = []

    def network(x_s: Tensor, time: Tensor, *, text: str) -> Tensor:
        seen.extend([x_s, time, text])
        return torch.zeros_like(x_s)

    x = sigma * draw(3, 2, 4, rng=rng)
    level = torch.full((3,), sigma, dtype=torch.float64)
    RectifiedFlow(network, time_scale=250.0)(x.to(dtype), level.to(dtype), text="a cat")
    assert_equal(seen[0], (x / (1 + sigma)).to(dtype), tol=4 * torch.finfo(dtype).eps)
    assert_equal(seen[1], (250 * level / (1 + level)).to(dtype), tol=4 * torch.finfo(dtype).eps)
    assert seen[2] == "a cat"


def test_flow_times_are_these_levels():
    times = torch.tensor([1.0, 0.8, 0.5, 0.2, 0.0], dtype=torch.float64)
    expected = torch.tensor([1e6, 4.0, 1.0, 0.25, 0.0], dtype=torch.float64)
    assert_equal(flow_sigmas(times), expected, tol=1e-15)


@pytest.mark.parametrize("time", [-0.01, 1.01, float("nan")])
def test_times_that_are_no_flow_times_are_named(time):
    with pytest.raises(ValueError, match=r"times is \[.*\], expected flow times in \[0, 1\]"):
        flow_sigmas(torch.tensor([1.0, time]))
