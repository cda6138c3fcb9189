"""Coefficients that turn a network's prediction into a denoised prediction."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from amdm.checks import check_floating

Prediction = Literal["epsilon", "v_prediction", "sample", "flow"]


class Scaling(NamedTuple):
    """denoised = c_skip x + c_out F(c_in x): the form of Karras et al. 2022, eq. (7)."""

    c_in: Tensor
    c_skip: Tensor
    c_out: Tensor


def scaling(prediction: Prediction, sigma: Tensor) -> Scaling:
    """Return the coefficients for a network F of this kind of prediction, in VE coordinates.

    The network sees VP latents, x/sqrt(1 + sigma^2); a flow's network sees x_s = (1 - s) x0 + s noise, which
    is x/(1 + sigma).
    """
    check_floating(sigma, "sigma")
    c_in = (1 + sigma.square()).rsqrt()
    match prediction if isinstance(prediction, str) else None:
        case "epsilon":
            return Scaling(c_in, torch.ones_like(sigma), -sigma)
        case "v_prediction":
            return Scaling(c_in, c_in.square(), -sigma * c_in)
        case "sample":
            return Scaling(c_in, torch.zeros_like(sigma), torch.ones_like(sigma))
        case "flow":
            c_in = 1 / (1 + sigma)
            return Scaling(c_in, c_in, -sigma * c_in)
    raise ValueError(f"prediction is {prediction!r}, expected epsilon, v_prediction, sample or flow")
