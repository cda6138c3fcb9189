"""The exact denoiser of a finite set of data."""

from jaxtyping import Float
from torch import Tensor

from amdm.checks import check_floating
from amdm.denoisers.mixture import Level, beside, check_event, check_level
from amdm.geometry.rows import float64
from amdm.types import Latent


class Empirical:
    """The exact denoiser of finite data: E[x0 | x] where x0 is each entry of `data` with equal probability.

    A network that fits its training data without generalising predicts this.

    It computes in float64 and keeps a float64 copy of the data (on the CPU if the device of `x` has no
    float64).

    Args:
        data: `(size, *event)`, floating point.

    >>> import torch
    >>> model = Empirical(torch.tensor([[-1.0], [1.0]]))
    >>> model(torch.tensor([[0.0]]), torch.tensor([3.0]))
    tensor([[0.]])
    """

    def __init__(self, data: Float[Tensor, "size *event"]) -> None:
        check_floating(data, "data")
        if data.is_meta:
            raise ValueError("data is on the meta device, which has no values: expected finite samples")
        if data.ndim < 2 or len(data) == 0 or not bool(data.isfinite().all()):
            raise ValueError(f"data has shape {tuple(data.shape)}, expected one finite sample or more")
        self.data = data
        self._rows = float64(data.flatten(1))

    def __call__(self, x: Latent, sigma: Level) -> Latent:
        """Return the posterior mean at VE noise level `sigma`, a number or one per sample.

        At level 0 it is the nearest of the data.
        """
        check_event(x, self.data)
        check_level(sigma, x)
        rows = float64(x.flatten(1))
        data, noise = beside(self._rows, rows), beside(sigma, rows).reshape(-1, 1) ** 2
        noise = noise.clamp(min=1e-200)  # the limit at level 0, and not 0/0
        # |x|^2 is the same for all data and cancels in the softmax.
        logits = (rows @ data.mT - data.square().sum(1) / 2) / noise
        return (logits.softmax(dim=1) @ data).reshape(x.shape).to(x)
