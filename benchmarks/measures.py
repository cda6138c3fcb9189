"""What is measured of every row, each value with its interval; and of two rows, what they differ by.

Scenes are drawn, not their parts: intervals are of 95%, by the bootstrap over scenes, with the same draws for
all rows, so that differences are paired. KID's is that of a mean over groups of scenes (Student's t).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.stats import t as student
from torch import Tensor

from benchmarks.runner import held_out
from shapes import quality, scores, world
from shapes.features import Features, features
from shapes.instances import instances
from shapes.interaction_ap import Judged, judge, mean_ap
from shapes.reading import read, said
from shapes.scores import LEVEL
from shapes.world import Image, Scenes

DRAWS = 1000
GROUPS = 10
CONTROL = ["scene right", "ISR avg", "mIoU avg", "mAP default full"]
LOOKS = ["caption", "KID", "KID above renders", "precision", "recall", "FID"]
OTHERS = 500_000  # the first of the test scenes that images are compared with

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value, and what it would be in other draws of the scenes or is in groups of them."""

    value: float
    spread: Float[np.ndarray, " draws"]
    kind: Literal["draws", "groups"] = "draws"
    count: int = 0
    """Of a share: of how many scenes, for the rule of three where nothing varies."""
    differs: bool = False
    """Whether it is a difference."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """The limits of 95%; None where the spread is not known."""
        if not self.spread.size:
            return None
        if self.kind == "groups":
            half = _half_width(self.spread)
            return self.value - half, self.value + half
        if self.count and not np.ptp(self.spread[~np.isnan(self.spread)]):
            slack, least = 3 / self.count, -1.0 if self.differs else 0.0
            return max(least, self.value - slack), min(1.0, self.value + slack)
        low, high = np.nanquantile(self.spread, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return float(low), float(high)

    def __sub__(self, other: "Estimate") -> "Estimate":
        """The difference, paired."""
        count = min(self.count, other.count)
        return Estimate(self.value - other.value, self.spread - other.spread, self.kind, count, differs=True)


def _half_width(groups: Array) -> float:
    error = groups.std(ddof=1) / np.sqrt(len(groups))
    return float(error * student.ppf((1 + LEVEL) / 2, len(groups) - 1))


class Parts(NamedTuple):
    """Of every scene, over its seeds: how much there is of how much there could be."""

    some: Array
    whole: Array


def measure(images: Image, scenes: Scenes, method: object = None) -> dict[str, Estimate]:
    """All metrics of images of these scenes, for one seed after the other, by whatever method."""
    return control(images, scenes) | looks(features(images), len(images) // len(scenes.seeds))


def control(images: Image, scenes: Scenes) -> dict[str, Estimate]:
    """Those that say whether what was asked for is there."""
    seeds = len(images) // len(scenes.seeds)
    parts, judged = read_parts(images, repeat(scenes, seeds))
    weights = draws(len(scenes.seeds))
    estimates = {name: share(_by_scene(part, seeds), weights) for name, part in parts.items()}
    per_image = np.tile(weights, seeds)
    ones = np.ones((1, len(images)))
    for known in (False, True):
        for rare in (False, True):
            name = f"mAP {'known' if known else 'default'} {'rare' if rare else 'full'}"
            value = mean_ap(judged, ones, rare=rare, known=known)[0]
            estimates[name] = Estimate(float(value), mean_ap(judged, per_image, rare=rare, known=known))
    return estimates


def repeat(scenes: Scenes, seeds: int) -> Scenes:
    """The scenes one after the other, for every seed again."""
    return Scenes(*(torch.cat([field] * seeds) for field in scenes))


def read_parts(images: Image, wanted: Scenes) -> tuple[dict[str, Parts], list[Judged]]:
    """Every metric that is a share, per image; and the interactions, judged."""
    in_boxes = scores.compare(scores.find(images, wanted), wanted)
    in_boxes["scene right"] = scores.everything(in_boxes, ("shapes", "colours", "interactions"))
    parts = {name: parts_of(*counts) for name, counts in in_boxes.items()}
    seen = read(images)
    found = instances(seen, wanted)
    objects = wanted.present.sum(1)
    for name, values in (("ISR", found.success), ("mIoU", found.iou)):
        for level in (2, 3, 4, None):
            mine = torch.ones_like(objects, dtype=torch.bool) if level is None else objects == level
            some, whole = values.sum(1) * mine, objects * mine
            parts[f"{name} {'avg' if level is None else f'L{level}'}"] = parts_of(some, whole)
    spoken, caption = said(seen), words_of(wanted)
    alike = (spoken & caption).sum(1) / (spoken | caption).sum(1)
    parts["caption"] = parts_of(alike, torch.ones_like(alike))
    return parts, judge(seen, wanted)


def words_of(scenes: Scenes) -> Tensor:
    """The caption's words, as `said` has them."""
    ids = world.captions(scenes)
    hot = torch.zeros(len(ids), len(world.VOCABULARY), dtype=torch.bool, device=ids.device)
    return hot.scatter(1, ids, True)[:, 1:]


def parts_of(some: Tensor, whole: Tensor) -> Parts:
    """Of tensors on the host."""
    return Parts(some.double().numpy(), whole.double().numpy())


def _by_scene(parts: Parts, seeds: int) -> Parts:
    return Parts(*(part.reshape(seeds, -1).sum(0) for part in parts))


def share(parts: Parts, weights: Array) -> Estimate:
    """The part of all that there could be, over scenes that count so often."""
    value = parts.some.sum() / parts.whole.sum()
    whole = weights @ parts.whole
    # Few scenes may all be missing from a draw: it says nothing then.
    spread = np.divide(weights @ parts.some, whole, out=np.full_like(whole, np.nan), where=whole > 0)
    return Estimate(float(value), spread, count=int((parts.whole > 0).sum()))


@cache
def draws(scenes: int) -> Array:
    """How often each scene is in each draw of as many: the same for all rows."""
    generator = np.random.default_rng(0)
    return generator.multinomial(scenes, np.full(scenes, 1 / scenes), size=DRAWS).astype(float)


def looks(mine: Features, seeds: int) -> dict[str, Estimate]:
    """Quality and diversity beside renders of other scenes.

    Of every seed by itself, in the mean: images of one scene are more alike than those of others ever are.
    """
    of_seeds = torch.chunk(mine, seeds)
    others = reference(len(of_seeds[0]))
    kid = np.mean([quality.kid(part, others, GROUPS) for part in of_seeds], axis=0)
    found = {"KID": Estimate(float(kid.mean()), kid, "groups")}
    precision, recall = np.mean([quality.precision_recall(part, others) for part in of_seeds], axis=0)
    exact = {"precision": precision, "recall": recall}
    if len(others) >= quality.FID_FROM:
        exact["FID"] = np.mean([quality.fid(part, others) for part in of_seeds])
    return found | {name: Estimate(float(value), np.array([])) for name, value in exact.items()}


@cache
def reference(number: int) -> Features:
    """Features of renders of other scenes of the same kind."""
    return features(world.render(held_out(OTHERS, number)))


def difference(one: Mapping[str, Estimate], other: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """What a row has more than another, in every metric that has an interval."""
    return {name: one[name] - other[name] for name in one if one[name].interval is not None}
