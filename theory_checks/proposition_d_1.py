"""Proposition D.1: after the correction, eq. (8), the models step from different points, z''_1 and z''_2.

Then |mean_1 - mean_2| <= D, and the bounds of Proposition 3.1 hold with this D. All lengths and Lipschitz
constants are VP; L = |z''_1 - z''_2|.

* displacement: D = a L + |b| (Delta + K L), Delta = |eps_1 - eps_2| at z''_2, K a Lipschitz constant of eps_1
  on the segment from z''_1 to z''_2.
* step map: D = G L + |b| Delta, G a Lipschitz constant of z -> a z + b eps_1(z) on the segment. That is
  a + |b| K at most and mostly less, since a > 0 > b. Attained.
* paper: D = a (l_1 + l_2) + |b| (Delta + K_1 l_1 + K_2 l_2), l_i = |z''_i - z'| from the common point z',
  where Delta is taken; l_i = eta_i where eq. (8) does not clip. With independent noise both corrections have
  nearly the same direction, and L is far below l_1 + l_2. The paper assumes a local K and measures none.

K and G are certified for Gaussian mixtures, and estimated for other denoisers: see `lipschitz`.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from amdm.denoisers import GaussianMixture
from amdm.samplers import join
from amdm.types import Denoiser, Latent
from theory_checks import networks
from theory_checks.draws import normals_at_once
from theory_checks.gap_and_angle import QUANTITIES, LeastOrPaper, Quantity, fields
from theory_checks.lipschitz import (
    ASSUMPTIONS,
    How,
    lipschitz_estimate,
    noise_lipschitz,
    step_lipschitz,
    step_lipschitz_estimate,
)
from theory_checks.pair import (
    NOISE,
    Numbers,
    Pair,
    conditionals,
    distances,
    model_mean,
    predict_noise,
    sampled,
    to_vp,
)
from theory_checks.record import Check, Record, Size, grid
from theory_checks.schedule import Coefficients, coefficients
from theory_checks.statistics import ROUNDING, affordable, exactly

Form = Literal["paper", "displacement", "step map"]
FORMS: dict[Form, str] = {
    "paper": "D = a (l_1 + l_2) + |b| (Delta + K_1 l_1 + K_2 l_2)",
    "displacement": "D = a L + |b| (Delta + K L)",
    "step map": "D = G L + |b| Delta",
}
Geometry = Literal["aggregated", "random", "worst"]
Control = Literal["displacement dropped", "one model's displacement", "K in VE"]
LipschitzControl = Literal["K in VE", "eps held fixed"]
STARTS = 20


class Starts(NamedTuple):
    """The latents that both models step from, VE at one sigma: `(starts, *event)`."""

    common: Latent
    """x', before the correction."""
    first: Latent
    second: Latent


def aggregated(
    models: tuple[Denoiser, Denoiser],
    x: Latent,
    index: int,
    eta: float,
    correction: float | Literal["auto"],
    *,
    seed: int = 0,
) -> Starts:
    """Return the starts of the step after AMDM's step `index` from a common `x` at its sigma (VE).

    AMDM's step includes eq. (8); `correction` is its length (VP), as `join` takes it.
    """
    c = coefficients(index, eta)
    means = [model_mean(model, x, c) for model in models]
    starts, n = means[0].shape
    noise = normals_at_once(starts, n, seed + 2 * NOISE, x.device, copies=2)
    latents = [mean + c.s * xi for mean, xi in zip(means, noise, strict=True)]
    joined = join(latents, means, correction=correction)
    ends = joined.merged, *joined.corrected
    return Starts(*(math.sqrt(1 + c.sigma_next**2) * z.reshape(x.shape).to(x.dtype) for z in ends))


def means_apart(
    form: Form,
    models: tuple[Denoiser, Denoiser],
    starts: Starts,
    c: Coefficients,
    how: How,
    control: Control | None = None,
) -> Numbers:
    """Return D, the upper bound on |mean_1 - mean_2| by this form of the statement (VP)."""
    common, first, second = (to_vp(x, c.sigma) for x in starts)
    moved = {"displacement dropped": 0.0, "one model's displacement": 0.5}.get(control or "", 1.0)
    unit = 1 / math.sqrt(1 + c.sigma**2) if control == "K in VE" else 1.0
    where = starts.common if form == "paper" else starts.second
    delta_eps = distances(*(predict_noise(model, where, c.sigma) for model in models))
    length = moved * distances(first, second)
    if form == "step map":
        gain = step_lipschitz(how, models[0], starts.first, starts.second, c)
        return np.asarray(gain * length + abs(c.b) * delta_eps)
    if form == "displacement":
        stretched = unit * noise_lipschitz(how, models[0], starts.first, starts.second, c.sigma) * length
    else:
        l_1, l_2 = moved * distances(first, common), moved * distances(second, common)
        k_1 = unit * noise_lipschitz(how, models[0], starts.common, starts.first, c.sigma)
        k_2 = unit * noise_lipschitz(how, models[1], starts.common, starts.second, c.sigma)
        length, stretched = l_1 + l_2, k_1 * l_1 + k_2 * l_2
    return np.asarray(c.a * length + abs(c.b) * (delta_eps + stretched))


def check_on_models(
    models: tuple[Denoiser, Denoiser],
    starts: Starts,
    form: Form = "displacement",
    quantity: Quantity = "norm gap",
    how: How = "estimated",
    *,
    index: int = 10,
    eta: float = 1.0,
    probability: float = 0.05,
    seed: int = 0,
    control: Control | None = None,
) -> Record:
    """Check how often the norm gap or angle of two models' steps from different starts exceeds its bound.

    Without noise the bound holds always. The least bounds given D are used, the paper's own for its form.

    Own arguments:
        starts: the latents that they step from, at `coefficients(index, eta).sigma`; `aggregated` makes them.
        form: the form of D, a key of FORMS.
        how: the way to find Lipschitz constants; only those of Gaussian mixtures can be certified.
        control: a D without displacement, with half of it, or with K_VE for K (not in the step map's form).
    """
    c = coefficients(index, eta)
    mean_1, mean_2 = (model_mean(model, x, c) for model, x in zip(models, starts[1:], strict=True))
    between = means_apart(form, models, starts, c, how, control)
    length = distances(to_vp(starts.first, c.sigma), to_vp(starts.second, c.sigma)).mean()
    setting = {"n": mean_1.shape[1], "index": index, "eta": eta, "starts": len(mean_1)}
    constants: LeastOrPaper = "paper" if form == "paper" else "sharp"
    found = fields(Pair(mean_1, mean_2, c.s, between, c.s), quantity, constants, probability, seed)
    assumptions = f"{found['assumptions']}; {ASSUMPTIONS[how]}"
    return Record(
        statement=f"Proposition D.1, {quantity}, {form}",
        setting=setting | {"displacement": float(length), "probability": probability},
        **found | {"claim": f"{found['claim']}, {FORMS[form]}", "assumptions": assumptions},
    )


def check(
    form: Form = "displacement",
    quantity: Quantity = "norm gap",
    geometry: Geometry = "worst",
    *,
    n: int = 1024,
    index: int = 10,
    eta: float = 0.2,
    correction: float = 0.3,
    separation: float = 2.5,
    seed: int = 0,
    device: str = "cpu",
    **options: Any,
) -> Record:
    """Run `check_on_models` on a Gaussian mixture under two conditions, with certified constants.

    Own arguments:
        geometry: "aggregated" starts are an AMDM step's; "random" ones lie in random directions from samples
            of the mixture; the "worst" lie to both sides of the plane between its modes, far from the
            origin, on a line that points away from it (norm gap) or across (angle).
        correction: the distance of both starts from the common point (VP); for "aggregated" eq. (8)'s length.
        separation: the distance from the centre to a mode, in units of sigma; 0 makes one Gaussian.
        options: options of `check_on_models`.
    """
    c = coefficients(index, eta)
    axis = QUANTITIES.index(quantity)
    # Ten times what the noise adds, as in `made_up`.
    far = math.sqrt(n * (1 + c.sigma**2)) * max(1.0, 10 * c.s / c.a) if geometry == "worst" else 0.0
    models = conditionals(n, c.sigma, separation, far, axis, device)
    starts = _starts(models, geometry, axis, index, eta, correction, seed)
    options |= {"index": index, "eta": eta, "seed": seed}
    record = check_on_models(models, starts, form, quantity, "certified", **options)
    chosen = {"correction": correction, "separation": separation, "geometry": geometry}
    return replace(record, setting={**record.setting, **chosen})


def _starts(
    models: tuple[GaussianMixture, GaussianMixture],
    geometry: Geometry,
    axis: int,
    index: int,
    eta: float,
    correction: float,
    seed: int,
) -> Starts:
    """Return the starts of `check`, one or STARTS of them."""
    sigma = coefficients(index, eta).sigma
    length = math.sqrt(1 + sigma**2) * correction
    if geometry == "worst":
        middle = models[0].means.mean(dim=0, keepdim=True)
        side = torch.zeros_like(middle)
        side[:, axis] = length
        return Starts(middle, middle + side, middle - side)
    if geometry == "aggregated":
        x = sampled(models[0], STARTS, coefficients(index - 1, eta).sigma, seed)
        return aggregated(models, x, index - 1, eta, correction, seed=seed)
    x = sampled(models[0], STARTS, sigma, seed)
    directions = normals_at_once(len(x), x.shape[1], seed + 1, x.device, copies=2)
    u, v = directions / directions.norm(dim=2, keepdim=True)
    return Starts(x, x + length * u, x + length * v)


def check_on_networks(
    form: Form = "step map",
    quantity: Quantity = "norm gap",
    *,
    starts: int = 3,
    index: int = 10,
    eta: float = 1.0,
    seed: int = 0,
    device: str = "cpu",
    **options: Any,
) -> Record:
    """Run `check_on_models` on the trained `layout` and `attribute`, at an AMDM step's own starts."""
    models = networks.conditioned(("layout", "attribute"), seed, device)
    x = networks.noised(seed, coefficients(index - 1, eta).sigma, starts, device)
    points = aggregated(models, x, index - 1, eta, "auto", seed=seed)
    options |= {"index": index, "eta": eta, "seed": seed}
    record = check_on_models(models, points, form, quantity, **options)
    return replace(record, statement=f"{record.statement}, on trained networks")


def check_lipschitz(
    what: Literal["noise", "step"] = "noise",
    *,
    n: int = 1024,
    index: int = 10,
    separation: float = 2.5,
    seed: int = 0,
    device: str = "cpu",
    control: LipschitzControl | None = None,
) -> Record:
    """Check certified constants against the estimate by power iteration, at samples and between the modes.

    The estimate at one point is from below, so it must stay below the certified constant; between the modes
    they are equal.

    Own arguments:
        what: the map, eps_VP or the step map, at eta = 0.
        separation: the separation of the modes, as in `check`.
        control: the certified constant of the noise in VE, against an estimate in VP; for the step, a alone.
    """
    c = coefficients(index, 0.0)
    model, _ = conditionals(n, c.sigma, separation, device=device)
    x = sampled(model, 10, c.sigma, seed)
    x = torch.cat([x, torch.zeros_like(x[:1])])
    if what == "noise":
        certified = noise_lipschitz("certified", model, x, x, c.sigma)
        estimate = lipschitz_estimate(model, x, c.sigma)
    else:
        certified = step_lipschitz("certified", model, x, x, c)
        estimate = step_lipschitz_estimate(model, x, c)
    bound = float(certified.max())
    if control == "K in VE":
        bound /= math.sqrt(1 + c.sigma**2)
    if control == "eps held fixed":
        bound = c.a
    measured = float(estimate.max())
    return Record(
        statement=f"Proposition D.1, Lipschitz constant of the {what}",
        claim={"noise": "|J eps_VP| <= K", "step": "|a I + b J eps_VP| <= G"}[what],
        assumptions=ASSUMPTIONS["certified"],
        setting={"n": n, "index": index, "separation": separation},
        claimed=bound,
        **exactly(measured)._asdict(),
        tolerance=ROUNDING * bound,
        bound=bound,
        slack=bound - measured,
        tightness=measured / bound,
        samples=len(x),
    )


@grid
def checks(size: Size) -> Iterator[Check]:
    """Yield the points of this statement."""
    for n in (2, 64) if size == "small" else (2, 64, 1024, 16384):
        run = partial(check, "step map", n=n, probability=affordable(n, size))
        for quantity in QUANTITIES:
            yield partial(run, quantity, "worst")
            yield partial(run, quantity, "worst", eta=0.0)
            yield partial(run, quantity, "aggregated")
        yield partial(check_lipschitz, n=n)
        yield partial(check_lipschitz, "step", n=n)
    run = partial(check, n=64 if size == "small" else 1024)
    for form in FORMS:
        yield partial(run, form, "norm gap", "aggregated", eta=1.0, separation=0.5)
        for separation in (0.5, 2.5):
            yield partial(run, form, "norm gap", "random", separation=separation)
            yield partial(run, form, "norm gap", "worst", separation=separation)
    if size == "small" or not networks.available("layout", "attribute"):
        return
    # Half a minute: power iteration goes through the networks forty times.
    forms: tuple[Form, ...] = ("paper", "step map") if size == "default" else tuple(FORMS)
    for form, eta in product(forms, (0.0,) if size == "default" else (0.0, 0.5, 1.0)):
        yield partial(check_on_networks, form, "angle", eta=eta)
