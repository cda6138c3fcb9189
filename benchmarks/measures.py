"""The metrics of a row of images, each with its interval, and the differences of two rows.

Intervals are of 95%, by the bootstrap over scenes, with the same draws for all rows, so that differences are
paired. KID's interval is Student's, by the jackknife over groups of scenes and of the renders that they are
compared with.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import t as student
from torch import Tensor

from amdm.shapes import quality, scores, world
from amdm.shapes.features import Features, features
from amdm.shapes.instances import instances
from amdm.shapes.interaction_ap import Judged, judge, mean_ap
from amdm.shapes.reading import read, said
from amdm.shapes.scores import LEVEL
from amdm.shapes.world import Image, Scenes
from benchmarks.runner import held_out
from theory_checks.statistics import percentiles, ratios, redraws, rule_of_three

GROUPS = 10
CONTROL = ["scene right", "interactions", "ISR avg", "mIoU avg", "mAP default full"]
LOOKS = ["caption", "KID", "KID above renders", "precision", "recall", "FID"]
SUMMARY = ["scene right", "interactions", "ISR avg", "mAP default full", "caption", "KID"]
OTHERS = 500_000  # the first of the test scenes that images are compared with
RENDERS = 8000  # their number, of which precision, recall and FID take as many as there are images


@dataclass(frozen=True)
class Estimate:
    """A value and its spread: in bootstrap draws of the scenes, or as pseudo-values of groups of them."""

    value: float
    spread: Float[np.ndarray, " draws"]
    kind: Literal["draws", "groups"] = "draws"
    count: int = 0
    """The number of scenes that a share rests on, for the rule of three where nothing varies."""
    differs: bool = False
    """True for a difference."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """Return the limits of 95%; None where the spread is not known."""
        if not self.spread.size:
            return None
        if self.kind == "groups":
            groups = len(self.spread)
            error = self.spread.std(ddof=1) / np.sqrt(groups)
            half = float(error * student.ppf((1 + LEVEL) / 2, groups - 1))
            return self.value - half, self.value + half
        if self.count and not np.ptp(self.spread[~np.isnan(self.spread)]):
            return rule_of_three(self.value, self.count, -1.0 if self.differs else 0.0)
        return percentiles(self.spread, LEVEL)

    def __sub__(self, other: "Estimate") -> "Estimate":
        """Return the difference, paired."""
        count = min(self.count, other.count)
        return Estimate(self.value - other.value, self.spread - other.spread, self.kind, count, differs=True)


def measure(images: Image, scenes: Scenes, method: object = None) -> dict[str, Estimate]:
    """Return all metrics of a method's images of these scenes, one seed after the other."""
    return control(images, scenes) | looks(features(images), len(images) // len(scenes.seeds))


def control(images: Image, scenes: Scenes) -> dict[str, Estimate]:
    """Return the metrics that compare an image with what was asked for."""
    seeds = len(images) // len(scenes.seeds)
    parts, judged = read_parts(images, Scenes(*(torch.cat([field] * seeds) for field in scenes)))
    estimates = {name: share(*part, seeds) for name, part in parts.items()}
    per_image = np.tile(redraws(len(scenes.seeds)), seeds)
    ones = np.ones((1, len(images)))
    for known, rare in product((False, True), repeat=2):
        value, spread = (mean_ap(judged, w, rare=rare, known=known) for w in (ones, per_image))
        name = f"mAP {'known' if known else 'default'} {'rare' if rare else 'full'}"
        estimates[name] = Estimate(float(value[0]), spread)
    return estimates


def read_parts(images: Image, wanted: Scenes) -> tuple[dict[str, tuple[Tensor, Tensor]], list[Judged]]:
    """Return for every metric that is a share its parts and wholes per image, and the judged interactions."""
    in_boxes = scores.compare(scores.find(images, wanted), wanted)
    in_boxes["scene right"] = scores.everything(in_boxes, ("shapes", "colours", "interactions"))
    parts: dict[str, tuple[Tensor, Tensor]] = dict(in_boxes)
    seen = read(images)
    found = instances(seen, wanted)
    objects = wanted.present.sum(1)
    for (name, values), level in product((("ISR", found.success), ("mIoU", found.iou)), (2, 3, 4, None)):
        mine = torch.ones_like(objects, dtype=torch.bool) if level is None else objects == level
        parts[f"{name} {'avg' if level is None else f'L{level}'}"] = values.sum(1) * mine, objects * mine
    spoken, caption = said(seen), words_of(wanted)
    alike = (spoken & caption).sum(1) / (spoken | caption).sum(1)
    parts["caption"] = alike, torch.ones_like(alike)
    return parts, judge(seen, wanted)


def words_of(scenes: Scenes) -> Tensor:
    """Return the caption's words in the form of `said`."""
    ids = world.captions(scenes)
    hot = torch.zeros(len(ids), len(world.VOCABULARY), dtype=torch.bool, device=ids.device)
    return hot.scatter(1, ids, True)[:, 1:]


def share(some: Tensor, whole: Tensor, seeds: int = 1) -> Estimate:
    """Return the sum of `some` over that of `whole`; both on the host, an entry per image, seed by seed."""
    parts, wholes = (x.double().numpy().reshape(seeds, -1).sum(0) for x in (some, whole))
    spread = ratios(parts, wholes, redraws(len(wholes)))
    return Estimate(float(parts.sum() / wholes.sum()), spread, count=int((wholes > 0).sum()))


def looks(mine: Features, seeds: int) -> dict[str, Estimate]:
    """Return the quality and diversity beside renders of other scenes.

    It is the mean over the separate seeds, since images of one scene are more alike than those of others.
    """
    of_seeds, others = torch.chunk(mine, seeds), reference(RENDERS)
    kids = [quality.kid(part, others, GROUPS) for part in of_seeds]
    value, pseudo = (np.mean(each, axis=0) for each in zip(*kids, strict=True))
    found = {"KID": Estimate(float(value), pseudo, "groups")}
    precision, recall = np.mean([quality.precision_recall(part, others) for part in of_seeds], axis=0)
    exact = {"precision": precision, "recall": recall}
    if len(of_seeds[0]) >= quality.FID_FROM:
        exact["FID"] = np.mean([quality.fid(part, others[: len(part)]) for part in of_seeds])
    return found | {name: Estimate(float(value), np.array([])) for name, value in exact.items()}


@cache
def reference(number: int) -> Features:
    """Return features of renders of other scenes of the same kind; 8000 take half a minute."""
    return features(world.render(held_out(OTHERS, number)))


def difference(one: Mapping[str, Estimate], other: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """Return the first row minus the second, in every metric that has an interval."""
    return {name: one[name] - other[name] for name in one if one[name].interval is not None}
