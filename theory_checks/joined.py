"""One step of two models in VP and its aggregation: the law of the step, and draws from it.

Model i steps to x_i = mean_i + s xi_i (eq. (4)), x' = slerp(x_1, x_2, w) (eq. (7)).
The law of the step depends on four numbers: n, s, |mean_1| = |mean_2| and delta = |mean_1 - mean_2|, since
normal noise is isotropic. With kappa = |mean|^2/(n s^2), (1 - s^2)/s^2 for latents of unit
variance, and to leading order in n (`distance_ratio`),

    rho^2 = |x' - mean_1|^2/(n s^2)
          = 1 - 4 kappa sin(w theta/2) sin((1-w) theta/2)/cos(theta/2)
            + sin(w theta)/sin(theta) delta^2/(n s^2),

cos theta = (kappa - delta^2/(2 n s^2) + 1 [one noise for both models])/(1 + kappa).
"""

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.geometry import orthogonal_mix, shell_radius, slerp
from theory_checks.draws import normals
from theory_checks.schedule import coefficients

Noise = Literal["independent", "shared"]
Both = Float[Tensor, "2 batch n"]


class Scene(NamedTuple):
    """One step of two models, in VP: the numbers that the law of the step depends on."""

    n: int
    s: float
    norm: float
    """|mean_1| = |mean_2|."""
    delta: float
    """|mean_1 - mean_2|."""

    @property
    def radius(self) -> float:
        """Return the radius of the shells, sqrt(n) s."""
        return shell_radius(self.n, self.s)

    @property
    def kappa(self) -> float:
        """Return kappa, |mean|^2/(n s^2)."""
        return (self.norm / self.radius) ** 2


class Joined(NamedTuple):
    """A batch of steps of both models, and their aggregates."""

    means: Both
    xs: Both
    merged: Float[Tensor, "batch n"]


def scene(n: int, index: int, eta: float, delta: float = 0.0, kappa: float | None = None) -> Scene:
    """Return step `index` of DDIM with this eta, with means `delta` apart (VP).

    `kappa` is |mean|^2/(n s^2); None for that of latents of unit variance.

    Raises:
        ValueError: means of this norm cannot be that far apart.
    """
    s = coefficients(index, eta).s
    norm = math.sqrt(n * (1 - s**2) if kappa is None else n * kappa * s**2)
    if delta > 2 * norm:
        raise ValueError(f"delta is {delta}, expected {2 * norm} or less: twice the norm of the means")
    return Scene(n, s, norm, delta)


def distance_ratio(at: Scene, weight: float, noise: Noise) -> float:
    """Return rho, |x' - mean_1|/(sqrt(n) s), to leading order; that of model 2 is its value at 1 - weight."""
    kappa, apart2 = at.kappa, (at.delta / at.radius) ** 2
    theta = math.acos(min(1.0, (kappa - apart2 / 2 + (noise == "shared")) / (1 + kappa)))
    share = math.sin(weight * theta) / math.sin(theta) if theta > 0 else weight
    # A + B - 1, without the subtraction.
    excess = 2 * math.sin(weight * theta / 2) * math.sin((1 - weight) * theta / 2) / math.cos(theta / 2)
    return math.sqrt(1 - 2 * kappa * excess + share * apart2)


def corrected_distance(at: Scene, weight: float, noise: Noise, length: float, shell: Literal[1, 2]) -> float:
    """Return |x'' - mean_shell| to leading order, for x'' moved by `length` toward mean_1."""
    first, second = (at.radius * distance_ratio(at, w, noise) for w in (weight, 1 - weight))
    length = min(length, first)
    if shell == 1:
        return first - length
    inner = (first**2 + second**2 - at.delta**2) / 2
    return math.sqrt(second**2 - 2 * length * inner / first + length**2)


def steps(
    at: Scene,
    noise: Noise,
    weight: float,
    samples: int,
    seed: int,
    device: str,
    control: str | None = None,
) -> Iterator[Joined]:
    """Yield draws of both models' steps and of x', in pieces that fit the memory."""
    half = math.asin(at.delta / (2 * at.norm)) if at.delta > 0 else 0.0
    means = torch.zeros(2, 1, at.n, dtype=torch.float64, device=device)
    means[:, 0, 0] = at.norm * math.cos(half)
    means[:, 0, 1] = at.norm * math.sin(half) * means.new_tensor([1.0, -1.0])
    for xi in normals(samples, at.n, seed, device, copies=1 if noise == "shared" else 2):
        if control == "conditioned on the distance":
            xi = at_distance(xi, 1.0)
        xs = means + at.s * xi
        if control == "orthogonal mix":
            merged = orthogonal_mix([xs[0], xs[1]], [weight])
        else:
            merged = slerp(xs[0], xs[1], 1 - weight if control == "swapped weights" else weight)
        yield Joined(means.expand_as(xs), xs, merged)


def at_distance(xi: Both, distance: float) -> Both:
    """Return two normal draws given their distance, on which their middle does not depend."""
    middle, half = (xi[0] + xi[1]) / 2, (xi[0] - xi[1]) / 2
    half = half * (distance / 2 / half.norm(dim=1, keepdim=True))
    return torch.stack([middle + half, middle - half])
