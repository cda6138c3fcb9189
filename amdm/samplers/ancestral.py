"""Ancestral steps: Euler's in a rectified flow's own time, and those that keep no noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from amdm.samplers.ddim import ddim_formula
from amdm.samplers.heun import check_eta_is_0
from amdm.samplers.march import At, Rule, Start, of_one_model
from amdm.samplers.step import Step


@dataclass(frozen=True, kw_only=True)
class EulerAncestralFlow(Rule):
    """Ancestral Euler steps in a rectified flow's own time: ComfyUI's `euler_ancestral` on a flow's model.

    With the flow's time s = sigma/(1 + sigma) the step goes down to

        s_down = s_next (1 - eta (1 - s_next/s))

    and back up to s_next by the flow's own kernel: x_s is scaled by (1 - s_next)/(1 - s_down), and noise
    makes up the variance. In VE coordinates that adds noise of the variance sigma_next^2 - sigma_down^2, as
    `ddim` does; with eta = 1 DDPM has sigma_down = sigma_next^2/sigma where this has s_down = s_next^2/s.

    Args:
        eta: the share of fresh noise: 0 is `ddim`, deterministic. Beyond 1/(1 - s_next/s), which takes
            s_down to 0, it has no further effect.

    Returns:
        A generator of `Step`s. Each step costs one model evaluation.

    Raises:
        TypeError, ValueError, FloatingPointError: as for `ddim`.

    References:
        Liu, Gong, Liu 2022, "Flow straight and fast", arXiv:2209.03003, for the path x_s.
    """

    eta: float = 1.0

    def step(self, at: At, x: Tensor, memory: None) -> tuple[Step, None]:
        """Go down to s_down, and up with noise."""
        denoised = at.denoise[0](x, at.sigma)
        sigma_down = flow_sigma_down(at.sigma, at.sigma_next, float(self.eta))
        std = math.sqrt((at.sigma_next - sigma_down) * (at.sigma_next + sigma_down))
        mean, _ = ddim_formula(x, denoised, at.sigma, sigma_down, 0.0)
        return at.step(x, denoised, mean, std), None


def flow_sigma_down(sigma: float, sigma_next: float, eta: float) -> float:
    """Return the level of the time s_down = s_next (1 - eta (1 - s_next/s)), at least 0."""
    if sigma_next == 0 or eta == 0:
        return sigma_next
    s, s_next = sigma / (1 + sigma), sigma_next / (1 + sigma_next)
    s_down = s_next * max(0.0, 1 - eta * (1 - s_next / s))
    return s_down / (1 - s_down)


@dataclass(frozen=True, kw_only=True)
class LCM(Rule):
    """Consistency sampling: each step is the prediction and fresh noise of the next level.

    ComfyUI's `lcm`, on flows too, and diffusers' stochastic sampling of flows. For models that predict in few
    steps: a consistency model's prediction is a sample. That of an ordinary denoiser is a mean, and this then
    draws too little variance. It is `ddim` with the largest eta. The step's mean is the prediction: `amdm`
    pulls toward that.

    Args:
        eta: must be 0: there is no share to choose, all of the noise is fresh.

    Returns:
        A generator of `Step`s. Each step costs one model evaluation.

    Raises:
        TypeError, ValueError, FloatingPointError: as for `ddim`.

    References:
        Luo et al. 2023, "Latent consistency models", arXiv:2310.04378, algorithm 3; Song et al. 2023,
        "Consistency models", arXiv:2303.01469, algorithm 1.
    """

    eta: float = 0.0

    def begin(self, xs: Sequence[Tensor], levels: Sequence[float], num_models: int) -> Start:
        """Check the options; raise unless eta is 0."""
        check_eta_is_0(self.eta, "lcm draws all of its noise anew, whatever eta")
        return super().begin(xs, levels, num_models)

    def step(self, at: At, x: Tensor, memory: None) -> tuple[Step, None]:
        """Go to the prediction, and up with noise."""
        denoised = at.denoise[0](x, at.sigma)
        return at.step(x, denoised, denoised, at.sigma_next), None


euler_ancestral_flow, sample_euler_ancestral_flow = of_one_model("euler_ancestral_flow", EulerAncestralFlow)
lcm, sample_lcm = of_one_model("lcm", LCM)
