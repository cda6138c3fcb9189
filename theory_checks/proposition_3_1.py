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
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, Literal

from amdm.types import Denoiser, Latent
from theory_checks import networks
from theory_checks.gap_and_angle import (
    QUANTITIES,
    STARTS,
    Constants,
    Inversion,
    LeastOrPaper,
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
    conditionals,
    distances,
    made_up,
    predict_noise,
    sampled,
    stepped,
    to_vp,
)
from theory_checks.record import Check, Record, Size, grid
from theory_checks.schedule import coefficients
from theory_checks.statistics import affordable

Control = Literal["Delta dropped", "one draw of noise", "s of a finer grid"]
DeterministicControl = Literal["b of the next step", "norm over the batch"]


@dataclass(frozen=True, kw_only=True)
class MadeUpStep:
    """A step from made-up predictions: the keywords that all checks of such steps take as `step`."""

    n: int = 1024
    """2 or more."""
    index: int = 10
    eta: float = 1.0
    """With 0 the bounds hold without probability."""
    delta_eps: float = 20.0
    """Delta = |eps_1 - eps_2|; |b| Delta is a VP length."""
    geometry: Geometry = "worst"
    """As in `made_up`; "worst" is a long mean with eps_1 - eps_2 along it (norm gap) or across it (angle)."""
    seed: int = 0
    device: str = "cpu"
    control: Control | DeterministicControl | None = None
    """A bound without Delta, without noise (which is right for one draw that both models share), or with the
    s of a grid ten times as fine. Without probability: the |b| of the next step, norms over four starts."""

    def pair(self, quantity: Quantity, starts: int = 1) -> Pair:
        """Return both models' steps."""
        c, axis = coefficients(self.index, self.eta), QUANTITIES.index(quantity)
        drawn = made_up(self.geometry, axis, self.n, c, self.delta_eps, starts, self.seed, self.device)
        return _changed(stepped(*drawn, c), self.index, self.eta, self.control)

    def setting(self) -> dict[str, float | int | str]:
        """Return the setting of a record."""
        step = {"n": self.n, "index": self.index, "eta": self.eta, "delta_eps": self.delta_eps}
        return step | {"geometry": self.geometry}


def check_norm_gap(constants: Constants = "sharp", *, probability: float = 0.05, **step: Any) -> Record:
    """Check eq. (5) with made-up predictions: the frequency of ||z_1| - |z_2|| beyond its bound.

    `constants` are the keys of GAP_CLAIMS.
    """
    made = MadeUpStep(**step)
    return Record(
        statement=f"Proposition 3.1, norm gap, {constants}",
        setting=made.setting() | {"probability": probability},
        **gap_fields(made.pair("norm gap"), constants, probability, made.seed),
    )


def check_angle(
    radius: Radius = "exact", inversion: Inversion = "arcsin", *, probability: float = 0.05, **step: Any
) -> Record:
    """Check eq. (6) with made-up predictions: the frequency of an angle beyond its bound, one bound per draw.

    Own arguments:
        radius: the way to find R, a key of RADIUS_CLAIMS.
        inversion: the way to turn R into an angle, a key of ANGLE_CLAIMS.
    """
    made = MadeUpStep(**step)
    return Record(
        statement=f"Proposition 3.1, angle, {radius} radius, {inversion}",
        setting=made.setting() | {"probability": probability},
        **angle_fields(made.pair("angle"), radius, inversion, probability, made.seed),
    )


def check_deterministic(quantity: Quantity = "norm gap", *, eta: float = 0.0, **step: Any) -> Record:
    """Check the bounds that always hold: gap <= |b| Delta, theta <= 2 arcsin(|b| Delta/(2 m)).

    With a positive `eta` both models share the noise.
    """
    made = MadeUpStep(eta=eta, **step)
    return Record(
        statement=f"Proposition 3.1, {quantity}, {'shared noise' if eta else 'no noise'}",
        setting=made.setting(),
        **always_fields(made.pair(quantity, STARTS), quantity, made.seed),
    )


def check_on_models(
    models: tuple[Denoiser, Denoiser],
    x: Latent,
    quantity: Quantity = "norm gap",
    constants: LeastOrPaper = "sharp",
    *,
    index: int = 10,
    eta: float = 1.0,
    probability: float = 0.05,
    seed: int = 0,
    control: Control | None = None,
) -> Record:
    """Check both bounds on two models' own predictions from common starts, Delta measured at every start.

    With eta = 0 these are the bounds without probability. Otherwise the failures of all starts are counted
    together: none may fail more often than claimed, so neither may all of them.

    Own arguments:
        x: `(starts, *event)`, VE latents at the sigma of the step, `coefficients(index, eta).sigma`.
        constants: the paper's, or the least: exact R, inverted by the arcsine.
        control: as in `MadeUpStep`.
    """
    c = coefficients(index, eta)
    eps_1, eps_2 = (predict_noise(model, x, c.sigma) for model in models)
    pair = _changed(stepped(to_vp(x, c.sigma), eps_1, eps_2, c), index, eta, control)
    delta_eps = float(distances(eps_1, eps_2).mean())
    setting = {"n": eps_1.shape[1], "index": index, "eta": eta, "delta_eps": delta_eps}
    return Record(
        statement=f"Proposition 3.1, {quantity}, {constants}, on models",
        setting=setting | {"geometry": "models", "probability": probability, "starts": len(x)},
        **fields(pair, quantity, constants, probability, seed),
    )


def check_on_mixtures(
    quantity: Quantity = "norm gap",
    *,
    n: int = 1024,
    index: int = 10,
    seed: int = 0,
    device: str = "cpu",
    **options: Any,
) -> Record:
    """Run `check_on_models` on a Gaussian mixture under two conditions, at 20 of its own samples."""
    sigma = coefficients(index, 0.0).sigma
    models = conditionals(n, sigma, device=device)
    x = sampled(models[0], 20, sigma, seed)
    return check_on_models(models, x, quantity, index=index, seed=seed, **options)


def check_on_networks(
    quantity: Quantity = "norm gap",
    *,
    starts: int = 16,
    index: int = 10,
    seed: int = 0,
    device: str = "cpu",
    **options: Any,
) -> Record:
    """Run `check_on_models` on the trained `layout` and `attribute`, of one scene, at its noised latent."""
    models = networks.conditioned(("layout", "attribute"), seed, device)
    x = networks.noised(seed, coefficients(index, 0.0).sigma, starts, device)
    record = check_on_models(models, x, quantity, index=index, seed=seed, **options)
    return replace(record, statement=record.statement.replace("on models", "on trained networks"))


@grid
def checks(size: Size) -> Iterator[Check]:
    """Yield the points of this statement."""
    for n in (2, 64) if size == "small" else (2, 64, 1024, 16384):
        yield from _least_bounds(n, affordable(n, size))
    yield from _other_bounds(64 if size == "small" else 1024)
    # Vacuous: what the constants cost where there are few dimensions.
    yield partial(check_norm_gap, "paper", n=2)
    yield partial(check_norm_gap, "mean", n=2)


def _least_bounds(n: int, probability: float) -> Iterator[Check]:
    """Yield points that attain the least bounds, from Delta = 0 to ten times the noise, and others."""
    gap = partial(check_norm_gap, n=n, probability=probability)
    turn = partial(check_angle, n=n, probability=probability)
    c = coefficients(10, 1.0)
    for noises in (0, 2, 10):
        delta_eps = noises * c.s / abs(c.b)
        yield partial(gap, delta_eps=delta_eps)
        # The noise moves a norm by s, but |z_1 - z_2| by sqrt(2 n) s.
        yield partial(turn, delta_eps=math.sqrt(2 * n) * delta_eps)
    yield partial(gap, geometry="random")
    yield partial(turn, geometry="random")
    for quantity in QUANTITIES:
        yield partial(check_deterministic, quantity, n=n, eta=0.5)


def _other_bounds(n: int) -> Iterator[Check]:
    """Yield bounds that are not attained, other etas, mixtures and networks."""
    gap, turn = partial(check_norm_gap, n=n), partial(check_angle, n=n)
    for constants in ("paper", "mean", "median"):
        yield partial(gap, constants, delta_eps=5.0)
    for radius, inversion in (("paper", "linear"), ("paper", "arcsin"), ("exact", "cosines")):
        yield partial(turn, radius, inversion, delta_eps=5.0)
    for eta in (0.0, 0.2, 0.5):
        yield partial(gap, eta=eta)
        yield partial(turn, eta=eta)
    for quantity, eta in product(QUANTITIES, (0.0, 1.0)):
        yield partial(check_on_mixtures, quantity, n=n, eta=eta)
        if networks.available("layout", "attribute"):
            yield partial(check_on_networks, quantity, eta=eta)


def _changed(pair: Pair, index: int, eta: float, control: Control | DeterministicControl | None) -> Pair:
    """Return the pair with a wrong statement about it."""
    if control == "Delta dropped":
        return pair._replace(between=0 * pair.between)
    if control == "one draw of noise":
        return pair._replace(s_bound=0.0)
    if control == "s of a finer grid":
        # The same timestep: 999 - 20 index - 18 on diffusers' grids of both sizes.
        return pair._replace(s_bound=coefficients(10 * index + 9, eta, steps=500).s)
    if control == "b of the next step":
        ratio = coefficients(index + 1, eta).b / coefficients(index, eta).b
        return pair._replace(between=ratio * pair.between)
    if control == "norm over the batch":
        mean_1, mean_2 = pair.mean_1[:4].reshape(1, -1), pair.mean_2[:4].reshape(1, -1)
        return pair._replace(mean_1=mean_1, mean_2=mean_2, between=pair.between[:1])
    return pair
