"""Multistep methods: the predictions of earlier steps extrapolate, in log sigma or in a flow's own time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from amdm.samplers.ddim import ddim_formula, ddim_noise
from amdm.samplers.dpmpp import DPMpp2M, History
from amdm.samplers.heun import check_deterministic
from amdm.samplers.march import At, Rule, Start, of_one_model
from amdm.samplers.step import Step

# A prediction is made a polynomial of tau, the time since the step began, and integrated along the flow:
# x' = e^-h x + int_0^h e^-(h - tau) D(tau) d tau. A constant D gives D + e^-h (x - D), which is
# D + (sigma'/sigma) (x - D) in VE coordinates whether h is log(sigma/sigma') or, of x_s, log(s/s'). So the
# two times differ in the polynomial's weights alone.


def log_sigma(sigma: float) -> float:
    """Return the time of a VE multistep method."""
    return math.log(sigma)


def log_flow_time(sigma: float) -> float:
    """Return log s, the time of a multistep method on a flow, for s = sigma/(1 + sigma)."""
    return -math.log1p(1 / sigma)


def moment(k: int, h: float) -> float:
    """Return int_0^h e^-(h - tau) (tau/h)^k d tau, which is h k! phi_(k+1)(-h).

    >>> moment(0, 1.0) == -math.expm1(-1.0)
    True
    """
    if h < 1:  # the recursion cancels
        terms = [(-h) ** j * math.factorial(k) / math.factorial(j + k + 1) for j in range(18)]
        return h * math.fsum(terms)
    return -math.expm1(-h) if k == 0 else 1 - k / h * moment(k - 1, h)


class Slope(NamedTuple):
    """The memory of `res_multistep`: a step's prediction, and its length without the noise."""

    denoised: Tensor
    length: float


@dataclass(frozen=True, kw_only=True)
class ResMultistep(Rule):
    """The exponential multistep method of second order, ComfyUI's `res_multistep`.

    The line through the last two predictions is integrated exactly, where `dpmpp_2m` takes its middle:

        x' = x_1 + (h/h_previous) (1 - (1 - e^-h)/h) (D - D_previous),  h = log(sigma/sigma_next),

    x_1 being DDIM's step. The first step, and one that ends at 0, is DDIM's.

    Args:
        eta: DDIM's share of fresh noise; 0 is deterministic, 1 is ComfyUI's `res_multistep_ancestral`. h is
            then that of the step without its noise.

    Returns:
        A generator of `Step`s. Each step costs one model evaluation.

    Raises:
        TypeError, ValueError, FloatingPointError: as for `ddim`.

    References:
        Zhang, Chen 2023, "Improved order analysis and design of exponential integrator for diffusion models
        sampling", arXiv:2308.02157.
    """

    eta: float = 0.0

    @staticmethod
    def time(sigma: float) -> float:
        """Return the time in which predictions are extrapolated."""
        return log_sigma(sigma)

    def step(self, at: At, x: Tensor, memory: Slope | None) -> tuple[Step, Slope | None]:
        """Take one step along the line through the last two predictions."""
        denoised = at.denoise[0](x, at.sigma)
        std, sigma_down = ddim_noise(at.sigma, at.sigma_next, float(self.eta))
        if sigma_down == 0:  # nothing of x remains
            return at.step(x, denoised, denoised, std), None
        h, ahead = self.time(at.sigma) - self.time(sigma_down), denoised
        if memory is not None:
            weight = h / memory.length * moment(1, h) / moment(0, h)
            ahead = denoised + weight * (denoised - memory.denoised)
        mean, _ = ddim_formula(x, ahead, at.sigma, sigma_down, 0.0)
        return at.step(x, denoised, mean, std), Slope(denoised, h)


@dataclass(frozen=True, kw_only=True)
class ResMultistepFlow(ResMultistep):
    """`res_multistep` of a rectified flow: h is log(s/s_next), for the flow's time s = sigma/(1 + sigma).

    ComfyUI's `res_multistep` on a flow's model.

    Args:
        eta: must be 0: the method is deterministic.

    Returns:
        A generator of `Step`s. Each step costs one model evaluation.

    Raises:
        TypeError, ValueError, FloatingPointError: as for `ddim`.

    References:
        Zhang, Chen 2023, arXiv:2308.02157.
    """

    def begin(self, xs: Sequence[Tensor], levels: Sequence[float], num_models: int) -> Start:
        """Check the options; raise unless eta is 0."""
        check_deterministic("res_multistep_flow", self.eta)
        return super().begin(xs, levels, num_models)

    @staticmethod
    def time(sigma: float) -> float:
        """Return the time in which predictions are extrapolated."""
        return log_flow_time(sigma)


@dataclass(frozen=True, kw_only=True)
class DPMpp2MFlow(DPMpp2M):
    """DPM-Solver++(2M) in a rectified flow's own time: ComfyUI's `dpmpp_2m` on a flow's model.

    As `dpmpp_2m`, but predictions are extrapolated in log s, s = sigma/(1 + sigma), in place of log sigma.
    `dpmpp_2m_sde` needs no such form: ComfyUI takes its steps in log sigma on flows too.

    Args:
        eta: must be 0: the method is deterministic.

    Returns:
        A generator of `Step`s. Each step costs one model evaluation.

    Raises:
        TypeError, ValueError, FloatingPointError: as for `ddim`.

    References:
        Lu et al. 2022, "DPM-Solver++", arXiv:2211.01095, algorithm 2, with x_s in the place of x.
    """

    def begin(self, xs: Sequence[Tensor], levels: Sequence[float], num_models: int) -> Start:
        """Check the options; raise unless eta is 0."""
        check_deterministic("dpmpp_2m_flow", self.eta)
        return super().begin(xs, levels, num_models)

    def step(self, at: At, x: Tensor, memory: History | None) -> tuple[Step, History]:
        """Take one step with the last step's prediction, if there is one."""
        denoised, ahead, before = at.denoise[0](x, at.sigma), None, memory or History()
        if before.denoised is not None and before.sigma is not None and at.sigma_next > 0:
            past, now, then = (log_flow_time(s) for s in (before.sigma, at.sigma, at.sigma_next))
            ahead = denoised + (denoised - before.denoised) * ((now - then) / (2 * (past - now)))
        mean, std = ddim_formula(x, denoised if ahead is None else ahead, at.sigma, at.sigma_next, 0.0)
        return at.step(x, denoised, mean, std), History(at.sigma, denoised)


res_multistep, sample_res_multistep = of_one_model("res_multistep", ResMultistep)
res_multistep_flow, sample_res_multistep_flow = of_one_model("res_multistep_flow", ResMultistepFlow)
dpmpp_2m_flow, sample_dpmpp_2m_flow = of_one_model("dpmpp_2m_flow", DPMpp2MFlow)
