"""The cost of eqs. (7) and (8) at one step, against a copy, the published code's arithmetic and a U-Net.

Fold and correction as the sampler composes them, on separate float32 latents at an angle of 0.01 rad. The
U-Net is Stable Diffusion 1.5's configuration with random weights (3.4 GB). Writes results/aggregation.csv and
.png.
"""

import argparse

import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm.auto import tqdm

from amdm.geometry import radial_correct, slerp_fold
from benchmarks.speed.measure import RESULTS, keep_freed_memory, milliseconds, write_table
from benchmarks.speed.references import published_aggregation
from shapes.imports import import_beside_torchvision

SHAPES = [(1, 4, 64, 64), (8, 4, 64, 64), (8, 16, 128, 128)]
MODELS = [2, 3, 5]


def latents(shape: tuple[int, ...], num: int, angle: float, generator: torch.Generator) -> list[Tensor]:
    """N latents, each pair at about this angle."""
    base = torch.randn(shape, generator=generator)
    return [base + angle / 2**0.5 * torch.randn(shape, generator=generator) for _ in range(num)]


@torch.no_grad()
def compare(shape: tuple[int, ...], num: int, seed: int) -> dict[str, object]:
    """One row: the medians of the three, in milliseconds."""
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
    """One forward pass of SD 1.5's U-Net at batch 1, random weights."""
    diffusers = import_beside_torchvision("diffusers")
    unet = diffusers.UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    unet.eval()
    x, text = torch.randn(1, 4, 64, 64), torch.randn(1, 77, 768)
    return milliseconds(lambda: unet(x, 500, encoder_hidden_states=text).sample)


def draw(rows: list[dict[str, object]], unet_ms: float) -> None:
    """The three costs per size, log scale, with a U-Net's 0.1% as a line."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    series = {
        "amdm_ms": "amdm",
        "published_ms": "published code's arithmetic",
        "copy_ms": "a copy of the bytes",
    }
    for k, (column, label) in enumerate(series.items()):
        positions = [i + 0.27 * (k - 1) for i in range(len(rows))]
        axes.bar(positions, [float(str(row[column])) for row in rows], 0.25, label=label)
    axes.axhline(
        unet_ms / 1000, color="black", linestyle="--", label="0.1% of one SD 1.5 U-Net pass, batch 1"
    )
    labels = [f"{row['shape']}\nN = {row['models']}" for row in rows]
    axes.set(yscale="log", ylim=(0.004, 300), ylabel="milliseconds")
    axes.set_title("Aggregating and correcting N latents, once")
    axes.set_xticks(range(len(rows)), labels, fontsize=8)
    axes.legend(loc="upper left")
    figure.savefig(RESULTS / "aggregation.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args()
    keep_freed_memory()
    unet_ms = unet_milliseconds()
    cases = [(shape, num) for shape in SHAPES for num in MODELS]
    rows = [compare(shape, num, args.seed) for shape, num in tqdm(cases, disable=args.quiet)]
    for row in rows:
        row["unet_ms"] = round(unet_ms, 1)
    write_table("aggregation", rows, args.seed)
    draw(rows, unet_ms)


if __name__ == "__main__":
    main()
