"""Samplers that other programs have, held to closed forms, k-diffusion's functions, diffusers' schedulers."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from samplers.models import Recorder, karras, mixture, noises
from strategies import randn
from tolerances import assert_equal

from amdm import (
    Restart,
    sample_amdm,
    sample_ddim,
    sample_dpmpp_2m,
    sample_dpmpp_2m_flow,
    sample_euler_ancestral_flow,
    sample_heun_flow,
    sample_lcm,
    sample_projective_guidance,
    sample_res_multistep,
    sample_res_multistep_flow,
    sample_uni_pc,
    sample_uni_pc_flow,
    samplers,
)
from amdm.denoisers import GaussianMixture, RectifiedFlow
from amdm.samplers import res_multistep, res_multistep_flow, uni_pc
from amdm.samplers.multistep import moment
from amdm.schedules import flow_sigmas, flow_times

TIMES = 0.9 * flow_times(9, shift=2.0)
SIGMAS = flow_sigmas(TIMES)
QUIET = {"disable": True, "validate": False}
DETERMINISTIC = ["heun_flow", "res_multistep", "res_multistep_flow", "dpmpp_2m_flow", "uni_pc", "uni_pc_flow"]
NEW = [*DETERMINISTIC, "euler_ancestral_flow", "lcm"]


def from_x_s(x_s, time):
    """A mixture's x0 from a flow's latent."""
    return mixture()(x_s / (1 - time)[:, None], time / (1 - time))


FLOW = RectifiedFlow(from_x_s, time_scale=1.0, prediction="sample")


@pytest.mark.parametrize("k", [0, 1, 2, 3])
@pytest.mark.parametrize("h", [1e-6, 0.01, 0.3, 0.999, 1.0, 3.0, 40.0])
def test_moments_are_their_integrals(k, h):
    nodes, weights = np.polynomial.legendre.leggauss(60)
    tau = h * (nodes + 1) / 2
    exact = h / 2 * (weights * np.exp(tau - h) * (tau / h) ** k).sum()
    assert moment(k, h) == pytest.approx(exact, rel=1e-11)


# In a flow's own time


@pytest.mark.parametrize("last", [0.0, 5e-4])
def test_dpmpp_2m_flow_is_k_diffusions_function_of_x_s(k_diffusion, last):
    times, x_s = TIMES.clone(), randn(1, 3, 6)
    times[-1] = last
    expected = k_diffusion.sampling.sample_dpmpp_2m(from_x_s, x_s, times, disable=True)
    sigmas = flow_sigmas(times)
    result = sample_dpmpp_2m_flow(FLOW, x_s * (1 + sigmas[0]), sigmas, **QUIET)
    assert_equal(result / (1 + sigmas[-1]), expected, 1e-12)
    other = sample_dpmpp_2m(FLOW, x_s * (1 + sigmas[0]), sigmas, **QUIET)
    assert (result - other).abs().max() > 1e-3


@pytest.mark.parametrize("last", [0.0, 5e-4])
def test_heun_flow_is_k_diffusions_function_of_x_s(k_diffusion, last):
    times, x_s = TIMES.clone(), randn(1, 3, 6)
    times[-1] = last
    expected = k_diffusion.sampling.sample_heun(from_x_s, x_s, times, disable=True)
    sigmas = flow_sigmas(times)
    result = sample_heun_flow(FLOW, x_s * (1 + sigmas[0]), sigmas, **QUIET)
    assert_equal(result / (1 + sigmas[-1]), expected, 1e-12)


@pytest.mark.parametrize("last", [0.0, 5e-4])
@pytest.mark.parametrize(
    ("own", "plain"), [(sample_res_multistep_flow, sample_res_multistep), (sample_uni_pc_flow, sample_uni_pc)]
)
def test_a_method_in_the_flows_time_is_the_plain_one_of_x_s(own, plain, last):
    times, x_s = TIMES.clone(), randn(1, 3, 6)
    times[-1] = last
    sigmas = flow_sigmas(times)
    result = own(FLOW, x_s * (1 + sigmas[0]), sigmas, **QUIET)
    assert_equal(result / (1 + sigmas[-1]), plain(from_x_s, x_s, times, **QUIET), 1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0, 50.0])
def test_euler_ancestral_flow_is_a_step_down_and_the_flows_kernel_up(eta):
    """Written in x_s: Euler to s_down, then x_s scaled, and noised so that noise has the scale s_next."""
    x_s, seed = randn(1, 3, 6), noises(5, 3, 6)
    result = sample_euler_ancestral_flow(
        FLOW, x_s * (1 + SIGMAS[0]), SIGMAS, eta=eta, noise_sampler=noises(5, 3, 6), **QUIET
    )
    for s, t in pairwise(TIMES.tolist()):
        denoised = from_x_s(x_s, torch.full((3,), s, dtype=torch.float64))
        down = max(0.0, t * (1 - eta * (1 - t / s)))
        x_s = denoised + down / s * (x_s - denoised)
        kept = (1 - t) / (1 - down)
        if t > 0 and eta > 0:
            x_s = kept * x_s + (t**2 - (kept * down) ** 2) ** 0.5 * seed(s, t)
    assert_equal(result, x_s, 1e-12)


def test_euler_ancestral_flow_without_noise_is_ddim():
    x = SIGMAS[0] * randn(1, 3, 6)
    result = sample_euler_ancestral_flow(FLOW, x, SIGMAS, eta=0.0, **QUIET)
    assert_equal(result, sample_ddim(FLOW, x, SIGMAS, **QUIET), 1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [sample_euler_ancestral_flow, sample_lcm])
def test_the_law_of_a_stochastic_step_on_a_gaussian_is_its_exact_recursion(sampler):
    """On N(m, v) every step is affine, so mean and variance of any schedule follow in closed form."""
    m, v, draws, mean, var = 1.0, 0.5, 100_000, 0.0, 1 + SIGMAS[0].item() ** 2
    for s, t in pairwise(SIGMAS.tolist()):
        down, a, b = 0.0, s / (1 + s), t / (1 + t)
        if sampler is sample_euler_ancestral_flow:
            down = b**2 / a / (1 - b**2 / a)
        gain = down / s + (1 - down / s) * v / (v + s**2)
        mean, var = gain * (mean - m) + m, gain**2 * var + t**2 - down**2
    model = GaussianMixture(torch.tensor([[m]]).double(), torch.tensor([v]).double())
    start = (1 + SIGMAS[0] ** 2) ** 0.5 * randn(4, draws, 1)
    x = sampler(model, start, SIGMAS, noise_sampler=noises(5, draws, 1), **QUIET)
    assert abs(float(x.mean()) - mean) <= 4 * (var / draws) ** 0.5
    assert abs(float(x.var()) - var) <= 4 * var * (2 / draws) ** 0.5


# lcm


@pytest.mark.parametrize("last", [0.0, 0.01])
def test_lcm_is_k_diffusions_ancestral_step_with_the_largest_eta(k_diffusion, last):
    sigmas, x = karras(7), 20 * randn(1, 3, 6)
    sigmas[-1] = last
    expected = k_diffusion.sampling.sample_euler_ancestral(
        mixture(), x, sigmas, disable=True, eta=1e9, noise_sampler=noises(5, 3, 6)
    )
    assert_equal(sample_lcm(mixture(), x, sigmas, noise_sampler=noises(5, 3, 6), **QUIET), expected, 1e-12)


def test_lcm_is_diffusers_stochastic_sampling_of_a_flow():
    scheduler = diffusers().FlowMatchEulerDiscreteScheduler(stochastic_sampling=True, shift=2.0)
    scheduler.set_timesteps(6)
    times, x_s = scheduler.sigmas.double(), randn(1, 2, 6)
    times[0] = 1 - 1e-6
    scheduler.sigmas = times
    sigmas, x = flow_sigmas(times), x_s * (1 + flow_sigmas(times)[0])
    torch.manual_seed(3)
    for s, time in zip(times[:-1], scheduler.timesteps, strict=True):
        velocity = (x_s - from_x_s(x_s, s.expand(2))) / s
        x_s = scheduler.step(velocity, time, x_s, return_dict=False)[0].double()
    torch.manual_seed(3)
    assert_equal(sample_lcm(FLOW, x, sigmas, **QUIET), x_s, 1e-6)


def test_heun_flow_is_diffusers_scheduler():
    scheduler = diffusers().FlowMatchHeunDiscreteScheduler(shift=2.0)
    scheduler.set_timesteps(6)
    levels, x_s = scheduler.sigmas.double(), randn(1, 2, 6)
    times = torch.cat([levels[:1], levels[1::2]])
    x = x_s * (1 + flow_sigmas(times)[0])
    for s, time in zip(levels[:-1], scheduler.timesteps, strict=True):
        s = s.clamp(max=1 - 1e-6)
        velocity = (x_s - from_x_s(x_s, s.expand(2))) / s
        x_s = scheduler.step(velocity, time, x_s, return_dict=False)[0].double()
    assert_equal(sample_heun_flow(FLOW, x, flow_sigmas(times), **QUIET), x_s, 1e-5)


def test_lcm_says_that_it_has_no_share_of_noise():
    with pytest.raises(ValueError, match=r"^eta is 1.0, expected 0: lcm draws all of its noise anew"):
        sample_lcm(mixture(), 20 * randn(0, 2, 6), karras(3), eta=1.0, **QUIET)


# Orders, and exact cases


@pytest.mark.parametrize(
    ("sampler", "time"),
    [(res_multistep, math.log), (res_multistep_flow, lambda s: math.log(s / (1 + s)))],
)
def test_res_multistep_is_exact_for_a_prediction_linear_in_its_time(sampler, time):
    """x' = x + int x'(sigma) d sigma along the flow dx/d sigma = (x - D)/sigma, by fine quadrature."""
    c, d, x = randn(0, 3, 1, 4)
    predict = lambda level: c + d * time(level)
    model = lambda x, sigma: predict(float(sigma[0]))
    sigmas = torch.tensor([5.0, 3.0, 1.0], dtype=torch.float64)
    first, second = sampler(model, x, sigmas, validate=False)
    nodes, weights = np.polynomial.legendre.leggauss(60)
    points = 2.0 + nodes  # from 1 to 3
    # d(x/sigma) = -D/sigma^2 d sigma
    integral = sum(w * predict(float(p)) / float(p) ** 2 for p, w in zip(points, weights, strict=True))
    assert_equal(second.x_next, first.x_next / 3 + integral, 1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("name", DETERMINISTIC)
def test_all_converge_by_the_second_order_on_a_gaussians_exact_flow(name):
    """UniPC's last step, of first order and not corrected, has an error of h^2: more does not show."""
    mean, var = torch.tensor([[1.0, -2.0]]).double(), torch.tensor([0.5]).double()
    model, x, high, low = GaussianMixture(mean, var), torch.tensor([[7.0, 3.0]]).double(), 10.0, 0.1
    exact = mean + (x - mean) * ((var + low**2) / (var + high**2)) ** 0.5
    counts, errors = [40, 80, 160, 320], []
    for steps in counts:
        sigmas = torch.logspace(1, -1, steps + 1, dtype=torch.float64)
        *_, last = getattr(samplers, name)(model, x, sigmas, validate=False)
        errors.append(float((last.x_next - exact).norm()))
    assert abs(-np.polyfit(np.log(counts), np.log(errors), 1)[0] - 2) <= 0.2


# UniPC


def diffusers():
    from amdm.shapes.imports import import_beside_torchvision

    return import_beside_torchvision("diffusers")


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("variant", ["bh1", "bh2"])
@pytest.mark.parametrize("order", [1, 2, 3])
def test_uni_pc_is_diffusers_scheduler(order, variant, steps):
    scheduler = diffusers().UniPCMultistepScheduler(
        solver_order=order, solver_type=variant, prediction_type="sample", final_sigmas_type="zero"
    )
    scheduler.set_timesteps(steps)
    sigmas = karras(steps)
    sigmas[-1] = 1e-3 if variant == "bh1" else 0.0  # diffusers' bh1 is NaN at 0
    scheduler.sigmas, x = sigmas, 20 * randn(1, 2, 6)
    expected = x / (1 + sigmas[0] ** 2) ** 0.5
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # of the scheduler's coefficients
    try:
        for sigma, time in zip(sigmas[:-1], scheduler.timesteps, strict=True):
            denoised = mixture()(expected * (1 + sigma**2) ** 0.5, sigma.expand(2))
            expected = scheduler.step(denoised, time, expected, return_dict=False)[0]
    finally:
        torch.set_default_dtype(before)
    expected = expected * (1 + sigmas[-1] ** 2) ** 0.5
    result = sample_uni_pc(mixture(), x, sigmas, order=order, variant=variant, **QUIET)
    assert_equal(result, expected, 1e-11)


def test_uni_pcs_correction_is_added_to_the_latent_that_was_sent():
    model, sigmas, x = mixture(), karras(6), 20 * randn(1, 2, 6)
    nudge = 1e-3 * randn(2, 2, 6)
    plain, moved = uni_pc(model, x, sigmas, validate=False), uni_pc(model, x, sigmas, validate=False)
    first, other = next(plain), next(moved)
    next_ = plain.send(first.x_next)
    assert torch.equal(next_.x, first.x_next)
    sent = moved.send(other.x_next + nudge)
    assert 1e-4 < (sent.x_next - next_.x_next).abs().max() < 1e-2


def test_a_restart_forgets_the_predictions():
    model, sigmas, x = mixture(), karras(5), 20 * randn(0, 2, 6)
    for name in DETERMINISTIC:
        sampler = getattr(samplers, name)
        steps = sampler(model, x, sigmas, validate=False)
        middle = next(steps).x_next
        fresh = next(sampler(model, middle, sigmas[1:], validate=False)).x_next
        assert_equal(steps.send(Restart(middle)).x_next, fresh, 1e-14)


# All of them


@pytest.mark.parametrize("name", NEW)
def test_each_costs_one_evaluation_a_step_and_heun_flow_two(name):
    model, sigmas = Recorder(mixture()), karras(8)
    steps = list(getattr(samplers, name)(model, 20 * randn(0, 2, 6), sigmas))
    twice = sigmas[:-1].repeat_interleave(2)[1:] if name == "heun_flow" else sigmas[:-1]
    assert sorted(model.sigmas) == sorted(twice.tolist())
    assert all(torch.equal(step.x_next, step.denoised) for step in steps[-1:])
    model.assert_nothing_was_modified()


@pytest.mark.parametrize("window", [0, 2, 1.0])
@pytest.mark.parametrize("name", NEW)
def test_amdm_of_copies_and_of_one_model_are_the_sampler_alone(name, window):
    sampler, x, sigmas = getattr(samplers, name), 20 * randn(0, 2, 6), karras(7)
    eta = {"eta": 0.0} if name == "euler_ancestral_flow" else {}
    alone = getattr(samplers, f"sample_{name}")
    expected = alone(mixture(), x, sigmas, noise_sampler=noises(5, 2, 6), **eta, **QUIET)
    for models in ([mixture()], [mixture()] * 2):
        drawn = [noises(5, 2, 6) for _ in models]
        options = {"window": window, "correction": 0.0, "sampler": sampler, "noise_sampler": drawn}
        assert_equal(sample_amdm(models, x, sigmas, **options, **QUIET), expected, 1e-12)


def test_a_partial_of_a_sampler_is_an_inner_sampler_with_options():
    sampler, x, sigmas = partial(uni_pc, variant="bh2", order=2), 20 * randn(0, 2, 6), karras(7)
    expected = sample_uni_pc(mixture(), x, sigmas, variant="bh2", order=2, **QUIET)
    result = sample_amdm([mixture()] * 2, x, sigmas, sampler=sampler, correction=0.0, window=3, **QUIET)
    assert_equal(result, expected, 1e-12)


@pytest.mark.parametrize("name", [name for name in NEW if name != "heun_flow"])
def test_writing_into_a_prediction_steps_from_it(name):
    """A callback that halves the prediction is a model that returns half."""
    sampler, x, sigmas = getattr(samplers, f"sample_{name}"), 20 * randn(0, 2, 6), karras(7)
    model, half = (lambda x, s: 0.5 * mixture()(x, s)), (lambda info: info["denoised"].mul_(0.5))
    expected = sampler(model, x, sigmas, noise_sampler=noises(5, 2, 6), **QUIET)
    result = sampler(mixture(), x, sigmas, callback=half, noise_sampler=noises(5, 2, 6), **QUIET)
    assert_equal(result, expected, 1e-12)


@pytest.mark.parametrize("name", NEW)
def test_amdm_and_projective_guidance_run_each(name):
    models, x, sigmas = [mixture(0), mixture(1)], 20 * randn(0, 2, 6), karras(7)
    options = {"sampler": getattr(samplers, name), "window": 4, **QUIET}
    plain = sample_amdm(models, x, sigmas, **options)
    assert plain.isfinite().all()
    guided = sample_projective_guidance(models, x, sigmas, background=mixture(2), **options)
    assert guided.isfinite().all() and not torch.equal(guided, plain)
