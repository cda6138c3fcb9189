"""Nothing waits for a device: a tensor on `meta` has no values, so reading one on the host raises."""

import pytest
import torch

from amdm.geometry import (
    angle,
    karcher_mean,
    lerp_fold,
    orthogonal_mix,
    radial_correct,
    slerp,
    slerp_fold,
)
from amdm.samplers import amdm, ddim, dpmpp_2m, dpmpp_2m_sde, fkc, heun, mcmc, superdiff

X = torch.empty(2, 3, 4, device="meta")
FOLDS = [slerp_fold, lerp_fold, karcher_mean, orthogonal_mix]
SIGMAS = torch.tensor([5.0, 3.0, 2.0, 1.0, 0.0])


def model(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    return x / (1 + sigma[:, None, None] ** 2)


def test_a_meta_tensor_would_tell():
    with pytest.raises((RuntimeError, NotImplementedError)):
        bool(X.sum() > 0)


@pytest.mark.parametrize("weight", [0.5, torch.empty(2, device="meta")], ids=["number", "per sample"])
def test_geometry_reads_nothing(weight):
    assert angle(X, X).shape == (2,)
    assert slerp(X, X, weight).shape == X.shape
    assert radial_correct(X, X, weight).shape == X.shape
    assert radial_correct(X, X, weight, radius=weight).shape == X.shape
    for fold in FOLDS:
        assert fold([X, X, X], [weight, weight]).shape == X.shape


@pytest.mark.parametrize("sampler", [ddim, heun, dpmpp_2m, dpmpp_2m_sde])
def test_samplers_read_nothing(sampler):
    assert [step.x_next.shape for step in sampler(model, X, SIGMAS)] == [X.shape] * 4


@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        (fkc, {}),
        (fkc, {"particles": 1, "resample": 0.5}),
        (superdiff, {"combine": "or"}),
        (superdiff, {"combine": "and"}),
        (mcmc, {"kernel": "ula"}),
        (mcmc, {"kernel": "hmc", "acceptance": 0.6}),
    ],
)
def test_samplers_of_several_models_read_nothing_before_their_last_step(sampler, options):
    steps = sampler([model] * 3, X, SIGMAS, **options)
    assert [next(steps).x_next.shape for _ in range(3)] == [X.shape] * 3
    with pytest.raises((RuntimeError, NotImplementedError)):
        next(steps)


@pytest.mark.parametrize("fold", FOLDS)
def test_amdm_reads_nothing_before_its_window_closes(fold):
    steps = amdm(
        [model] * 3, [X, X.clone(), X.clone()], SIGMAS, weights=[0.5, 0.65], window=3, fold=fold, eta=1.0
    )
    for _ in range(2):
        assert next(steps).aggregation is not None
    with pytest.raises((RuntimeError, NotImplementedError)):
        next(steps)
