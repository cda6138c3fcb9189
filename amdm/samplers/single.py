"""The samplers of one model: what each of them does in a step.

Bare names are generators that yield a `Step` after every step. `send(x)` replaces the step's `x_next`;
`send(Restart(x))` also forgets a multistep sampler's history. `sample_<name>` runs one to its end as
k-diffusion's function of that name does.
"""

from functools import partial
from typing import NamedTuple

from torch import Tensor

from amdm.checks import check_extra_args
from amdm.samplers.loop import At, Move, Rule, march
from amdm.samplers.runner import Callback, run
from amdm.samplers.steps import ddim_step, dpmpp_2m_step, heun_step
from amdm.types import Denoiser, ExtraArgs, Latent, NoiseSampler, Sigmas, Steps


class History(NamedTuple):
    """What a two-step method remembers: the last level and the prediction there."""

    sigma: float
    denoised: Tensor


def ddim(
    model: Denoiser,
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | None = None,
    *,
    eta: float = 0.0,
    noise_sampler: NoiseSampler | None = None,
    validate: bool = True,
) -> Steps:
    """DDIM, eq. (4): k-diffusion's `sample_euler` for eta = 0, `sample_euler_ancestral` for eta > 0.

    Args:
        model: `model(x, sigma, **extra_args) -> denoised`, with `sigma` of shape `(batch,)`.
        x: `(batch, *event)`, the latent at `sigmas[0]`, VE.
        sigmas: `(steps + 1,)`, decreasing, finite, usually ending in 0.
        extra_args: passed to every call of the model.
        eta: DDIM's share of fresh noise; 0 is deterministic and draws nothing.
        noise_sampler: `noise_sampler(sigma, sigma_next)`; None draws `randn_like(x)` as k-diffusion does.
        validate: tell likely mistakes, as `amdm` does.

    Returns:
        A generator of `Step`s. One model evaluation a step, and no wait for the device but one at the last
        step, where `validate` reads.

    Raises:
        TypeError: x or sigmas is no floating-point tensor, extra_args no mapping, the model not callable.
        ValueError: shapes, schedule or eta are not as above, or a level is outside the model's range;
            later, if the model or the noise has another shape.
    """
    return _one(partial(_ddim_rule, eta=eta), model, x, sigmas, extra_args, eta, noise_sampler, validate)


def heun(
    model: Denoiser,
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | None = None,
    *,
    eta: float = 0.0,
    noise_sampler: NoiseSampler | None = None,
    validate: bool = True,
) -> Steps:
    """Heun's method on the probability flow: k-diffusion's `sample_heun` without churn.

    Arguments, result and errors as for `ddim`; it is deterministic, so eta must be 0. Two evaluations a
    step, one where the step ends at 0.
    """
    _check_deterministic("heun", eta)
    return _one(_heun_rule, model, x, sigmas, extra_args, eta, noise_sampler, validate)


def dpmpp_2m(
    model: Denoiser,
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | None = None,
    *,
    eta: float = 0.0,
    noise_sampler: NoiseSampler | None = None,
    validate: bool = True,
) -> Steps:
    """DPM-Solver++(2M): k-diffusion's `sample_dpmpp_2m`, second order at one evaluation a step.

    Arguments, result and errors as for `ddim`; it is deterministic, so eta must be 0.
    """
    _check_deterministic("dpmpp_2m", eta)
    return _one(partial(_dpmpp_2m_rule, eta=0.0), model, x, sigmas, extra_args, eta, noise_sampler, validate)


def dpmpp_2m_sde(
    model: Denoiser,
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | None = None,
    *,
    eta: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
    validate: bool = True,
) -> Steps:
    """DPM-Solver++(2M) SDE: k-diffusion's `sample_dpmpp_2m_sde` with the midpoint rule.

    Arguments, result and errors as for `ddim`; eta is the SDE's own (1 is the reverse SDE, 0 is
    `dpmpp_2m`). `noise_sampler=None` draws independent noise for every step: in law what k-diffusion's
    default, a Brownian tree, gives; to get the tree's draws pass its `BrownianTreeNoiseSampler`.
    """
    return _one(partial(_dpmpp_2m_rule, eta=eta), model, x, sigmas, extra_args, eta, noise_sampler, validate)


def sample_ddim(
    model: Denoiser,
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    *,
    eta: float = 0.0,
    noise_sampler: NoiseSampler | None = None,
    validate: bool = True,
) -> Latent:
    """Run `ddim`, which explains the arguments, and return the last latent.

    `callback` and `disable` are k-diffusion's.
    """
    steps = ddim(model, x, sigmas, extra_args, eta=eta, noise_sampler=noise_sampler, validate=validate)
    return run(steps, x, sigmas, callback, disable)


def sample_heun(
    model: Denoiser,
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    *,
    validate: bool = True,
) -> Latent:
    """Run `heun`, which explains the arguments, and return the last latent.

    `callback` and `disable` are k-diffusion's.
    """
    return run(heun(model, x, sigmas, extra_args, validate=validate), x, sigmas, callback, disable)


def sample_dpmpp_2m(
    model: Denoiser,
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    *,
    validate: bool = True,
) -> Latent:
    """Run `dpmpp_2m`, which explains the arguments, and return the last latent.

    `callback` and `disable` are k-diffusion's.
    """
    return run(dpmpp_2m(model, x, sigmas, extra_args, validate=validate), x, sigmas, callback, disable)


def sample_dpmpp_2m_sde(
    model: Denoiser,
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
    *,
    eta: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
    validate: bool = True,
) -> Latent:
    """Run `dpmpp_2m_sde`, which explains the arguments, and return the last latent.

    `callback` and `disable` are k-diffusion's.
    """
    steps = dpmpp_2m_sde(
        model, x, sigmas, extra_args, eta=eta, noise_sampler=noise_sampler, validate=validate
    )
    return run(steps, x, sigmas, callback, disable)


def _ddim_rule(at: At, history: None, *, eta: float) -> Move:
    (denoised,) = at.denoise(at.x, at.sigma)
    return Move(denoised, *ddim_step(at.x, denoised, at.sigma, at.sigma_next, eta))


def _heun_rule(at: At, history: None) -> Move:
    (denoised,) = at.denoise(at.x, at.sigma)
    mean, std = ddim_step(at.x, denoised, at.sigma, at.sigma_next)
    if at.sigma_next > 0:
        (denoised_euler,) = at.denoise(mean, at.sigma_next)
        mean = heun_step(at.x, denoised, mean, denoised_euler, at.sigma, at.sigma_next)
    return Move(denoised, mean, std)


def _dpmpp_2m_rule(at: At, history: History | None, *, eta: float) -> Move:
    (denoised,) = at.denoise(at.x, at.sigma)
    sigma_previous, previous = history or (None, None)
    mean, std = dpmpp_2m_step(at.x, denoised, previous, at.sigma, at.sigma_next, sigma_previous, eta)
    return Move(denoised, mean, std, History(at.sigma, denoised))


def _one(
    rule: Rule,
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    extra_args: ExtraArgs | None,
    eta: float,
    noise_sampler: NoiseSampler | None,
    validate: bool,
) -> Steps:
    check_extra_args(extra_args)
    return march(rule, [model], x, sigmas, [extra_args], eta, noise_sampler, ["model"], validate=validate)


def _check_deterministic(name: str, eta: float) -> None:
    if eta != 0:
        raise ValueError(f"eta is {eta}, expected 0: {name} is deterministic")
