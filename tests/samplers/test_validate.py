"""Likely mistakes: told, at no evaluation, and only where something is wrong."""

import math
import warnings

import pytest
import torch
from kinds import OF_ONE_MODEL
from samplers.models import Recorder, karras, mixture
from strategies import randn

from amdm import sigma_window, start_noise
from amdm.denoisers import Empirical
from amdm.samplers import (
    SAMPLERS,
    amdm,
    ddim,
    fkc,
    mcmc,
    projective_guidance,
    sample_amdm,
    superdiff,
)

N = 1024
SIGMAS = karras(10, sigma_max=14.6)
ONE = [SAMPLERS[name] for name in OF_ONE_MODEL]
SEVERAL = [
    (amdm, {}),
    (amdm, {"window": 0}),
    (amdm, {"sampler": lambda model, *args, **options: ddim(model, *args, **options)}),
    (projective_guidance, {"background": lambda x, sigma: x / (1 + sigma[:, None] ** 2), "window": 1}),
    (fkc, {}),
    (superdiff, {"combine": "or"}),
    (superdiff, {"combine": "and"}),
    (mcmc, {"moves": 3}),
]
EVERY = [*((lambda models, *args, _f=f, **o: _f(models[0], *args, **o), {}) for f in ONE), *SEVERAL]


def start(n=N, sigma=14.6, batch=2, seed=0, rms=1.0):
    """Data of this root mean square at noise level sigma."""
    return math.hypot(rms, sigma) * randn(seed, batch, n)


class Ranged(Recorder):
    """A denoiser that knows its levels."""

    sigma_min, sigma_max = 0.02, 14.6


def messages(steps):
    """What a whole run warns of."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        list(steps)
    return [str(each.message) for each in seen]


@pytest.mark.parametrize(("sampler", "options"), EVERY)
def test_an_eps_network_that_was_not_wrapped_is_told(sampler, options):
    """The exact noise prediction of a mixture; in the place of model 1, which finishes, or of all models."""
    models = [mixture(seed, n=N).eps for seed in (0, 1)]
    (message,) = messages(sampler(models, start(), SIGMAS, **options))
    assert "returned |denoised - x| = " in message and "sample 0 at step 9 (sigma = 0.02)" in message
    assert "is it an eps network that was not wrapped" in message
    assert messages(sampler(models, start(), SIGMAS, validate=False, **options)) == []


def test_stable_diffusions_levels_tell_it_too(k_diffusion):
    """DDIM's 20 steps of SD: the wrapped network is fine, the bare one is not."""
    alphas_cumprod = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000).double() ** 2).cumprod(0)
    sigmas = ((1 - alphas_cumprod) / alphas_cumprod).sqrt()[torch.arange(951, 0, -50)]
    sigmas = torch.cat([sigmas, torch.zeros(1)])
    network = lambda x, t, **_: x * 0.7  # of unit size, as trained ones are
    wrapped = k_diffusion.external.DiscreteEpsDDPMDenoiser(network, alphas_cumprod, quantize=False)
    x = start_noise([0, 1], [4, 16, 16], sigmas[0], 2, dtype=torch.float64)
    assert messages(amdm([wrapped, wrapped], x, sigmas)) == []
    with pytest.raises(
        ValueError, match=r"^sigmas has 200, outside the range \[0.029.*, 14.61.*\] of models\[0\]"
    ):
        amdm([wrapped, wrapped], x, torch.tensor([200.0, 1.0, 0.0]))
    eps = mixture(n=4 * 16 * 16).eps
    bare = lambda x, sigma: eps(x.flatten(1), sigma).reshape(x.shape)
    (message,) = messages(amdm([bare, bare], x, sigmas))
    assert message.startswith("models[0] returned |denoised - x| = ")


@pytest.mark.parametrize("n", [6, N])
@pytest.mark.parametrize("sigmas", [SIGMAS, karras(20), torch.tensor([14.6, 0.0])], ids=["10", "20", "1"])
@pytest.mark.parametrize("kind", ["mixture", "empirical"])
@pytest.mark.parametrize(("sampler", "options"), EVERY)
def test_exact_denoisers_are_not(sampler, options, kind, sigmas, n):
    """But for products of two disjoint sets of points, which do not exist."""
    if kind == "empirical" and sampler is fkc:
        return
    if len(sigmas) == 2 and sampler is amdm:
        options = {"window": 1, **options}
    models = [mixture(s, n=n) if kind == "mixture" else Empirical(randn(s, 20, n)) for s in (0, 1)]
    assert messages(sampler(models, start(n, sigmas[0].item()), sigmas, **options)) == []


@pytest.mark.parametrize(("factor", "told"), [(0.99, 0), (1.01, 1)])
@pytest.mark.parametrize(
    ("sigmas", "reach"), [([0.5, 0.4, 0.0], 10 * 0.4), ([8.5, 0.4, 0.0], 2 * 8.5), ([0.4, 0.0], 10 * 0.4)]
)
def test_the_distance_that_is_told(sigmas, reach, factor, told):
    """Ten levels or two of the level before, times sqrt(n) and 6 of fluctuation."""
    n, last = 64, sigmas[-2]
    away = factor * reach * (8 + 6) / 8

    def model(x, sigma):
        return torch.where(sigma[:, None] > last + 1e-6, x, x + away)

    found = messages(ddim(model, start(n, sigmas[0]), torch.tensor(sigmas).double()))
    assert len(found) == told
    if told:
        assert f"|denoised - x| = {away * 8:.4g} for sample 0 at step {len(sigmas) - 2} " in found[0]
        assert f"expected {reach * 14:.4g} or less" in found[0]


@pytest.mark.parametrize("starts", [1, 2])
@pytest.mark.parametrize(
    ("window", "name"), [(1.0, "the composition of the models"), (9, "models[0]"), ((9, 10), None)]
)
def test_who_made_the_last_prediction_is_named(window, name, starts):
    """In the window of projective guidance all models do; where starts are joined each predicts alone."""
    eps, x = [mixture(seed, n=N).eps for seed in (0, 1)], [start(), start(seed=1)]
    options = {"background": mixture(2, n=N).eps, "window": window}
    (message,) = messages(projective_guidance(eps, x[0] if starts == 1 else x, SIGMAS, **options))
    name = name or {1: "the composition of the models", 2: "models[0]"}[starts]
    assert message.startswith(f"{name} returned |denoised - x| = ")


def test_the_sample_is_named():
    x = start(seed=3, batch=3)
    x[1] /= 14.6
    (message,) = messages(ddim(mixture(n=N), x, SIGMAS))
    assert f"x has the norm {x[1].norm():.4g} for sample 1, expected about" in message


STARTS = {
    "noise of unit size": start() / math.hypot(1, 14.6),
    "VE scaled twice": start() * math.hypot(1, 14.6),
    "x of a lower level": start(sigma=5.0),
    "zeros": torch.zeros(2, N).double(),
}


@pytest.mark.parametrize("kind", STARTS)
@pytest.mark.parametrize(("sampler", "options"), EVERY)
def test_a_start_of_another_scale_is_told(sampler, options, kind):
    models, x = [mixture(s, n=N) for s in (0, 1)], STARTS[kind]
    (message, *_) = messages(sampler(models, x, SIGMAS, **options))
    expected = f"x has the norm {x[0].norm():.4g} for sample 0, expected about sqrt(n (1 + sigma^2)) = "
    assert message.startswith(expected + f"{32 * math.hypot(1, 14.6):.4g} at sigma = 14.6")
    assert messages(sampler(models, x, SIGMAS, validate=False, **options)) == []


def test_x_of_a_higher_level_is_told():
    (message,) = messages(ddim(mixture(n=N), start(sigma=14.6), karras(10, sigma_max=1.0)))
    assert message.startswith("x has the norm ")


@pytest.mark.parametrize("n", [1, 2, 16, 64, N, 16384])
@pytest.mark.parametrize("sigma", [0.03, 0.3, 1.0, 3.0, 14.6, 80.0, 1e6])
@pytest.mark.parametrize("rms", [0.0, 0.2, 1.0, 5.0, 9.0])
def test_noisy_data_are_not(n, sigma, rms):
    """A thousand starts each, the last of img2img: data of these sizes under noise of any level."""
    images, sigmas = rms * randn(0, 1000, 1).sign(), torch.tensor([sigma, 0.0])
    x = (images + sigma * randn(1, 1000, n)) if n < N else images[:8] + sigma * randn(1, 8, n)
    assert messages(ddim(lambda x, sigma: x, x, sigmas)) == []


@pytest.mark.parametrize("convention", ["vp", "ve"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_both_conventions_are_starts_in_every_dtype(convention, dtype):
    """In half precision too, where squares overflow."""
    sigmas = SIGMAS.to(dtype)
    x = start_noise([0, 1], [4, 64, 64], 14.6, 2, convention=convention, dtype=dtype)
    model = lambda x, sigma: x / (1 + sigma.reshape(-1, 1, 1, 1) ** 2)
    assert messages(amdm([model, model], x, sigmas)) == []
    x = start_noise([0], [4, 64, 64], 1000.0, 1, convention=convention, dtype=dtype)[0]
    assert messages(ddim(model, x, torch.tensor([1000.0, 0.0], dtype=dtype))) == []


def test_the_start_is_named_as_it_was_given():
    models = [mixture(s, n=N) for s in (0, 1)]
    own = [start(), start(seed=1) / 14.6]
    (message,) = messages(amdm(models, own, SIGMAS))
    assert message.startswith("x[1] has the norm ")
    assert messages(amdm(models, own, SIGMAS, window=0)) == []  # model 2 does not run
    (message,) = messages(amdm(models, own[1], SIGMAS))
    assert message.startswith("x has the norm ")


def test_a_latent_that_was_sent_is_not_the_models_own():
    steps = ddim(Empirical(randn(0, 20, N)), start(), SIGMAS)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        step = next(steps)
        while step.index < len(SIGMAS) - 2:
            step = steps.send(step.x_next + 100 * (step.index == 8))
    assert found == []


def test_nor_is_one_that_was_joined():
    """Two models of far apart data, aggregated to the end."""
    models = [Empirical(randn(0, 20, N)), Empirical(50 + randn(1, 20, N))]
    assert messages(amdm(models, start(), SIGMAS, window=1.0, correction=0.0)) == []


@pytest.mark.parametrize(("sampler", "options"), EVERY)
def test_levels_outside_a_models_range_are_refused_at_the_call(sampler, options):
    models = [Ranged(mixture(0, n=N)), Ranged(mixture(1, n=N))]
    with pytest.raises(
        ValueError,
        match=r"^sigmas has 200, outside the range \[0.02, 14.6\] of model.* \(Ranged\) \(validate=False",
    ):
        sampler(models, start(sigma=200.0), karras(5, sigma_max=200.0), **options)
    with pytest.raises(ValueError, match=r"^sigmas has 0.01, outside the range"):
        sampler(models, start(), karras(5, sigma_max=14.6, sigma_min=0.01), **options)
    assert models[0].sigmas == models[1].sigmas == []
    sampler(models, start(), SIGMAS, **options)
    steps = sampler(models, start(sigma=200.0), karras(5, sigma_max=200.0), validate=False, **options)
    assert messages(steps) == [] and max(models[0].sigmas) == pytest.approx(200)


def test_a_partners_levels_are_those_of_the_window():
    partner = Ranged(mixture(1, n=N))
    partner.sigma_min = 1.0
    models = [mixture(n=N), partner]
    assert messages(amdm(models, start(), torch.tensor([14.6, 1.0, 0.02, 0.0]), window=2)) == []
    with pytest.raises(ValueError, match=r"of models\[1\] \(Ranged\)"):
        amdm(models, start(), torch.tensor([14.6, 1.0, 0.02, 0.0]), window=3)
    amdm(models, start(), torch.tensor([14.6, 1.0, 0.02, 0.0]), window=0)


def test_a_last_level_that_is_not_evaluated_may_be_any():
    steps = ddim(Ranged(mixture(n=N)), start(), torch.tensor([14.6, 1.0, 0.001]).double())
    assert [step.index for step in steps] == [0, 1]


def test_bounds_may_be_tensors():
    """As k-diffusion's wrappers have them."""
    model = Ranged(mixture(n=N))
    model.sigma_max, model.sigma_min = torch.tensor(14.6), torch.tensor(0.02)
    assert messages(ddim(model, start(), SIGMAS)) == []
    with pytest.raises(
        ValueError, match=r"^sigmas has 15, outside the range \[0.02, 14.6\] of model \(Ranged\)"
    ):
        ddim(model, start(sigma=15.0), karras(3, sigma_max=15.0))


@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.parametrize(("sampler", "options"), EVERY)
def test_nothing_else_changes(sampler, options, wrong):
    """Bit for bit, call for call, draw for draw; also where something is told."""
    results = []
    for validate in (True, False):
        torch.manual_seed(0)
        models = [Recorder(mixture(s, n=N).eps if wrong else mixture(s, n=N)) for s in (0, 1)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            steps = list(sampler(models, start(), SIGMAS, validate=validate, **options))
        results.append((steps, [model.sigmas for model in models], torch.get_rng_state()))
    (one, calls, state), (other, same_calls, same_state) = results
    assert calls == same_calls and torch.equal(state, same_state)
    for a, b in zip(one, other, strict=True):
        assert (
            torch.equal(a.x, b.x) and torch.equal(a.x_next, b.x_next) and torch.equal(a.denoised, b.denoised)
        )


def test_the_function_hands_it_on():
    models, x = [mixture(s, n=N) for s in (0, 1)], start() / 14.6
    with pytest.warns(UserWarning, match="^x has the norm"):
        sample_amdm(models, x, SIGMAS, disable=True)
    sample_amdm(models, x, SIGMAS, disable=True, validate=False)


def test_a_sigma_window_without_a_step_is_told():
    window, sigmas = sigma_window(1000.0, 2000.0), karras(4)
    message = r"^window selects none of the 4 steps, whose levels are 20.* to .*: nothing is aggregated"
    with pytest.warns(UserWarning, match=message):
        amdm([mixture(), mixture(1)], start(6), sigmas, window=window)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        amdm([mixture()], start(6), sigmas, window=window)
        amdm([mixture(), mixture(1)], start(6), sigmas, window=(0, 0))


@pytest.mark.parametrize(
    ("window", "steps", "told"), [(0.4, 1, 1), (0.1, 4, 1), (0.4, 2, 0), (0, 4, 0), (0.0, 4, 0)]
)
def test_a_window_that_rounds_to_nothing_is_told(window, steps, told):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        amdm([mixture(), mixture(1)], start(6), karras(steps), window=window)
        amdm([mixture()], start(6), karras(steps), window=window)  # one model has nothing to aggregate
    assert len(seen) == told
    if told:
        expected = f"window is {window}, which rounds to none of {steps} step(s): nothing is aggregated"
        assert str(seen[0].message).startswith(expected)
