"""Every function computes the same whatever the ambient modes are, and on devices without float64."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from ambient import MODES, NoFloat64
from kinds import DETERMINISTIC
from torch import Tensor

from amdm import noise, samplers, schedules
from amdm.denoisers import Empirical, GaussianMixture, GuidedPair, conservative_projection, linear
from amdm.geometry import FOLDS, angle, radial_correct, slerp
from amdm.k_diffusion import sampler_with

G = torch.Generator().manual_seed(0)
LEVELS = torch.tensor([14.6, 5.0, 1.0, 0.0])
XS = [14.6 * torch.randn(4, 2, 8, generator=G) for _ in range(3)]
FACTORS = torch.randn(2, 3, 2, 8, generator=G)
MODELS = [GaussianMixture(torch.full((2, 2, 8), m), torch.tensor([1.0, 0.5])) for m in (-1.0, 1.0)]
WIDE = GaussianMixture(torch.zeros(2, 2, 8, dtype=torch.float64), torch.ones(2, dtype=torch.float64))
TILTED = GaussianMixture(torch.ones(2, 2, 8), torch.ones(2), factors=FACTORS)
DATA = Empirical(torch.randn(20, 2, 8, generator=G))
DENSITIES = [model.log_density for model in MODELS]


def own_sampler(model: Any, x: Tensor, sigmas: Tensor, extra_args: Any = None, **options: Any) -> Any:
    """A generator of the user's own, which is driven."""
    return (yield from samplers.ddim(model, x, sigmas, extra_args, **options))


def several(sample: Callable[..., Tensor], **options: Any) -> Callable[..., Tensor]:
    def run(x: Tensor, *others: Tensor) -> Tensor:
        given = {**options, "generator": torch.Generator().manual_seed(0)} if "seeded" in options else options
        given = {name: value for name, value in given.items() if name != "seeded"}
        return sample(MODELS, x, LEVELS, disable=True, **given)

    return run


def one(sample: Callable[..., Tensor], model: Any, **options: Any) -> Callable[..., Tensor]:
    return lambda x, *others: sample(model, x, LEVELS, disable=True, **options)


CALLS: dict[str, Callable[..., Any]] = {
    "angle": lambda a, b, c: angle(a, b),
    "slerp": lambda a, b, c: slerp(a, b, 0.3),
    "slerp of one weight per sample": lambda a, b, c: slerp(a, b, a.new_full((4,), 0.3)),
    "radial_correct": lambda a, b, c: radial_correct(a, b, 0.3),
    **{name: lambda *xs, fold=fold: fold(xs, [0.5, 0.3]) for name, fold in FOLDS.items()},
    **{f"{name} of two": lambda a, b, c, fold=fold: fold([a, b], [0.5]) for name, fold in FOLDS.items()},
    "mixture": lambda x, *_: MODELS[0](x, 2.0),
    "mixture in float64": lambda x, *_: WIDE(x, x.new_full((4,), 2.0)),
    "mixture's eps": lambda x, *_: WIDE.eps(x, x.new_full((4,), 2.0)),
    "mixture's score": lambda x, *_: TILTED.score(x, 2.0),
    "mixture's density": lambda x, *_: TILTED.log_density(x, x.new_full((4,), 2.0)),
    "mixture with factors": lambda x, *_: TILTED(x, x.new_full((4,), 2.0)),
    "mixture's sample": lambda *_: TILTED.sample(5, 2.0, generator=torch.Generator().manual_seed(0)),
    "data": lambda x, *_: DATA(x, x.new_full((4,), 2.0)),
    "composition": lambda x, *_: linear(MODELS)(x, x.new_full((4,), 2.0)),
    "projection": lambda x, *_: conservative_projection(lambda y: y**2 / 2, x[:, 0], -x[:, 0]),
    **{name: one(getattr(samplers, f"sample_{name}"), TILTED) for name in ("ddim", *DETERMINISTIC)},
    "ddim with noise": one(samplers.sample_ddim, DATA, eta=1.0),
    **{
        name: one(getattr(samplers, f"sample_{name}"), WIDE)
        for name in ("dpmpp_2m_sde", "euler_ancestral_flow", "lcm", "res_multistep")
    },
    "amdm": several(samplers.sample_amdm),
    "amdm, Karcher's mean": lambda *xs: samplers.sample_amdm(
        [*MODELS, TILTED], xs, LEVELS, fold=FOLDS["karcher_mean"], disable=True
    ),
    "amdm, own sampler": several(samplers.sample_amdm, sampler=own_sampler, eta=1.0),
    "projective guidance": several(samplers.sample_projective_guidance, background=TILTED, window=1.0),
    "projective guidance of N starts": lambda *xs: samplers.sample_projective_guidance(
        [GuidedPair(MODELS[0], WIDE, 3.0), *MODELS], xs, LEVELS, background=TILTED, window=2, disable=True
    ),
    "k-diffusion": one(sampler_with([MODELS[1]]), MODELS[0]),
    "superdiff and": several(samplers.sample_superdiff),
    "superdiff or": several(samplers.sample_superdiff, combine="or"),
    "superdiff flow": several(samplers.sample_superdiff, eta=0.0),
    "superdiff flow, seeded": several(samplers.sample_superdiff, eta=0.0, seeded=True),
    "fkc": several(samplers.sample_fkc),
    "fkc flow": several(samplers.sample_fkc, eta=0.0, seeded=True),
    "fkc with densities": several(samplers.sample_fkc, particles=2, log_densities=DENSITIES),
    **{
        f"mcmc {kernel}": several(samplers.sample_mcmc, moves=2, kernel=kernel)
        for kernel in ("ula", "mala", "uhmc")
    },
    "mcmc hmc": several(samplers.sample_mcmc, moves=2, kernel="hmc", seeded=True, acceptance=0.6),
    "mcmc with densities": several(samplers.sample_mcmc, moves=2, kernel="mala", log_densities=DENSITIES),
    "rne": lambda x, *_: samplers.rne_log_density(MODELS[0], x / 10, LEVELS),
}
ALONE: dict[str, Callable[[], Any]] = {
    "karras": partial(schedules.karras_sigmas, 5, 0.1, 10.0),
    "betas": schedules.stable_diffusion_betas,
    "flow": partial(schedules.flow_times, 5, 3.0),
    "start": lambda: noise.start_noise([0, 1], [3], 2.0, 1)[0],
    "start in float16": lambda: noise.start_noise([0, 1], [3], 2.0, 1, dtype=torch.float16)[0],
    "steps": lambda: noise.seeded_noise([0, 1], [3])(LEVELS[0], LEVELS[1]),
}


def called(call: Callable[..., Any], *xs: Tensor) -> Any:
    torch.manual_seed(0)
    return call(*xs)


@pytest.mark.filterwarnings("ignore:.*returned .denoised")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CALLS)
def test_ambient_modes_change_nothing(name, mode):
    expected = called(CALLS[name], *XS)
    with MODES[mode]():
        result = called(CALLS[name], *XS)
    assert result.dtype == expected.dtype and result.device == expected.device
    assert torch.equal(result, expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ALONE)
def test_ambient_modes_change_nothing_of_what_has_no_input(name, mode):
    expected = ALONE[name]()
    with MODES[mode]():
        result = ALONE[name]()
    assert result.dtype == expected.dtype and result.device == expected.device
    assert torch.equal(result, expected)


@pytest.mark.filterwarnings("ignore:.*returned .denoised")
@pytest.mark.parametrize("name", CALLS)
def test_a_device_without_float64_gives_the_same(name):
    expected = called(CALLS[name], *XS)
    result = called(CALLS[name], *(x.as_subclass(NoFloat64) for x in XS))
    assert torch.equal(result.as_subclass(Tensor).double(), expected.double())
    if name not in ("rne", "mixture's sample"):
        assert isinstance(result, NoFloat64), "on the device of the latent"


def test_the_emulated_device_refuses_float64():
    x = XS[0].as_subclass(NoFloat64)
    for refused in (
        lambda: x.double(),
        lambda: x.to(torch.float64),
        lambda: x.new_zeros(1, dtype=torch.float64),
    ):
        with pytest.raises(TypeError, match="doesn't support float64"):
            refused()
