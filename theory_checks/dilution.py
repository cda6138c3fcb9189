"""Averaging N guided predictions divides by N the guidance of what one of the models knows.

(1) (1/N) sum_i (u + g (c_i - u)) = u + g (c_0 - u) + sum_i (g/N) (c_i - c_0), by c_i - u = (c_0 - u) +
    (c_i - c_0): the caption, which all know, keeps its guidance g; a control that m of N models know has
    m g/N. With shares s_i for 1/N it is g times the sum of the shares of those that know it.
(2) A step of DDIM is affine in the prediction. From one latent, by the linear fold and without eq. (8), a
    step of Algorithm 1 is that of the mean prediction, and leaves one latent: the window follows (1).
(3) Projective guidance, u + g (c_0 - u) + sum_i g (c_i - c_0), gives each control all of g.

u is the prediction without conditions, c_0 that with the caption, c_i that with the caption and what model i
controls.
"""

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.denoisers import conjunction, linear
from amdm.geometry import lerp_fold, slerp_fold
from amdm.noise import start_noise
from amdm.samplers import sample_amdm, sample_ddim
from amdm.schedules import ddim_sigmas
from amdm.types import Denoiser, Latent
from theory_checks.controls import Kind, models
from theory_checks.pair import sampled
from theory_checks.projective_guidance import guided
from theory_checks.record import Check, Record, Size, grid
from theory_checks.schedule import TRAINED_LEVELS, coefficients
from theory_checks.statistics import ROUNDING, exactly

Direction = Literal["caption", "control"]
Method = Literal["average", "projective"]
EQUAL = 1e-9
"""The tolerance of a coefficient by least squares in float64, as a share of g."""


def check_share(
    direction: Direction = "control",
    num_models: int = 2,
    knowing: int = 1,
    method: Method = "average",
    *,
    guidance: float = 3.0,
    kind: Kind = "data",
    dependence: float = 0.5,
    index: int = 20,
    samples: int = 100,
    seed: int = 0,
    device: str = "cpu",
    control: Literal["not divided", "all divided"] | None = None,
) -> Record:
    """Check (1) or (3): the prediction's coefficient on a direction, by least squares, relative to g.

    The directions are c_0 - u and each control's c_i - c_0. Of N models the first `knowing` know control 1,
    and each of the others knows a control of its own.

    Own arguments:
        direction: the direction of the coefficient.
        num_models: N.
        knowing: the number of models that know control 1.
        method: the prediction.
        guidance: g.
        kind, dependence: as in `theory_checks.controls.models`.
        control: the claim that nothing is divided by N, or all.
    """
    world = models(kind, dependence, max(2, num_models - knowing + 1), seed, device)
    controls = world.told[: num_models - knowing + 1]
    own = [controls[0]] * (knowing - 1) + list(controls)
    sigma = coefficients(index, 0.0).sigma
    x = sampled(world.joint, samples, sigma, seed)
    level = x.new_full((samples,), sigma)
    if method == "average":
        predicted = linear([conjunction(world.empty, [model], guidance) for model in own])(x, level)
    else:
        predicted = guided(world.empty, world.caption, controls, guidance, [1.0] * len(controls))(x, level)
    u, c_0 = world.empty(x, level), world.caption(x, level)
    directions = torch.stack([c_0 - u, *(model(x, level) - c_0 for model in controls)], dim=2)
    found = torch.linalg.lstsq(directions, (predicted - u)[..., None]).solution[:, :, 0]
    shares = found[:, 0 if direction == "caption" else 1] / guidance
    divided = {
        None: direction == "control" and method == "average",
        "not divided": False,
        "all divided": True,
    }
    return Record(
        statement=f"Guidance of the {direction}, {method}",
        claim={"caption": "g", "control": "m g/N"}[direction] if method == "average" else "g",
        assumptions="one g and one model without conditions",
        setting={
            "models": num_models,
            "knowing": knowing,
            "guidance": guidance,
            "sigma": sigma,
            "kind": kind,
        },
        sense="equal",
        claimed=knowing / num_models if divided[control] else 1.0,
        measured=float(shares.mean()),
        low=float(shares.min()),
        high=float(shares.max()),
        tolerance=EQUAL,
        samples=samples,
    )


def check_step(
    num_models: int = 2,
    fold: Literal["linear", "spherical"] = "linear",
    *,
    guidance: float = 3.0,
    window: int = 20,
    samples: int = 50,
    seed: int = 0,
    device: str = "cpu",
) -> Record:
    """Check (2): the latent at the end of a window of AMDM against DDIM's of the mean guided prediction.

    All models start from one latent. The distance is relative to that between the mean's latent and the
    latent of the guided lead alone after the same steps.

    Own arguments:
        num_models: N.
        fold: linear without a correction, or spherical with the paper's, for which it is not claimed.
        guidance: g.
    """
    world = models("data", 0.5, max(2, num_models), seed, device)
    own = [conjunction(world.empty, [model], guidance) for model in world.told[:num_models]]
    sigmas = ddim_sigmas(TRAINED_LEVELS, 50)[: window + 1].to(device)
    n = world.empty.means.shape[1]
    x = start_noise(range(seed, seed + samples), [n], float(sigmas[0]), 1, dtype=torch.float64, device=device)
    shares = [1 / (k + 1) for k in range(1, num_models)]  # equal ones
    joined = sample_amdm(
        own,
        x[0],
        sigmas,
        disable=True,
        weights=shares,
        window=1.0,
        fold=lerp_fold if fold == "linear" else slerp_fold,
        correction=0.0 if fold == "linear" else "auto",
    )
    averaged = _drawn(linear(own), x[0], sigmas)
    apart = (_drawn(own[0], x[0], sigmas) - averaged).norm()
    return Record(
        statement=f"AMDM takes the mean guided prediction's steps, {fold} fold",
        claim="|x - x_mean|/|x_lead - x_mean| = 0",
        assumptions="one start for all models; eq. (8) left out"
        if fold == "linear"
        else "one start for all models",
        setting={"models": num_models, "guidance": guidance, "window": window, "n": n},
        sense="equal",
        claimed=0.0,
        **exactly(float((joined - averaged).norm() / apart))._asdict(),
        tolerance=100 * ROUNDING,  # of 20 steps
        samples=samples,
        ours=fold == "linear",
    )


@grid
def checks(size: Size) -> Iterator[Check]:
    """Yield the points of these statements."""
    many = (2, 3) if size == "small" else (2, 3, 4)
    directions: tuple[Direction, ...] = ("caption", "control")
    for direction, num_models in product(directions, many):
        for knowing in range(1, num_models):
            yield partial(check_share, direction, num_models, knowing)
    for direction in directions:
        for index in (0, 40):
            yield partial(check_share, direction, index=index)
        yield partial(check_share, direction, guidance=7.5, kind="readings")
        yield partial(check_share, direction, method="projective")
    for num_models in many:
        yield partial(check_step, num_models)
    yield partial(check_step, fold="spherical")


def _drawn(model: Denoiser, x: Latent, sigmas: Float[Tensor, " levels"]) -> Latent:
    return sample_ddim(model, x, sigmas, disable=True)
