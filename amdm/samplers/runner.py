"""From a generator of steps to k-diffusion's kind of function."""

from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from torch import Tensor
from tqdm.auto import tqdm

from amdm.types import Steps

Callback = Callable[[Mapping[str, Any]], object]
"""Gets k-diffusion's keys x, i, sigma, sigma_hat and denoised, and the whole `Step` as step."""


def run(steps: Steps, x: Tensor, sigmas: Tensor, callback: Callback | None, disable: bool | None) -> Tensor:
    """Run a sampler to its end with k-diffusion's progress bar and callback, and return the last latent.

    `x` is returned as it is if there is no step. `disable=None` shows the bar on a terminal only.
    """
    with closing(steps):
        for step in tqdm(steps, total=len(sigmas) - 1, disable=disable):
            x = step.x_next
            if callback is not None:
                sigma = sigmas[step.index]
                callback(
                    {
                        "x": step.x,
                        "i": step.index,
                        "sigma": sigma,
                        "sigma_hat": sigma,
                        "denoised": step.denoised,
                        "step": step,
                    }
                )
    return x
