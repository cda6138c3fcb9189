"""Two halves of a ring in the plane: densities that are known exactly, networks trained on them, metrics."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from amdm.denoisers import GaussianMixture
from amdm.samplers.scores import LogDensity
from amdm.types import Denoiser, PerSample

RADIUS, STD = 0.5, 0.03
SIGMA_MIN, SIGMA_MAX = 0.002, 10.0
STEPS, BATCH, RATE, EMA = 4000, 500, 1e-3, 0.999
Points = Float[Tensor, "samples 2"]


def ring(modes: Sequence[int] = range(8)) -> GaussianMixture:
    """Return a mixture of normal deviations from some of eight evenly spaced points of a circle, float64."""
    angles = torch.tensor([math.pi * k / 4 for k in modes], dtype=torch.float64)
    means = RADIUS * torch.stack([angles.cos(), angles.sin()], 1)
    return GaussianMixture(means, torch.full((len(means),), STD**2, dtype=torch.float64))


WHOLE, UPPER, LOWER = ring(), ring(range(4)), ring(range(4, 8))


class Mlp(nn.Module):
    """A network like Du et al.'s for the plane: four residual blocks of width 128, conditioned on the level.

    It differs in three ways: one embedding of log sigma and its square for all blocks replaces a learned one
    of 100 steps, no layers begin at 0, and there are 4,000 batches of 500 training samples, not 15,001 of
    1,000.
    """

    def __init__(self, width: int = 128, hidden: int = 256, embedding: int = 32, blocks: int = 4) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, width), nn.Linear(width, 2)
        self.level = nn.Sequential(nn.Linear(2, embedding), nn.SiLU(), nn.Linear(embedding, hidden))
        self.into = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, hidden)) for _ in range(blocks)
        )
        self.out = nn.ModuleList(nn.Sequential(nn.SiLU(), nn.Linear(hidden, width)) for _ in range(blocks))

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Return the noise in the scaled `x`; `level` is log sigma."""
        h, embedded = self.first(x), self.level(torch.stack([level / 4, (level / 4) ** 2], 1))
        for into, out in zip(self.into, self.out, strict=True):
            h = h + out(into(h) + embedded)
        predicted: Tensor = self.last(h)
        return predicted


@dataclass(frozen=True)
class NoiseNetwork:
    """A network that predicts noise as `model(x, sigma) -> denoised`, float64 outside."""

    network: nn.Module

    def __call__(self, x: Points, sigma: PerSample) -> Points:
        """Return the denoised points."""
        level = sigma[:, None]
        eps: Tensor = self.network((x / (1 + level**2).sqrt()).float(), sigma.log().float())
        return x - level * eps.to(x.dtype)


def union(models: Sequence[Denoiser], log_densities: Sequence[LogDensity]) -> tuple[Denoiser, LogDensity]:
    """Return the denoiser and the log-density of densities' mean, composed of theirs at every level.

    The mean's score is the weighted mean of its parts' scores, by their shares of the density.
    """

    def logs(x: Points, sigma: PerSample) -> Tensor:
        return torch.stack([log_density(x, sigma) for log_density in log_densities])

    def denoise(x: Points, sigma: PerSample) -> Points:
        shares = logs(x, sigma).softmax(0)[..., None]
        return (shares * torch.stack([model(x, sigma) for model in models])).sum(0)

    def log_density(x: Points, sigma: PerSample) -> PerSample:
        return logs(x, sigma).logsumexp(0) - math.log(len(log_densities))

    return denoise, log_density


def train(density: GaussianMixture, seed: int, *, steps: int = STEPS, quiet: bool = False) -> NoiseNetwork:
    """Return a network trained on samples of a density, at evenly spaced log levels; weights are averaged."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = NoiseNetwork(Mlp())
    averaged = copy.deepcopy(model.network).requires_grad_(False)
    optimizer = torch.optim.Adam(model.network.parameters(), RATE)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    g = torch.Generator().manual_seed(seed)
    low, high = math.log(SIGMA_MIN), math.log(SIGMA_MAX)
    for step in tqdm(range(steps), desc="training in the plane", unit="step", disable=quiet):
        clean = density.sample(BATCH, generator=g)
        sigma = (low + (high - low) * torch.rand(BATCH, generator=g, dtype=torch.float64)).exp()
        noise = torch.randn(BATCH, 2, generator=g, dtype=torch.float64)
        x = clean + sigma[:, None] * noise
        loss = ((x - model(x, sigma)) / sigma[:, None] - noise).square().mean()
        torch.autograd.backward(loss)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        keep = min(EMA, step / (step + 10))  # the first weights are soon forgotten
        for mean, value in zip(averaged.parameters(), model.network.parameters(), strict=True):
            mean.lerp_(value.detach(), 1 - keep)
    return NoiseNetwork(averaged)


def mmd(x: Points, y: Points, bandwidth: float) -> tuple[float, float]:
    """Return the squared MMD with the kernel exp(-|x - y|^2/(2 bandwidth^2)): biased and unbiased.

    References:
        Gretton et al. 2012, "A kernel two-sample test", eqs. (5) and (3).
    """
    xx, yy, xy = (
        torch.cdist(a, b).square().div(-2 * bandwidth**2).exp() for a, b in ((x, x), (y, y), (x, y))
    )
    biased = xx.mean() + yy.mean() - 2 * xy.mean()
    m, n = len(x), len(y)
    without = (xx.sum() - m) / (m * (m - 1)) + (yy.sum() - n) / (n * (n - 1)) - 2 * xy.mean()
    return biased.item(), without.item()


def floor(samples: int, bandwidth: float) -> float:
    """Return the mean of the biased estimate for two sets of true samples: (2/N)(1 - E k(x, y)).

    The kernel's mean is closed for a difference of two points, N(m_i - m_j, 2 STD^2).
    """
    variance = bandwidth**2 + 2 * STD**2
    apart = torch.cdist(WHOLE.means, WHOLE.means).square()
    kernel = (bandwidth**2 / variance * (-apart / (2 * variance)).exp()).mean().item()
    return 2 / samples * (1 - kernel)


def covariance_error(x: Points) -> float:
    """Return the Frobenius distance of the samples' covariance to the ring's, (RADIUS^2/2 + STD^2) I."""
    error = torch.cov(x.T) - (RADIUS**2 / 2 + STD**2) * torch.eye(2).to(x)
    return float(torch.linalg.matrix_norm(error))


def within_modes(x: Points) -> float:
    """Return the mean squared distance to the nearest mode, per axis; STD^2 for the truth."""
    return torch.cdist(x, WHOLE.means).min(1).values.square().mean().item() / 2
