"""UniPC: a multistep predictor, and a corrector that reuses the next step's evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from torch import Tensor

from amdm.checks import check_choice, check_whole
from amdm.samplers.ddim import ddim_formula
from amdm.samplers.heun import check_deterministic
from amdm.samplers.march import At, Rule, Start, of_one_model
from amdm.samplers.multistep import log_flow_time, log_sigma, moment
from amdm.samplers.step import Step


class Predictions(NamedTuple):
    """The memory of UniPC: the number of steps, and the last levels and predictions, the latest first."""

    steps: int
    sigmas: tuple[float, ...] = ()
    denoised: tuple[Tensor, ...] = ()


@dataclass(frozen=True, kw_only=True)
class UniPC(Rule):
    """UniPC, the unified predictor-corrector, for predictions of x0: ComfyUI's `uni_pc`, diffusers' UniPC.

    The predictor integrates the polynomial through the last predictions. When the model has been called at
    the step's end, the corrector takes that prediction into the polynomial as well, and the next step begins
    from the corrected latent, which the model does not see. The correction is added to the latent: if
    another one came (an aggregation, `send`), that one is corrected by as much. The first and the last step
    are of first order.

    ComfyUI's function ends at 0.001 in the place of 0; for its result end the schedule so.

    Args:
        eta: must be 0: the method is deterministic.
        order: the number of predictions in a polynomial, 1 to 3. ComfyUI has 3, diffusers 2.
        variant: the paper's B(h), which matters where a polynomial has one unknown: "bh1" is h, "bh2" is
            e^h - 1. ComfyUI's `uni_pc_bh2` and diffusers have "bh2".

    Returns:
        A generator of `Step`s. Each step costs one model evaluation.

    Raises:
        TypeError, ValueError, FloatingPointError: as for `ddim`.

    References:
        Zhao et al. 2023, "UniPC", arXiv:2302.04867, algorithms 5 and 7, and appendix E.4 for coefficients.
    """

    eta: float = 0.0
    order: int = 3
    variant: Literal["bh1", "bh2"] = "bh1"

    @staticmethod
    def time(sigma: float) -> float:
        """Return the time in which predictions are extrapolated."""
        return log_sigma(sigma)

    def begin(self, xs: Sequence[Tensor], levels: Sequence[float], num_models: int) -> Start:
        """Check the options. The memory is empty but for the number of steps."""
        check_deterministic("UniPC", self.eta)
        check_whole(self.order, "order", "1, 2 or 3", lambda order: 1 <= order <= 3)
        check_choice(self.variant, "variant", ("bh1", "bh2"))
        return Start(self, xs[0], Predictions(len(levels) - 1))

    def restarted(self, memory: Predictions) -> Predictions:
        """Return the memory without its predictions."""
        return Predictions(memory.steps)

    def step(self, at: At, x: Tensor, memory: Predictions) -> tuple[Step, Predictions]:
        """Correct the latent with the prediction at it, then predict the next one."""
        denoised = at.denoise[0](x, at.sigma)
        corrected = self._corrected(at, x, denoised, memory)
        steps, sigmas, history = memory
        sigmas, history = (at.sigma, *sigmas)[: self.order], (denoised, *history)[: self.order]
        ahead = denoised
        if at.sigma_next > 0:
            order = min(len(history), steps - at.i)
            weights = self._weights((*sigmas[:order], at.sigma_next), known=False)
            ahead = denoised + _sum(weights, denoised, history[1:order])
        mean, std = ddim_formula(corrected, ahead, at.sigma, at.sigma_next, 0.0)
        return at.step(x, denoised, mean, std), Predictions(steps, sigmas, history)

    def _corrected(self, at: At, x: Tensor, denoised: Tensor, memory: Predictions) -> Tensor:
        """Return x and what the polynomial with the prediction at x changes in the step that led to x."""
        order = min(len(memory.denoised), memory.steps - at.i + 1)
        if order == 0:
            return x
        first, *others = memory.denoised[:order]
        levels = (*memory.sigmas[:order], at.sigma)
        after = _sum(self._weights(levels, known=True), first, [*others, denoised])
        before = _sum(self._weights(levels, known=False), first, others)
        return x + (1 - at.sigma / memory.sigmas[0]) * (after - before)

    def _weights(self, sigmas: Sequence[float], known: bool) -> list[float]:
        """Return the weights of D_i - D in the step's prediction, for levels from the latest to the next.

        They integrate polynomials through the predictions: at the levels but the next one, or also there if
        its prediction is `known`. Only polynomials of one unknown depend on the variant.
        """
        start, *times, end = (self.time(sigma) for sigma in sigmas)
        h = start - end
        places = [(start - time) / h for time in times] + ([1.0] if known else [])
        count = len(places)
        if count == 0:
            return []
        if len(sigmas) == (2 if known else 3):  # the paper's simplification, to second order
            total = h if self.variant == "bh1" else moment(0, h)
            parts = np.full(count, total / 2)
        else:
            powers = np.vander(np.array(places), count, increasing=True).T
            parts = np.linalg.solve(powers, [moment(k, h) for k in range(1, count + 1)])
        return [float(part) / (place * moment(0, h)) for part, place in zip(parts, places, strict=True)]


@dataclass(frozen=True, kw_only=True)
class UniPCFlow(UniPC):
    """UniPC in a rectified flow's own time: ComfyUI's `uni_pc` on a flow's model.

    As `uni_pc`, but polynomials are in log s, s = sigma/(1 + sigma), in place of log sigma.

    Args:
        eta: must be 0: the method is deterministic.
        order: the number of predictions in a polynomial, 1 to 3.
        variant: the paper's B(h), "bh1" or "bh2".

    Returns:
        A generator of `Step`s. Each step costs one model evaluation.

    Raises:
        TypeError, ValueError, FloatingPointError: as for `ddim`.

    References:
        Zhao et al. 2023, arXiv:2302.04867, with x_s in the place of x.
    """

    @staticmethod
    def time(sigma: float) -> float:
        """Return the time in which predictions are extrapolated."""
        return log_flow_time(sigma)


def _sum(weights: Sequence[float], denoised: Tensor, others: Sequence[Tensor]) -> Tensor:
    """Return sum_i weights_i (others_i - denoised)."""
    parts = [weight * (other - denoised) for weight, other in zip(weights, others, strict=True)]
    return sum(parts, start=denoised.new_zeros(()))


uni_pc, sample_uni_pc = of_one_model("uni_pc", UniPC)
uni_pc_flow, sample_uni_pc_flow = of_one_model("uni_pc_flow", UniPCFlow)
