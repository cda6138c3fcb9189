"""Proposition 3.1: two models step from one z; their results have nearly equal norms and a small angle.

z_i = a z + b eps_i + s xi_i, eq. (4), in VP; Delta = |eps_1 - eps_2|, so the means are D = |b| Delta apart
(the paper bounds Delta by L |c_1 - c_2|). xi_1, xi_2 independent, with probability 1 - p:

Norm gap, eq. (5): ||z_1| - |z_2|| <= D + s c.
* paper: c = 2 sqrt(2) sqrt(ln(4/p)), two concentrations about the means of |z_i|, p/2 for each.
* mean: c = 2 sqrt(ln(2/p)). With f(xi) = |mean_2 + s xi| the gap is at most D + |f(xi_1) - f(xi_2)|; that
  difference has mean 0 and is sqrt(2) s-Lipschitz in (xi_1, xi_2): one concentration.
* median: c = sqrt(2) Phi^-1(1 - p/2). The same difference is symmetric, so its median is 0, about which the
  tails of a Lipschitz function are Gaussian ones at most (Borell; Sudakov and Tsirelson).
* sharp: the quantile of |N(D, 2 s^2)|. |z_1| - |z_2| itself is sqrt(2) s-Lipschitz and has a median m, with
  |m| <= D by the symmetry above. So P(gap > u) <= P(|N(m, 2 s^2)| > u) <= P(|N(D, 2 s^2)| > u) for u >= D,
  which is where the quantile lies for p <= 1/2. The least bound that knows D, s and p only: it is attained
  by aligned means as |mean| -> inf. Between `median` at D = 0 and c = sqrt(2) Phi^-1(1 - p) at large D.

Angle, eq. (6): |z_1 - z_2| <= R with probability 1 - p, and then, with m = min(|z_1|, |z_2|),
* linear: theta <= pi R/(2 m), the paper's; arcsin: theta <= 2 arcsin(min(1, R/(2 m)));
* cosines: sin^2(theta/2) <= (R^2 - gap^2)/(4 |z_1||z_2|), the law of cosines: nothing is lost.
* R of the paper, by Laurent and Massart: D + sqrt(2) s sqrt(n + 2 sqrt(n ln(1/p)) + 2 ln(1/p)). Exact R:
  |z_1 - z_2|^2/(2 s^2) is noncentral chi-square with n degrees of freedom, noncentrality D^2/(2 s^2).

Without noise (eta = 0), or with one draw shared by both models, z_1 - z_2 = mean_1 - mean_2: then gap <= D
and theta <= 2 arcsin(D/(2 m)) always. That gap bound is the triangle inequality: it says no more than
|z_1 - z_2| itself, and its records are vacuous by that yardstick.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Literal

import torch

from amdm.types import Denoiser, Latent
from theory_checks import networks
from theory_checks.gap_and_angle import (
    QUANTITIES,
    STARTS,
    Constants,
    Inversion,
    Quantity,
    Radius,
    always_fields,
    angle_fields,
    fields,
    gap_fields,
)
from theory_checks.pair import (
    Geometry,
    Pair,
    Rows,
    conditionals,
    distances,
    made_up,
    predict_noise,
    step_mean,
    to_vp,
)
from theory_checks.record import Check, Record, Size
from theory_checks.schedule import Coefficients, coefficients
from theory_checks.statistics import affordable

Control = Literal["Delta dropped", "one draw of noise", "s of a finer grid"]
DeterministicControl = Literal["b of the next step", "norm over the batch"]


def check_norm_gap(
    constants: Constants = "sharp",
    *,
    n: int = 1024,
    index: int = 10,
    eta: float = 1.0,
    delta_eps: float = 20.0,
    probability: float = 0.05,
    geometry: Geometry = "worst",
    seed: int = 0,
    device: str = "cpu",
    control: Control | None = None,
) -> Record:
    """Eq. (5) with made-up predictions: how often ||z_1| - |z_2|| passes its bound.

    Args:
        constants: whose; the keys of GAP_CLAIMS.
        n: the dimension, 2 or more.
        index: of the step, on Stable Diffusion's grid of 50.
        eta: DDIM's; with 0 the bound holds without probability.
        delta_eps: Delta = |eps_1 - eps_2|; |b| Delta is a VP length.
        probability: the claimed one, p, at most 1/2.
        geometry: as in `made_up`; "worst" is a long mean with eps_1 - eps_2 along it.
        seed: of the start and the draws.
        device: where they are made.
        control: a bound without Delta, without noise (which is right for one draw that both models share),
            or with the s of a grid ten times as fine.
    """
    pair = _made_up_pair("norm gap", geometry, n, index, eta, delta_eps, 1, seed, device)
    return Record(
        statement=f"Proposition 3.1, norm gap, {constants}",
        setting=_setting(n, index, eta, delta_eps, geometry) | {"probability": probability},
        **gap_fields(_changed(pair, index, eta, control), constants, probability, seed),
    )


def check_angle(
    radius: Radius = "exact",
    inversion: Inversion = "arcsin",
    *,
    n: int = 1024,
    index: int = 10,
    eta: float = 1.0,
    delta_eps: float = 20.0,
    probability: float = 0.05,
    geometry: Geometry = "worst",
    seed: int = 0,
    device: str = "cpu",
    control: Control | None = None,
) -> Record:
    """Eq. (6) with made-up predictions: how often the angle passes its bound, of which there is one per draw.

    The arguments are those of `check_norm_gap`, but for
        radius: how R is found; the keys of RADIUS_CLAIMS.
        inversion: how R becomes an angle; the keys of ANGLE_CLAIMS.
        geometry: "worst" is a long mean with eps_1 - eps_2 across it.
    """
    pair = _made_up_pair("angle", geometry, n, index, eta, delta_eps, 1, seed, device)
    return Record(
        statement=f"Proposition 3.1, angle, {radius} radius, {inversion}",
        setting=_setting(n, index, eta, delta_eps, geometry) | {"probability": probability},
        **angle_fields(_changed(pair, index, eta, control), radius, inversion, probability, seed),
    )


def check_deterministic(
    quantity: Quantity = "norm gap",
    *,
    n: int = 1024,
    index: int = 10,
    eta: float = 0.0,
    delta_eps: float = 20.0,
    geometry: Geometry = "worst",
    seed: int = 0,
    device: str = "cpu",
    control: DeterministicControl | None = None,
) -> Record:
    """The bounds without probability: gap <= |b| Delta and theta <= 2 arcsin(|b| Delta/(2 m)), always.

    The arguments are those of `check_norm_gap`, but for
        quantity: which of the two.
        eta: 0, or positive for noise that both models share.
        control: the |b| of the next step, or norms over a batch of four starts.
    """
    pair = _made_up_pair(quantity, geometry, n, index, eta, delta_eps, STARTS, seed, device)
    if control == "b of the next step":
        ratio = coefficients(index + 1, eta).b / coefficients(index, eta).b
        pair = pair._replace(between=ratio * pair.between)
    if control == "norm over the batch":
        mean_1, mean_2 = pair.mean_1[:4].reshape(1, -1), pair.mean_2[:4].reshape(1, -1)
        pair = pair._replace(mean_1=mean_1, mean_2=mean_2, between=pair.between[:1])
    return Record(
        statement=f"Proposition 3.1, {quantity}, {'shared noise' if eta else 'no noise'}",
        setting=_setting(n, index, eta, delta_eps, geometry),
        **always_fields(pair, quantity, seed),
    )


def check_on_models(
    models: tuple[Denoiser, Denoiser],
    x: Latent,
    quantity: Quantity = "norm gap",
    constants: Literal["paper", "sharp"] = "sharp",
    *,
    index: int = 10,
    eta: float = 1.0,
    probability: float = 0.05,
    seed: int = 0,
    control: Control | None = None,
) -> Record:
    """Both bounds on two models' own predictions from common starts, Delta measured at every start.

    With eta = 0 these are the bounds without probability. Otherwise the failures of all starts are counted
    together: none may fail more often than claimed, so neither may all of them.

    Args:
        models: two denoisers, VE.
        x: `(starts, *event)`, VE latents at the sigma of the step, `coefficients(index, eta).sigma`.
        quantity: which statement.
        constants: the paper's, or the least: exact R, inverted by the arcsine.
        index: of the step, on Stable Diffusion's grid of 50.
        eta: DDIM's.
        probability: the claimed one, p, at most 1/2.
        seed: of the draws.
        control: as in `check_norm_gap`.
    """
    c = coefficients(index, eta)
    eps_1, eps_2 = (predict_noise(model, x, c.sigma) for model in models)
    pair = _changed(_pair(to_vp(x, c.sigma), eps_1, eps_2, c), index, eta, control)
    delta_eps = float(distances(eps_1, eps_2).mean())
    return Record(
        statement=f"Proposition 3.1, {quantity}, {constants}, on models",
        setting=_setting(eps_1.shape[1], index, eta, delta_eps, "models")
        | {"probability": probability, "starts": len(x)},
        **fields(pair, quantity, constants, probability, seed),
    )


def check_on_mixtures(
    quantity: Quantity = "norm gap",
    constants: Literal["paper", "sharp"] = "sharp",
    *,
    n: int = 1024,
    starts: int = 20,
    index: int = 10,
    eta: float = 1.0,
    seed: int = 0,
    device: str = "cpu",
    control: Control | None = None,
) -> Record:
    """`check_on_models` on a Gaussian mixture under two conditions, at its own samples."""
    sigma = coefficients(index, eta).sigma
    models = conditionals(n, sigma, device=device)
    x = models[0].sample(starts, sigma, generator=torch.Generator(device).manual_seed(seed))
    return check_on_models(models, x, quantity, constants, index=index, eta=eta, seed=seed, control=control)


def check_on_networks(
    quantity: Quantity = "norm gap",
    constants: Literal["paper", "sharp"] = "sharp",
    *,
    starts: int = 16,
    index: int = 10,
    eta: float = 1.0,
    seed: int = 0,
    device: str = "cpu",
    control: Control | None = None,
) -> Record:
    """`check_on_models` on the trained `layout` and `attribute`, told one scene, at its noised latent."""
    models = networks.told(("layout", "attribute"), seed, device)
    x = networks.noised(seed, coefficients(index, eta).sigma, starts, device)
    record = check_on_models(models, x, quantity, constants, index=index, eta=eta, seed=seed, control=control)
    return replace(record, statement=f"Proposition 3.1, {quantity}, {constants}, on trained networks")


def checks(size: Size, seed: int = 0, device: str = "cpu") -> Iterator[Check]:
    """The checks of this module at one size."""
    sizes = (2, 64) if size == "small" else (2, 64, 1024, 16384)
    for n in sizes:
        probability = affordable(n, size)
        yield from _the_least_bounds(n, probability, seed, device)
    yield from _other_bounds(64 if size == "small" else 1024, seed, device)
    # Vacuous: what the constants cost where there are few dimensions.
    yield partial(check_norm_gap, "paper", n=2, seed=seed, device=device)
    yield partial(check_norm_gap, "mean", n=2, seed=seed, device=device)


def _the_least_bounds(n: int, probability: float, seed: int, device: str) -> Iterator[Check]:
    """Where they are attained, from Delta = 0 to |b| Delta of ten times the noise, and where they are not."""
    gap = partial(check_norm_gap, n=n, probability=probability, seed=seed, device=device)
    turn = partial(check_angle, n=n, probability=probability, seed=seed, device=device)
    c = coefficients(10, 1.0)
    for noises in (0, 2, 10):
        delta_eps = noises * c.s / abs(c.b)
        yield partial(gap, delta_eps=delta_eps)
        # The noise moves a norm by s, but |z_1 - z_2| by sqrt(2 n) s.
        yield partial(turn, delta_eps=math.sqrt(2 * n) * delta_eps)
    yield partial(gap, geometry="random")
    yield partial(turn, geometry="random")
    for quantity in QUANTITIES:
        yield partial(check_deterministic, quantity, n=n, eta=0.5, seed=seed, device=device)


def _other_bounds(n: int, seed: int, device: str) -> Iterator[Check]:
    """Bounds that are not attained, other etas, mixtures and networks."""
    gap = partial(check_norm_gap, n=n, seed=seed, device=device)
    turn = partial(check_angle, n=n, seed=seed, device=device)
    for constants in ("paper", "mean", "median"):
        yield partial(gap, constants, delta_eps=5.0)
    for radius, inversion in (("paper", "linear"), ("paper", "arcsin"), ("exact", "cosines")):
        yield partial(turn, radius, inversion, delta_eps=5.0)
    for eta in (0.0, 0.2, 0.5):
        yield partial(gap, eta=eta)
        yield partial(turn, eta=eta)
    for quantity in QUANTITIES:
        for eta in (0.0, 1.0):
            yield partial(check_on_mixtures, quantity, n=n, eta=eta, seed=seed, device=device)
            on_networks = partial(check_on_networks, quantity, eta=eta, seed=seed, device=device)
            yield networks.or_skipped(on_networks, f"Proposition 3.1, {quantity}, on trained networks")


def _made_up_pair(
    quantity: Quantity,
    geometry: Geometry,
    n: int,
    index: int,
    eta: float,
    delta_eps: float,
    starts: int,
    seed: int,
    device: str,
) -> Pair:
    """The steps from made-up predictions, at the worst for this quantity if `geometry` is."""
    c = coefficients(index, eta)
    axis = 0 if quantity == "norm gap" else 1
    return _pair(*made_up(geometry, axis, n, c, delta_eps, starts, seed, device), c)


def _pair(z: Rows, eps_1: Rows, eps_2: Rows, c: Coefficients) -> Pair:
    """Both steps from z (VP), their means |b| |eps_1 - eps_2| apart."""
    between = abs(c.b) * distances(eps_1, eps_2)
    return Pair(step_mean(z, eps_1, c), step_mean(z, eps_2, c), c.s, between, c.s)


def _changed(pair: Pair, index: int, eta: float, control: Control | None) -> Pair:
    """The pair with a wrong statement about it."""
    if control == "Delta dropped":
        return pair._replace(between=0 * pair.between)
    if control == "one draw of noise":
        return pair._replace(s_bound=0.0)
    if control == "s of a finer grid":
        # The same timestep: 999 - 20 index - 18 on diffusers' grids of both sizes.
        return pair._replace(s_bound=coefficients(10 * index + 9, eta, steps=500).s)
    return pair


def _setting(n: int, index: int, eta: float, delta_eps: float, geometry: str) -> dict[str, float | int | str]:
    return {"n": n, "index": index, "eta": eta, "delta_eps": delta_eps, "geometry": geometry}
