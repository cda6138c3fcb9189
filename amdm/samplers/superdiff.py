"""SuperDiff: models superposed by the densities that are estimated along the way; OR and AND."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.checks import (
    check_count,
    check_finite,
    check_generator,
    check_latent,
    check_models,
    check_number,
)
from amdm.geometry.rows import as_rows
from amdm.samplers.loop import At, Move, march
from amdm.samplers.runner import Callback, run
from amdm.samplers.scores import divergence, log_normal, score, score_step
from amdm.types import Denoiser, ExtraArgs, Latent, NoiseSampler, Sigmas, Steps


class Superposition(NamedTuple):
    """`Step.record` of `superdiff`."""

    log_densities: Float[Tensor, "batch models"]
    """Estimates of log q_i at `x_next` and `sigma_next`, natural, float64; before the last step to 0, whose
    length is not small beside the densities' own, they are the better ones."""
    kappa: Float[Tensor, "batch models"]
    """The shares of the scores in this step, of sum 1."""


def superdiff(
    models: Sequence[Denoiser],
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | Sequence[ExtraArgs | None] | None = None,
    *,
    combine: Literal["or", "and"] = "and",
    temperature: float | None = None,
    weights: Sequence[float] | None = None,
    unconditional: Denoiser | None = None,
    guidance: float = 1.0,
    eta: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
    generator: torch.Generator | None = None,
    check: bool = False,
    validate: bool = True,
) -> Steps:
    """SuperDiff: a generator that weighs N scores by the densities q_i, estimated along the way.

    "or": the shares are softmax_i(T log q_i + log w_i), for T = 1 the score of the mixture. "and": they are
    such that the step changes all estimates alike, so that samples are where all densities are equal: with
    noise, the scores' circumcentre, the noise projected off their differences. Where the scores agree up to
    rounding, in a direction or in all, the shares there are equal ones.

    An estimate's error falls with the step: its standard deviation is about 1.3 / 0.6 / 0.25 nats after 50 /
    200 / 1000 Karras steps in one dimension, more in many. With "and" and eta > 0 the densities are equal by
    the estimates only: where the curvatures of the log-densities differ, the noise that is taken away would
    have told, and the true densities end a constant apart. eta = 0 has no such bias.

    Args:
        models: N denoisers sharing a latent space.
        x: `(batch, *event)` at `sigmas[0]`, VE; for "and" in float32 or better, since half precision rounds
            by more than scores differ.
        sigmas: `(steps + 1,)`, decreasing, finite, usually ending in 0.
        extra_args: passed to the models: one dictionary for all, or N; with `unconditional`, N + 1, its last.
        combine: "or", the union of what the models draw, or "and", what all of them draw.
        temperature: T of "or", 0 or more; None for 1. Large ones choose the likeliest model.
        weights: w of "or", N positive numbers of any sum; None for equal ones.
        unconditional: for guidance: S = s_u + guidance (sum_i kappa_i s_i - s_u). The densities stay those of
            the N models.
        guidance: the scale; 1 is none and needs no `unconditional`.
        eta: the share of fresh noise, 0 or more; 1 is the reverse SDE, 0 the probability flow. Other than 1,
            each model is also differentiated once a step, for its divergence.
        noise_sampler: `noise_sampler(sigma, sigma_next)`; None draws `randn_like(x)` as k-diffusion does.
        generator: for the divergences' random signs, on the CPU, the same for all models; None for the
            global one.
        check: look for NaN and infinity after every step, not only at the last one: a wait for the device
            each time.
        validate: tell likely mistakes, as `amdm` does.

    Returns:
        A generator of `Step`s with a `Superposition` as record. N evaluations a step, N + 1 with guidance. A
        `Restart` sets the estimates to those of pure noise.

    Raises:
        TypeError, ValueError: an argument is not as above; a model without gradients, if eta is not 1, or
            `torch.inference_mode()`.
        FloatingPointError: a model returned NaN or infinity: its index, the sample and the first step. It is
            raised at the last step; with `check` at the step itself.

    References:
        Skreta et al. 2025, "The superposition of diffusion models using the Ito density estimator",
        arXiv:2412.17762. "and" of more than two models, and eta between, are derived from the same condition.
    """
    check_latent(x)
    check_models(models)
    if combine not in ("or", "and"):
        raise ValueError(f"combine is {combine!r}, expected 'or' or 'and'")
    for name, option in (("temperature", temperature), ("weights", weights)):
        if option is not None and combine != "or":
            raise ValueError(f"{name} is {option}, expected none: combine is {combine!r}")
    if combine == "and" and x.dtype in (torch.float16, torch.bfloat16):
        raise ValueError(
            f"x is {x.dtype}, expected float32 or better for 'and': the scores' differences round off"
        )
    temperature = 1.0 if temperature is None else temperature
    check_number(temperature, "temperature", "a finite number of 0 or more", lambda value: value >= 0)
    weights = [1.0] * len(models) if weights is None else weights
    check_count(weights, len(models), "weights")
    for i, weight in enumerate(weights):
        check_number(weight, f"weights[{i}]", "a positive number", lambda weight: weight > 0)
    check_generator(generator)
    check_finite(guidance, "guidance")
    if guidance == 0 or (guidance != 1 and unconditional is None):
        raise ValueError(f"guidance is {guidance}, expected 1 or a scale other than 0 and `unconditional`")
    rule = partial(
        _rule,
        shares=partial(_union, temperature=float(temperature), log_weights=[math.log(w) for w in weights])
        if combine == "or"
        else _intersection,
        guidance=float(guidance),
        eta=float(eta),
        generator=generator,
        num_models=len(models),
    )
    every = [*models] if unconditional is None else [*models, unconditional]
    names = [*(f"models[{i}]" for i in range(len(models))), "unconditional"][: len(every)]
    return march(rule, every, x, sigmas, extra_args, eta, noise_sampler, names, check, validate)


def sample_superdiff(
    models: Sequence[Denoiser],
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | Sequence[ExtraArgs | None] | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    *,
    combine: Literal["or", "and"] = "and",
    temperature: float | None = None,
    weights: Sequence[float] | None = None,
    unconditional: Denoiser | None = None,
    guidance: float = 1.0,
    eta: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
    generator: torch.Generator | None = None,
    check: bool = False,
    validate: bool = True,
) -> Latent:
    """Run `superdiff`, which explains the arguments, and return the last latent.

    `callback` and `disable` are k-diffusion's.
    """
    steps = superdiff(
        models,
        x,
        sigmas,
        extra_args,
        combine=combine,
        temperature=temperature,
        weights=weights,
        unconditional=unconditional,
        guidance=guidance,
        eta=eta,
        noise_sampler=noise_sampler,
        generator=generator,
        check=check,
        validate=validate,
    )
    return run(steps, x, sigmas, callback, disable)


class _Now(NamedTuple):
    """What the shares of a step depend on; of N models, without the unconditional one."""

    log_densities: Float[Tensor, "batch models"]
    scores: Float[Tensor, "batch models n"]
    fixed: Float[Tensor, "batch n"]
    """The part of S that has no share: (1 - guidance) s_u."""
    guidance: float
    wanted: Float[Tensor, "batch models"]
    """s_i . S, up to a number common to all, for equal changes of all estimates."""
    rounding: Float[Tensor, " batch"]
    """A score's squared length that is nothing but rounding."""


def _rule(
    at: At,
    log_densities: Tensor | None,
    *,
    shares: Callable[[_Now], Tensor],
    guidance: float,
    eta: float,
    generator: torch.Generator | None,
    num_models: int,
) -> Move:
    factor, std = score_step(at.sigma, at.sigma_next, eta)
    delta = 2 * factor / (1 + eta**2)
    predictions, divergences = _evaluate(at, num_models, eta, generator)
    at.watch(predictions)
    every = torch.stack([score(at.x, each, at.sigma) for each in predictions], dim=1)
    scores, rest = every[:, :num_models], every[:, num_models:].sum(1)
    squares = scores.square().sum(2) + (1 - eta**2) * divergences
    noise = at.noise() if std > 0 else torch.zeros_like(at.x)
    z = as_rows(noise).double()
    along = torch.einsum("bmn,bn->bm", scores, z)
    if log_densities is None:
        # Of pure noise: all models' density at the first level, as far as the data are small beside it.
        log_densities = log_normal(as_rows(at.x).double(), at.sigma)[:, None].expand(-1, num_models)
    now = _Now(
        log_densities,
        scores,
        (1 - guidance) * rest,
        guidance,
        (squares - 2 * std / delta * along) / (1 + eta**2),
        (16 * torch.finfo(at.x.dtype).eps / at.sigma**2) ** 2 * as_rows(at.x).double().square().sum(1),
    )
    kappa = shares(now)
    total = now.fixed + guidance * torch.einsum("bm,bmn->bn", kappa, scores)
    moved = factor * total + std * z
    log_densities = log_densities + torch.einsum("bmn,bn->bm", scores, moved) - delta / 2 * squares
    mean = (as_rows(at.x).double() + factor * total).reshape(at.x.shape).to(at.x)
    denoised = at.x + (at.sigma**2 * total).reshape(at.x.shape).to(at.x)
    x_next = mean + std * noise if std > 0 else mean
    return Move(denoised, mean, std, log_densities, x_next, Superposition(log_densities, kappa))


def _evaluate(
    at: At, num_models: int, eta: float, generator: torch.Generator | None
) -> tuple[list[Tensor], Tensor]:
    """All predictions; and `(batch, models)` divergences of the scores, 0 where they are not needed."""
    if eta == 1:
        return at.denoise(at.x, at.sigma), at.x.new_zeros(len(at.x), num_models, dtype=torch.float64)
    if torch.is_inference_mode_enabled():
        raise ValueError(
            f"eta is {eta}, which needs the divergences of the scores, and torch.inference_mode() keeps no "
            "gradients: expected torch.no_grad() or no mode (eta = 1 needs none)"
        )
    signs = torch.randint(0, 2, at.x.shape, generator=generator)
    probe = (2 * signs - 1).to(at.x)
    with torch.enable_grad():
        x = at.x.detach().clone().requires_grad_()  # a clone may have gradients if x is of inference mode
        predictions = at.denoise(x, at.sigma)
        divergences = []
        for i, each in enumerate(predictions[:num_models]):
            found = divergence(each, x, probe, at.sigma)
            if found is None:
                raise ValueError(
                    f"models[{i}] returned a prediction without a gradient: eta is {eta}, which needs the "
                    "divergence of its score (eta = 1 does not)"
                )
            divergences.append(found)
    return [each.detach() for each in predictions], torch.stack(divergences, dim=1)


def _union(now: _Now, temperature: float, log_weights: list[float]) -> Tensor:
    return (temperature * now.log_densities + now.log_densities.new_tensor(log_weights)).softmax(1)


def _intersection(now: _Now) -> Tensor:
    """(s_i - s_j) . S = wanted_i - wanted_j for all i, j: the smallest such shares about equal ones."""
    count = now.scores.shape[1]
    middle = now.scores.mean(1, keepdim=True)
    apart = now.scores - middle
    wanted = now.wanted - now.wanted.mean(1, keepdim=True)
    equal = now.fixed + now.guidance * middle[:, 0]
    missing = wanted - torch.einsum("bmn,bn->bm", apart, equal)
    gram = apart @ apart.mT
    rtol = torch.full_like(now.rounding, 1e-10)
    inverse = torch.linalg.pinv(gram, atol=now.rounding, rtol=rtol, hermitian=True)
    return 1 / count + torch.einsum("bij,bj->bi", inverse, missing) / now.guidance
