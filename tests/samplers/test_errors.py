"""What a wrong argument gets: at the call, before any evaluation, a message that names it."""

import numpy as np
import pytest
import torch
from samplers.models import Recorder, karras, mixture

from amdm import check_same_ecosystem, seeded_noise, sigma_window, start_noise
from amdm.samplers import (
    amdm,
    ddim,
    dpmpp_2m,
    dpmpp_2m_sde,
    heun,
    projective_guidance,
    sample_amdm,
    sample_ddim,
)

pytestmark = pytest.mark.usefixtures("unchecked")

X = torch.ones(2, 6, dtype=torch.float64)
SIGMAS = karras(5)
NAN, INF = float("nan"), float("inf")

SCHEDULES = [
    (torch.tensor([3.0, 3.0, 0.0]), r"sigmas\[1\] is 3.0 after 3.0: expected a decreasing schedule"),
    (torch.tensor([1.0, 2.0]), r"sigmas\[1\] is 2.0 after 1.0"),
    (torch.tensor([INF, 2.0]), r"sigmas\[0\] is inf, expected a finite level"),
    (torch.tensor([NAN, 2.0]), r"sigmas\[0\] is nan"),
    (torch.tensor([2.0, -1.0]), r"sigmas\[1\] is -1.0, expected a finite level of 0 or more"),
    (torch.ones(2, 2), r"sigmas has shape \(2, 2\), expected one axis"),
    (torch.ones(0), r"sigmas has shape \(0,\)"),
]


@pytest.mark.parametrize(
    "sampler", [ddim, heun, dpmpp_2m, dpmpp_2m_sde, lambda m, *a, **k: amdm([m, m], *a, **k)]
)
@pytest.mark.parametrize(("sigmas", "message"), SCHEDULES)
def test_schedules(sampler, sigmas, message):
    with pytest.raises(ValueError, match=message):
        sampler(mixture(), X, sigmas)


@pytest.mark.parametrize(
    "sampler", [ddim, heun, dpmpp_2m, dpmpp_2m_sde, lambda m, *a, **k: amdm([m, m], *a, **k)]
)
def test_arguments_of_every_sampler(sampler):
    cases = [
        ((X, [3.0, 1.0]), {}, TypeError, "sigmas is list, expected a floating-point tensor"),
        ((X, torch.tensor([3, 1])), {}, TypeError, "sigmas is a torch.int64 tensor"),
        ((X.long(), SIGMAS), {}, TypeError, "x is a torch.int64 tensor, expected a floating-point tensor"),
        ((X[0], SIGMAS), {}, ValueError, r"x has shape \(6,\), expected \(batch, \*event\)"),
        ((X, SIGMAS, 5), {}, TypeError, r"extra_args(\[0\])? is int, expected a dictionary or None"),
        ((X, SIGMAS), {"eta": -1.0}, ValueError, "eta is -1.0, expected"),
        ((X, SIGMAS), {"eta": NAN}, ValueError, "eta is nan, expected"),
    ]
    for args, options, error, message in cases:
        model = Recorder(mixture())
        with pytest.raises(error, match=message):
            sampler(model, *args, **options)
        assert model.sigmas == []


@pytest.mark.parametrize("sampler", [heun, dpmpp_2m])
def test_noise_for_a_deterministic_sampler(sampler):
    message = f"eta is 1.0, expected 0: {sampler.__name__} is deterministic"
    with pytest.raises(ValueError, match=message):
        sampler(mixture(), X, SIGMAS, eta=1.0)
    with pytest.raises(ValueError, match=message):
        amdm([mixture(), mixture()], X, SIGMAS, sampler=sampler, eta=1.0)


AMDM = [
    ({"weights": [0.5, 0.5]}, ValueError, "weights has 2 entries but there are 2 models: expected 1"),
    ({"weights": []}, ValueError, "weights has 0 entries but there are 2 models: expected 1"),
    ({"weights": 1.5}, ValueError, r"weights\[0\] is 1.5, expected a share in \[0, 1\]"),
    ({"weights": "0.5"}, TypeError, r"weights\[0\] is str, expected a share in \[0, 1\]"),
    ({"weights": None}, TypeError, r"weights\[0\] is None, expected a share"),
    ({"correction": None}, TypeError, r"correction\[0\] is None, expected a finite length"),
    ({"eta": torch.tensor(0.5)}, TypeError, "eta is a torch.float32 tensor, expected a finite number"),
    ({"window": "0.4"}, TypeError, "window is '0.4', expected a fraction, a count"),
    ({"fold": 3}, TypeError, r"fold is int, expected a callable fold\(xs, weights\)"),
    ({"sampler": "ddim"}, TypeError, "sampler is str, expected a callable generator function such as ddim"),
    ({"noise_sampler": 3}, TypeError, "noise_sampler is int, expected a callable"),
    ({"weights": [NAN]}, ValueError, r"weights\[0\] is nan"),
    ({"correction": [0.3]}, ValueError, "correction has 1 entries but there are 2 models: expected 2"),
    ({"correction": -0.1}, ValueError, r"correction\[0\] is -0.1, expected a finite length of 0 or more"),
    ({"correction": [0.1, INF]}, ValueError, r"correction\[1\] is inf"),
    (
        {"correction": "none"},
        ValueError,
        "correction is 'none', expected a VP length, one per model, or 'auto'",
    ),
    ({"window": 1.2}, ValueError, r"window is 1.2, expected a fraction of the steps in \[0, 1\]"),
    ({"window": 6}, ValueError, r"window is \[0, 6\), expected 0 <= start <= stop <= 5"),
    ({"window": (3, 2)}, ValueError, r"window is \[3, 2\)"),
    ({"window": (-1, 2)}, ValueError, r"window is \[-1, 2\)"),
    ({"window": lambda levels: None}, TypeError, r"^window returned None, expected \(start, stop\)"),
    (
        {"window": lambda levels: (0, 2.5)},
        TypeError,
        r"^window returned \(0, 2.5\), expected \(start, stop\)",
    ),
    (
        {"window": (0.0, 0.4)},
        TypeError,
        r"^window is \(0.0, 0.4\), expected \(start, stop\), two step indices",
    ),
    (
        {"weights": [0.8, 0.6, 0.4]},
        ValueError,
        "^weights has 3 entries but there are 2 models: expected 1, one a merge; for shares that change with "
        "the step, a function of the Step$",
    ),
    (
        {"sampler": sample_ddim},
        TypeError,
        "^sampler is sample_ddim, a function that runs to the end, expected a generator function such as",
    ),
    ({"noise_sampler": [None]}, ValueError, "noise_sampler has 1 entries but there are 2 models: expected 2"),
    ({"extra_args": [{}]}, ValueError, "extra_args has 1 entries but there are 2 models"),
    ({"extra_args": [{}, 3]}, TypeError, r"extra_args\[1\] is int, expected a dictionary or None"),
]


@pytest.mark.parametrize("call", [amdm, sample_amdm])
@pytest.mark.parametrize(("options", "error", "message"), AMDM)
def test_arguments_of_amdm(call, options, error, message):
    models = [Recorder(mixture()), Recorder(mixture())]
    with pytest.raises(error, match=message):
        call(models, X, SIGMAS, **options)
    assert models[0].sigmas == models[1].sigmas == []


def test_a_sampler_that_returns_no_generator():
    steps = amdm([mixture(), mixture()], X, SIGMAS, sampler=lambda *args, **options: X)
    with pytest.raises(
        TypeError, match=r"^sampler returned Tensor, expected a generator of Steps such as ddim"
    ):
        next(steps)


@pytest.mark.parametrize(
    ("models", "x", "error", "message"),
    [
        ([], X, ValueError, "models is empty, expected one denoiser or more"),
        (mixture(), X, TypeError, "models is GaussianMixture, expected a list of denoisers"),
        ([mixture()] * 2, X[:0], ValueError, r"x has shape \(0, 6\), expected .*, batch 1 or more"),
        ([mixture(), 3], X, TypeError, r"models\[1\] is int, expected a callable"),
        ([mixture()] * 2, [X], ValueError, "x has 1 entries but there are 2 models: expected 2"),
        (
            [mixture()] * 2,
            [X, X[:1]],
            ValueError,
            r"x\[1\] has shape \(1, 6\), expected that of x\[0\]: \(2, 6\)",
        ),
        ([mixture()] * 2, [X, X.long()], TypeError, r"x\[1\] is a torch.int64 tensor"),
    ],
)
def test_models_and_starts_of_amdm(models, x, error, message):
    with pytest.raises(error, match=message):
        amdm(models, x, SIGMAS)


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (X[:1], ValueError, r"returned shape \(1, 6\), expected that of x: \(2, 6\)"),
        (X.long(), TypeError, "returned a torch.int64 tensor, expected a floating-point tensor"),
        (None, TypeError, "returned None, expected a floating-point tensor"),
        (X.to("meta"), ValueError, "returned a tensor on meta, expected x's cpu"),
    ],
)
def test_what_a_model_returns(returned, error, message):
    with pytest.raises(error, match="^model " + message):
        next(ddim(lambda x, sigma: returned, X, SIGMAS))
    with pytest.raises(error, match=r"^models\[1\] " + message):
        next(amdm([mixture(), lambda x, sigma: returned], X, SIGMAS))


@pytest.mark.parametrize("batch", [1, 3])
def test_noise_of_another_batch_never_broadcasts(batch):
    with pytest.raises(
        ValueError, match=rf"noise_sampler returned shape \({batch}, 6\), expected that of x: \(2, 6\)"
    ):
        next(ddim(mixture(), X, SIGMAS, eta=1.0, noise_sampler=seeded_noise(range(batch), [6])))


class Pipeline:
    """What every pipeline of diffusers has; it can be called, with a prompt."""

    def __init__(self):
        self.components, self.scheduler = {}, None

    def __call__(self, prompt):
        raise AssertionError("a pipeline ran in the place of a denoiser")


def test_a_pipeline_is_no_denoiser():
    message = r"is a? ?Pipeline, a pipeline, expected a denoiser: from_pipeline\(pipe, ...\).model$"
    with pytest.raises(TypeError, match="^model " + message):
        ddim(Pipeline(), X, SIGMAS)
    with pytest.raises(TypeError, match=r"^models\[1\] " + message):
        amdm([mixture(), Pipeline()], X, SIGMAS)
    with pytest.raises(TypeError, match=r"^models\[1\] " + message):
        check_same_ecosystem([mixture(), Pipeline()])


@pytest.mark.parametrize("returned", [None, np.ones((2, 6)), 0.5])
def test_a_fold_that_returns_no_tensor(returned):
    kind = "None" if returned is None else type(returned).__name__
    with pytest.raises(TypeError, match=f"^fold returned {kind}, expected a tensor of a latent's shape"):
        next(amdm([mixture(), mixture()], X, SIGMAS, fold=lambda xs, weights: returned))


def test_a_noise_sampler_that_returns_an_array():
    with pytest.raises(TypeError, match=r"^noise_sampler returned ndarray, expected a floating-point tensor"):
        next(ddim(mixture(), X, SIGMAS, eta=1.0, noise_sampler=lambda *_: np.ones((2, 6))))


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        (0, r"^seeds is 0, expected a list of whole numbers, one per sample: \[0\]$"),
        ([0.5], r"^seeds\[0\] is 0.5, expected a whole number"),
        ([1, torch.tensor(2)], r"^seeds\[1\] is tensor\(2\), expected a whole number"),
    ],
)
def test_seeds_that_are_none(seeds, message):
    for call in (lambda: seeded_noise(seeds, [6]), lambda: start_noise(seeds, [6], 1.0, 2)):
        with pytest.raises(TypeError, match=message):
            call()


def test_numpys_seeds_are_seeds():
    one, other = (start_noise(seeds, [6], 1.0, 1)[0] for seeds in ([3, 4], np.array([3, 4])))
    assert torch.equal(one, other)


@pytest.mark.parametrize("seeds", [[], [3, -1]])
def test_seeds(seeds):
    with pytest.raises(ValueError, match=r"seeds is \[.*\], expected one or more, each 0 or more"):
        seeded_noise(seeds, [6])
    with pytest.raises(ValueError, match="seeds is"):
        start_noise(seeds, [6], 1.0, 2)


def test_numpy_scalars_and_arrays_are_numbers():
    models = [mixture(), mixture(1)]
    plain = sample_amdm(models, X, SIGMAS, disable=True, weights=0.25, correction=0.5, window=2)
    options = {
        "weights": np.array([0.25]),
        "correction": np.float32(0.5),
        "window": np.int64(2),
        "eta": np.float64(0),
    }
    assert torch.equal(sample_amdm(models, X, SIGMAS, disable=True, **options), plain)


def test_what_a_fold_returns():
    with pytest.raises(ValueError, match=r"fold returned shape \(1, 6\), expected \(2, 6\)"):
        next(amdm([mixture(), mixture()], X, SIGMAS, fold=lambda xs, weights: xs[0][:1]))


def test_what_weights_of_the_step_return():
    with pytest.raises(ValueError, match="weights has 2 entries but there are 2 models"):
        next(amdm([mixture(), mixture()], X, SIGMAS, weights=lambda step: [0.5, 0.5]))


PIXELS = torch.ones(2, 4, 8, 8, dtype=torch.float64)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (
            [torch.ones(8, 8)],
            ValueError,
            r"^weights\[0\] has shape \(8, 8\), expected a number, one per sample: \(2,\), or one per "
            r"element: a tensor with 4 axes that broadcasts to \(2, 4, 8, 8\), for example \(2, 1, 8, 8\)$",
        ),
        (
            [torch.ones(2, 1, 8, 8).bool()],
            TypeError,
            r"^weights\[0\] is a torch.bool tensor, expected a share in \[0, 1\] \(mask.float\(\)\)$",
        ),
        (
            torch.full((2,), 0.5),
            ValueError,
            r"^weights has 2 entries but there are 2 models: expected 1.*; for one per sample, \[tensor\]$",
        ),
    ],
)
def test_weights_of_another_shape(weights, error, message):
    with pytest.raises(error, match=message):
        amdm([mixture(), mixture()], PIXELS, SIGMAS, weights=weights)


def test_weights_of_projective_guidance_of_another_shape():
    message = (
        r"^weights has 2 entries but there are 2 models: expected 1, one for each partner; for weights that "
        r"change with the step, a function of the Controls; for one per sample, \[tensor\]$"
    )
    with pytest.raises(ValueError, match=message):
        projective_guidance(
            [mixture()] * 2, PIXELS, SIGMAS, weights=torch.full((2,), 0.5), background=mixture()
        )


def test_a_sigma_window_that_is_empty_by_itself():
    with pytest.raises(ValueError, match=r"the window \[3, 1\] is empty: expected 0 <= lo <= hi"):
        sigma_window(3, 1)


def test_the_users_own_exception_comes_through():
    def fails(x, sigma):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        next(amdm([mixture(), fails], X, SIGMAS))
