"""Success rates of images by the detectors, with intervals, and the rates of chance."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray
from torch import Tensor

from amdm.shapes import detectors, world
from amdm.shapes.world import Image, Scenes
from theory_checks.statistics import percentiles, rule_of_three

ATTRIBUTES = ("shapes", "colours", "interactions", "style")
LEVEL = 0.95

Estimate = tuple[float, float, float]
"""A value and its interval."""


class Counts(NamedTuple):
    """The number of right answers per scene, and the number of wanted ones."""

    right: Int[Tensor, " batch"]
    wanted: Int[Tensor, " batch"]


class Found(NamedTuple):
    """The detectors' answers for images, in the boxes of scenes; the style is that of all objects."""

    shapes: Int[Tensor, "batch 4"]
    colours: Int[Tensor, "batch 4"]
    interactions: Int[Tensor, "batch 4 4"]
    styles: Int[Tensor, " batch"]


def find(images: Image, scenes: Scenes) -> Found:
    """Read images in the boxes of these scenes."""
    fitted = detectors.fit(images, scenes.boxes)
    return Found(
        detectors.shapes_of(fitted),
        detectors.colours_of(fitted),
        detectors.detect_interactions(images, scenes.boxes),
        detectors.detect_styles(images),
    )


def compare(found: Found, scenes: Scenes) -> dict[str, Counts]:
    """Return the counts by ATTRIBUTES: of objects, of objects, of interactions and of images."""
    rows = torch.arange(len(scenes.seeds), device=scenes.boxes.device)[:, None]
    kinds, subjects, objects = scenes.links.unbind(-1)
    pairs = {
        "shapes": (found.shapes == scenes.shapes, scenes.present),
        "colours": (found.colours == scenes.colours, scenes.present),
        "interactions": (found.interactions[rows, subjects, objects] == kinds, kinds > 0),
        "style": ((found.styles == scenes.styles)[:, None], torch.ones_like(rows, dtype=torch.bool)),
    }
    return {name: _count(*both) for name, both in pairs.items()}


def _count(right: Bool[Tensor, "batch parts"], wanted: Bool[Tensor, "batch parts"]) -> Counts:
    return Counts((right & wanted).sum(1), wanted.sum(1))


def everything(counts: dict[str, Counts], names: tuple[str, ...]) -> Counts:
    """Return one trial per scene: success if everything wanted of these attributes is present."""
    right = torch.stack([counts[name].right == counts[name].wanted for name in names]).all(0).long()
    return Counts(right, torch.ones_like(right))


def rate(counts: Counts) -> Estimate:
    """Return the fraction that is right and its 95% interval, by a bootstrap over whole scenes."""
    right, wanted = (part.double().cpu().numpy() for part in counts)
    return _estimate(right, wanted, certain=right.sum() in (0, wanted.sum()), least=0.0)


def difference(one: Counts, other: Counts) -> Estimate:
    """Return the gain of one method over the other on the same scenes, and its paired 95% interval."""
    wanted = one.wanted.double().cpu().numpy()
    gain = (one.right - other.right).double().cpu().numpy()
    return _estimate(gain, wanted, certain=not gain.any(), least=-1.0)


def verdict(method: str, other: str, points: Sequence[float]) -> str:
    """Return a paired difference and its interval in percentage points, in words."""
    value, low, high = points
    word = "beats" if low > 0 else "is worse than" if high < 0 else "shows no difference to"
    return f"{method} {word} {other}: {value:+.1f} points [{low:+.1f}, {high:+.1f}]"


def _estimate(
    parts: NDArray[np.float64], wholes: NDArray[np.float64], *, certain: bool, least: float
) -> Estimate:
    """Return the ratio of the sums with its interval; by the rule of three if there is no variation."""
    value, n = float(parts.sum() / wholes.sum()), len(parts)
    if certain:
        return value, *rule_of_three(value, np.count_nonzero(wholes), least)
    drawn = np.random.default_rng(0).integers(0, n, (2000, n))
    return value, *percentiles(parts[drawn].sum(1) / wholes[drawn].sum(1))


def truth(scenes: Scenes) -> Found:
    """Return the answers of flawless detectors for flawless images."""
    return Found(scenes.shapes, scenes.colours, world.link_matrix(scenes), scenes.styles)


def chance(found: Found, scenes: Scenes, draws: int = 1000) -> dict[str, Estimate]:
    """Return the rates if the objects found in an image were exchanged among its boxes at random.

    They are the mean and the central 95% of the draws. For the truth these are the rates of a model that
    knows the objects but not their boxes; for detections, of a model that draws these images without regard
    to the boxes.
    """
    generator = torch.Generator().manual_seed(0)
    drawn = [compare(_exchange(found, scenes, generator), scenes) for _ in range(draws)]
    rates = {
        name: torch.stack([counts[name].right.sum() / counts[name].wanted.sum() for counts in drawn])
        for name in ATTRIBUTES[:3]
    }
    edges = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {name: (rate.mean().item(), *rate.quantile(edges).tolist()) for name, rate in rates.items()}


def _exchange(found: Found, scenes: Scenes, generator: torch.Generator) -> Found:
    """Return the objects that are present, the first of the four, in a random order."""
    keys = torch.rand(scenes.present.shape, generator=generator).to(scenes.boxes.device)
    order = (keys + 2 * ~scenes.present).argsort(1)
    rows = torch.arange(len(order), device=order.device)[:, None, None]
    links = found.interactions[rows, order[:, :, None], order[:, None, :]]
    return Found(found.shapes.gather(1, order), found.colours.gather(1, order), links, found.styles)
