"""The exact denoiser of a finite set of data."""

import torch
from jaxtyping import Float
from torch import Tensor

from amdm.denoisers.mixture import Level, check_event
from amdm.types import Latent


class Empirical:
    """E[x0 | x] when x0 is one of the `data`, each equally likely: what a network fits without generalising.

    Args:
        data: `(size, *event)`, floating point.

    >>> model = Empirical(torch.tensor([[-1.0], [1.0]]))
    >>> model(torch.tensor([[0.0]]), torch.tensor([3.0]))
    tensor([[0.]])
    """

    def __init__(self, data: Float[Tensor, "size *event"]) -> None:
        if len(data) == 0 or not bool(data.isfinite().all()):
            raise ValueError(f"data has shape {tuple(data.shape)}, expected one finite sample or more")
        self.data = data

    def __call__(self, x: Latent, sigma: Level) -> Latent:
        """Return the posterior mean at VE noise level `sigma` > 0, a number or one per sample."""
        check_event(x, self.data)
        dtype = torch.promote_types(x.dtype, self.data.dtype)
        data, rows = self.data.flatten(1).to(x.device, dtype), x.flatten(1).to(dtype)
        noise = torch.as_tensor(sigma, dtype=dtype, device=x.device).reshape(-1, 1) ** 2
        # |x|^2 is the same for all data and cancels in the softmax.
        logits = (rows @ data.mT - data.square().sum(1) / 2) / noise
        return (logits.softmax(dim=1) @ data).reshape(x.shape).to(x.dtype)
