"""Nothing waits for a device: a tensor on `meta` has no values, so reading one on the host raises."""

import pytest
import torch
from kinds import OF_ONE_MODEL
from torch.utils._python_dispatch import TorchDispatchMode

from amdm.geometry import FOLDS, angle, radial_correct, slerp
from amdm.samplers import SAMPLERS, amdm, ddim, dpmpp_2m, fkc, mcmc, projective_guidance, superdiff

X = torch.empty(2, 3, 4, device="meta")
FOLDS = list(FOLDS.values())
ONE = [SAMPLERS[name] for name in OF_ONE_MODEL]
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


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("sampler", [*ONE, lambda model, *args, **options: amdm([model], *args, **options)])
def test_samplers_read_nothing_before_their_last_step(sampler, validate):
    steps = sampler(model, X, SIGMAS, validate=validate)
    assert [next(steps).x_next.shape for _ in range(3)] == [X.shape] * 3
    with pytest.raises(ValueError, match=r"^x is on the meta device"):
        next(steps)


@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        (fkc, {}),
        (fkc, {"particles": 1, "resample": 0.5}),
        (superdiff, {"combine": "or"}),
        (superdiff, {"combine": "and"}),
        (mcmc, {"kernel": "ula"}),
        (mcmc, {"kernel": "hmc", "acceptance": 0.6}),
        (projective_guidance, {"background": model, "window": 4}),
        (
            projective_guidance,
            {"background": model, "window": 4, "weights": torch.empty(2, 1, 4, device="meta")},
        ),
    ],
)
def test_samplers_of_several_models_read_nothing_before_their_last_step(sampler, options):
    steps = sampler([model] * 3, X, SIGMAS, **options)
    assert [next(steps).x_next.shape for _ in range(3)] == [X.shape] * 3
    with pytest.raises(ValueError, match=r"^x is on the meta device"):
        next(steps)


class Reads(TorchDispatchMode):
    """Counts what waits for a device: numbers that are read from tensors, and searches in them."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        waits = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        self.count += func in waits
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize(
    ("sampler", "options", "waits"),
    [
        *((lambda models, *args, _f=f, **o: _f(models[0], *args, **o), {}, 1) for f in ONE),
        (lambda models, *args, **o: ddim(models[0], *args, **o), {"debug_nans": True}, 4),
        (amdm, {"window": 2}, 2),
        (amdm, {"window": 4}, 1),
        (amdm, {"window": 2, "debug_nans": True}, 4),
        (amdm, {"window": 0}, 1),
        (amdm, {"window": 2, "sampler": lambda model, *args, **o: dpmpp_2m(model, *args, **o)}, 2),
        (projective_guidance, {"background": model, "window": 2}, 2),
        (projective_guidance, {"background": model, "window": 4}, 1),
        (fkc, {}, 1),
        (superdiff, {"combine": "or"}, 1),
        (mcmc, {"kernel": "ula"}, 1),
    ],
)
def test_how_often_a_run_waits(sampler, options, waits, validate):
    """Once at the last step for all that is told there, and once where the window closes, whatever runs."""
    steps = sampler([model, model], torch.randn(2, 3, 4), SIGMAS, validate=validate, **options)
    with Reads() as reads:
        assert len(list(steps)) == 4
    assert reads.count == waits


def test_bounds_of_a_model_that_lie_on_its_device_are_not_read():
    class Ranged:
        sigma_min = sigma_max = torch.empty((), device="meta")

        def __call__(self, x, sigma):
            return model(x, sigma)

    for steps in (ddim(Ranged(), X, SIGMAS), amdm([Ranged(), Ranged()], X, SIGMAS, window=3)):
        assert [next(steps).index for _ in range(2)] == [0, 1]


@pytest.mark.parametrize("fold", FOLDS)
def test_amdm_reads_nothing_before_its_window_closes(fold):
    steps = amdm(
        [model] * 3, [X, X.clone(), X.clone()], SIGMAS, weights=[0.5, 0.65], window=3, fold=fold, eta=1.0
    )
    for _ in range(2):
        assert next(steps).aggregation is not None
    with pytest.raises(ValueError, match=r"^x is on the meta device"):
        next(steps)
