"""Independent answers: readable, slow, and not sharing a line with the library."""

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def slerp(a: Tensor, b: Tensor, weight: float) -> Tensor:
    """Eq. (7) one sample at a time, with its own angle (Kahan's formula for unit vectors)."""
    out = torch.empty_like(a)
    for i in range(len(a)):
        u, v = a[i] / a[i].norm(), b[i] / b[i].norm()
        theta = 2 * torch.atan2((u - v).norm(), (u + v).norm())
        if theta == 0:
            out[i] = (1 - weight) * a[i] + weight * b[i]
        else:
            out[i] = (torch.sin((1 - weight) * theta) * a[i] + torch.sin(weight * theta) * b[i]) / theta.sin()
    return out


def slerp_fold(xs: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The fold pass by pass."""
    merged = xs[0]
    for x, weight in zip(xs[1:], weights, strict=True):
        merged = slerp(merged, x, weight)
    return merged


def algorithm_1(
    eps_models: Sequence[Callable[[Tensor, float], Tensor]],
    zs: Sequence[Tensor],
    alpha_bars: Sequence[float],
    noise: Callable[[int, int], Tensor],
    *,
    weights: Sequence[float],
    lengths: Sequence[float],
    window: tuple[int, int],
    eta: float,
) -> Tensor:
    """Algorithm 1 of the paper in its own coordinates (VP): eps_models(z, alpha_bar), eqs. (4), (7), (8).

    `noise(step, model)` are the draws xi. The window's start > 0 lets the models run alone before it.
    """
    zs = list(zs)
    for k, (ab, ab_next) in enumerate(itertools.pairwise(alpha_bars)):
        s = eta * ((1 - ab_next) / (1 - ab)) ** 0.5 * (1 - ab / ab_next) ** 0.5
        a = (ab_next / ab) ** 0.5
        b = max(1 - ab_next - s**2, 0.0) ** 0.5 - (ab_next * (1 - ab) / ab) ** 0.5
        active = range(len(zs)) if k < window[1] else range(1)
        means = [a * zs[i] + b * eps_models[i](zs[i], ab) for i in active]
        nexts = [mean + s * noise(k, i) if s > 0 else mean for i, mean in enumerate(means)]
        if window[0] <= k < window[1]:
            merged = slerp_fold(nexts, weights)
            for i in active:
                gap = merged - means[i]
                distance = gap.flatten(1).norm(dim=1).view(-1, *[1] * (gap.ndim - 1))
                step = distance.clamp(max=lengths[i])
                nexts[i] = torch.where(distance > 0, merged - step * gap / distance, merged)
        zs[: len(nexts)] = nexts
    return zs[0]
