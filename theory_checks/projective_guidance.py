"""Projective guidance: when its prediction is the joint model's denoiser, and by how much it differs.

The prediction, of N models that know one control each, beside a caption that all know, is

(1) D = u + g (c_1 + sum_{i >= 2} w_i (c_i - c_0) - u),

u without conditions, c_0 with the caption alone, c_i with the caption and control a_i. Everything below is
given the caption; D_a is the denoiser E[x0 | x, a] at x of level sigma (VE), a all controls; g = 1, w = 1.

(2) By Tweedie's formula D_a = x + sigma^2 grad log p_sigma(x | a), and p_sigma(x | a) is in proportion to
    p_sigma(x) p_sigma(a | x). Hence D_a - D = sigma^2 grad R with
    R(x) = log p_sigma(a | x) - sum_i log p_sigma(a_i | x): D is D_a if and only if R does not depend on x.
(3) Let x0 have independent blocks after a rotation, and each control read one. The noise is isotropic, so x
    has independent blocks too and p_sigma(a | x) is the product of p_sigma(a_i | x): R = 0 at all levels.
(4) Let the controls be independent given x0 only. p_sigma(a, b | x) = E[p(a | x0) p(b | x0) | x], so
    R = log(1 + Cov(p(a | x0), p(b | x0) | x) / (p_sigma(a | x) p_sigma(b | x))): zero at level 0.
(5) At low levels the covariance of x0 given x is sigma^2 I + O(sigma^4): the gap D_a - D is
    sigma^4 grad(grad log p(a | x0) . grad log p(b | x0)) + O(sigma^6). D_a - c_0 falls as sigma^2 only: the
    relative gap falls as sigma^2, and as sigma^4 if the controls read what is at right angles.
(6) At high levels D_a is E[x0 | a]: the gap is E[x0 | a, b] - E[x0 | a] - E[x0 | b] + E[x0], of data whose
    means do not add up. It stays however high the level: late windows are spared, early ones are not. If
    modes of two blocks have the correlation k and each control names one, E[x0 | a] - E[x0] moves the
    other block by k times what b does: the relative gap is k, that of the mean of c_1 and c_2 (1 - k)/2.
    D is nearer than the mean for k < 1/3; weights 1/(1 + k) close the gap.
(7) Controls that are independent given the component of a mixture are not so given x0 where components
    overlap: wrong at level 0 too. There it is early windows that are spared, if the modes' means add up.
(8) With g and w, D is u + g (c_0 + w_i (D_a - c_0) - u) in the block of control i where (3) holds. That is
    a formula for guidance and no density's denoiser.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from amdm.denoisers import Composed, GaussianMixture, compose, conjunction, linear, projective
from amdm.types import Denoiser, Latent
from theory_checks.controls import NOISE, Kind, Models, Weighted, log_likelihood, mean_of, models
from theory_checks.pair import sampled
from theory_checks.record import Check, Record, Size, grid
from theory_checks.schedule import coefficients
from theory_checks.statistics import exactly, slope

Background = Literal["caption", "empty caption", "partner's own"]
EQUAL = 1e-10
"""Two ways to the same number in float64, relative to the control's own direction |D_a - c_0|."""
LEVELS = {"small": [0, 30], "default": [0, 10, 20, 30, 40, 49], "thorough": list(range(50))}
"""Step indices on Stable Diffusion's grid."""
ASSUMED: dict[Kind, str] = {
    "data": "controls independent given x0, whose blocks' modes are correlated",
    "readings": "controls independent given x0, which read overlapping parts",
    "modes": "controls independent given the component, modes overlap",
    "labels": "controls name modes of two blocks",
}


def check_identity(
    kind: Kind = "data",
    dependence: float = 0.5,
    *,
    index: int = 20,
    controls: int = 2,
    samples: int = 100,
    seed: int = 0,
    device: str = "cpu",
    control: Literal["sigma for sigma^2", "R with + for -"] | None = None,
) -> Record:
    """Check (2): the gap of the denoisers against sigma^2 grad R by differentiation; measured is relative.

    p_sigma(a | x) comes from the posterior of x0, the denoisers from the controls' own posteriors.

    Own arguments:
        kind, dependence, controls: as in `theory_checks.controls.models`; "data" or "readings".
    """
    world, sigma = models(kind, dependence, controls, seed, device), coefficients(index, 0.0).sigma
    x = sampled(world.joint, samples, sigma, seed).requires_grad_()
    told = partial(log_likelihood, world.caption, x, sigma)
    alone = torch.stack([told(world.readings[[k]], world.values[[k]]) for k in range(controls)]).sum(0)
    sign = 1 if control == "R with + for -" else -1
    ratio = (told(world.readings, world.values) + sign * alone).sum()
    factor = sigma if control == "sigma for sigma^2" else sigma**2
    right = factor * torch.autograd.grad(ratio, x)[0]
    left, size = _gap(world, x.detach(), sigma)
    return _zero(
        "gap = sigma^2 grad R",
        "D_a - D = sigma^2 grad R",
        _rms(left - right) / size,
        EQUAL,
        samples,
        assumptions=ASSUMED[kind],
        setting=_setting(kind, dependence, sigma, controls),
    )


def check_blocks(
    controls: int = 2,
    background: Background = "caption",
    *,
    index: int = 20,
    samples: int = 100,
    seed: int = 0,
    device: str = "cpu",
) -> Record:
    """Check (3): the relative gap of independent blocks is 0.

    Own arguments:
        controls: the number of controls.
        background: the model that the partners' predictions are compared with. The one without a caption
            counts the caption once for each control; the partner's own was trained on other captions.
    """
    world, sigma = models(controls=controls, seed=seed, device=device), coefficients(index, 0.0).sigma
    x = sampled(world.joint, samples, sigma, seed)
    wrong = _background(world, background)
    gap, size = _gap(world, x, sigma, wrong)
    exact = (controls - 1) * _rms(world.caption(x, sigma) - wrong(x, sigma)) / size
    return _zero(
        f"independent blocks, background {background}",
        "D_a - D = 0 at every level",
        _rms(gap) / size,
        EQUAL,
        samples,
        assumptions="independent blocks given the caption, a control reads one",
        setting={"controls": controls, "sigma": sigma, "background": background},
        exact=exact,
        ours=background == "caption",
    )


def check_level_0(
    kind: Kind = "data", dependence: float = 0.5, *, samples: int = 100, seed: int = 0, device: str = "cpu"
) -> Record:
    """Check (4) and (7) at level 0 by the scores: |grad R|/|grad log p(a | x0)|, the relative gap's limit.

    Own arguments:
        kind, dependence: as in `theory_checks.controls.models`; for "modes" the claim is wrong.
    """
    world = models(kind, dependence, seed=seed, device=device)
    x = sampled(world.joint, samples, 0.0, seed)
    return _zero(
        f"level 0, dependent {kind}",
        "grad R = 0 at level 0",
        _ratio_of_scores(world, x, 0.0),
        EQUAL,
        samples,
        assumptions=ASSUMED[kind],
        setting={"kind": kind, "dependence": dependence},
        ours=kind != "modes",
    )


def check_covariance(
    sigma: float = 1.0,
    *,
    size: int = 200,
    samples: int = 100,
    seed: int = 0,
    device: str = "cpu",
    control: Literal["not divided", "prior covariance"] | None = None,
) -> Record:
    """Check (4)'s R against the densities' own, log p(x | a, b) p(x)/(p(x | a) p(x | b)), up to a constant.

    x0 is one of `size` points of unequal weights in 3 dimensions, with arbitrary likelihoods.

    Own arguments:
        sigma: the level.
        size: the size of the data.
        control: the covariance by itself, or the covariance before x is known.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(size, 3, generator=generator, dtype=torch.float64).to(device)
    data = torch.randn(size, 3, generator=generator, dtype=torch.float64).to(device)
    weights, a, b = draws.mT
    # Likelihoods between 0 and 1; the more alike, the more b is like a.
    b = (a + b) / 2
    prior, *told, joint = (Weighted(data, weights * each) for each in (torch.ones_like(a), a, b, a * b))
    rows = torch.multinomial(weights, samples, replacement=True, generator=generator)
    noise = torch.randn(samples, 3, generator=generator, dtype=torch.float64).to(device)
    x = data[rows] + sigma * noise
    log_joint, log_prior, *log_told = (model.log_density(x, sigma) for model in (joint, prior, *told))
    expected = log_joint + log_prior - log_told[0] - log_told[1]
    share = weights / weights.sum()
    evidence = (share @ (a * b) / ((share @ a) * (share @ b))).log()
    posterior = share.expand(samples, -1) if control == "prior covariance" else prior.posterior(x, sigma)
    mean_a, mean_b = posterior @ a, posterior @ b
    covariance = (posterior * (a - mean_a[:, None]) * (b - mean_b[:, None])).sum(1)
    got = covariance if control == "not divided" else torch.log1p(covariance / (mean_a * mean_b))
    return _zero(
        "R by the covariance",
        "R = log(1 + Cov(p(a|x0), p(b|x0) | x)/(p(a|x) p(b|x)))",
        float((got - expected - evidence).abs().max() / expected.add(evidence).abs().max()),
        EQUAL,
        samples,
        assumptions="controls independent given x0",
        setting={"sigma": sigma, "size": size},
    )


def check_rate(
    kind: Kind = "readings",
    dependence: float = 0.5,
    *,
    samples: int = 100,
    seed: int = 0,
    device: str = "cpu",
    control: Literal["modes"] | None = None,
) -> Record:
    """Check (5): the slope of the log of the relative gap against log sigma, near level 0.

    Own arguments:
        kind, dependence: as in `theory_checks.controls.models`.
        control: dependent modes instead, whose gap does not fall.
    """
    world = models(control or kind, dependence, seed=seed, device=device)
    sigmas = np.logspace(-2.2, -1.9, 6)
    ratios = [_ratio_of_scores(world, sampled(world.joint, samples, sigma, seed), sigma) for sigma in sigmas]
    return Record(
        statement=f"Projective guidance, rate at low levels, dependent {kind}",
        claim="|D_a - D|/|D_a - c_0| ~ sigma^2; sigma^4 for readings at right angles",
        assumptions=ASSUMED[kind],
        setting={"kind": kind, "dependence": dependence},
        sense="equal",
        claimed=2.0 if kind == "readings" else 4.0,
        **slope(np.log(sigmas), np.log(ratios))._asdict(),
        tolerance=0.05,
        samples=samples * len(sigmas),
    )


def check_leading_term(
    dependence: float = 0.5,
    sigma: float = 3e-3,
    *,
    samples: int = 100,
    seed: int = 0,
    device: str = "cpu",
    control: Literal["half"] | None = None,
) -> Record:
    """Check (5)'s first term for overlapping readings, whose log-likelihoods are -(a - l.x0)^2/(2 NOISE^2).

    Own arguments:
        dependence: l_a . l_b.
        sigma: a low level.
        control: half of the term.
    """
    world = models("readings", dependence, seed=seed, device=device)
    x = sampled(world.joint, samples, sigma, seed)
    gap, _ = _gap(world, x, sigma)
    off = world.values - x @ world.readings.T
    term = -dependence * sigma**4 / NOISE**4 * off.flip(1) @ world.readings
    return _zero(
        "leading term at low levels",
        "D_a - D = sigma^4 grad(grad log p(a|x0) . grad log p(b|x0)) + ...",
        _rms(gap - term * (0.5 if control == "half" else 1)) / _rms(term),
        0.01,
        samples,
        assumptions=ASSUMED["readings"],
        setting={"dependence": dependence, "sigma": sigma},
    )


def check_high_levels(
    kind: Kind = "data",
    dependence: float = 0.5,
    *,
    sigma: float = 1e6,
    samples: int = 100,
    seed: int = 0,
    device: str = "cpu",
    control: Literal["no gap"] | None = None,
) -> Record:
    """Check (6): the relative gap at a high level against the means' alone.

    Own arguments:
        kind, dependence: as in `theory_checks.controls.models`.
        sigma: the level.
        control: the claim that there is no gap.
    """
    world = models(kind, dependence, seed=seed, device=device)
    gap, size = _gap(world, sampled(world.joint, samples, sigma, seed), sigma)
    joint, background = mean_of(world.joint), mean_of(world.caption)
    left_over = joint - sum(map(mean_of, world.told)) + background
    claimed = float(left_over.norm() / (joint - background).norm())
    return Record(
        statement=f"Projective guidance, high levels, dependent {kind}",
        claim="|D_a - D|/|D_a - c_0| = |E[x0|a,b]-E[x0|a]-E[x0|b]+E[x0]|/|E[x0|a,b]-E[x0]|",
        assumptions=ASSUMED[kind],
        setting=_setting(kind, dependence, sigma),
        sense="equal",
        claimed=0.0 if control == "no gap" else claimed,
        **exactly(_rms(gap) / size)._asdict(),
        tolerance=1e-4,
        samples=samples,
    )


def check_correlation(
    correlation: float = 0.5,
    prediction: Literal["projective", "mean", "weighted"] = "projective",
    *,
    sigma: float = 1e6,
    samples: int = 100,
    seed: int = 0,
    device: str = "cpu",
) -> Record:
    """Check (6)'s relative gaps at a high level by the correlation k of two blocks' modes.

    Own arguments:
        correlation: k.
        prediction: D, the mean of c_1 and c_2, or c_0 + sum_i (c_i - c_0)/(1 + k).
        sigma: the level.
    """
    world = models("labels", correlation, seed=seed, device=device)
    x = sampled(world.joint, samples, sigma, seed)
    level = x.new_full((samples,), sigma)
    weight = {"projective": 1.0, "mean": 0.5, "weighted": 1 / (1 + correlation)}[prediction]
    joint = world.joint(x, level)
    gap = joint - conjunction(world.caption, world.told, weight)(x, level)
    return Record(
        statement=f"Projective guidance, high levels by correlation, {prediction}",
        claim={"projective": "gap k", "mean": "gap (1-k)/2", "weighted": "gap 0"}[prediction],
        assumptions=ASSUMED["labels"],
        setting=_setting("labels", correlation, sigma),
        sense="equal",
        claimed={"projective": correlation, "mean": (1 - correlation) / 2, "weighted": 0.0}[prediction],
        **exactly(_rms(gap) / _rms(joint - world.caption(x, level)))._asdict(),
        tolerance=1e-4,
        samples=samples,
    )


def check_guidance(
    guidance: float = 3.0,
    weights: Sequence[float] = (1.0, 1.5, 0.5),
    *,
    index: int = 20,
    samples: int = 100,
    seed: int = 0,
    device: str = "cpu",
    control: Literal["exchanged weights"] | Background | None = None,
) -> Record:
    """Check (8) block by block, relative to |D_a - c_0|.

    Own arguments:
        guidance: g.
        weights: w, that of model 1 first, which is 1.
        control: the partners' weights in the reverse order, or another background.
    """
    world = models(controls=len(weights), seed=seed, device=device)
    sigma = coefficients(index, 0.0).sigma
    x = sampled(world.joint, samples, sigma, seed)
    level = x.new_full((samples,), sigma)
    used = (weights[0], *reversed(weights[1:])) if control == "exchanged weights" else weights
    background = world.caption
    if control == "empty caption" or control == "partner's own":
        background = _background(world, control)
    predicted = guided(world.empty, background, world.told, guidance, used)(x, level)
    u, c_0, joint = (model(x, level) for model in (world.empty, world.caption, world.joint))
    errors = [
        (predicted - u - guidance * (c_0 + weight * (joint - c_0) - u)) @ block
        for weight, block in zip(weights, world.blocks, strict=True)
    ]
    return _zero(
        control or "guidance and weights",
        "D = u + g (c_0 + w_i (D_a - c_0) - u) in block i",
        _rms(torch.cat(errors, dim=1)) / _rms(joint - c_0),
        EQUAL,
        samples,
        assumptions="independent blocks given the caption, a control reads one",
        setting={"guidance": guidance, "weights": str(tuple(weights)), "sigma": sigma},
        ours=control is None,
    )


@grid
def checks(size: Size) -> Iterator[Check]:
    """Yield the points of these statements."""
    levels = LEVELS[size]
    coupled: tuple[Kind, ...] = ("data", "readings")
    for kind, index in product(coupled, levels):
        yield partial(check_identity, kind, index=index)
    yield partial(check_identity, "data", controls=3)
    for controls, index in product((2, 3), levels):
        yield partial(check_blocks, controls, index=index)
    for index in levels:
        yield partial(check_blocks, background="empty caption", index=index)
        yield partial(check_blocks, background="partner's own", index=index)
    for kind in (*coupled, "modes"):
        yield partial(check_level_0, kind)
    for sigma in (0.3, 1.0, 3.0, 10.0):
        yield partial(check_covariance, sigma)
    for kind in coupled:
        yield partial(check_rate, kind)
        yield partial(check_high_levels, kind)
    yield partial(check_leading_term)
    for correlation in (0.1, 1 / 3, 0.8):
        yield partial(check_correlation, correlation)
        yield partial(check_correlation, correlation, "mean")
        yield partial(check_correlation, correlation, "weighted")
    for guidance in (1.0, 3.0, 7.5):
        yield partial(check_guidance, guidance)
    yield partial(check_guidance, 3.0, (1.0, 1.0))
    yield partial(check_guidance, control="exchanged weights")


def guided(
    empty: Denoiser, background: Denoiser, told: Sequence[Denoiser], guidance: float, weights: Sequence[float]
) -> Composed:
    """Return (1)'s denoiser; `weights` are of all models, that of model 1 first."""
    of_background = guidance * (1 - sum(weights))
    return compose(
        [empty, background, *told], [1 - guidance, of_background, *(guidance * weight for weight in weights)]
    )


def relative_gap(world: Models, sigma: float, samples: int = 400, seed: int = 0) -> tuple[float, float]:
    """Return |D_a - D|/|D_a - c_0|, and the same for the mean of the models' predictions, as AMDM has it.

    Both are ratios of root mean squares over the joint model's own latents at the level.
    """
    x = sampled(world.joint, samples, sigma, seed)
    gap, size = _gap(world, x, sigma)
    level = x.new_full((samples,), sigma)
    averaged = world.joint(x, level) - linear(world.told)(x, level)
    return _rms(gap) / size, _rms(averaged) / size


def _gap(world: Models, x: Latent, sigma: float, background: Denoiser | None = None) -> tuple[Latent, float]:
    """Return D_a - D with g = 1 and unit weights, and the root mean square of |D_a - c_0|."""
    level = x.new_full((len(x),), sigma)
    predicted = projective(background or world.caption, world.told)(x, level)
    joint = world.joint(x, level)
    return joint - predicted, _rms(joint - world.caption(x, level))


def _ratio_of_scores(world: Models, x: Latent, sigma: float) -> float:
    """Return the relative gap by the scores, |grad R|/|grad log p_sigma(a | x)|.

    It is defined at level 0 too, and more accurate.
    """
    joint, background = world.joint.score(x, sigma), world.caption.score(x, sigma)
    parts = torch.stack([model.score(x, sigma) - background for model in world.told]).sum(0)
    return _rms(joint - background - parts) / _rms(joint - background)


def _background(world: Models, background: Background) -> GaussianMixture:
    """Return the model that the partners' predictions are compared with."""
    return {"caption": world.caption, "empty caption": world.empty, "partner's own": world.other}[background]


def _rms(x: Tensor) -> float:
    """Return the root of the mean of |x|^2 over the rows."""
    return float(x.square().sum(1).mean().sqrt())


def _setting(kind: Kind, dependence: float, sigma: float, controls: int = 2) -> dict[str, float | int | str]:
    return {"kind": kind, "dependence": dependence, "sigma": sigma, "controls": controls}


def _zero(statement: str, claim: str, error: float, tolerance: float, samples: int, **more: Any) -> Record:
    """Return the record of a number that is claimed to be 0."""
    return Record(
        statement=f"Projective guidance, {statement}",
        claim=claim,
        sense="equal",
        claimed=0.0,
        **exactly(error)._asdict(),
        tolerance=tolerance,
        samples=samples,
        **more,
    )
