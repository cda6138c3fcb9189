"""The cost of a sampler itself per step: one model that does nothing, against k-diffusion's `sample_euler`.

Writes results/overhead.csv and .png.
"""

import argparse
from collections import deque
from collections.abc import Callable

import torch
from matplotlib.axes import Axes
from torch import Tensor
from tqdm.auto import tqdm

from amdm import ddim, sample_amdm, sample_ddim, sample_dpmpp_2m, sample_heun
from amdm.shapes.imports import import_beside_torchvision
from benchmarks.speed.measure import Lines, bars, milliseconds, script

STEPS = 50


def model(x: Tensor, sigma: Tensor) -> Tensor:
    """Return the trivial network: its prediction is its input."""
    return x


def cases(x: Tensor, sigmas: Tensor) -> dict[str, Callable[[], object]]:
    """Return the samplers by name. Heun evaluates twice per step; the last one has two models in 20."""
    k = import_beside_torchvision("k_diffusion")
    return {
        "k_diffusion sample_euler": lambda: k.sampling.sample_euler(model, x, sigmas, disable=True),
        "k_diffusion sample_heun": lambda: k.sampling.sample_heun(model, x, sigmas, disable=True),
        "k_diffusion sample_dpmpp_2m": lambda: k.sampling.sample_dpmpp_2m(model, x, sigmas, disable=True),
        "ddim": lambda: deque(ddim(model, x, sigmas), maxlen=1),
        "sample_ddim": lambda: sample_ddim(model, x, sigmas, disable=True),
        "sample_heun": lambda: sample_heun(model, x, sigmas, disable=True),
        "sample_dpmpp_2m": lambda: sample_dpmpp_2m(model, x, sigmas, disable=True),
        "sample_amdm, 1 model": lambda: sample_amdm([model], x, sigmas, disable=True),
        "sample_amdm, 2 models": lambda: sample_amdm([model] * 2, x, sigmas, disable=True),
    }


def measure(args: argparse.Namespace) -> Lines:
    sigmas = torch.cat([torch.logspace(1.2, -1.5, STEPS), torch.zeros(1)])
    x = sigmas[0] * torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(args.seed))
    timed = {
        name: 1000 * milliseconds(run) / STEPS
        for name, run in tqdm(cases(x, sigmas).items(), disable=args.quiet)
    }
    base = timed["k_diffusion sample_euler"]
    return [
        {"sampler": name, "us_per_step": round(us, 1), "ratio_to_sample_euler": round(us / base, 2)}
        for name, us in timed.items()
    ]


def draw(axes: Axes, lines: Lines) -> None:
    timed = {str(line["sampler"]): float(str(line["us_per_step"])) for line in lines}
    bars(axes, timed, 1.5 * timed["k_diffusion sample_euler"], "1.5 x sample_euler")
    axes.set(xlabel="microseconds per step", title="Sampler overhead, a network that does nothing, 1x4x64x64")


if __name__ == "__main__":
    script("overhead", __doc__, measure, draw, (8, 3.5), seed=0)
