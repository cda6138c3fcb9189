"""What every public function takes for each of its arguments, and what it refuses: one table.

`TARGETS` has a call of every public function with right arguments, and for each argument values that are
right in their place and values that must end in a TypeError, ValueError or FloatingPointError that names it.
`test_every_argument.py` tries each by itself, `fuzz` in any combination.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from kinds import DETERMINISTIC, OF_ONE_MODEL
from torch import Tensor

import amdm
from amdm import compatibility, denoisers, geometry, noise, samplers, schedules
from amdm.diffusers.scheduler import Partners
from amdm.k_diffusion import sampler_with
from amdm.samplers import SAMPLERS

NAN, INF = math.nan, math.inf
T = torch.tensor


class Argument(NamedTuple):
    """Values that are right, and values that are refused."""

    good: tuple[Any, ...]
    bad: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Target:
    """A public function, and how it is called rightly."""

    call: Callable[..., Any]
    """Called by keywords; of a generator to its end."""
    arguments: dict[str, Argument]
    function: Any = None
    """Whose signature it has, if that is not `call`'s."""
    required: tuple[str, ...] = ()
    """The arguments that are always given, with their first good value."""
    also: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What else an argument needs, to be given."""


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers of a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def is_clear(error: BaseException, arguments: Sequence[str]) -> bool:
    """Whether the library itself raised it, and says which of these arguments is wrong."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    ours = last is not None and Path(last.tb_frame.f_code.co_filename).is_relative_to(LIBRARY)
    words = [word for name in arguments for word in (name, name.removesuffix("s"))] + IN_OTHER_WORDS
    named = re.search(rf"\b({'|'.join(words)})\b", str(error))
    return ours and named is not None and isinstance(error, TypeError | ValueError | FloatingPointError)


LIBRARY = Path(amdm.__file__).parent
IN_OTHER_WORDS = ["expected equal shapes", "expected one device", "expected N - 1", r"there are \d models"]
"""What names several arguments at once, or the number of them."""


# Kinds of arguments

NO_NUMBERS = (
    None,
    "0.5",
    True,
    np.True_,
    [0.5],
    (0.5, 0.5),
    {},
    1j,
    object(),
    T([0.5, 0.5]),
    np.ones(2),
    T(True),
)
NOT_FINITE = (NAN, INF, -INF, 10**400, np.float32("nan"))


def number(*good, bad=(), none=False):
    """A finite number of Python's or numpy's."""
    wrong = NO_NUMBERS[1 if none else 0 :]
    return Argument((*good, *((None,) if none else ())), (*wrong, *NOT_FINITE, T(0.5), *bad))


def level(*good, bad=(-1.0,)):
    """A number, or a 0-d tensor that is read."""
    return Argument(good, (*NO_NUMBERS, *NOT_FINITE, T(NAN), T(-1.0), torch.empty((), device="meta"), *bad))


def whole(*good, bad=(), none=False, call=False):
    """A whole number."""
    wrong = (None, "2", True, np.True_, 2.5, 2.0, NAN, INF, [2], T(2), T([2, 2]), np.array([2]), 1j, {})
    return Argument((*good, *((None,) if none else ())), (*wrong[1 if none else 0 :], *bad))


def weight(*good, most=INF, infinite=False):
    """A number or a tensor of one per sample of 2; tensors are not read."""
    bad = (NAN, -INF, -0.1, 10**400 if not infinite else -1, *((1.5, INF) if most == 1 else ()))
    shapes = (torch.ones(3), torch.ones(2, 1), torch.ones(1), torch.ones(0), torch.empty(2, device="meta"))
    wrong = (*tuple(v for v in NO_NUMBERS if not isinstance(v, Tensor)), T([True, False]), T([1j, 0.0]))
    right = (
        0.3,
        0,
        1,
        np.float32(0.25),
        np.int64(1),
        T(0.5),
        T([0.2, 0.9]),
        T([0.2, 0.9]).double(),
        T([0, 1]),
    )
    return Argument((*good, *right), (*bad, *wrong, *shapes))


def latent(*good, like=True, least=1):
    """A floating-point tensor `(batch, *event)`."""
    x = randn(2, 6)
    bad = (None, 3.0, "x", [1.0], x.numpy(), x.long(), x.bool(), x.to(torch.complex64), T(1.0))
    more = (x[:, :3], x[:1], randn(3, 6), x[:, None], x.to("meta")) if like else ()
    more += (x[0], x[:0]) if least == 2 else ()
    return Argument(good, (*bad, *more))


def latents(*good):
    """A list of them."""
    x = randn(2, 6)
    bad = (None, x, 3, "xs", [], [x, None], [x, x.long()], [x, x.to(torch.complex64)], [x, x[:1]], [x, x[0]])
    return Argument(good, (*bad, [x, x.numpy()], [3.0, 3.0], [x], [x, x, x], [T(1.0), T(1.0)], {"x": x}))


def listed(each, *good, none=False):
    """A list of one entry per model (of 2), given what an entry is refused as."""
    wrong = (1.0, "ab", {}, (), T(1.0), T([1.0]), [1.0], [1.0, 1.0, 1.0], object(), True)
    wrong += () if none else (None,)
    good += (None,) if none else ()
    return Argument(good, (*wrong, *([1.0, bad] for bad in each)))


def axis(*good, bad=()):
    """A floating-point tensor of one axis."""
    wrong = (None, 1.0, "x", [3.0, 1.0], np.ones(3), T([3, 1, 0]), T(1.0), torch.ones(2, 2), torch.ones(0))
    odd = (T([NAN, 1.0]), T([INF, 1.0]), T([1.0, -1.0]), torch.ones(3, device="meta"), torch.ones(2, 2) * 1j)
    return Argument(good, (*wrong, *odd, *bad))


def choice(*good, none=False):
    """One of some strings."""
    return Argument(good, ("other", "", 3, True, [], {}, NAN, *(() if none else (None,))))


def function(*good, none=False, bad=()):
    """Something that can be called."""
    return Argument(
        (*good, *((None,) if none else ())), (3, "f", [], T(1.0), *bad, *(() if none else (None,)))
    )


def broadcastable(*good, bad=(), none=False):
    """A tensor that broadcasts to latents of (2, 6)."""
    shapes = (torch.ones(3), torch.ones(3, 6), torch.ones(2, 6, 1), torch.ones(2, 1, 6))
    wrong = (3.0, "x", {}, object(), np.ones(6), T(1j), torch.empty(6, device="meta"), *shapes)
    none_ = (None,) if none else ()
    return Argument((*good, *none_), (*wrong, *bad, *(() if none else (None,))))


SWITCH = Argument((True, False, np.True_, 1), ("yes", [], T([1.0, 1.0]), None, 0.5))
GENERATOR = Argument(
    (None, torch.Generator().manual_seed(0)), (3, "g", torch.Generator, np.random.default_rng(0))
)
SEEDS = Argument(
    ([0, 1], (3, 4), [5], np.array([3, 4]), range(2), [2**40]),
    (None, 3, "12", [], [-1], [0.5], [None], [True], T([1, 2]), [NAN], {0: 1}, {1, 2}, T(3), [[1]]),
)
SHAPE = Argument(
    ([6], (2, 3), torch.Size([2, 2]), np.array([2, 3])),
    (None, 3, "3", [0], [-1], [2.5], [None], [True], {3: 1}, T(3), [[2]], [NAN]),
)

# Right arguments

X, Y = randn(2, 6), randn(2, 6, seed=1)
HALF = X.to(torch.float16)
MASK = T([1.0, 1.0, 0.5, 0.0, 0.0, 1.0])
SIGMAS = T([10.0, 3.0, 1.0, 0.3, 0.0])
START = 10 * X
SHARE = weight(most=1)
COLUMN = torch.ones(2, 1)
PER_ELEMENT = (COLUMN / 3, torch.rand(1, 6), torch.rand(2, 6), torch.eye(2, 6).double())
REGION = Argument(
    (*SHARE.good, *PER_ELEMENT),
    (
        *(value for value in SHARE.bad if not (isinstance(value, Tensor) and value.ndim == 2)),
        torch.ones(3, 6),
        torch.ones(2, 3),
        torch.ones(2, 6, 1),
        torch.ones(2, 6) > 0,
        torch.ones(2, 6) * 1j,
    ),
)
"""A share of a fold: also one per element."""
OF_SAMPLES = Argument(
    (*SHARE.good, *PER_ELEMENT[:1]),
    (
        *(value for value in SHARE.bad if not (isinstance(value, Tensor) and value.ndim == 2)),
        *PER_ELEMENT[1:],
    ),
)
"""The same without one per element."""
ONE = denoisers.GaussianMixture(torch.zeros(1, 6), torch.ones(1))
TWO = denoisers.GaussianMixture(torch.full((1, 6), 0.5), torch.full((1,), 0.5))
MODELS = [ONE, TWO]
TABLE = schedules.sigmas_from_betas(schedules.stable_diffusion_betas())
FINITE = (*NO_NUMBERS, *NOT_FINITE)
MODEL = Argument((ONE, lambda x, sigma: 0 * x), (None, 3, "model", [], T(1.0), [ONE]))
WRONG_MODELS = (None, 3, "ab", ONE, [], T([1.0]), {ONE: 1}, [ONE, None], [ONE, 3], {"a": ONE})
EXTRA = Argument((None, {}), (3, "a", T(1.0), {1, 2}, True))


def conditional(x, sigma, *, c):
    """A denoiser with a condition."""
    return 0 * x + c[:, :1]


def given(**changes):
    """Conditions of two samples."""
    return {"c": torch.ones(2, 3), **changes}


CONDITIONS = (
    None,
    3,
    torch.ones(2, 3),
    [],
    {"c": "cat"},
    {"c": None},
    {"d": torch.ones(2, 3)},
    {"c": torch.ones(3, 3)},
)
CONDITIONS += (
    {"c": torch.ones(1, 3)},
    {"c": T(1.0)},
    {"c": torch.ones(2, 4)},
    {"c": torch.ones(2, 3).double()},
    {},
)


ONES, ZEROS, GIVEN = torch.ones(2), torch.zeros(2, 6), given()


def guided(model=conditional, scale=2.0, x=X, sigma=ONES, cond=GIVEN, uncond=GIVEN):
    """Make a `Guided` and call it."""
    return denoisers.Guided(model, scale)(x, sigma, cond=cond, uncond=uncond)


def pair(conditional=ONE, unconditional=TWO, scale=2.0):
    """Make a `GuidedPair` and call it."""
    return denoisers.GuidedPair(conditional, unconditional, scale)(X, ONES)


def mixture(means=ZEROS, variances=ONES, weights=None, factors=None, x=X, sigma=1.0):
    """Make a mixture and call it."""
    return denoisers.GaussianMixture(means, variances, weights, factors)(x, sigma)


def empirical(data=X, x=Y, sigma=1.0):
    """Make the denoiser of some data and call it."""
    return denoisers.Empirical(data)(x, sigma)


def flow(network=lambda x, time: 0 * x, x=X, sigma=ONES, **options):
    """Make a flow's denoiser and call it."""
    return denoisers.RectifiedFlow(network, **options)(x, sigma)


def composed(make):
    """Make a composition and call it."""
    return lambda **arguments: make(**arguments)(X, torch.ones(2))


def started(seeds=(0, 1), shape=(3,), stream=0):
    """Make a noise sampler and draw."""
    return noise.seeded_noise(seeds, shape, stream=stream)(1.0, 0.5)


def shared(noise_sampler=lambda a, b: X, num_models=2):
    """Make shared noise samplers and draw."""
    return [sampler(1.0, 0.5) for sampler in noise.shared_noise(noise_sampler, num_models)]


def windowed(lo=1.0, hi=3.0):
    """Make a window and resolve it."""
    return samplers.sigma_window(lo, hi)(SIGMAS.tolist())


PER_SAMPLE = Argument(
    (torch.ones(2), torch.ones(2).double()), (None, 1.0, "1", torch.ones(3), torch.ones(2).long(), T(1.0))
)
SIGMA = Argument(
    (1.0, np.float32(2.0), 3, T(1.0), T([1.0, 2.0])),
    (*NO_NUMBERS[:9], *NO_NUMBERS[10:], NAN, INF, -1.0, torch.ones(3)),
)
BELOW = level(0.5, 0, 0.0, T(0.5), np.float32(0.5), bad=(-1.0, 1.0, 2.0))
ABOVE = level(1.0, 3, T(2.0), np.float64(2.0), bad=(0.0, -1.0, 0.1, T(0.0)))
PLAIN_BELOW, PLAIN_ABOVE = (
    number(*(v for v in a.good if not isinstance(v, Tensor)), bad=(-1.0,)) for a in (BELOW, ABOVE)
)
ETA = number(0.0, 0.5, 1, np.float32(0.5), bad=(-0.1,))
STEP_ETA = level(0.0, 0.5, 1, T(0.5), bad=(-0.1,))
ZERO = number(0.0, 0, bad=(0.5, -0.1))
STEPS = whole(1, 5, np.int64(3), bad=(0, -1))
LOG_DENSITIES = Argument(
    (None, [ONE.log_density, TWO.log_density]),
    (3, "ab", [], [None, None], [ONE.log_density], ONE.log_density, [ONE.log_density, 3]),
)
STATE = {"w": X}

TARGETS: dict[str, Target] = {
    "angle": Target(geometry.angle, {"a": latent(X, HALF, X.double()), "b": latent(Y)}, required=("a", "b")),
    "slerp": Target(
        geometry.slerp,
        {"a": latent(X, HALF), "b": latent(Y), "weight": REGION},
        required=("a", "b", "weight"),
    ),
    **{
        name: Target(
            fold,
            {
                "xs": latents([X, Y], (HALF, Y), [X, X]),
                "weights": Argument(
                    (
                        *([0.5], (0.25,), np.array([0.5]), T([0.5]), [T([0.2, 0.7])], [1], [np.float32(0.5)]),
                        *([each] for each in (PER_ELEMENT[:1] if name == "karcher_mean" else PER_ELEMENT)),
                    ),
                    (
                        *(None, 0.5, "a", {}, [], [0.5, 0.5], T(0.5)),
                        *([bad] for bad in (OF_SAMPLES if name == "karcher_mean" else REGION).bad),
                    ),
                ),
            },
            required=("xs", "weights"),
        )
        for name, fold in geometry.FOLDS.items()
    },
    "fold_shares": Target(
        geometry.fold_shares,
        {
            "weights": Argument(
                ([0.5], [], [0.5, 0.25], T([0.5]), np.array([0.5])),
                (None, 0.5, "a", {}, *([bad] for bad in (None, "a", True, NAN, -0.1, 1.5, [0.5]))),
            )
        },
        required=("weights",),
    ),
    "radial_correct": Target(
        geometry.radial_correct,
        {
            "x": latent(X, HALF),
            "mean": latent(Y),
            "length": weight(0.1, infinite=True),
            "radius": Argument(
                (None, *weight(INF).good), tuple(v for v in weight(infinite=True).bad if v is not None)
            ),
            "clip": SWITCH,
        },
        required=("x", "mean", "length"),
    ),
    "shell_radius": Target(
        geometry.shell_radius,
        {"n": whole(1, 16384, np.int64(3), bad=(0, -1)), "std": number(0.0, 2, bad=(-1.0,))},
        required=("n", "std"),
    ),
    "karras_sigmas": Target(
        schedules.karras_sigmas,
        {
            "steps": STEPS,
            "sigma_min": number(0.1, np.float32(0.1), bad=(0.0, -1.0)),
            "sigma_max": number(10.0, 10, bad=(0.05, 0.0)),
            "rho": number(7.0, 1, bad=(0.0, -1.0, 1e-3)),
        },
        required=("steps", "sigma_min", "sigma_max"),
    ),
    "ddim_sigmas": Target(
        schedules.ddim_sigmas,
        {
            "table": axis(TABLE, TABLE.float(), bad=(TABLE.flip(0),)),
            "steps": whole(1, 7, 50, 999, np.int64(20), bad=(0, -1, 1001, 1000, 10**9)),
            "spacing": choice("leading", "trailing", "linspace"),
            "offset": whole(1, 0, bad=(-1, 1000, 10**9)),
        },
        required=("table", "steps"),
    ),
    "stable_diffusion_betas": Target(schedules.stable_diffusion_betas, {"steps": STEPS}),
    "sigmas_from_betas": Target(
        schedules.sigmas_from_betas,
        {"betas": axis(T([0.1, 0.2]), T([0.5, 1.0]), T([0.1, 0.2]).half(), bad=(T([1.5]), T([-0.1])))},
        required=("betas",),
    ),
    "flow_times": Target(
        schedules.flow_times, {"steps": STEPS, "shift": number(3.0, 1, bad=(0.0, -1.0))}, required=("steps",)
    ),
    "flow_sigmas": Target(
        schedules.flow_sigmas,
        {
            "times": axis(
                T([1.0, 0.5, 0.0]), T([1.0, 0.5]).half(), T([1.0, 0.5]).bfloat16(), bad=(T([1.5]), T([-0.1]))
            )
        },
        required=("times",),
    ),
    "flow_times_from_sigmas": Target(
        schedules.flow_times_from_sigmas,
        {"sigmas": axis(SIGMAS, T([0.0, 1e6]), SIGMAS.half(), bad=(T([-0.1]), T([NAN])))},
        required=("sigmas",),
    ),
    **{
        each.__name__: Target(
            each, {"x": latent(X, HALF, like=False, least=2), "sigma": SIGMA}, required=("x", "sigma")
        )
        for each in (schedules.flow_to_ve, schedules.flow_from_ve)
    },
    "seeded_noise": Target(
        started, {"seeds": SEEDS, "shape": SHAPE, "stream": whole(0, 3, bad=(-1,))}, noise.seeded_noise
    ),
    "shared_noise": Target(
        shared,
        {"noise_sampler": function(lambda a, b: X), "num_models": whole(1, 3, bad=(0, -1))},
        noise.shared_noise,
    ),
    "start_noise": Target(
        noise.start_noise,
        {
            "seeds": SEEDS,
            "shape": SHAPE,
            "sigma": level(1.0, 3, T(2.0), np.float32(14.6), bad=(0.0, -1.0, T([1.0]))),
            "num_models": whole(1, 2, bad=(0, -1)),
            "convention": choice("vp", "ve"),
            "dtype": Argument(
                (torch.float32, torch.float16, torch.float64),
                (None, torch.int64, torch.complex64, "float", 3, float),
            ),
            "device": Argument((None, "cpu", torch.device("cpu")), ("gpu", "", 3.5, [], "cuda:99", 10**400)),
        },
        required=("seeds", "shape", "sigma", "num_models"),
    ),
    "check_same_ecosystem": Target(
        compatibility.check_same_ecosystem,
        {
            "models": Argument((MODELS, (ONE,)), WRONG_MODELS),
            "sigmas": Argument((None, SIGMAS), axis().bad[1:]),
            "rtol": number(1e-3, 0, bad=(-1.0,)),
        },
        required=("models",),
    ),
    "sigma_window": Target(
        windowed,
        {
            "lo": Argument((1.0, 0, T(1.0).item()), (*NO_NUMBERS, NAN, -1.0, 5.0)),
            "hi": Argument((3.0, INF, 3), (*NO_NUMBERS, NAN, -1.0, 0.5)),
        },
        samplers.sigma_window,
    ),
    "GaussianMixture": Target(
        mixture,
        {
            "means": latent(torch.zeros(2, 6), torch.ones(2, 6).double(), like=False, least=2),
            "variances": Argument(
                (torch.ones(2), torch.ones(2, 6)),
                (None, 1.0, [1.0], torch.ones(3), torch.zeros(2), T([NAN, 1.0]), T([1, 2])),
            ),
            "weights": Argument(
                (None, T([1.0, 2.0])),
                (1.0, [1.0, 1.0], torch.ones(3), torch.zeros(2), T([NAN, 1.0]), T([1, 2])),
            ),
            "factors": Argument(
                (None, torch.ones(2, 1, 6)),
                (1.0, torch.ones(2, 6), torch.ones(3, 1, 6), torch.full((2, 1, 6), NAN)),
            ),
        },
    ),
    "GaussianMixture.__call__": Target(mixture, {"x": latent(X, HALF, like=False), "sigma": SIGMA}),
    "Empirical": Target(empirical, {"data": latent(X, X.double(), like=False, least=2)}),
    "Empirical.__call__": Target(
        empirical,
        {
            "x": latent(X, X.double(), like=False),
            "sigma": Argument((*SIGMA.good, 0.0, T([1.0, 0.0])), SIGMA.bad),
        },
    ),
    "RectifiedFlow": Target(
        flow,
        {
            "network": function(lambda x, time: 0 * x, bad=(lambda x, time: None, lambda x, time: x[:1])),
            "time_scale": number(1.0, 1000, bad=(0.0, -1.0)),
            "prediction": choice("flow", "sample"),
            "name": Argument(("FLUX", None), (3, b"FLUX", [])),
            "latent_space": Argument((None, amdm.LatentSpace("vae")), (3, "vae", ("vae", 1.0))),
            "times": Argument((None, T([1.0, 0.5, 0.0])), axis(bad=(T([1.5]), T([-0.1]))).bad[1:]),
        },
    ),
    "RectifiedFlow.__call__": Target(flow, {"x": latent(X, like=False, least=2), "sigma": PER_SAMPLE}),
    "Guided": Target(
        guided,
        {"model": function(conditional), "scale": Argument((0, 1, 7.5, -1.0, T(2.0)), number().bad[:-1])},
    ),
    "Guided.__call__": Target(
        guided,
        {
            "x": latent(X, like=False, least=2),
            "sigma": PER_SAMPLE,
            "cond": Argument((given(),), CONDITIONS),
            "uncond": Argument((given(),), CONDITIONS),
        },
    ),
    "GuidedPair": Target(
        pair,
        {
            "conditional": function(ONE),
            "unconditional": function(ONE),
            "scale": number(0, 1, -1.0),
        },
    ),
    "scaling": Target(
        denoisers.scaling,
        {
            "prediction": choice("epsilon", "v_prediction", "sample", "flow"),
            "sigma": Argument((torch.ones(2), T(1.0)), (None, 1.0, "1", T([1]), [1.0])),
        },
        required=("prediction", "sigma"),
    ),
    "compose": Target(
        composed(denoisers.compose),
        {
            "models": Argument((MODELS, tuple(MODELS)), WRONG_MODELS),
            "exponents": listed(FINITE, [1.0, -1.0], (2, 0.5)),
            "extra_args": EXTRA,
        },
        denoisers.compose,
        required=("models", "exponents"),
    ),
    "linear": Target(
        composed(denoisers.linear),
        {
            "models": Argument((MODELS,), WRONG_MODELS),
            "weights": listed((*FINITE, 1.0), [0.25, 0.75], none=True),
            "extra_args": EXTRA,
        },
        denoisers.linear,
        required=("models",),
    ),
    "conjunction": Target(
        composed(denoisers.conjunction),
        {
            "unconditional": MODEL,
            "models": Argument((MODELS,), WRONG_MODELS),
            "extra_args": EXTRA,
            "weights": Argument(
                (7.5, [1.0, -2.0], np.array([1.0, 2.0])),
                (None, "ab", True, NAN, [1.0], [1.0, NAN], [1.0, None], {}, 1j),
            ),
        },
        denoisers.conjunction,
        required=("unconditional", "models"),
    ),
    "projective": Target(
        composed(denoisers.projective),
        {"background": MODEL, "models": Argument((MODELS,), WRONG_MODELS), "extra_args": EXTRA},
        denoisers.projective,
        required=("background", "models"),
    ),
    "average_state_dicts": Target(
        denoisers.average_state_dicts,
        {
            "state_dicts": Argument(
                ([STATE, STATE], (STATE, STATE)),
                (
                    None,
                    3,
                    [],
                    STATE,
                    [STATE, None],
                    [STATE, {"v": X}],
                    [STATE, {"w": X[:1]}],
                    [STATE, {"w": 3}],
                ),
            ),
            "weights": listed((*FINITE, 1.0), [0.25, 0.75], none=True),
        },
        required=("state_dicts",),
    ),
    "conservative_projection": Target(
        denoisers.conservative_projection,
        {
            "features": function(lambda x: x**2 / 2),
            "x": latent(X, X.double(), least=2),
            "score": latent(-X, least=2),
        },
        required=("features", "x", "score"),
    ),
    "ddim_step": Target(
        samplers.ddim_step,
        {
            "x": latent(X),
            "denoised": latent(Y),
            "sigma": ABOVE,
            "sigma_next": BELOW,
            "eta": STEP_ETA,
        },
        required=("x", "denoised", "sigma", "sigma_next"),
    ),
    "dpmpp_2m_step": Target(
        samplers.dpmpp_2m_step,
        {
            "x": latent(X),
            "denoised": latent(Y),
            "previous": Argument((None, X), latent().bad[1:]),
            "sigma": ABOVE,
            "sigma_next": BELOW,
            "sigma_previous": level(5.0, T(6.0), bad=(-1.0, 0.1)),
            "eta": STEP_ETA,
        },
        required=("x", "denoised", "previous", "sigma", "sigma_next", "sigma_previous"),
        also={"sigma_previous": {"previous": X, "sigma_next": 0.5}},
    ),
    "heun_step": Target(
        samplers.heun_step,
        {
            **{name: latent(X) for name in ("x", "denoised", "euler", "denoised_euler")},
            "sigma": ABOVE,
            "sigma_next": level(0.5, T(0.5), bad=(0.0, -1.0, 2.0)),
        },
        required=("x", "denoised", "euler", "denoised_euler", "sigma", "sigma_next"),
    ),
    "fkc_log_weight": Target(
        samplers.fkc_log_weight,
        {
            "x": latent(X),
            "denoised": latents([Y, X]),
            "exponents": Argument(([1.0, 2.0], (0.5, -1)), (None, 1.0, [1.0], "ab", [1.0, None], [1.0, NAN])),
            "sigma": PLAIN_ABOVE,
            "sigma_next": PLAIN_BELOW,
        },
        required=("x", "denoised", "exponents", "sigma", "sigma_next"),
    ),
    "rne_log_ratio": Target(
        samplers.rne_log_ratio,
        {
            "x": latent(X),
            "x_next": latent(Y),
            "denoised": latent(Y),
            "sigma": PLAIN_ABOVE,
            "sigma_next": PLAIN_BELOW,
            "reference": Argument(
                (None, (0.0, 1.0), [1, 2.0]),
                (
                    3,
                    "ab",
                    (0.0,),
                    (0.0, 0.0),
                    (0.0, -1.0),
                    (NAN, 1.0),
                    (None, 1.0),
                    (0.0, None),
                    (0.0, NAN),
                    T([0.0, 1.0]),
                ),
            ),
        },
        required=("x", "x_next", "denoised", "sigma", "sigma_next"),
    ),
    "smc_log_weight": Target(
        samplers.smc_log_weight,
        {
            "log_ratio": Argument(
                (torch.zeros(2),), (None, 1.0, torch.zeros(3), torch.zeros(2, 1), T([1, 2]))
            ),
            "x": latent(X),
            "x_next": latent(Y),
            "mean": latent(Y),
            "std": number(0.5, 1, bad=(0.0, -1.0)),
            "sigma": PLAIN_ABOVE,
            "sigma_next": PLAIN_BELOW,
        },
        required=("log_ratio", "x", "x_next", "mean", "std", "sigma", "sigma_next"),
    ),
    "rne_log_density": Target(
        samplers.rne_log_density,
        {
            "model": MODEL,
            "x": latent(X, least=2, like=False),
            "sigmas": axis(SIGMAS, bad=(SIGMAS.flip(0),)),
            "extra_args": EXTRA,
            "reference": Argument(((0.0, 1.0),), (None, 3, (0.0,), (0.0, 0.0), (NAN, 1.0), (0.0, None))),
            "paths": whole(1, 2, bad=(0, -1)),
            "noise_sampler": function(lambda a, b: X, none=True),
        },
        required=("model", "x", "sigmas"),
    ),
}


# The samplers


def returns(value):
    """A noise sampler that returns this."""
    return lambda sigma, sigma_next: value


WRONG_NOISE = (
    returns(None),
    returns(X.numpy()),
    returns(X.long()),
    returns(X[:1]),
    returns(X.to("meta")),
    returns(X * NAN),
)
COMMON = {
    "x": latent(START, START.double(), like=False, least=2),
    "sigmas": axis(SIGMAS, SIGMAS.double(), T([3.0, 0.0]), T([1.0]), bad=(SIGMAS.flip(0), T([1.0, 1.0]))),
    "extra_args": EXTRA,
    "noise_sampler": function(lambda a, b: X, none=True, bad=WRONG_NOISE),
    "debug_nans": SWITCH,
    "validate": SWITCH,
}
OF_ONE = {
    "model": Argument(
        MODEL.good, (*MODEL.bad, lambda x, sigma: None, lambda x, sigma: x[:1], lambda x, sigma: x * NAN)
    )
}
OF_MODELS = {
    "models": Argument(
        (MODELS, tuple(MODELS)),
        (*WRONG_MODELS, [ONE, lambda x, sigma: None], [ONE, lambda x, sigma: x * NAN]),
    )
}
EXPONENTS = listed(FINITE, [1.0, 1.0], (0.5, 2), np.array([1.0, 1.0]), none=True)._replace(
    bad=(*listed(FINITE, none=True).bad, [-1.0, -1.0], [0.0, 0.0])
)
WRONG_LENGTHS = (
    *(None, "none", NAN, INF, -0.1, True, [], [0.1], [T([-1.0, 0.0])] * 2, [T([NAN, 0.0])] * 2, {}, 1j),
)
OPTIONS: dict[str, dict[str, Argument]] = {
    "ddim": {"eta": ETA},
    "heun": {"eta": ZERO},
    "dpmpp_2m": {"eta": ZERO},
    "dpmpp_2m_sde": {"eta": ETA},
    "dpmpp_2m_flow": {"eta": ZERO},
    "heun_flow": {"eta": ZERO},
    "euler_ancestral_flow": {"eta": ETA},
    "lcm": {"eta": ZERO},
    "res_multistep": {"eta": ETA},
    "res_multistep_flow": {"eta": ZERO},
    **{
        name: {"eta": ZERO, "order": whole(1, 2, 3, bad=(0, 4)), "variant": choice("bh1", "bh2")}
        for name in ("uni_pc", "uni_pc_flow")
    },
    "amdm": {
        "eta": ETA,
        "weights": Argument(
            (
                *(0.5, 0, [0.25], T(0.5), T([0.5]), [T([0.2, 0.7])], np.float32(0.5), lambda step: [0.5]),
                *([each] for each in PER_ELEMENT),
                *(torch.rand(2, 6), lambda step: torch.rand(1, 6), lambda step: [torch.rand(2, 6)]),
            ),
            (
                None,
                "0.5",
                NAN,
                -0.1,
                1.5,
                True,
                [],
                [0.5, 0.5],
                [T([NAN, 0.5])],
                [T([-1.0, 0.5])],
                [T([1.5, 0.5])],
                {},
                1j,
                [torch.ones(3)],
                [T([True, False])],
                [torch.eye(2, 6) - 0.1],
                [torch.eye(2, 6) * NAN],
                torch.ones(2, 6, 1),
                [torch.ones(2, 3)],
                [torch.ones(2, 6) > 0],
                [torch.ones(2, 6) * 1j],
                lambda step: [torch.eye(2, 6) - 0.1],
                lambda step: [torch.ones(2, 3)],
                lambda step: None,
                lambda step: [NAN],
                lambda step: [T([NAN, 0.5])],
                [np.ones(2)],
            ),
        ),
        "correction": Argument(
            ("auto", 0.3, 0, [0.1, 0.2], T(0.1), [T([0.1, 0.2])] * 2, lambda step: 0.1),
            (
                *WRONG_LENGTHS,
                [torch.ones(3)] * 2,
                [torch.ones(2, 6)] * 2,
                [torch.empty(2, device="meta")] * 2,
                lambda step: None,
                lambda step: [T([-1.0, 0.0])] * 2,
                [np.ones(2)] * 2,
            ),
        ),
        "window": Argument(
            (0.4, 1.0, 0, 2, (1, 3), [0, 2], np.int64(1), samplers.sigma_window(1.0, 3.0)),
            (
                None,
                "2",
                NAN,
                INF,
                -1,
                -0.5,
                1.5,
                9,
                (None, 2),
                (0,),
                (3, 1),
                (0.0, 2.0),
                True,
                (True, 2),
                {},
                1j,
                T([0, 2]),
                lambda levels: None,
                lambda levels: (0, 9),
            ),
        ),
        "fold": function(
            geometry.slerp_fold,
            geometry.lerp_fold,
            bad=(
                lambda xs, w: None,
                lambda xs, w: xs[0].numpy(),
                lambda xs, w: xs[0][:1],
                lambda xs, w: xs[0] * NAN,
                lambda xs, w: xs[0].long(),
            ),
        ),
        "known": Argument(
            (None, amdm.Known(X, MASK), amdm.Known(X, [MASK] * 4, Y), amdm.Known(T(0.0), MASK > 0)),
            (3, "x", X, (X, MASK), {}, amdm.Known, amdm.Known(X, [MASK] * 3), amdm.Known(X, MASK - 1)),
        ),
        "sampler": function(
            samplers.ddim, samplers.dpmpp_2m, bad=(samplers.sample_ddim, lambda *a, **k: None)
        ),
    },
    "fkc": {
        "eta": number(0.5, 1, bad=(-0.1,)),
        "exponents": EXPONENTS,
        "particles": whole(1, 2, bad=(0, -1, 3), none=True),
        "resample": number(0.0, 0.5, 1, bad=(-0.1, 1.5)),
        "log_densities": LOG_DENSITIES,
        "generator": GENERATOR,
    },
    "mcmc": {
        "eta": ETA,
        "exponents": EXPONENTS,
        "kernel": choice("ula", "uhmc", "mala", "hmc"),
        "moves": Argument((1, 0, lambda s, t: 1), (*whole().bad, -1, lambda s, t: None, lambda s, t: -1)),
        "step_size": Argument(
            (0.1, lambda s, t: 0.1), (*number().bad, 0.0, -1.0, lambda s, t: None, lambda s, t: NAN)
        ),
        "leaps": whole(1, 2, bad=(0,)),
        "damping": number(0.0, 0.5, bad=(1.0, -0.1)),
        "log_densities": LOG_DENSITIES,
        "points": whole(2, 3, bad=(1,)),
        "acceptance": number(0.6, bad=(0.0, 1.0, -1.0), none=True),
        "generator": GENERATOR,
    },
    "superdiff": {
        "eta": ETA,
        "combine": choice("and", "or"),
        "temperature": number(1.0, 0, bad=(-1.0,), none=True),
        "weights": listed((*FINITE, 0.0, -1.0), [1.0, 2.0], none=True),
        "unconditional": function(lambda x, sigma: x / (1 + sigma[:, None] ** 2), none=True),
        "guidance": number(1.0, 1, bad=(0.0, 2.0)),
        "generator": GENERATOR,
    },
}
OPTIONS["projective_guidance"] = {
    "background": function(
        ONE,
        [ONE],
        bad=([], [ONE, ONE], [3], lambda x, sigma: None, lambda x, sigma: x[:1], lambda x, sigma: x * NAN),
    ),
    "guidance": number(1.0, 1, none=True, bad=(2.0,)),
    "weights": Argument(
        (
            *(1.0, -2, [0.5], T(0.5), T([0.5]), [T([0.2, -0.7])], torch.rand(2, 6), lambda controls: [0.5]),
            *([each] for each in PER_ELEMENT),
        ),
        (
            *(None, "1", NAN, INF, True, [], [1.0, 1.0], {}, 1j, [T([NAN, 1.0])], [torch.ones(3)]),
            *([torch.eye(2, 6) * NAN], [torch.ones(2, 3)], [torch.ones(2, 6) > 0], [torch.ones(2, 6) * 1j]),
            *([torch.empty(2, device="meta")], lambda controls: None, lambda controls: [NAN]),
        ),
    ),
    "window_eta": number(0.5, 1, none=True, bad=(-0.1,)),
    **{name: OPTIONS["amdm"][name] for name in ("window", "fold", "sampler", "eta")},
}
ALSO: dict[str, dict[str, dict[str, Any]]] = {
    "projective_guidance": {"fold": {"x": [START, START.flip(0)]}, "noise_sampler": {"window_eta": 1.0}},
    "mcmc": {"acceptance": {"kernel": "hmc"}, "log_densities": {"kernel": "hmc"}},
    "superdiff": {"temperature": {"combine": "or"}, "weights": {"combine": "or"}},
    "amdm": {"noise_sampler": {"eta": 1.0}},
    "heun": {},
    "dpmpp_2m": {},
    "lcm": {"noise_sampler": {}},
}


def run(generator: Any) -> Callable[..., Tensor]:
    """The last latent of a sampler."""

    def last(**arguments: Any) -> Tensor:
        steps = list(generator(**arguments))
        return steps[-1].x_next if steps else arguments["x"]

    return last


for _name, _generator in SAMPLERS.items():
    _first = OF_ONE if _name in OF_ONE_MODEL else OF_MODELS
    _also = {"noise_sampler": {"eta": 1.0}, **ALSO.get(_name, {})}
    _arguments = {**_first, **COMMON, **OPTIONS[_name]}
    if _name in DETERMINISTIC:  # which draw nothing
        _arguments["noise_sampler"] = function(lambda a, b: X, none=True)
        _also = {}
    _required = (*_first, "x", "sigmas", *(["background"] if _name == "projective_guidance" else []))
    TARGETS[_name] = Target(run(_generator), _arguments, _generator, _required, _also)


def inpainted(latent=X, mask=MASK, noise=None, sigmas=SIGMAS):
    """Make a known region and sample beside it."""
    known = amdm.Known(latent, mask, noise)
    return run(samplers.amdm)(models=MODELS, x=START, sigmas=sigmas, known=known)


def joined(partners=(TWO,), extra_args=None, **options):
    """Make a sampler in k-diffusion's form and run it."""
    return sampler_with(partners, extra_args, **options)(ONE, START, SIGMAS, disable=True)


def partnered(models=(TWO,), **options):
    """Make partners of a pipeline, and resolve what is left of them."""
    return Partners(models, **options).starts


TARGETS["Known"] = Target(
    inpainted,
    {
        "latent": broadcastable(X, X[:1], T(0.0), X.double(), HALF, bad=(X * NAN, X * INF)),
        "mask": broadcastable(
            *(
                MASK,
                MASK > 0,
                T(1.0),
                MASK.half(),
                [MASK] * 4,
                (MASK > 0.4,) * 4,
                COLUMN,
                T([0, 1, 1, 0, 1, 1]),
            ),
            bad=(MASK * NAN, MASK + 1, MASK - 1, [], [MASK] * 3, [MASK] * 3 + [None], [MASK] * 3 + [-MASK]),
        ),
        "noise": broadcastable(Y, Y[:1], Y.double(), T(0.5), bad=(Y * NAN,), none=True),
    },
    amdm.Known,
    ("latent", "mask"),
)
TARGETS["sampler_with"] = Target(
    joined,
    {
        "partners": Argument(([TWO], (TWO, TWO)), tuple(v for v in WRONG_MODELS)),
        "extra_args": EXTRA,
        **{
            name: OPTIONS["amdm"][name]
            for name in ("weights", "correction", "window", "fold", "known", "eta")
        },
    },
    sampler_with,
    ("partners",),
)
TARGETS["Partners"] = Target(
    partnered,
    {
        "models": Argument(([TWO], (TWO,), []), (None, 3, "ab", TWO, T([1.0]), {TWO: 1}, [None], [3])),
        "latents": Argument(
            (None, X, [X], [None]),
            (3, "x", X.long(), X.numpy(), X * 1j, T(1.0), [3], [X, X], [X.long()], X[:0]),
        ),
        "weights": Argument(
            (0.5, [0.5], T(0.5), [T([0.2, 0.7])], lambda step: 0.5, [torch.rand(2, 6)]),
            (None, "0.5", NAN, -0.1, 1.5, True, [], [0.5, 0.5], [T([NAN, 0.5])], [T([1.5, 0.5])], {}, 1j),
        ),
        "correction": Argument(
            ("auto", 0.3, 0, [0.1, 0.2], [T([0.1, 0.2])] * 2, lambda step: 0.1),
            WRONG_LENGTHS,
        ),
        "fold": function(geometry.slerp_fold, lambda xs, weights: xs[0]),
        "background": function(ONE, [ONE], none=True, bad=([], [ONE, ONE], [3])),
        "guidance": number(2.0, 1, -1),
        "control_weights": Argument(
            (1.0, -2, [0.5], T(0.5), T([0.5]), [T([0.2, -0.7])], torch.rand(2, 6)),
            (None, "1", NAN, INF, True, [], [1.0, 1.0], {}, 1j, [T([NAN, 1.0])], [torch.ones(2, 6) * 1j]),
        ),
    },
    Partners,
    ("models",),
    {"background": {"guidance": 2.0}, "guidance": {"background": ONE}},
)

PUBLIC = {
    **{name: getattr(amdm, name) for name in amdm.__all__},
    **{
        name: getattr(module, name)
        for module in (geometry, schedules, samplers, denoisers)
        for name in module.__all__
    },
}
"""All public names."""
