import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import randn
from tolerances import assert_equal

from amdm.samplers import ddim_step, dpmpp_2m_step, heun_step

alpha_bars = st.floats(0.005, 0.99)
etas = st.sampled_from([0.0, 0.2, 0.5, 1.0])


@given(alpha_bars, st.floats(0.01, 0.99), etas)
def test_ddim_step_is_eq_4_in_vp_coordinates(ab, gap, eta):
    ab_next = ab + gap * (1 - ab) * 0.999
    sigma, sigma_next = ((1 - ab) / ab) ** 0.5, ((1 - ab_next) / ab_next) ** 0.5
    z, eps = randn(0, 2, 3, 5)
    s = eta * ((1 - ab_next) / (1 - ab)) ** 0.5 * (1 - ab / ab_next) ** 0.5
    b = (1 - ab_next - s**2) ** 0.5 - (ab_next * (1 - ab) / ab) ** 0.5
    expected = (ab_next / ab) ** 0.5 * z + b * eps
    x = z * (1 + sigma**2) ** 0.5
    mean, std = ddim_step(x, x - sigma * eps, sigma, sigma_next, eta)
    vp = (1 + sigma_next**2) ** 0.5
    assert_equal(mean / vp, expected, 1e-11)
    assert std / vp == pytest.approx(s, rel=1e-9, abs=1e-12)


@given(st.floats(0.1, 100), st.floats(0.01, 0.99), st.floats(0, 5))
def test_ddim_step_is_k_diffusions_ancestral_step_and_beyond_its_clamp(sigma, ratio, eta):
    sigma_next = ratio * sigma
    x, denoised = randn(0, 2, 2, 3)
    mean, std = ddim_step(x, denoised, sigma, sigma_next, eta)
    up = min(sigma_next, eta * (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2) ** 0.5)
    down = max(sigma_next**2 - up**2, 0) ** 0.5
    assert std == pytest.approx(up, rel=1e-12)
    assert (mean - (x + (x - denoised) / sigma * (down - sigma))).abs().max() <= 1e-7 * float(x.abs().max())


@given(st.floats(0.1, 100), st.floats(0.01, 0.99), etas)
def test_ddim_step_keeps_the_marginal_of_a_point_mass(sigma, ratio, eta):
    """From x = noise * sigma about the data point, the variance at the end is sigma_next^2."""
    mean, std = ddim_step(
        torch.full((1, 1), sigma, dtype=torch.float64),
        torch.zeros(1, 1, dtype=torch.float64),
        sigma,
        ratio * sigma,
        eta,
    )
    assert float(mean) ** 2 + std**2 == pytest.approx((ratio * sigma) ** 2, rel=1e-12)


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_a_step_to_zero_is_the_prediction_exactly(eta, dtype):
    x, denoised, previous = randn(0, 3, 2, 3).to(dtype)
    for mean, std in (
        ddim_step(x, denoised, 3.0, 0.0, eta),
        dpmpp_2m_step(x, denoised, previous, 3.0, 0.0, 7.0, eta),
    ):
        assert torch.equal(mean, denoised) and std == 0


def test_steps_take_the_tensors_of_a_schedule():
    x, denoised, previous = randn(0, 3, 2, 3)
    sigmas = torch.tensor([7.0, 3.0, 1.0], dtype=torch.float64)
    assert torch.equal(
        ddim_step(x, denoised, sigmas[1], sigmas[2], 0.5)[0], ddim_step(x, denoised, 3.0, 1.0, 0.5)[0]
    )
    assert torch.equal(
        dpmpp_2m_step(x, denoised, previous, sigmas[1], sigmas[2], sigmas[0])[0],
        dpmpp_2m_step(x, denoised, previous, 3.0, 1.0, 7.0)[0],
    )
    assert torch.equal(
        heun_step(x, denoised, previous, x, sigmas[1], sigmas[2]),
        heun_step(x, denoised, previous, x, 3.0, 1.0),
    )


def test_dpmpp_2m_is_exact_for_a_prediction_linear_in_log_sigma():
    """The exponential integrator's second order: D = c + d lambda has the closed form below."""
    x, c, d = randn(0, 3, 1, 4)
    previous, sigma, sigma_next = 5.0, 3.0, 2.9
    lam, lam_next = -math.log(sigma), -math.log(sigma_next)
    predict = lambda level: c - d * math.log(level)
    exact = (sigma_next / sigma) * x
    exact = exact + sigma_next * (
        math.exp(lam_next) * (c + d * (lam_next - 1)) - math.exp(lam) * (c + d * (lam - 1))
    )
    mean, _ = dpmpp_2m_step(x, predict(sigma), predict(previous), sigma, sigma_next, previous)
    first, _ = dpmpp_2m_step(x, predict(sigma), None, sigma, sigma_next, None)
    h = lam_next - lam
    assert (mean - exact).abs().max() <= h**3 * float(d.abs().max())
    assert (first - exact).abs().max() >= 0.4 * h**2 * float(d.abs().max())


def test_half_precision_in_is_half_precision_out():
    x, denoised = randn(0, 2, 2, 3).half()
    assert ddim_step(x, denoised, 3.0, 1.0)[0].dtype == torch.float16
    assert heun_step(x, denoised, x, denoised, 3.0, 1.0).dtype == torch.float16
    assert dpmpp_2m_step(x, denoised, x, 3.0, 1.0, 9.0)[0].dtype == torch.float16
