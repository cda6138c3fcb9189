"""One policy for NaN and infinity: what was not finite is named at the latest when sampling ends."""

import math

import pytest
import torch
from kinds import OF_ONE_MODEL
from samplers.models import karras, mixture
from strategies import randn

from amdm import (
    Restart,
    amdm,
    ddim,
    dpmpp_2m_sde,
    fkc,
    heun,
    heun_flow,
    mcmc,
    projective_guidance,
    seeded_noise,
    superdiff,
)
from amdm.geometry import slerp_fold
from amdm.samplers import SAMPLERS, rne_log_density

SIGMAS = karras(6)
X = 20 * randn(0, 4, 6)
ONE = [SAMPLERS[name] for name in OF_ONE_MODEL]
MANY = [
    (amdm, {}),
    (amdm, {"window": 0}),
    (amdm, {"window": 1.0}),
    (amdm, {"window": (2, 4)}),
    (projective_guidance, {"background": mixture(2)}),
    (projective_guidance, {"background": [mixture(2)], "window": 1.0}),
    (fkc, {}),
    (mcmc, {"moves": 2}),
    (mcmc, {"moves": 2, "kernel": "hmc"}),
    (superdiff, {"combine": "or"}),
    (superdiff, {"combine": "and", "eta": 0.5}),
]


def broken(function, from_call=0, sample=1, value=math.nan):
    """A function whose result has a bad entry for one sample from a call on."""
    count = iter(range(10**6))

    def call(*args, **options):
        result = function(*args, **options).clone()
        if next(count) >= from_call:
            result[sample].reshape(-1)[0:1].fill_(value)
        return result

    return call


def raises(name, step=None):
    first = "" if step is None else rf", first at step {step} \(sigma = {SIGMAS[step]:.6g}\)"
    return pytest.raises(FloatingPointError, match=rf"^{name} NaN or infinity for sample 1{first}")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("sampler", ONE)
def test_a_model_alone(sampler, validate, value):
    evaluations = 2 if sampler in (heun, heun_flow) else 1
    model = broken(mixture(), from_call=3 * evaluations, value=value)
    steps = sampler(model, X, SIGMAS, validate=validate)
    assert [next(steps).index for _ in range(5)] == [0, 1, 2, 3, 4]
    with raises("model returned", 3):
        next(steps)


@pytest.mark.parametrize("sampler", ONE)
def test_with_debug_nans_at_the_step_itself(sampler):
    steps = sampler(
        broken(mixture(), from_call=2 * (2 if sampler in (heun, heun_flow) else 1)),
        X,
        SIGMAS,
        debug_nans=True,
    )
    assert [next(steps).index for _ in range(2)] == [0, 1]
    with raises("model returned", 2):
        next(steps)


@pytest.mark.parametrize(("sampler", "options"), MANY)
def test_the_first_of_several_models(sampler, options):
    with raises(r"models\[0\] returned"):
        list(sampler([broken(mixture(), 3), mixture(1)], X, SIGMAS, **options))


@pytest.mark.parametrize(("sampler", "options"), [*MANY, *((one, {}) for one in ONE)])
def test_the_start(sampler, options):
    x = X.clone()
    x[1, 2] = math.nan
    models = mixture() if sampler in ONE else [mixture(), mixture(1)]
    with raises("x has", 0):
        list(sampler(models, x, SIGMAS, **options))


def test_a_start_of_its_own():
    x = X.clone()
    x[1] = math.inf
    with raises(r"x\[1\] has", 0):
        list(amdm([mixture(), mixture(1)], [X, x], SIGMAS))


@pytest.mark.parametrize("value", [torch.tensor(math.nan), Restart(torch.tensor(math.inf))])
def test_what_is_sent(value):
    steps = ddim(mixture(), X, SIGMAS)
    bad = X.clone()
    bad[1, 0] = math.nan
    next(steps)
    steps.send(Restart(bad) if isinstance(value, Restart) else bad)
    with raises("send was given a latent with", 0):
        list(steps)


@pytest.mark.parametrize("sampler", [ddim, dpmpp_2m_sde])
def test_a_noise_sampler(sampler):
    noise = broken(seeded_noise([1, 2, 3, 4], [6]), 2)
    with raises("noise_sampler returned", 2):
        list(sampler(mixture(), X, SIGMAS, eta=1.0, noise_sampler=noise))


@pytest.mark.parametrize(("sampler", "options"), MANY)
def test_a_noise_sampler_of_several_models(sampler, options):
    noise = broken(seeded_noise([1, 2, 3, 4], [6]), 0)
    with raises("noise_sampler returned", 0):
        list(sampler([mixture(), mixture(1)], X, SIGMAS, noise_sampler=noise, **({"eta": 1.0} | options)))


@pytest.mark.parametrize("window", [2, 1.0, (1, 3)])
def test_a_fold_is_not_blamed_on_a_model(window):
    fold = broken(slerp_fold, 1)
    step = {2: 1, 1.0: 1, (1, 3): 2}[window]
    with raises("fold returned", step):
        list(amdm([mixture(), mixture(1)], X, SIGMAS, fold=fold, window=window))


def test_nor_is_a_correction():
    lengths = torch.tensor([0.1, math.nan, 0.1, 0.1], dtype=torch.float64)
    with pytest.raises(ValueError, match=r"^correction\[0\] is nan for sample 1, expected a finite length"):
        amdm([mixture(), mixture(1)], X, SIGMAS, correction=[lengths, lengths])
    message = r"^correction\[0\] that the function returned is not a finite length of 0 or more for sample 1"
    with pytest.raises(FloatingPointError, match=message):
        list(amdm([mixture(), mixture(1)], X, SIGMAS, correction=lambda step: [lengths, lengths]))


def test_nor_is_a_log_density():
    log_densities = [mixture().log_density, broken(mixture(1).log_density, 2)]
    with raises(r"log_densities\[1\] returned", 1):
        list(fkc([mixture(), mixture(1)], X, SIGMAS, log_densities=log_densities))


def test_densities_along_noised_paths():
    with raises("model returned"):
        rne_log_density(broken(mixture(), 2), X / 20, SIGMAS)


def test_numbers_whose_sum_overflows_count_as_infinite():
    """They are no latents; and the sums of half precision do not overflow, as float32 adds them."""
    huge = lambda x, sigma: torch.full_like(x, 2e38)
    steps = ddim(huge, torch.ones(1, 8), karras(4, dtype=torch.float32), debug_nans=True, validate=False)
    with pytest.raises(FloatingPointError, match=r"^model returned NaN or infinity for sample 0"):
        next(steps)
    large = lambda x, sigma: torch.full_like(x, 6e4)
    sigmas = karras(4, dtype=torch.float16)
    steps = ddim(large, torch.ones(1, 8).half(), sigmas, debug_nans=True, validate=False)
    assert next(steps).denoised.isfinite().all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("num_models", [2, 3])
@pytest.mark.parametrize("options", [{"combine": "and"}, {"combine": "and", "eta": 0.0}, {"combine": "or"}])
def test_superdiff_names_the_model_from_the_first_step_on(options, num_models, value):
    models = [mixture(), broken(mixture(1), value=value), mixture(2)][:num_models]
    steps = superdiff(models, X, SIGMAS, **options)
    finite = [step.x_next.isfinite().all(1).tolist() for _, step in zip(range(5), steps, strict=False)]
    assert finite == [[True, False, True, True]] * 5, "one sample's NaN is not another's"
    with raises(r"models\[1\] returned", 0):
        next(steps)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("resample", [1.0, 0.5, 0.0])
def test_a_log_density_that_is_not_finite_once_silences_no_group(resample, value):
    """The particle has the weight 0 (or, of infinity, all of it); the run ends with the error."""
    models = [mixture(), mixture(1)]
    bad = broken(models[0].log_density, from_call=0, value=value)
    calls = iter(range(100))

    def once(x, sigma):
        return (bad if next(calls) == 2 else models[0].log_density)(x, sigma)

    steps = fkc(
        models,
        X.repeat(4, 1),
        SIGMAS,
        log_densities=[once, models[1].log_density],
        particles=8,
        resample=resample,
        generator=torch.Generator().manual_seed(0),
    )
    records = [step.record for _, step in zip(range(5), steps, strict=False)]
    for record in records:
        assert record.log_weights.isfinite().all() and record.effective.isfinite().all()
        assert (record.effective >= 0.999).all() and (record.effective <= 8.001).all()
    if resample == 1.0 and value != math.inf:
        assert 1 not in records[1].ancestors, "a particle of weight 0 has no copy"
        assert records[-1].effective[0] > 1
    with raises(r"log_densities\[0\] returned", 1):
        next(steps)


def test_fkc_goes_on_without_a_particle_that_a_model_lost():
    steps = fkc([broken(mixture(), from_call=2), mixture(1)], X, SIGMAS, exponents=[0.5, 0.5])
    taken = [step.record.effective for _, step in zip(range(5), steps, strict=False)]
    assert torch.stack(taken).isfinite().all()
    with raises(r"models\[0\] returned", 2):
        next(steps)
