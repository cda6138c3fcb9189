"""Proposition 3.2: the aggregated latent is near the shells that the steps of the models fill.

Model i steps to x_i = mean_i + s xi_i (eq. (4)), x' = slerp(x_1, x_2, w) (eq. (7)), and x'' is x' moved by
`length` toward a mean (eq. (8)). The shell of model i: S_i = { x : ||x - mean_i| - sqrt(n) s| <= thickness }.
All lengths are VP units. The paper gives the thickness no number; here it is an argument. With rho =
|x' - mean_1|/(sqrt(n) s) (`joined.distance_ratio`):

* Independent noise: rho < 1 unless the means are far apart, down to sqrt(w^2 + (1-w)^2). x' is inside the
  shell, the positive length of the paper's existence proof is not there unless the shell is thicker than
  (1 - rho) sqrt(n) s, and eq. (8) moves x' further away.
* Shared noise: x' is on the shell if the means agree, outside otherwise: the proposition holds.
* No noise (eta = 0): the shell is the point mean_i, at the distance of a chord: it holds.

The probability. For model j's shell, whichever model x' was moved toward,

    ||x'' - mean_j| - sqrt(n) s| <= s ||xi_j| - sqrt(n)| + |x' - x_j| + length,

so that for every constant D

    P(x'' in S_j) >= P(||xi| - sqrt(n)| <= u) - P(|x' - x_j| > D),  u = (thickness - D - length)/s.

The paper puts the drawn distance |x' - x_j| in the place of D: that conditions on it, and given the distance
xi_j is no longer normal. With independent noise D is 0.707 to 0.765 sqrt(n) s (kappa = inf to 0, w = 1/2,
delta = 0: sqrt(1 + kappa) 2 sin(theta/4)), so the bound says nothing about thinner shells; the truth for
large n is a threshold at |sqrt(n) s - |x'' - mean_j||, which is (1 - rho) sqrt(n) s + length for i = j.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Literal

import torch
from scipy.optimize import brentq
from scipy.stats import chi2
from torch import Tensor

from amdm.geometry import radial_correct, shell_radius
from amdm.samplers import auto_length
from theory_checks.joined import Joined, Noise, Scene, corrected_distance, distance_ratio, scene, steps
from theory_checks.record import Check, Record, Size, grid
from theory_checks.schedule import coefficients
from theory_checks.statistics import ALPHA, ROUNDING, frequency, mean, sample_size

_record = partial(Record, assumptions="|mean_1| = |mean_2|", sense="at least")
Model = Literal[1, 2]


@dataclass(frozen=True, kw_only=True)
class JoinedStep:
    """The step that a check uses: the keywords that all checks of this statement take as `step`."""

    n: int = 1024
    index: int = 10
    eta: float = 1.0
    """Positive but for `check_existence`: with 0 the shell is a point."""
    noise: Noise = "independent"
    """One draw per model, or one for both."""
    weight: float = 0.5
    delta: float = 0.0
    """|mean_1 - mean_2|, VP."""
    kappa: float | None = None
    """|mean|^2/(n s^2); None for that of latents of unit variance."""
    seed: int = 0
    device: str = "cpu"

    @property
    def scene(self) -> Scene:
        """Return the numbers that the law of the step depends on."""
        return scene(self.n, self.index, self.eta, self.delta, self.kappa)

    def draws(self, samples: int, control: str | None = None, seed: int = 0) -> Iterator[Joined]:
        """Yield draws of the step, in pieces that fit the memory; `seed` is added to the step's."""
        return steps(self.scene, self.noise, self.weight, samples, self.seed + seed, self.device, control)

    def setting(self) -> dict[str, Any]:
        """Return the setting of a record."""
        return {name: getattr(self, name) for name in ("n", "index", "eta", "noise", "weight", "delta")}


def shell_probability(n: int, u: float) -> float:
    """Return P(||X| - sqrt(n)| <= u) for X ~ N(0, I_n), by the chi distribution."""
    inner, outer = max(0.0, math.sqrt(n) - u), math.sqrt(n) + max(0.0, u)
    return float(chi2.cdf(outer**2, n) - chi2.cdf(inner**2, n)) if u > 0 else 0.0


def shell_bound(n: int, u: float) -> float:
    """Return a closed lower bound on `shell_probability`, by Lemma A.1: below 0 for small u, 0 for u <= 0."""
    if u <= 0:
        return 0.0
    above = math.sqrt(n) * u + u**2 / 2 - n * math.log1p(u / math.sqrt(n))
    return 1 - math.exp(-(u**2)) - math.exp(-above)


def shell_width(n: int, probability: float) -> float:
    """Return the u with this `shell_probability`."""
    return float(brentq(lambda u: shell_probability(n, u) - probability, 0, math.sqrt(n) + 10))


def aimed_radius(at: Scene, control: str | None) -> float:
    """Return the radius of the shell that the check uses."""
    return shell_radius(at.n, coefficients(0, 1.0).s) if control == "s of the first step" else at.radius


def check_distance(
    n: int = 1024,
    *,
    samples: int = 1000,
    control: Literal["orthogonal mix", "swapped weights", "s of the first step"] | None = None,
    **step: Any,
) -> Record:
    """Check the mean distance of x' in radii of model 1's shell, |x' - mean_1|/(sqrt(n) s), against rho.

    The error of rho is of order 1/n: at most 0.4/n over kappa = 0 to 2000, w = 0.2 to 0.8 and delta up to
    1.5 sqrt(n) s, from n = 16 on.

    Own arguments:
        control: "orthogonal mix" aggregates as the authors' code does, "swapped weights" takes model 1's
            share for model 2's, "s of the first step" takes that step's radius.
    """
    joined = JoinedStep(n=n, **step)
    at, batches = joined.scene, joined.draws(samples, control)
    distances = torch.cat([(b.merged - b.means[0]).norm(dim=1).cpu() for b in batches])
    return _record(
        statement="Proposition 3.2, distance",
        claim="|x' - mean_1|/(sqrt(n) s) = rho + O(1/n)",
        setting=joined.setting() | {"kappa": at.kappa},
        sense="equal",
        claimed=distance_ratio(at, joined.weight, joined.noise),
        **mean(distances / aimed_radius(at, control))._asdict(),
        tolerance=0.5 / n,
        samples=samples,
    )


def check_existence(
    n: int = 1024,
    *,
    lengths: Literal["positive", "either sign"] = "positive",
    probability: float = 0.95,
    control: Literal["sign", "norm over the batch", "s of the first step"] | None = None,
    **step: Any,
) -> Record:
    """Check how often some length in eq. (8), up to the mean, moves x' onto the shell of model 1.

    The paper's length is positive, and the paper claims that it exists if the shell has high probability. The
    check tries the length that comes nearest to the middle of the shell: |x' - mean_1| - sqrt(n) s, or 0 if
    that is negative and positive lengths are claimed.

    Own arguments:
        lengths: "positive" for the paper's claim, which we do not believe for rho < 1; "either sign" for the
            claim that always holds.
        probability: the shell's probability for a step of model 1, which gives its thickness; it is also the
            claimed probability.
        control: "sign" moves away from the mean, "norm over the batch" divides by the norm of all rows
            together, "s of the first step" aims at its radius.
    """
    joined = JoinedStep(n=n, **step)
    at, samples = joined.scene, sample_size(1 - probability)
    thickness = at.s * shell_width(n, probability) + ROUNDING * at.norm
    aim, count = aimed_radius(at, control), 0
    for batch in joined.draws(samples):
        distance = (batch.merged - batch.means[0]).norm(dim=1)
        gap = distance - aim
        if lengths == "positive":
            moved = radial_correct(batch.merged, batch.means[0], gap.clamp(min=0))
        else:
            moved = radial_correct(batch.merged, batch.means[0], gap.abs(), radius=aim)
        if control == "sign":
            moved = 2 * batch.merged - moved
        if control == "norm over the batch":
            moved = batch.merged + (distance / distance.norm())[:, None] * (moved - batch.merged)
        count += int((((moved - batch.means[0]).norm(dim=1) - at.radius).abs() <= thickness).sum())
    still = joined.eta == 0
    return _record(
        statement=f"Proposition 3.2, existence, {lengths}",
        claim=f"P(a length, {lengths}, takes x' into S_1) >= P(x_1 in S_1)",
        setting=joined.setting()
        | {"noise": "none" if still else joined.noise, "lengths": lengths, "probability": probability},
        claimed=probability,
        **frequency(count, samples)._asdict(),
        samples=samples,
        ours=lengths == "either sign" or still or distance_ratio(at, joined.weight, joined.noise) >= 1,
    )


def check_shell(
    n: int = 1024,
    *,
    noise: Noise = "shared",
    delta: float = 0.2,
    thickness: float = 1.0,
    shell: Model = 2,
    length: float | None = None,
    control: Literal["conditioned on the distance", "s of the first step"] | None = None,
    **step: Any,
) -> Record:
    """Check how often x'', moved toward model 1's mean, is in a shell, against the bound on the joint event.

    D is the largest |x' - x_j| of as many draws with another seed, for which P(|x' - x_j| > D) is at most 1 -
    ALPHA^(1/draws), with confidence 1 - ALPHA. The claim is the bound with the chi probability; `bound` is
    the one in closed form. `slack` is the least slack of the inequality behind it over the draws, VP.

    Own arguments:
        thickness: the thickness of the shell to either side, VP.
        shell: the model whose shell it is; 1 for the model that x' was moved toward.
        length: eq. (8)'s length, VP; None for its default.
        control: "conditioned on the distance" draws steps with |x_1 - x_2| = s, hence |x' - x_j| = s/2 at
            w = 1/2, and still takes xi_j for normal; "s of the first step" puts the shell at its radius.
    """
    joined = JoinedStep(n=n, noise=noise, delta=delta, **step)
    at, length = joined.scene, auto_length(n) if length is None else length
    pilot = sample_size(0.05)
    batches = joined.draws(pilot, control, seed=1)
    far = max(float((b.merged - b.xs[shell - 1]).norm(dim=1).max()) for b in batches)
    tail = 1 - ALPHA ** (1 / pilot)
    u = (thickness - far - length) / at.s
    claimed = max(0.0, shell_probability(n, u) - tail)
    samples = sample_size(min(0.5, max(0.05, 1 - claimed)))
    count, slack = 0, math.inf
    for batch in joined.draws(samples, control):
        off = _off_shell(batch, length, shell, aimed_radius(at, control))
        x = batch.xs[shell - 1]
        off_drawn = ((x - batch.means[shell - 1]).norm(dim=1) - at.radius).abs()
        limit = off_drawn + (batch.merged - x).norm(dim=1) + length
        count += int((off <= thickness).sum())
        slack = min(slack, float((limit - off).min()))
    inside, bound = frequency(count, samples), shell_bound(n, u) - tail
    return _record(
        statement="Proposition 3.2, probability",
        claim="P(x'' in S_j) >= P(||xi| - sqrt(n)| <= (thickness - D - length)/s) - P(|x' - x_j| > D)",
        setting=joined.setting()
        | {"thickness": thickness, "shell": shell, "length": length, "kappa": at.kappa},
        claimed=claimed,
        **inside._asdict(),
        bound=bound,
        trivial=0.0,
        slack=slack,
        tightness=max(0.0, bound) / inside.measured if count else math.nan,
        samples=samples,
    )


def check_threshold(
    n: int = 1024,
    *,
    shell: Model = 1,
    length: float | None = None,
    control: Literal["s of the first step"] | None = None,
    **step: Any,
) -> Record:
    """Check how often x'' enters shell j within 2 s of the thickness at which it does for large n.

    That thickness is |sqrt(n) s - |x'' - mean_j||, from `corrected_distance`; it is of order sqrt(n) s with
    independent noise. The distance |x'' - mean_j| varies by about s/sqrt(2) around it for every n (0.5 s to
    0.8 s at the weights and distances used here), so 2 s is 2.5 standard deviations or more.

    Own arguments:
        shell, length: as in `check_shell`.
        control: "s of the first step" puts the shell at its radius.
    """
    joined = JoinedStep(n=n, **step)
    at, length = joined.scene, auto_length(n) if length is None else length
    threshold = abs(at.radius - corrected_distance(at, joined.weight, joined.noise, length, shell))
    samples, count = sample_size(0.05), 0
    for batch in joined.draws(samples, control):
        off = _off_shell(batch, length, shell, aimed_radius(at, control))
        count += int(((off - threshold).abs() <= 2 * at.s).sum())
    return _record(
        statement="Proposition 3.2, threshold",
        claim="x'' in S_j iff thickness >= |sqrt(n) s - |x'' - mean_j|| of large n, +- 2 s",
        setting=joined.setting() | {"shell": shell, "length": length},
        claimed=0.95,
        **frequency(count, samples)._asdict(),
        bound=threshold,
        samples=samples,
    )


def _off_shell(batch: Joined, length: float, shell: Model, radius: float) -> Tensor:
    """Return ||x'' - mean_j| - radius| for x'' moved by `length` toward mean_1."""
    moved = radial_correct(batch.merged, batch.means[0], length)
    return torch.abs((moved - batch.means[shell - 1]).norm(dim=1) - radius)


@grid
def checks(size: Size) -> Iterator[Check]:
    """Yield the points of this statement."""
    dimensions = {"small": [64], "default": [64, 1024], "thorough": [64, 256, 1024, 4096, 16384]}[size]
    indices = {"small": [10], "default": [10, 40], "thorough": [0, 5, 10, 20, 30, 40, 48]}[size]
    both: tuple[Noise, Noise] = ("independent", "shared")
    shells: tuple[Model, Model] = (1, 2)
    for n, noise, weight, apart in product(dimensions, both, (0.5, 0.2), (0.0, 0.5)):
        delta = apart * scene(n, 10, 1.0).radius
        yield partial(check_distance, n, noise=noise, weight=weight, delta=delta)
    for n, kappa in product(dimensions, (0.0, 0.3, 100.0)):
        yield partial(check_distance, n, kappa=kappa)
    if size == "default":
        yield partial(check_distance, 16384)
        yield partial(check_existence, 16384)
    for n, index in product(dimensions, indices):
        yield partial(check_distance, n, index=index, eta=0.5)
        existence = partial(check_existence, n, index=index)
        yield partial(existence, eta=0.0, delta=1.0)
        yield existence
        yield partial(existence, lengths="either sign")
        yield partial(existence, noise="shared")
        yield partial(existence, noise="shared", delta=1.0)
    for n, index, shell in product(dimensions, indices, shells):
        s = scene(n, index, 1.0).s
        probability = partial(check_shell, n, index=index, shell=shell, delta=0.5 * s)
        yield partial(probability, thickness=2 * s)
        yield partial(probability, thickness=2.5 * s, weight=0.2)
        yield partial(check_threshold, n, index=index, shell=shell)
        yield partial(check_threshold, n, index=index, noise="shared", shell=shell, delta=1.0)
    for n, shell in product(dimensions, shells):
        # Thinner and thicker than what the bound needs with independent noise.
        at = scene(n, 10, 1.0)
        probability = partial(check_shell, n, noise="independent", shell=shell, delta=0.0)
        yield partial(probability, thickness=2 * at.s)
        yield partial(probability, thickness=0.72 * at.radius + 4 * at.s)
