"""The cost of eqs. (7) and (8) at one step, against a copy, the published code's arithmetic and a U-Net.

It measures fold and correction as the sampler composes them, on separate float32 latents at an angle of 0.01
rad. The U-Net is Stable Diffusion 1.5's configuration with random weights (3.4 GB). Writes
results/aggregation.csv and .png.
"""

import argparse
from collections.abc import Sequence
from itertools import product

import torch
from matplotlib.axes import Axes
from torch import Tensor
from tqdm.auto import tqdm

from amdm.geometry import radial_correct, slerp_fold
from amdm.shapes.imports import import_beside_torchvision
from benchmarks.speed.measure import Lines, keep_freed_memory, milliseconds, script

SHAPES = [(1, 4, 64, 64), (8, 4, 64, 64), (8, 16, 128, 128)]
MODELS = [2, 3, 5]


def latents(shape: tuple[int, ...], num: int, angle: float, generator: torch.Generator) -> list[Tensor]:
    """Return N latents with about this angle between each pair."""
    base = torch.randn(shape, generator=generator)
    return [base + angle / 2**0.5 * torch.randn(shape, generator=generator) for _ in range(num)]


def published_aggregation(
    xs: Sequence[Tensor],
    previous: Sequence[Tensor],
    eps: Sequence[Tensor],
    *,
    omega: float = 0.5,
    pull: float = 0.3,
) -> list[Tensor]:
    """Return the arithmetic of the authors' published code at an aggregated step, for timing only.

    The mixture has the coefficients omega^(N-1), then products of sqrt(1 - omega^2) and omega (for N = 2
    and 3 theirs, beyond that continued); every model then moves by `pull` toward a one-training-step DDPM
    mean of its previous latent and prediction, divided by a norm over the whole batch
    (github.com/Hammour-steak/AMDM, dba837a, written here anew).
    """
    rest = (1 - omega**2) ** 0.5
    num = len(xs)
    coefficients = [omega ** (num - 1)] + [rest**k * omega ** (num - 1 - k) for k in range(1, num)]
    mixed = sum(c * x for c, x in zip(coefficients, xs, strict=True))
    assert isinstance(mixed, Tensor)
    corrected = []
    alpha, alpha_bar = torch.tensor(0.99), torch.tensor(0.1)  # 0-d tensors, as a scheduler holds them
    for x, noise in zip(previous, eps, strict=True):
        mean = 1 / alpha**0.5 * x - (1 - alpha) / ((1 - alpha_bar) ** 0.5 * alpha**0.5) * noise
        corrected.append(mixed - pull * (mixed - mean) / torch.norm(mixed - mean))
    return corrected


@torch.no_grad()
def compare(shape: tuple[int, ...], num: int, seed: int) -> dict[str, object]:
    """Return one row: the medians of the three, in milliseconds."""
    generator = torch.Generator().manual_seed(seed)
    xs, means, eps = (latents(shape, num, angle, generator) for angle in (0.01, 0.003, 1.0))
    copies = [torch.empty_like(x) for x in xs]
    weights = [1 / (k + 1) for k in range(1, num)]

    def ours() -> list[Tensor]:
        merged = slerp_fold(xs, weights)
        return [radial_correct(merged, mean, 0.3) for mean in means]

    def copy() -> None:
        for target, x in zip(copies, xs, strict=True):
            target.copy_(x)

    ms = {
        "amdm_ms": milliseconds(ours),
        "fold_ms": milliseconds(lambda: slerp_fold(xs, weights)),
        "correct_one_ms": milliseconds(lambda: radial_correct(xs[0], means[0], 0.3)),
        "published_ms": milliseconds(lambda: published_aggregation(xs, means, eps)),
        "copy_ms": milliseconds(copy),
    }
    row = {"shape": "x".join(map(str, shape)), "models": num, **{k: round(v, 4) for k, v in ms.items()}}
    return {**row, "ratio_to_published": round(ms["amdm_ms"] / ms["published_ms"], 3)}


@torch.no_grad()
def unet_milliseconds() -> float:
    """Return the milliseconds of one forward pass of SD 1.5's U-Net at batch 1, with random weights."""
    diffusers = import_beside_torchvision("diffusers")
    unet = diffusers.UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    unet.eval()
    x, text = torch.randn(1, 4, 64, 64), torch.randn(1, 77, 768)
    return milliseconds(lambda: unet(x, 500, encoder_hidden_states=text).sample)


def measure(args: argparse.Namespace) -> Lines:
    keep_freed_memory()
    unet_ms = unet_milliseconds()
    cases = tqdm(list(product(SHAPES, MODELS)), disable=args.quiet)
    return [{**compare(shape, num, args.seed), "unet_ms": round(unet_ms, 1)} for shape, num in cases]


def draw(axes: Axes, lines: Lines) -> None:
    """Draw the three costs per size on a log scale, with a U-Net's 0.1% as a line."""
    series = {
        "amdm_ms": "amdm",
        "published_ms": "published code's arithmetic",
        "copy_ms": "a copy of the bytes",
    }
    for k, (column, label) in enumerate(series.items()):
        positions = [i + 0.27 * (k - 1) for i in range(len(lines))]
        axes.bar(positions, [float(str(line[column])) for line in lines], 0.25, label=label)
    unet = float(str(lines[0]["unet_ms"]))
    axes.axhline(unet / 1000, color="black", linestyle="--", label="0.1% of one SD 1.5 U-Net pass, batch 1")
    labels = [f"{line['shape']}\nN = {line['models']}" for line in lines]
    axes.set(yscale="log", ylim=(0.004, 300), ylabel="milliseconds")
    axes.set_title("Aggregating and correcting N latents, once")
    axes.set_xticks(range(len(lines)), labels, fontsize=8)
    axes.legend(loc="upper left")


if __name__ == "__main__":
    script("aggregation", __doc__, measure, draw, (9, 4), seed=0)
