"""The samplers of one model: one loop, and what each of them does in a step.

Bare names are generators that yield a `Step` after every step. `send(x)` replaces the step's `x_next`;
`send(Restart(x))` also forgets a multistep sampler's history. `sample_<name>` runs one to its end as
k-diffusion's function of that name does.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from amdm.checks import (
    check_callable,
    check_eta,
    check_extra_args,
    check_latent,
    check_sigmas,
    checked,
)
from amdm.samplers.noise import default_noise
from amdm.samplers.runner import Callback, run
from amdm.samplers.steps import ddim_step, dpmpp_2m_step, heun_step
from amdm.types import Denoiser, ExtraArgs, Latent, NoiseSampler, Restart, Sigmas, Step, Steps

Denoise = Callable[[Tensor, float], Tensor]


class History(NamedTuple):
    """What a two-step method remembers: the last level and the prediction there."""

    sigma: float
    denoised: Tensor


class Move(NamedTuple):
    """One step's result: what the model said, the law of the next latent, what to remember."""

    denoised: Tensor
    mean: Tensor
    std: float
    history: History | None = None


Rule = Callable[[Denoise, Tensor, float, float, History | None], Move]
"""How a sampler moves from one level to the next: (denoise, x, sigma, sigma_next, history) -> Move."""


def ddim(
    model: Denoiser,
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | None = None,
    *,
    eta: float = 0.0,
    noise_sampler: NoiseSampler | None = None,
) -> Steps:
    """DDIM, eq. (4): k-diffusion's `sample_euler` for eta = 0, `sample_euler_ancestral` for eta > 0.

    Args:
        model: `model(x, sigma, **extra_args) -> denoised`, with `sigma` of shape `(batch,)`.
        x: `(batch, *event)`, the latent at `sigmas[0]`, VE.
        sigmas: `(steps + 1,)`, decreasing, finite, usually ending in 0.
        extra_args: passed to every call of the model.
        eta: DDIM's share of fresh noise; 0 is deterministic and draws nothing.
        noise_sampler: `noise_sampler(sigma, sigma_next)`; None draws `randn_like(x)` as k-diffusion does.

    Returns:
        A generator of `Step`s. One model evaluation a step.

    Raises:
        TypeError: x or sigmas is no floating-point tensor, extra_args no mapping, the model not callable.
        ValueError: shapes, schedule or eta are not as above; later, if the model or the noise has another
            shape.
    """
    return _march(partial(_ddim_rule, eta=eta), model, x, sigmas, extra_args, eta, noise_sampler)


def heun(
    model: Denoiser,
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | None = None,
    *,
    eta: float = 0.0,
    noise_sampler: NoiseSampler | None = None,
) -> Steps:
    """Heun's method on the probability flow: k-diffusion's `sample_heun` without churn.

    Arguments, result and errors as for `ddim`; it is deterministic, so eta must be 0. Two evaluations a
    step, one where the step ends at 0.
    """
    _check_deterministic("heun", eta)
    return _march(_heun_rule, model, x, sigmas, extra_args, eta, noise_sampler)


def dpmpp_2m(
    model: Denoiser,
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | None = None,
    *,
    eta: float = 0.0,
    noise_sampler: NoiseSampler | None = None,
) -> Steps:
    """DPM-Solver++(2M): k-diffusion's `sample_dpmpp_2m`, second order at one evaluation a step.

    Arguments, result and errors as for `ddim`; it is deterministic, so eta must be 0.
    """
    _check_deterministic("dpmpp_2m", eta)
    return _march(partial(_dpmpp_2m_rule, eta=0.0), model, x, sigmas, extra_args, eta, noise_sampler)


def dpmpp_2m_sde(
    model: Denoiser,
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | None = None,
    *,
    eta: float = 1.0,
    noise_sampler: NoiseSampler | None = None,
) -> Steps:
    """DPM-Solver++(2M) SDE: k-diffusion's `sample_dpmpp_2m_sde` with the midpoint rule.

    Arguments, result and errors as for `ddim`; eta is the SDE's own (1 is the reverse SDE, 0 is
    `dpmpp_2m`). `noise_sampler=None` draws independent noise for every step: in law what k-diffusion's
    default, a Brownian tree, gives; to get the tree's draws pass its `BrownianTreeNoiseSampler`.
    """
    return _march(partial(_dpmpp_2m_rule, eta=eta), model, x, sigmas, extra_args, eta, noise_sampler)


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
) -> Latent:
    """Run `ddim` and return the last latent. `callback` and `disable` are k-diffusion's."""
    return run(
        ddim(model, x, sigmas, extra_args, eta=eta, noise_sampler=noise_sampler), x, sigmas, callback, disable
    )


def sample_heun(
    model: Denoiser,
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
) -> Latent:
    """Run `heun` and return the last latent. `callback` and `disable` are k-diffusion's."""
    return run(heun(model, x, sigmas, extra_args), x, sigmas, callback, disable)


def sample_dpmpp_2m(
    model: Denoiser,
    x: Latent,
    sigmas: Sigmas,
    extra_args: ExtraArgs | None = None,
    callback: Callback | None = None,
    disable: bool | None = None,
) -> Latent:
    """Run `dpmpp_2m` and return the last latent. `callback` and `disable` are k-diffusion's."""
    return run(dpmpp_2m(model, x, sigmas, extra_args), x, sigmas, callback, disable)


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
) -> Latent:
    """Run `dpmpp_2m_sde` and return the last latent. `callback` and `disable` are k-diffusion's."""
    steps = dpmpp_2m_sde(model, x, sigmas, extra_args, eta=eta, noise_sampler=noise_sampler)
    return run(steps, x, sigmas, callback, disable)


def _ddim_rule(
    denoise: Denoise, x: Tensor, sigma: float, sigma_next: float, history: History | None, *, eta: float
) -> Move:
    denoised = denoise(x, sigma)
    return Move(denoised, *ddim_step(x, denoised, sigma, sigma_next, eta))


def _heun_rule(denoise: Denoise, x: Tensor, sigma: float, sigma_next: float, history: History | None) -> Move:
    denoised = denoise(x, sigma)
    euler, std = ddim_step(x, denoised, sigma, sigma_next)
    if sigma_next == 0:
        return Move(denoised, euler, std)
    return Move(denoised, heun_step(x, denoised, euler, denoise(euler, sigma_next), sigma, sigma_next), std)


def _dpmpp_2m_rule(
    denoise: Denoise, x: Tensor, sigma: float, sigma_next: float, history: History | None, *, eta: float
) -> Move:
    denoised = denoise(x, sigma)
    sigma_previous, previous = history or (None, None)
    mean, std = dpmpp_2m_step(x, denoised, previous, sigma, sigma_next, sigma_previous, eta)
    return Move(denoised, mean, std, History(sigma, denoised))


def _march(
    rule: Rule,
    model: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    extra_args: ExtraArgs | None,
    eta: float,
    noise_sampler: NoiseSampler | None,
) -> Steps:
    """Check the arguments at the call; the loop then trusts them."""
    check_latent(x)
    levels = check_sigmas(sigmas)
    check_eta(eta)
    check_extra_args(extra_args)
    noise_sampler = default_noise(x) if noise_sampler is None else noise_sampler
    check_callable(noise_sampler, "noise_sampler", "noise_sampler(sigma, sigma_next)")
    call = partial(checked(model, "model"), **(extra_args or {}))
    return _loop(rule, call, x, sigmas, levels, noise_sampler)


@torch.no_grad()
def _loop(
    rule: Rule, call: Denoiser, x: Tensor, sigmas: Tensor, levels: list[float], noise_sampler: NoiseSampler
) -> Steps:
    def denoise(x: Tensor, sigma: float) -> Tensor:
        return call(x, x.new_full((x.shape[0],), sigma))

    history = None
    for index, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised, mean, std, history = rule(denoise, x, sigma, sigma_next, history)
        x_next = mean
        if std > 0:
            noise = noise_sampler(sigmas[index], sigmas[index + 1])
            if noise.shape != x.shape:
                raise ValueError(
                    f"noise_sampler returned shape {tuple(noise.shape)}, expected x's: {tuple(x.shape)}"
                )
            x_next = mean + std * noise.to(x)
        sent = yield Step(index, sigma, sigma_next, x, denoised, mean, std, x_next)
        if isinstance(sent, Restart):
            sent, history = sent.x, None
        if sent is not None and sent.shape != x.shape:
            raise ValueError(f"sent a latent of shape {tuple(sent.shape)}, expected {tuple(x.shape)}")
        x = x_next if sent is None else sent


def _check_deterministic(name: str, eta: float) -> None:
    if eta != 0:
        raise ValueError(f"eta is {eta}, expected 0: {name} is deterministic")
