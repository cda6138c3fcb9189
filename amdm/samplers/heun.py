"""Heun's method on the probability flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from amdm.checks import as_number, as_step
from amdm.geometry.rows import check_alike
from amdm.samplers.ddim import Level, ddim_formula
from amdm.samplers.march import At, Rule, Start, of_one_model
from amdm.samplers.step import Step
from amdm.schedules import check_no_infinite_level
from amdm.types import Latent


def heun_step(
    x: Latent, denoised: Latent, euler: Latent, denoised_euler: Latent, sigma: Level, sigma_next: Level
) -> Latent:
    """Return the next latent by Heun's second-order step: the trapezoidal rule over `x` and `euler`.

    Args:
        x: `(batch, *event)`, the latent at `sigma`, VE.
        denoised: the prediction at `x`.
        euler: `ddim_step(x, denoised, sigma, sigma_next)`.
        denoised_euler: the prediction at `euler`.
        sigma: the level of `x`, positive.
        sigma_next: the level to go to, in (0, sigma).

    Returns:
        The next latent `(batch, *event)`. The step is deterministic.

    References:
        Karras et al. 2022, "Elucidating the design space", arXiv:2206.00364, algorithm 1.
    """
    check_alike(x, denoised=denoised, euler=euler, denoised_euler=denoised_euler)
    sigma, sigma_next, _ = as_step(sigma, sigma_next)
    if sigma_next == 0:
        raise ValueError("sigma_next is 0, expected more than 0: at 0 Heun's step is Euler's")
    return heun_formula(x, denoised, euler, denoised_euler, sigma, sigma_next)


def heun_formula(
    x: Latent, denoised: Latent, euler: Latent, denoised_euler: Latent, sigma: float, sigma_next: float
) -> Latent:
    """Return `heun_step` without its checks, which the loop has made."""
    slope = (x - denoised) / sigma + (euler - denoised_euler) / sigma_next
    return x + (sigma_next - sigma) / 2 * slope


@dataclass(frozen=True, kw_only=True)
class Heun(Rule):
    """Heun's method on the probability flow: k-diffusion's `sample_heun` without churn.

    Args:
        eta: must be 0: the method is deterministic.

    Returns:
        A generator of `Step`s. Each step costs two evaluations, or one if it ends at 0.

    Raises:
        TypeError, ValueError, FloatingPointError: as for `ddim`; ValueError also for a schedule that begins
            at the level that stands for an infinite one (flows, zero terminal SNR).
    """

    eta: float = 0.0

    def begin(self, xs: Sequence[Tensor], levels: Sequence[float], num_models: int) -> Start:
        """Check the options; raise if eta is not 0 or the first level stands for infinity."""
        check_deterministic("heun", self.eta)
        check_no_infinite_level(levels, "heun")
        return super().begin(xs, levels, num_models)

    @property
    def holds_slope(self) -> bool:
        """Return True: Heun's method makes its slope before the callback."""
        return True

    def step(self, at: At, x: Tensor, memory: None) -> tuple[Step, None]:
        """Take Euler's step, corrected by the slope at its end."""
        denoised = at.denoise[0](x, at.sigma)
        mean, std = ddim_formula(x, denoised, at.sigma, at.sigma_next, 0.0)
        if at.sigma_next > 0:
            denoised_euler = at.denoise[0](mean, at.sigma_next)
            mean = heun_formula(x, denoised, mean, denoised_euler, at.sigma, at.sigma_next)
        return at.step(x, denoised, mean, std), None


@dataclass(frozen=True, kw_only=True)
class HeunFlow(Rule):
    """Heun's method in a rectified flow's own time: ComfyUI's `heun` on a flow's model.

    The slopes are those of x_s = x/(1 + sigma) in s = sigma/(1 + sigma), the velocities. They are finite at
    s = 1: this method begins there, which `heun` cannot.

    Args:
        eta: must be 0: the method is deterministic.

    Returns:
        A generator of `Step`s. Each step costs two evaluations, or one if it ends at 0.

    Raises:
        TypeError, ValueError, FloatingPointError: as for `ddim`.

    References:
        Karras et al. 2022, arXiv:2206.00364, algorithm 1, with x_s in the place of x.
    """

    eta: float = 0.0

    def begin(self, xs: Sequence[Tensor], levels: Sequence[float], num_models: int) -> Start:
        """Check the options; raise unless eta is 0."""
        check_deterministic("heun_flow", self.eta)
        return super().begin(xs, levels, num_models)

    def step(self, at: At, x: Tensor, memory: None) -> tuple[Step, None]:
        """Take Euler's step, corrected by the velocity at its end."""
        denoised = at.denoise[0](x, at.sigma)
        mean, std = ddim_formula(x, denoised, at.sigma, at.sigma_next, 0.0)
        if at.sigma_next > 0:
            denoised_euler = at.denoise[0](mean, at.sigma_next)
            here, there = 1 + at.sigma, 1 + at.sigma_next
            times = at.sigma / here, at.sigma_next / there
            mean = there * heun_formula(x / here, denoised, mean / there, denoised_euler, *times)
        return at.step(x, denoised, mean, std), None


def check_deterministic(name: str, eta: float) -> None:
    """Raise unless `eta` is 0."""
    check_eta_is_0(eta, f"{name} is deterministic")


def check_eta_is_0(eta: float, why: str) -> None:
    """Raise unless `eta` is 0, and say why it must be."""
    if as_number(eta, "eta", f"0: {why}") != 0:
        raise ValueError(f"eta is {eta}, expected 0: {why}")


heun, sample_heun = of_one_model("heun", Heun)
heun_flow, sample_heun_flow = of_one_model("heun_flow", HeunFlow)
