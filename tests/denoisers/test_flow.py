from itertools import pairwise

import pytest
import torch
from tolerances import assert_equal
from torch import Tensor

from amdm import sample_ddim
from amdm.denoisers import GaussianMixture, RectifiedFlow
from amdm.schedules import flow_from_ve, flow_sigmas, flow_times, flow_times_from_sigmas, flow_to_ve


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


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_predictions_of_x0_and_the_velocity_make_the_same_denoiser(dtype, rng):
    """A host's function of (x_s, s) returns x0 = x_s - s v."""
    mixing, x = draw(4, 4, rng=rng).to(dtype), 3 * draw(5, 4, rng=rng).to(dtype)
    velocity = lambda x_s, s: torch.tanh(x_s @ mixing)
    predict = lambda x_s, s, **more: x_s - s[:, None] * velocity(x_s, s) + more.get("shift", 0.0)
    sigma = torch.tensor([0.05, 0.4, 1.0, 4.0, 1e6], dtype=dtype)
    flow = RectifiedFlow(velocity, time_scale=1.0)
    host = RectifiedFlow(predict, time_scale=1.0, prediction="sample")
    assert_equal(host(x, sigma), flow(x, sigma), 8 * torch.finfo(dtype).eps)
    assert_equal(host(x, sigma, shift=1.0), host(x, sigma) + 1)
    with pytest.raises(ValueError, match=r"^network returned shape \(2, 4\), expected that of x: \(5, 4\)"):
        RectifiedFlow(lambda x, s: x[:2], prediction="sample")(x, sigma)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shift", [1.0, 1.15, 3.0])
def test_the_network_is_told_the_schedules_own_times(shift, dtype):
    times, told = flow_times(30, shift).float(), []

    def network(x_s, time):
        told.append(time)
        return 0 * x_s

    first = 1 if dtype == torch.float16 else 0  # which lacks the level of time 1
    for known in (times, None):
        model = RectifiedFlow(network, time_scale=1.0, prediction="sample", times=known)
        x = flow_to_ve(torch.randn(1, 8), flow_sigmas(times)[first]).to(dtype)
        sample_ddim(model, x, flow_sigmas(times)[first:], disable=True, validate=False)
    steps = len(times) - 1 - first
    assert torch.equal(torch.cat(told[:steps]), times[first:-1])
    assert not torch.equal(torch.cat(told[steps:]).float(), times[first:-1])


def test_times_and_levels_are_inverse():
    times = torch.tensor([1.0, 0.999, 0.8, 0.5, 0.2, 1e-4, 0.0], dtype=torch.float64)
    assert_equal(flow_times_from_sigmas(flow_sigmas(times)), times, 1e-15)
    assert flow_times_from_sigmas(flow_sigmas(times))[0] == 1
    for dtype in (torch.float32, torch.bfloat16):
        back = flow_times_from_sigmas(flow_sigmas(times.to(dtype)))
        assert back.dtype == dtype and back[0] == 1
        assert_equal(back, times.to(dtype), torch.finfo(dtype).eps)


@pytest.mark.parametrize("sigma", [0.0, 3.0, 1e6, torch.tensor([0.0, 0.5, 1e6], dtype=torch.float64)])
def test_latents_are_those_of_the_interpolation(sigma, rng):
    data, noise = draw(3, 2, 4, rng=rng), draw(3, 2, 4, rng=rng)
    level = sigma.reshape(3, 1, 1) if isinstance(sigma, Tensor) else sigma
    s = level / (1 + level)
    x_s, x = (1 - s) * data + s * noise, data + level * noise
    assert_equal(flow_from_ve(x, sigma), x_s, 1e-14)
    assert_equal(flow_to_ve(x_s, sigma), x, 1e-9)
    assert_equal(flow_to_ve(flow_from_ve(x, sigma), sigma), x, 1e-15)


def test_a_level_of_other_latents_is_named(unchecked):
    with pytest.raises(ValueError, match=r"^sigma has shape \(2,\), expected one per sample: \(3,\)"):
        flow_to_ve(torch.ones(3, 2), torch.ones(2))
    with pytest.raises(ValueError, match=r"^sigma is -1.0, expected a finite level of 0 or more"):
        flow_from_ve(torch.ones(3, 2), -1.0)


def test_a_host_samples_in_its_own_latents_and_times(rng):
    """Euler's method of x0 predictions in x_s, and `sample_ddim` between the two conversions."""
    mixing, x_s = draw(4, 4, rng=rng), draw(3, 4, rng=rng)
    predict = lambda x, s: torch.tanh(x @ mixing) / (1 + s[:, None])
    times = torch.linspace(1, 0, 9, dtype=torch.float64)
    sigmas = flow_sigmas(times)
    model = RectifiedFlow(predict, time_scale=1.0, prediction="sample")
    x = sample_ddim(model, flow_to_ve(x_s, sigmas[0]), sigmas, disable=True, validate=False)
    for s, s_next in pairwise(times):
        denoised = predict(x_s, s.expand(3))
        x_s = denoised + s_next / s * (x_s - denoised)
    assert_equal(flow_from_ve(x, sigmas[-1]), x_s, 1e-5)
