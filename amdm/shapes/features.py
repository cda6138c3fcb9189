"""A small network whose features compare sets of images: `python -m amdm.shapes.features` trains it.

It is to this world what Inception is to photographs: a classifier whose last pooled layer describes how
images look. It predicts a render's words (shapes, colours, interactions and style), and how much noise was
added to it and how far it was smoothed: features without that would not show a poor image. Weights are in
amdm/shapes/weights/features; training takes some minutes on two cores.
"""

from functools import cache

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, binary_cross_entropy_with_logits
from tqdm.auto import tqdm

from amdm.command_line.arguments import parser_of
from amdm.shapes import conditions, world
from amdm.shapes.folders import opened
from amdm.shapes.networks import WEIGHTS
from amdm.shapes.world import Image

DIMS = 64
STEPS, BATCH, RATE = 4000, 64, 3e-3
PATH = WEIGHTS / "features" / "features.safetensors"

Features = Float[Tensor, "batch 64"]


def build() -> nn.Sequential:
    """Return the network without weights: to features, then to a logit per word and one per disturbance."""
    layers: list[nn.Module] = []
    for before, after, stride in ((3, 32, 1), (32, 48, 2), (48, DIMS, 2), (DIMS, DIMS, 1)):
        layers += [nn.Conv2d(before, after, 3, stride, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
    # KID's kernel is a polynomial, which depends on the scale: each feature has mean 0 and deviation 1.
    standard = nn.BatchNorm1d(DIMS, affine=False, momentum=0.01)
    features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), standard)
    return nn.Sequential(features, nn.Linear(DIMS, conditions.WORD_DIMS + 2))


@torch.no_grad()
def features(images: Image) -> Features:
    """Return the features of images in [-1, 1], on their device."""
    network = load().to(images.device)
    return torch.cat([network[0](part) for part in torch.split(images, 500)])


@cache
def load() -> nn.Sequential:
    """Return the shipped network in float32, without gradients."""
    network = build().eval().requires_grad_(False)
    with opened(PATH, remedy="check it out again, or train it anew") as file:
        stored = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (not a mapping)
    try:
        network.load_state_dict(stored)
    except RuntimeError as error:
        raise ValueError(f"{PATH} has the weights of another network: {error}") from error
    return network


def train(steps: int, *, quiet: bool = False) -> tuple[nn.Sequential, float]:
    """Return a network trained on renders of the training split, and the mean loss of its last 100 steps."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    losses = []
    for step in tqdm(range(steps), unit="step", desc="features", disable=quiet):
        first = world.TRAIN.start + step * BATCH
        scenes = world.sample_scenes(range(first, first + BATCH), uniform_kinds=True)
        spoken = conditions.caption_tokens(scenes).sum(1)[:, : conditions.WORD_DIMS]
        levels = torch.rand(BATCH, 2, generator=generator)
        images = disturb(world.render(scenes), levels, generator)
        loss = binary_cross_entropy_with_logits(network(images), torch.cat([spoken, levels], dim=1))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        rate.step()
        losses.append(loss.item())
    return network, sum(losses[-100:]) / len(losses[-100:])


def disturb(images: Image, levels: Float[Tensor, "batch 2"], generator: torch.Generator) -> Image:
    """Return images with noise (up to 0.1 at level 1) and smoothed (half way to a local mean at level 1)."""
    sigma, blur = (0.1 * levels[:, 0], 0.5 * levels[:, 1])
    smooth = avg_pool2d(images, 3, 1, padding=1, count_include_pad=False)
    noise = torch.randn(images.shape, generator=generator)
    return torch.lerp(images, smooth, blur[:, None, None, None]) + sigma[:, None, None, None] * noise


def main() -> None:
    """Train, and store the weights in half precision."""
    parser = parser_of(__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    args = parser.parse_args()
    network, loss = train(args.steps, quiet=args.quiet)
    PATH.parent.mkdir(exist_ok=True)
    save_file({name: value.half() for name, value in network.state_dict().items()}, PATH)
    print(f"loss {loss:.4f}, wrote {PATH}")


if __name__ == "__main__":
    main()
