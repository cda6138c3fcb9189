"""Right calls with what must hold for them. A law that is broken raises `FaultError`."""

import math
import random
from collections.abc import Callable
from typing import Any

import torch
from ambient import MODES
from kinds import DETERMINISTIC, OF_ONE_MODEL, WITHOUT_ETA
from torch import Tensor

from amdm import geometry, noise, samplers, schedules
from amdm.denoisers import Empirical, GaussianMixture, Guided, linear
from amdm.geometry import angle
from amdm.geometry.rows import norms
from amdm.samplers import SAMPLERS

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]

# What is left out, and why

WIDE_FOR_KARCHER = 1.5
"""Pairwise angles beyond which the mean of three and more need not be unique: only shapes are looked at."""
WIDE_FOR_SLERP = 3.0
"""Angles beyond which the arc's coefficients grow with 1/(pi - angle), and rounding with them."""
LARGEST_SCALE = {torch.float64: 1e305, torch.float32: 1e35, torch.float16: 1e2, torch.bfloat16: 1e35}
SMALLEST_SCALE = {torch.float64: 1e-300, torch.float32: 1e-30, torch.float16: 1e-2, torch.bfloat16: 1e-30}
"""Latents' scales: beyond, a norm or a sum of some leaves the range, or numbers lose digits."""
FOR_GRADIENTS = 1e3
"""The largest size, and one over the smallest, for which gradients are taken: they grow with one over it."""


class FaultError(Exception):
    """A law does not hold."""


def check(holds: bool, why: str) -> None:
    """Raise unless the law holds."""
    if not holds:
        raise FaultError(why)


def finite(value: Any) -> bool:
    """Whether all numbers and tensors in a value are finite."""
    if isinstance(value, Tensor):
        return value.is_meta or bool(value.isfinite().all())
    if isinstance(value, list | tuple):
        return all(map(finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def randn(rng: random.Random, *shape: int) -> Tensor:
    """Normal numbers, float64."""
    generator = torch.Generator().manual_seed(rng.randrange(2**32))
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def draw_latents(rng: random.Random, num: int, dtype: torch.dtype) -> list[Tensor]:
    """N latents of any size, scale and relation."""
    shape = rng.choice([(1, 1), (1, 2), (3, 5), (4, 2, 3, 3), (2, 64), (2, 1)])
    scale = 10 ** rng.uniform(math.log10(SMALLEST_SCALE[dtype]), math.log10(LARGEST_SCALE[dtype]))
    scale = rng.choice([1.0, 1.0, 14.6, scale, scale])
    first, drawn = randn(rng, *shape), list[Tensor]()
    for _ in range(num):
        other = randn(rng, *shape)
        kinds = (
            other,
            first,
            -first,
            0 * first,
            first + 1e-6 * other,
            first + 0.1 * other,
            3 * first + other,
            -rng.random() * sum(drawn, torch.zeros_like(first)),  # beyond the half sphere of the others
        )
        drawn.append(rng.choice((other, *kinds)))
    return [(scale * x).to(dtype) for x in drawn]


def draw_weight(rng: random.Random, x: Tensor, *, per_element: bool = True) -> float | Tensor:
    """A share: a number, one per sample, or one per element."""
    batch, number = len(x), rng.choice([0.0, 1.0, 0.5, rng.random()])
    if per_element and x.ndim > 1 and rng.random() < 0.2:
        shape = [rng.choice([1, size]) for size in x.shape]
        return torch.where(randn(rng, *shape) > 0, randn(rng, *shape).abs().clamp(max=1), 0.0)
    if rng.random() < 0.3:
        return torch.tensor([rng.choice([0.0, 1.0, rng.random()]) for _ in range(batch)])
    return rng.choice([number, torch.tensor(number)])


def widest(xs: list[Tensor]) -> float:
    """The largest angle between two of them; of zero vectors, which have no direction, pi."""
    wide = [x.double() for x in xs]
    if any(bool((x.flatten(1) == 0).all(1).any()) for x in wide):
        return math.pi
    return max((float(angle(a, b).max()) for i, a in enumerate(wide) for b in wide[:i]), default=0.0)


def sample_of(value: Any, k: int, batch: int) -> Any:
    """What belongs to one sample."""
    if isinstance(value, list | tuple):
        return [sample_of(each, k, batch) for each in value]
    return value[k : k + 1] if isinstance(value, Tensor) and value.ndim > 0 and len(value) == batch else value


def law_of_latents(
    rng: random.Random, call: Callable[..., Tensor], args: list[Any], first: Tensor, tolerance: float | None
) -> None:
    """Shape, dtype, finiteness, unchanged inputs, modes, gradients, independent samples, NaN, float64.

    Without a tolerance, numbers are not compared.
    """
    before = [t.clone() for t in _tensors(args)]
    result = call(*args)
    check(all(map(torch.equal, before, _tensors(args))), "an input was changed")
    expected = first.shape if call is not angle else first.shape[:1]
    check(result.shape == expected, f"the shape is {tuple(result.shape)}, expected {tuple(expected)}")
    dtype = torch.promote_types(first.dtype, torch.float32) if call is angle else first.dtype
    check(result.dtype == dtype, f"the dtype is {result.dtype}, expected {dtype}")
    if not finite(result):
        exact = call(*_double(args))
        beyond = finite(exact) and float(exact.abs().max()) > torch.finfo(dtype).max
        check(beyond, "finite in, not finite out")
        return
    mode = rng.choice(list(MODES))
    with MODES[mode]():
        try:
            there = call(*args)
        except AssertionError as error:
            raise FaultError(str(error)) from None
    check(torch.equal(there, result), f"another result in the mode {mode}")
    check_gradients(rng, call, args)
    batch, k = len(first), rng.randrange(len(first))
    if tolerance is not None:
        check_numbers(call, args, first, tolerance, k, result)
    first[k] = math.nan
    spoilt = call(*args)
    check(bool(spoilt[k].isnan().any()), f"NaN in sample {k} is silent")
    others = [i for i in range(batch) if i != k]
    check(finite(spoilt[others]), f"NaN in sample {k} is in others")


def check_gradients(rng: random.Random, call: Callable[..., Tensor], args: list[Any]) -> None:
    """They are finite where the latents are of an ordinary size, in float32 or better."""
    num = 1 if isinstance(args[0], list) else 2  # a list of latents, or two
    wide = [x.to(torch.promote_types(x.dtype, torch.float32)) for x in _tensors(args[:num])]
    leaves = [x.clone().requires_grad_() for x in wide]
    sizes = [float(x.detach().abs().max()) for x in leaves]
    if any(size > 0 and not 1 / FOR_GRADIENTS < size < FOR_GRADIENTS for size in sizes):
        return
    result = call(*([leaves] if num == 1 else leaves), *args[num:])
    gradients = torch.autograd.grad((result * randn(rng, *result.shape)).sum(), leaves, allow_unused=True)
    check(all(g is None or finite(g) for g in gradients), "a gradient is not finite")


def check_numbers(
    call: Callable[..., Tensor], args: list[Any], first: Tensor, tolerance: float, k: int, result: Tensor
) -> None:
    """A sample does not depend on its batch, and is what float64 gives."""
    batch = len(first)
    size = max(float(t.double().abs().max()) for t in _tensors(args) if t.shape == first.shape) or 1.0
    if call is angle:
        size = 1.0
    eps = torch.finfo(result.dtype).eps
    alone = call(*sample_of(args, k, batch))
    apart = float((alone.double() - result[k : k + 1].double()).abs().max())
    check(apart <= 64 * eps * tolerance * size, f"sample {k} alone is {apart / size:.1e} apart")
    exact = call(*_double(args)).double()
    away = float((result.double() - exact).abs().max())
    check(away <= 64 * eps * tolerance * size, f"float64 is {away / size:.1e} apart")


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, list | tuple):
        return [t for each in value for t in _tensors(each)]
    return [value] if isinstance(value, Tensor) else []


def _double(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_double(each) for each in value]
    return value.double() if isinstance(value, Tensor) else value


def folds(rng: random.Random, told: list[str]) -> None:
    """A fold of latents of any kind."""
    name, dtype, num = rng.choice(list(geometry.FOLDS)), rng.choice(DTYPES), rng.randint(1, 5)
    xs = draw_latents(rng, num, dtype)
    weights = [draw_weight(rng, xs[0], per_element=name != "karcher_mean") for _ in xs[1:]]
    told.append(f"{name} of {num} {dtype} latents {tuple(xs[0].shape)}, {weights}")
    wide = widest(xs)
    whole = wide <= {"karcher_mean": WIDE_FOR_KARCHER, "slerp_fold": WIDE_FOR_SLERP}.get(name, 4.0)
    whole &= name not in ("karcher_mean", "slerp_fold") or num <= 2 or wide <= WIDE_FOR_KARCHER
    law_of_latents(rng, geometry.FOLDS[name], [xs, weights], xs[0], 4.0 * num**2 if whole else None)


def pairs(rng: random.Random, told: list[str]) -> None:
    """The angle and the arc between two latents."""
    dtype, call = rng.choice(DTYPES), rng.choice([angle, geometry.slerp])
    xs = draw_latents(rng, 2, dtype)
    told.append(f"{call.__name__} of {dtype} latents {tuple(xs[0].shape)}")
    whole = widest(xs) <= WIDE_FOR_SLERP
    args = [*xs, draw_weight(rng, xs[0])] if call is geometry.slerp else list(xs)
    law_of_latents(rng, call, args, xs[0], 8.0 if whole else None)


def corrections(rng: random.Random, told: list[str]) -> None:
    """Eq. (8) with any length and radius."""
    dtype = rng.choice(DTYPES)
    x, mean = draw_latents(rng, 2, dtype)
    size = float(norms(x.reshape(1, -1).double()))
    length, radius = (size * rng.choice([0.0, 1e-3, 0.5, 2.0]) for _ in range(2))
    lengths = rng.choice([length, torch.full((len(x),), length, dtype=torch.float64)])
    options = rng.choice([{}, {"radius": radius}])
    told.append(f"radial_correct of {dtype} latents {tuple(x.shape)}, length {length}, {options}")
    call = lambda *args: geometry.radial_correct(*args, **options)
    # Where x and the mean differ by rounding, so does the direction.
    near = float(norms(x.double(), mean.double()).min()) < 1e-2 * size
    law_of_latents(rng, call, [x, mean, lengths], x, None if near else 200.0)


def levels(rng: random.Random, told: list[str]) -> None:
    """Schedules: finite, decreasing, of steps + 1 levels, the last 0."""
    steps = rng.choice([1, 2, 3, 7, 50, 999, 1000, 1001, rng.randint(1, 3000)])
    low, high = sorted(10 ** rng.uniform(-6, 6) for _ in range(2))
    rho, shift = 10 ** rng.uniform(-1, 2), 10 ** rng.uniform(-2, 2)
    spacing, offset = rng.choice(["leading", "trailing", "linspace"]), rng.choice([0, 1, 5])
    trained = rng.choice([1, 2, 10, 1000])
    table = schedules.sigmas_from_betas(schedules.stable_diffusion_betas(trained))
    calls: list[tuple[str, Callable[[], Tensor]]] = [
        (
            f"karras_sigmas({steps}, {low}, {high}, {rho})",
            lambda: schedules.karras_sigmas(steps, low, high, rho),
        ),
        (f"flow_times({steps}, {shift})", lambda: schedules.flow_times(steps, shift)),
        (
            f"flow_sigmas(flow_times({steps}, {shift}))",
            lambda: schedules.flow_sigmas(schedules.flow_times(steps, shift)),
        ),
        (
            f"ddim_sigmas of {trained}, {steps}, {spacing}, {offset}",
            lambda: schedules.ddim_sigmas(table, steps, spacing, offset),
        ),
    ]
    name, call = rng.choice(calls)
    told.append(name)
    try:
        with MODES[rng.choice(list(MODES))]():
            sigmas = call()
    except ValueError as error:
        check(
            any(f"{word} is" in str(error) for word in ("steps", "rho", "shift")), f"{error!r} names nothing"
        )
        return
    check(sigmas.shape == (steps + 1,), f"{len(sigmas)} levels for {steps} steps")
    check(
        finite(sigmas) and bool((sigmas.diff() < 0).all()) and sigmas[-1] == 0,
        "the levels do not decrease to 0",
    )


def starts(rng: random.Random, told: list[str]) -> None:
    """Starts and noise: a sample depends on its seed alone."""
    seeds = [rng.randrange(2**40) for _ in range(rng.randint(1, 4))]
    shape = rng.choice([[1], [3], [2, 3]])
    sigma, dtype = 10 ** rng.uniform(-3, 3), rng.choice(DTYPES)
    convention = rng.choice(["vp", "ve"])
    told.append(f"start_noise({seeds}, {shape}, {sigma}, 2, {convention}, {dtype})")
    with MODES[rng.choice(list(MODES))]():
        made = noise.start_noise(seeds, shape, sigma, 2, convention=convention, dtype=dtype)
    check(
        len(made) == 2 and all(x.shape == (len(seeds), *shape) and x.dtype == dtype for x in made),
        "shape or dtype",
    )
    check(finite(made), "not finite")
    k = rng.randrange(len(seeds))
    alone = noise.start_noise([seeds[k]], shape, sigma, 1, convention=convention, dtype=dtype)[0]
    check(torch.equal(alone[0], made[0][k]), "a sample depends on its batch")


def draw_model(rng: random.Random, n: int) -> Any:
    """A denoiser of samples that are independent of each other."""
    means = randn(rng, rng.randint(1, 3), n)
    variances = torch.tensor([rng.uniform(0.1, 2) for _ in means], dtype=torch.float64)
    mixture = GaussianMixture(means, variances)
    return rng.choice(
        [mixture, mixture, Empirical(means), linear([mixture, GaussianMixture(-means, variances)])]
    )


def runs(rng: random.Random, told: list[str]) -> None:
    """A sampler on exact denoisers; then with NaN in one sample's start."""
    name, dtype, batch, n = (
        rng.choice(list(SAMPLERS)),
        rng.choice(DTYPES),
        rng.randint(1, 3),
        rng.randint(1, 6),
    )
    steps = rng.randint(1, 5)
    # Levels at which float16 bears the numbers, and exact denoisers of float16 latents their squares.
    sigmas = schedules.karras_sigmas(steps, 0.1, rng.choice([5.0, 80.0]), 7.0)
    one = name in OF_ONE_MODEL
    num = 1 if one else rng.randint(1, 3)
    models = [draw_model(rng, n) for _ in range(num)]
    options: dict[str, Any] = {"validate": False}
    if name not in WITHOUT_ETA:
        options["eta"] = rng.choice([0.0, 1.0])
    if name == "fkc":
        options |= {"eta": 1.0, "particles": 1}
    if name == "superdiff":
        options |= {"eta": 1.0, "combine": "or"}
    if name == "mcmc":
        options |= {"moves": 1, "kernel": rng.choice(["ula", "mala", "uhmc", "hmc"])}
    if name == "projective_guidance":
        options |= {"background": draw_model(rng, n), "window": rng.randint(0, steps)}
    if name == "amdm":
        window = rng.choice([0, steps, rng.randint(0, steps)])
        fold = rng.choice([geometry.slerp_fold, geometry.lerp_fold])
        options |= {
            "window": window,
            "fold": fold,
            "weights": rng.random(),
            "sampler": SAMPLERS[inner := rng.choice([each for each in OF_ONE_MODEL if each != "lcm"])],
        }
        options["eta"] = 0.0 if inner in WITHOUT_ETA else options["eta"]
    x = (float(sigmas[0]) * randn(rng, batch, n)).to(dtype)
    told.append(f"{name}({num} models, {dtype} {tuple(x.shape)}, {steps} steps, {options})")

    def last(x: Tensor, **more: Any) -> Tensor:
        return list(SAMPLERS[name](models[0] if one else models, x, sigmas, **options, **more))[-1].x_next

    before, state, mode = x.clone(), torch.get_rng_state(), rng.choice(list(MODES))
    result = last(x)
    check(torch.equal(x, before), "x was changed")
    torch.set_rng_state(state)
    with MODES[mode]():
        check(torch.equal(last(x), result), f"another result in the mode {mode}")
    check(result.shape == x.shape and result.dtype == x.dtype, f"{tuple(result.shape)} {result.dtype}")
    check(finite(result), "finite in, not finite out")
    if options.get("eta", 0.0) == 0.0 and name not in ("mcmc", "lcm"):
        # Stiff mixtures multiply rounding; NaN, another sample or another formula would be far off.
        k, tolerance = rng.randrange(batch), 300 * torch.finfo(dtype).eps * float(sigmas[0])
        apart = float((last(x[k : k + 1]).double() - result[k : k + 1].double()).abs().max())
        check(apart <= tolerance, f"sample {k} alone is {apart:.1e} apart")
    k = rng.randrange(batch)
    x[k] = rng.choice([math.nan, math.inf])
    try:
        last(x)
    except FloatingPointError as error:
        check(f"for sample {k}" in str(error), f"sample {k} is not finite, but {error}")
        return
    raise FaultError(f"NaN or infinity in sample {k} is silent")


def broken(rng: random.Random, told: list[str]) -> None:
    """A user's function that returns NaN or infinity for one sample, once: it is named, the others go on."""
    name, batch, n, steps = rng.choice(list(SAMPLERS)), rng.choice([1, 2, 4]), rng.randint(1, 4), 5
    one = name in OF_ONE_MODEL
    num = rng.randint(2, 4)
    mixtures = [GaussianMixture(randn(rng, 2, n), torch.ones(2).double()) for _ in range(num)]
    models: list[Any] = list(mixtures)
    options: dict[str, Any] = {"validate": False}
    if name not in WITHOUT_ETA:
        options["eta"] = 1.0
    if name == "superdiff":
        options["combine"] = rng.choice(["and", "or"])
    if name == "mcmc":
        options |= {"moves": 1, "kernel": rng.choice(["ula", "mala", "uhmc", "hmc"])}
    if name == "projective_guidance":
        options |= {"window": steps, "background": mixtures[-1]}
    if name == "amdm":
        options |= {"window": steps, "fold": rng.choice(list(geometry.FOLDS.values()))}
    k, at, value = rng.randrange(batch), rng.randint(0, 3), rng.choice([math.nan, math.inf, -math.inf])
    calls: list[int] = []

    def breaking(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def returned(*args: Any) -> Tensor:
            result = function(*args).clone()
            calls.append(len(calls))
            if calls[-1] == at:
                result[k : k + 1] = value
            return result

        return returned

    where = rng.choice(["model", "noise_sampler", "fold", "log_densities"])
    if where == "noise_sampler" and "eta" in options:
        options["noise_sampler"] = breaking(lambda sigma, sigma_next: randn(rng, batch, n))
    elif where == "fold" and "fold" in options:
        options["fold"] = breaking(options["fold"])
    elif where == "log_densities" and name in ("fkc", "mcmc"):
        options |= {"kernel": "hmc"} if name == "mcmc" else {"particles": rng.choice([1, batch])}
        options["log_densities"] = [each.log_density for each in mixtures]
        options["log_densities"][0] = breaking(mixtures[0].log_density)
    else:
        where, models[0] = "model", breaking(mixtures[0])
    x = 10 * randn(rng, batch, n)
    sigmas = schedules.karras_sigmas(steps, 0.1, 10.0)
    told.append(f"{name} of {batch} x {n}, {value} for sample {k} in call {at} of {where}, {options}")
    taken = []
    try:
        taken.extend(SAMPLERS[name](models[0] if one else models, x, sigmas, **options))
    except FloatingPointError as error:
        check(where in str(error), f"{where} is to blame, but {error}")
        check(f"for sample {k}" in str(error), f"sample {k} is to blame, but {error}")
    else:
        told_by_mcmc = name == "mcmc" and finite(taken[-1].x_next)  # which rejects such a move
        check(len(calls) <= at or told_by_mcmc, f"{value} for sample {k} is silent")
    for step in taken:
        if name == "fkc":
            check(finite(step.record.effective), "the weights of a whole group are not finite")
        else:
            others = [i for i in range(batch) if i != k]
            check(finite(step.x_next[others]), f"{value} for sample {k} is in others")


def from_infinity(rng: random.Random, told: list[str]) -> None:
    """Levels that begin at infinity's stand-in: refused, or a Gaussian's samples have about its spread."""
    name, steps, n, batch = rng.choice(list(SAMPLERS)), rng.randint(2, 30), rng.choice([16, 64]), 16
    std = rng.choice([0.3, 0.5, 1.0])
    model = GaussianMixture(randn(rng, 1, n), torch.full((1,), std**2).double())
    if name.startswith(("dpmpp_2m_flow", "res_multistep", "uni_pc")):  # which overshoot in few steps
        steps = 40
    sigmas = schedules.flow_sigmas(schedules.flow_times(steps, rng.choice([1.0, 3.0])))
    one = name in OF_ONE_MODEL
    models = [model] * rng.randint(1, 2)
    options: dict[str, Any] = {}
    if name not in WITHOUT_ETA:
        options["eta"] = rng.choice([0.0, 1.0])
    if name in ("fkc", "mcmc"):
        options["exponents"] = [1 / len(models)] * len(models)
    if name == "projective_guidance":
        options |= {"background": model}
    if name == "amdm":
        options |= {"sampler": rng.choice([samplers.ddim, samplers.dpmpp_2m_sde, samplers.heun])}
        options["eta"] = 0.0 if options["sampler"] is samplers.heun else options["eta"]
    dtype = rng.choice(DTYPES)
    x = (float(sigmas[0]) * randn(rng, batch, n)).to(dtype)
    told.append(f"{name} of {len(models)} models, {steps} steps from {sigmas[0]:.3g}, {dtype}, {options}")
    try:
        result = list(SAMPLERS[name](model if one else models, x, sigmas, **options))[-1].x_next
    except ValueError as error:
        named = "sigmas[0] is" in str(error) or "expected float32 or better" in str(error)
        check(named, f"{error!r} does not name the level")
        return
    spread = float((result.double() - model.means).square().mean().sqrt())
    check(math.isfinite(spread) and spread < 2 * std, f"the spread is {spread:.3g}, expected about {std}")


def inpainting(rng: random.Random, told: list[str]) -> None:
    """A known region comes back as it is, and what is in it has no effect on a model of the rest."""
    batch, n, steps = rng.randint(1, 3), rng.randint(2, 6), rng.randint(1, 5)
    models = [GaussianMixture(randn(rng, 1, n), torch.ones(1).double()) for _ in range(rng.randint(1, 3))]
    mask = torch.tensor([float(rng.random() < 0.5) for _ in range(n)])
    mask = rng.choice([mask, mask.bool(), [mask] * steps])
    latent, noise = randn(rng, rng.choice([1, batch]), n), rng.choice([None, randn(rng, batch, n)])
    fold = rng.choice([geometry.slerp_fold, geometry.lerp_fold, geometry.karcher_mean])
    deterministic = [SAMPLERS[name] for name in ("ddim", *DETERMINISTIC)]
    sampler, window = rng.choice(deterministic), rng.choice([0, 1, steps])
    sigmas, x = schedules.karras_sigmas(steps, 0.1, 10.0), 10 * randn(rng, batch, n)
    told.append(f"amdm of {len(models)} beside a known region, {mask}, {fold.__name__}, {steps} steps")
    options: dict[str, Any] = {"fold": fold, "sampler": sampler, "window": window, "validate": False}
    last = lambda latent: (
        list(samplers.amdm(models, x, sigmas, known=samplers.Known(latent, mask, noise), **options))[
            -1
        ].x_next
    )
    result, drawn = last(latent), (mask[0] if isinstance(mask, list) else mask).bool()
    check(torch.equal(result[:, ~drawn], latent.expand(batch, n)[:, ~drawn]), "the known region has changed")
    check(finite(result), "finite in, not finite out")
    noise = x / 10 if noise is None else noise
    other = last(torch.where(drawn, latent, latent + 1))
    check(torch.allclose(other[:, drawn], result[:, drawn]), "the known region acts on the rest")


def guidance(rng: random.Random, told: list[str]) -> None:
    """`Guided` with rows of any number and size."""
    batch, rows = rng.randint(1, 3), [rng.randint(1, 4) for _ in range(2)]
    tokens = [rng.choice([2, 2, 2, 3]) for _ in range(2)]
    scale = rng.choice([0.0, 1.0, 3.0])
    cond, uncond = ({"c": randn(rng, r, t)} for r, t in zip(rows, tokens, strict=True))
    told.append(f"Guided({scale}) of {batch} samples, rows {rows}, tokens {tokens}")
    model = lambda x, sigma, *, c: x / 2 + c.sum(1, keepdim=True)
    x, sigma = randn(rng, batch, 3), torch.ones(batch, dtype=torch.float64)
    fits = rows == [batch, batch] and (tokens[0] == tokens[1] or scale == 1)
    try:
        result = Guided(model, scale)(x, sigma, cond=cond, uncond=uncond)
    except ValueError as error:
        check(not fits and "cond['c']" in str(error), f"{error!r} for conditions that fit: {fits}")
        return
    check(fits, "rows that are not the batch's are accepted")
    with_it, without = (model(x, sigma, **each) for each in (cond, uncond))
    exact = with_it if scale == 1 else without + scale * (with_it - without)
    check(bool((result - exact).abs().max() < 1e-12), "not the formula")


LAWS = [
    *(folds, folds, pairs, corrections, levels, starts, runs, runs),
    *(broken, broken, from_infinity, inpainting, guidance),
]
