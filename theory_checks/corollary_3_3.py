"""Corollary 3.3: as DDIM's eta -> 0 a step becomes a point, and eq. (8) a move toward that point.

Lengths are VP. s is proportional to eta, so the shell of radius sqrt(n) s about mean_i shrinks to the point;
the mean itself moves by (b_eta - b_0) eps, b_eta - b_0 = -s^2/(2 sqrt(1 - abar_next)) + ... Hence

* step: |z_next(eta) - z_next(0)| ~ eta, the square root of n s^2 + (b_eta - b_0)^2 |eps|^2;
* mean: |mean(eta) - mean(0)| ~ eta^2;
* correction: eq. (8) toward the shell differs from eq. (8) toward the point by sqrt(n) s ~ eta, where its
  length is enough to reach both.

In the limit eq. (8) takes x' to mean_i + max(0, 1 - length/|x' - mean_i|) (x' - mean_i): a step of that
length toward the point, and the projection onto it when clipped.

The paper says that the limit is the flow map of the probability-flow ODE. It is one step of DDIM, Euler's
method on that ODE: the error of the discretisation stays as eta -> 0 (control "the ODE's flow").
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from amdm.denoisers import GaussianMixture
from amdm.geometry import radial_correct, shell_radius, slerp
from theory_checks.draws import normals_at_once
from theory_checks.pair import (
    Points,
    conditionals,
    distances,
    model_mean,
    predict_noise,
    sampled,
    step_mean,
    to_vp,
)
from theory_checks.record import Check, Record, Size, grid
from theory_checks.schedule import Coefficients, coefficients
from theory_checks.statistics import ROUNDING, exactly, slope

Quantity = Literal["step", "mean", "correction"]
CLAIMS: dict[Quantity, str] = {
    "step": "|z_next(eta) - z_next(0)| ~ eta",
    "mean": "|mean(eta) - mean(0)| ~ eta^2",
    "correction": "|x''(shell of radius sqrt(n) s) - x''(point)| ~ eta",
}
RateControl = Literal["s^2 in the noise", "s in b", "the ODE's flow"]
ProjectionControl = Literal["sign", "norm over the batch", "not clipped"]
ETAS = 2.0 ** -np.arange(8, 16)
"""Small enough to show the error of one DDIM step against the ODE's flow."""
VARIANCE = 0.25
"""The data are N(0, VARIANCE I), whose probability flow is known in closed form."""


def check_rate(
    quantity: Quantity = "step",
    *,
    n: int = 1024,
    index: int = 40,
    samples: int = 100,
    seed: int = 0,
    device: str = "cpu",
    control: RateControl | None = None,
) -> Record:
    """Check the slope of the log of a distance (root mean square, VP) against log eta.

    Own arguments:
        quantity: the distance, a key of CLAIMS.
        samples: the number of starts, from the model's own law at the step's sigma, each with its own noise
            at each eta.
        control: the variance for the standard deviation in the noise ("step" and "correction"), the reverse
            in b ("mean"), or the distance from the value of the ODE's flow, which the paper names, instead of
            DDIM's ("step" and "mean").
    """
    z, eps, flow = _starts(n, index, samples, seed, device)
    limit = step_mean(z, eps, coefficients(index, 0.0))
    target = flow if control == "the ODE's flow" else limit
    measured, exact = [], []
    for k, eta in enumerate(ETAS):
        true = coefficients(index, eta)
        c = _changed(true, control)
        if quantity == "correction":
            # From far enough, with length enough to reach both.
            x, enough = limit.roll(1, dims=0), 100 * math.sqrt(n)
            point, shell = (radial_correct(x, limit, enough, radius=r) for r in (None, shell_radius(n, c.s)))
            offset = shell - point
        else:
            xi = normals_at_once(samples, n, seed + k + 1, device)[0]
            offset = step_mean(z, eps, c) + (c.s if quantity == "step" else 0) * xi - target
        measured.append(_rms(offset))
        noise, shift = math.sqrt(n) * true.s, (true.b - coefficients(index, 0.0).b) * _rms(eps)
        exact.append({"step": math.hypot(noise, shift), "mean": abs(shift), "correction": noise}[quantity])
    return Record(
        statement=f"Corollary 3.3, rate of the {quantity}",
        claim=CLAIMS[quantity],
        assumptions=f"data N(0, {VARIANCE} I), its exact model",
        setting={"n": n, "index": index},
        sense="equal",
        claimed=2.0 if quantity == "mean" else 1.0,
        **slope(np.log(ETAS), np.log(measured))._asdict(),
        tolerance=0.01,
        exact=slope(np.log(ETAS), np.log(exact)).measured,
        samples=samples * len(ETAS),
    )


def check_projection(
    share: float = 1.0,
    *,
    n: int = 1024,
    index: int = 40,
    samples: int = 100,
    seed: int = 0,
    device: str = "cpu",
    control: ProjectionControl | None = None,
) -> Record:
    """Check eq. (8) in the limit: the library's against mean + max(0, 1 - length/distance) (x' - mean).

    x' lies between the deterministic steps of two exact models from common starts. The measured number is the
    largest difference over the samples, relative to |x'|.

    Own arguments:
        share: the length of eq. (8) as a share of the median distance |x' - mean|; at 1 half of the samples
            are projected.
        control: the step away from the mean; a direction divided by the norm over the whole batch; a step
            that is not clipped at the mean.
    """
    c = coefficients(index, 0.0)
    models = conditionals(n, c.sigma, device=device)
    x = sampled(models[0], samples, c.sigma, seed)
    mean_1, mean_2 = (model_mean(model, x, c) for model in models)
    merged = slerp(mean_1, mean_2, 0.5)
    offset = merged - mean_1
    distance = offset.norm(dim=1, keepdim=True)
    correction = share * float(distance.median())
    if control == "sign":
        corrected = merged + correction * offset / distance
    elif control == "norm over the batch":
        corrected = merged - correction * offset / offset.norm()
    else:
        corrected = radial_correct(merged, mean_1, correction, clip=control is None)
    expected = mean_1 + (1 - correction / distance).clamp(min=0) * offset
    error = float((distances(corrected, expected) / merged.norm(dim=1).cpu().numpy()).max())
    return Record(
        statement="Corollary 3.3, eq. (8) toward the point",
        claim="x'' = mean + max(0, 1 - length/|x'-mean|) (x'-mean)",
        assumptions="no noise; two exact models",
        setting={"n": n, "index": index, "share": share, "correction": correction},
        sense="equal",
        claimed=0.0,
        **exactly(error)._asdict(),
        tolerance=ROUNDING,
        samples=samples,
    )


@grid
def checks(size: Size) -> Iterator[Check]:
    """Yield the points of this statement."""
    for n in (2, 64) if size == "small" else (2, 64, 1024, 16384):
        rate = partial(check_rate, n=n, samples=1000 if size == "thorough" else 100)
        yield partial(rate, "step")
        yield partial(rate, "correction")
        yield partial(check_projection, n=n)
    yield partial(check_rate, "mean")
    for share in (0.3, 10.0):
        yield partial(check_projection, share)


def _starts(n: int, index: int, samples: int, seed: int, device: str) -> tuple[Points, Points, Points]:
    """Return samples z at the step's level, their eps, and the end of the ODE's flow over the step; VP."""
    c = coefficients(index, 0.0)
    means = torch.zeros(1, n, dtype=torch.float64, device=device)
    model = GaussianMixture(means, means.new_full((1,), VARIANCE))
    x = sampled(model, samples, c.sigma, seed)
    # In VE the flow keeps x / sqrt(VARIANCE + sigma^2).
    growth = math.sqrt((VARIANCE + c.sigma_next**2) / (VARIANCE + c.sigma**2))
    return to_vp(x, c.sigma), predict_noise(model, x, c.sigma), to_vp(growth * x, c.sigma_next)


def _changed(c: Coefficients, control: RateControl | None) -> Coefficients:
    """Return the coefficients changed as the control says."""
    remaining = c.sigma_next**2 / (1 + c.sigma_next**2)  # 1 - abar
    if control == "s^2 in the noise":
        return c._replace(s=c.s**2)
    if control == "s in b":
        return c._replace(b=c.b + math.sqrt(remaining - c.s) - math.sqrt(remaining - c.s**2))
    return c


def _rms(x: Tensor) -> float:
    """Return the root of the mean of |x|^2 over the rows."""
    return float(x.square().sum(1).mean().sqrt())
