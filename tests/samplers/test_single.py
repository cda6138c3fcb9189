"""One model: k-diffusion's functions with the same supplied noise, convergence orders, exact moments."""

from functools import partial
from itertools import count, pairwise

import numpy as np
import pytest
import torch
from samplers.models import Recorder, karras, mixture
from strategies import randn
from tolerances import assert_equal

from amdm import Restart
from amdm.denoisers import GaussianMixture
from amdm.samplers import (
    amdm,
    ddim,
    dpmpp_2m,
    dpmpp_2m_sde,
    heun,
    sample_ddim,
    sample_dpmpp_2m,
    sample_dpmpp_2m_sde,
    sample_heun,
)

SAMPLERS = {"ddim": ddim, "heun": heun, "dpmpp_2m": dpmpp_2m, "dpmpp_2m_sde": partial(dpmpp_2m_sde, eta=0.0)}


def supplied_noise(shape):
    """The same draws in the same order for everybody who makes one of these."""
    seeds = count()
    return lambda sigma, sigma_next: randn(next(seeds), *shape)


@pytest.mark.parametrize("steps", [2, 12])
@pytest.mark.parametrize(
    ("ours", "theirs", "options"),
    [
        (sample_ddim, "sample_euler", {}),
        (sample_ddim, "sample_euler_ancestral", {"eta": 0.5}),
        (sample_ddim, "sample_euler_ancestral", {"eta": 1.0}),
        (sample_ddim, "sample_euler_ancestral", {"eta": 3.0}),
        (sample_heun, "sample_heun", {}),
        (sample_dpmpp_2m, "sample_dpmpp_2m", {}),
        (sample_dpmpp_2m_sde, "sample_dpmpp_2m_sde", {"eta": 0.0}),
        (sample_dpmpp_2m_sde, "sample_dpmpp_2m_sde", {"eta": 0.5}),
        (sample_dpmpp_2m_sde, "sample_dpmpp_2m_sde", {"eta": 1.0}),
    ],
)
@pytest.mark.parametrize("last", [0.0, 0.01])
def test_is_k_diffusions_function_of_that_name(k_diffusion, ours, theirs, options, steps, last):
    model, sigmas = mixture(), karras(steps)
    sigmas[-1] = last
    x = float(sigmas[0]) * randn(1, 3, 6)
    noises = [{"noise_sampler": supplied_noise(x.shape)} for _ in range(2)] if options else [{}, {}]
    reference = getattr(k_diffusion.sampling, theirs)(model, x, sigmas, disable=True, **options, **noises[0])
    result = ours(model, x, sigmas, disable=True, **options, **noises[1])
    assert_equal(result, reference, 1e-12)


def test_callback_dictionaries_are_those_of_k_diffusion(k_diffusion):
    model, sigmas, x = mixture(), karras(7), 20 * randn(1, 3, 6)
    theirs, ours = [], []
    k_diffusion.sampling.sample_euler(model, x, sigmas, callback=theirs.append, disable=True)
    sample_ddim(model, x, sigmas, callback=ours.append, disable=True)
    assert len(ours) == len(theirs) == 7
    for mine, other in zip(ours, theirs, strict=True):
        assert set(other) < set(mine) and mine["i"] == other["i"]
        for key in ("x", "sigma", "sigma_hat", "denoised"):
            assert_equal(mine[key], other[key], 1e-12)
        assert mine["step"].x is mine["x"] and mine["step"].denoised is mine["denoised"]


def test_default_noise_is_k_diffusions_default(k_diffusion):
    model, sigmas, x = mixture(), karras(5), 20 * randn(1, 3, 6)
    torch.manual_seed(3)
    theirs = k_diffusion.sampling.sample_euler_ancestral(model, x, sigmas, disable=True)
    torch.manual_seed(3)
    assert_equal(sample_ddim(model, x, sigmas, disable=True, eta=1.0), theirs, 1e-12)


def test_a_real_k_diffusion_wrapper_is_a_denoiser(k_diffusion):
    """An eps network behind DiscreteEpsDDPMDenoiser, sampled by us and by k-diffusion."""
    network = lambda x, t: 0.3 * x + t[:, None] / 1000
    alphas_cumprod = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000).double() ** 2).cumprod(0)
    model = k_diffusion.external.DiscreteEpsDDPMDenoiser(network, alphas_cumprod, quantize=False)
    model.get_eps = network
    sigmas = model.get_sigmas(10)
    x = sigmas[0] * randn(0, 2, 4)
    theirs = k_diffusion.sampling.sample_euler(model, x, sigmas, disable=True)
    assert_equal(sample_ddim(model, x, sigmas, disable=True), theirs, 1e-12)


def test_k_diffusions_samplers_are_no_generators(k_diffusion):
    """They run to the end as `sample_ddim` does; a class that is called as one is looked through too."""
    for sampler in (
        k_diffusion.sampling.sample_euler,
        partial(k_diffusion.sampling.sample_heun, s_churn=0.0),
    ):
        with pytest.raises(
            TypeError, match=r"^sampler is (sample_euler|partial), a function that runs to the end"
        ):
            amdm([mixture(), mixture()], 20 * randn(0, 2, 6), karras(5), sampler=sampler)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "order", "within"), [("ddim", 1, 0.15), ("heun", 2, 0.2), ("dpmpp_2m", 2, 0.2)]
)
def test_order_of_convergence_on_a_gaussians_exact_flow(sampler, order, within):
    """The flow of N(m, v) is x(sigma') = m + (x - m) sqrt((v + sigma'^2)/(v + sigma^2))."""
    mean, var = torch.tensor([[1.0, -2.0]]).double(), torch.tensor([0.5]).double()
    model, x = GaussianMixture(mean, var), torch.tensor([[7.0, 3.0]]).double()
    high, low = 10.0, 0.1
    exact = mean + (x - mean) * ((var + low**2) / (var + high**2)) ** 0.5
    counts, errors = [40, 80, 160, 320], []
    for steps in counts:
        sigmas = torch.logspace(np.log10(high), np.log10(low), steps + 1, dtype=torch.float64)
        *_, last = SAMPLERS[sampler](model, x, sigmas)
        errors.append(float((last.x_next - exact).norm()))
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert abs(slope - order) <= within


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "steps"), [(ddim, 400), (heun, 60), (dpmpp_2m, 100), (dpmpp_2m_sde, 200)]
)
def test_moments_on_a_mixture(sampler, steps):
    """Mean and second moment within 4 Monte-Carlo standard errors (two-sided p = 6e-5 each).

    Of 25,000 draws: an error of 6 of them, 0.04 standard deviations, is found with probability 0.98.
    """
    means = torch.tensor([[-1.0, 0.5], [1.5, 0.0]]).double()
    model = GaussianMixture(means, torch.tensor([0.25, 0.5]).double(), torch.tensor([0.3, 0.7]).double())
    draws, sigmas = 25_000, karras(steps, 80.0, 0.005)
    noise = torch.Generator().manual_seed(5)
    x = (1 + 80.0**2) ** 0.5 * randn(4, draws, 2)
    for step in sampler(model, x, sigmas, noise_sampler=lambda s, t: torch.randn(draws, 2, generator=noise)):
        x = step.x_next
    weights, variances = torch.tensor([0.3, 0.7]).double()[:, None], torch.tensor([[0.25], [0.5]]).double()
    first, second = (weights * means).sum(0), (weights * (means**2 + variances)).sum(0)
    for moment, exact in ((x, first), (x**2, second)):
        assert ((moment.mean(0) - exact) / (moment.std(0) / draws**0.5)).abs().max() <= 4


@pytest.mark.slow
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_the_law_of_a_stochastic_ddim_on_a_gaussian_is_its_exact_recursion(eta):
    """On N(m, v) every step is affine, so mean and variance of any schedule follow in closed form."""
    m, v, draws, sigmas = 1.0, 0.5, 100_000, karras(12, 10.0, 0.1)
    mean, var = 0.0, 1 + 10.0**2
    for s, t in pairwise(sigmas.tolist()):
        up = eta * t * (1 - t**2 / s**2) ** 0.5
        ratio = (t**2 - up**2) ** 0.5 / s
        gain = ratio + (1 - ratio) * v / (v + s**2)
        mean, var = gain * (mean - m) + m, gain**2 * var + up**2
    model = GaussianMixture(torch.tensor([[m]]).double(), torch.tensor([v]).double())
    noise = torch.Generator().manual_seed(5)
    sample = lambda s, t: torch.randn(draws, 1, generator=noise)
    x = sample_ddim(model, 101**0.5 * randn(4, draws, 1), sigmas, disable=True, eta=eta, noise_sampler=sample)
    assert abs(float(x.mean()) - mean) <= 4 * (var / draws) ** 0.5
    assert abs(float(x.var()) - var) <= 4 * var * (2 / draws) ** 0.5


@pytest.mark.parametrize(
    ("sampler", "evaluations"), [("ddim", 8), ("heun", 15), ("dpmpp_2m", 8), ("dpmpp_2m_sde", 8)]
)
def test_evaluations_and_their_levels(sampler, evaluations):
    model, sigmas = Recorder(mixture()), karras(8)
    for _ in SAMPLERS[sampler](model, 20 * randn(0, 2, 6), sigmas):
        pass
    assert len(model.sigmas) == evaluations
    assert set(model.sigmas) == set(sigmas[:-1].tolist())
    model.assert_nothing_was_modified()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_step_says_what_happened(sampler):
    sigmas, x = karras(5), 20 * randn(0, 2, 6)
    for index, step in enumerate(SAMPLERS[sampler](mixture(), x, sigmas)):
        assert step.index == index and step.x is x and step.aggregation is None
        assert (step.sigma, step.sigma_next) == (float(sigmas[index]), float(sigmas[index + 1]))
        assert torch.equal(step.x_next, step.mean) and step.std == 0
        x = step.x_next
    assert index == 4


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_is_sent_is_what_the_model_sees_next(sampler):
    steps = SAMPLERS[sampler](mixture(), 20 * randn(0, 2, 6), karras(5))
    next(steps)
    replacement = randn(7, 2, 6)
    assert steps.send(replacement).x is replacement


def test_sending_a_restart_drops_the_history_and_sending_a_latent_keeps_it():
    model, sigmas = mixture(), karras(5)
    x = 20 * randn(0, 2, 6)
    fresh = next(dpmpp_2m(model, first := next(dpmpp_2m(model, x, sigmas)).x_next, sigmas[1:])).x_next
    results = {}
    for name, wrap in (("keep", lambda x: x), ("drop", Restart)):
        steps = dpmpp_2m(model, x, sigmas)
        next(steps)
        results[name] = steps.send(wrap(first)).x_next
    assert torch.equal(results["drop"], fresh) and not torch.allclose(results["keep"], fresh, rtol=1e-4)


def test_a_sent_latent_of_another_shape_is_refused(unchecked):
    steps = ddim(mixture(), randn(0, 2, 6), karras(5))
    next(steps)
    with pytest.raises(ValueError, match=r"sent a latent of shape \(1, 6\), expected \(2, 6\)"):
        steps.send(randn(0, 1, 6))


def test_a_deterministic_sampler_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    for sampler in (sample_ddim, sample_heun, sample_dpmpp_2m):
        sampler(mixture(), randn(0, 2, 6), karras(5), disable=True)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_schedule_of_one_level_returns_x():
    x = randn(0, 2, 6)
    assert sample_ddim(mixture(), x, torch.tensor([3.0]), disable=True) is x


def test_extra_args_reach_every_call():
    model = Recorder(mixture())
    sample_heun(model, randn(0, 2, 6), karras(4), {"cond": 5}, disable=True)
    assert model.extra_args == [{"cond": 5}] * 7


def test_half_precision_latents_and_predictions_in_another_dtype():
    model = mixture()
    x = 20 * randn(0, 2, 6)
    half = sample_ddim(lambda x, sigma: model(x.double(), sigma.double()), x.half(), karras(6), disable=True)
    assert half.dtype == torch.float16
    assert (half.double() - sample_ddim(model, x, karras(6), disable=True)).abs().max() <= 0.02


def test_the_progress_bar_can_be_silenced(capsys):
    sample_ddim(mixture(), randn(0, 2, 6), karras(3), disable=False)
    assert "3/3" in capsys.readouterr().err
    sample_ddim(mixture(), randn(0, 2, 6), karras(3), disable=True)
    assert capsys.readouterr().err == ""
