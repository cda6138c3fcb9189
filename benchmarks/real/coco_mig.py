"""COCO-MIG's measures (Zhou et al. 2024): instances that are in their places and have their colours.

A detector looks for each instance by its name without the colour (GroundingDINO), and the box that overlaps
the wanted one most counts. Where that overlap is one half or more, a mask is drawn for the wanted box (SAM),
and the share of its pixels that have the wanted colour counts:

* an instance is a success if the overlap is at least LEAST_OVERLAP and the share at least LEAST_SHARE;
* its IoU is the overlap, and 0 if the overlap is one half or more and the colour is wrong;
* an image is a success if all of its instances are.

The rates are means over instances (of images, for the last one), per level, which is the number of an image's
instances, and over all levels. All are shares: the paper has them in percent.

Thresholds, the order of steps and the colours' limits are facts of `eval_mig.py` in LeyRio/MIG_Bench,
whose numbers these are. It is for non-commercial research, and none of its code is here. Two things in it are
easily read over: SAM is asked for the wanted box, not for the one that was found, and an instance in a wrong
place keeps its overlap. Its threshold of words (0.25) names what was found, and no number depends on it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL.Image import Image as Picture

from benchmarks.measures import Estimate
from benchmarks.real import measuring
from benchmarks.real.measuring import Record, mean, resized
from benchmarks.real.mig_bench import LEVELS, label_of
from benchmarks.real.prompts import Instance, Prompt

SIZE = 512
"""The side in pixels to which images are stretched before anything looks at them."""
LEAST_SCORE = 0.25
"""Boxes count whose score is more."""
SAME = 0.8
"""A box that overlaps one of a higher score by more does not count."""
LEAST_OVERLAP = 0.5
LEAST_SHARE = 0.2

Boxes = Float[np.ndarray, "boxes 4"]
"""Edges x0, y0, x1, y1 in pixels."""
Masks = Bool[np.ndarray, "boxes height width"]
Pixels = UInt8[np.ndarray, "*shape 3"]


class Limits(NamedTuple):
    """Closed ranges in OpenCV's 8-bit HSV: hues of 0 to 179, saturations and values of 0 to 255."""

    hue: tuple[int, int]
    saturation: tuple[int, int]
    value: tuple[int, int]


VIVID = (50, 255), (70, 255)
"""Saturations and values of most colours."""
LIMITS = {
    "red": (Limits((0, 9), *VIVID), Limits((159, 179), *VIVID)),
    "brown": (Limits((6, 25), (43, 255), (35, 255)),),
    "yellow": (Limits((25, 35), *VIVID),),
    "green": (Limits((36, 89), *VIVID),),
    "blue": (Limits((90, 128), *VIVID),),
    "black": (Limits((0, 179), (0, 255), (0, 30)),),
    "white": (Limits((0, 179), (0, 43), (221, 255)),),
}


class Detections(NamedTuple):
    """Boxes in pixels and their scores."""

    boxes: Boxes
    scores: Float[np.ndarray, " boxes"]


Detector = Callable[[Sequence[Picture], Sequence[str]], Sequence[Detections]]
"""Returns what is seen of a name in a picture, for as many pictures as names."""
Segmenter = Callable[[Picture, Boxes], Masks]
"""Returns a mask for each box in a picture."""


class GroundingDino(measuring.Judge):
    """GroundingDINO by transformers."""

    kind = "GroundingDinoForObjectDetection"

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Picture], names: Sequence[str]) -> list[Detections]:
        """Return the boxes of scores above LEAST_SCORE, of one name in each picture."""
        text = [f"{name.lower().strip()}." for name in names]
        inputs = self.processor(images=list(pictures), text=text, padding=True, return_tensors="pt")
        pixels = inputs.pop("pixel_values").to(self.model.device, self.model.dtype)
        found = self.model(pixels, **inputs.to(self.model.device))
        found.logits, found.pred_boxes = found.logits.float(), found.pred_boxes.float()
        sizes = [(picture.height, picture.width) for picture in pictures]
        kept = self.processor.image_processor.post_process_object_detection(
            found, threshold=LEAST_SCORE, target_sizes=torch.tensor(sizes, device=self.model.device)
        )
        return [Detections(*(one[key].cpu().double().numpy() for key in ("boxes", "scores"))) for one in kept]


class Sam(measuring.Judge):
    """Segment Anything by transformers."""

    kind = "SamModel"

    @torch.no_grad()
    def __call__(self, picture: Picture, boxes: Boxes) -> Masks:
        """Return for each box the mask that the model trusts most, of its three."""
        inputs = self.processor(picture, input_boxes=[boxes.tolist()], return_tensors="pt")
        sizes = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
        edges = inputs.pop("input_boxes").float().to(self.model.device)  # in pixels: no half precision
        images = inputs["pixel_values"].to(self.model.device, self.model.dtype)
        found = self.model(images, input_boxes=edges, multimask_output=True)
        process = self.processor.image_processor.post_process_masks
        (masks,) = process(found.pred_masks.float().cpu(), *sizes)  # boxes x 3 x height x width
        best = found.iou_scores[0].float().cpu().argmax(-1)
        return np.asarray(masks[torch.arange(len(best)), best])


class Judged(NamedTuple):
    """One instance: its overlap with the best box, and what follows."""

    phrase: str
    overlap: float
    colour_share: float | None
    """The share of the mask that has the colour; None if the place is wrong already."""
    success: bool
    iou: float


def measure(
    prompts: Sequence[Prompt],
    files: Sequence[Path],
    detector: Detector,
    segmenter: Segmenter,
    *,
    batch: int = 8,
    quiet: bool = False,
) -> list[Record]:
    """Return a record for each image: name, level, success, and its instances with the fields of `Judged`.

    Args:
        prompts: MIG-Bench's.
        files: an image for each of them.
        detector: finds boxes; `GroundingDino`, or any function.
        segmenter: draws masks; `Sam`, or any function.
        batch: the number of images in memory, and of names that the detector looks for at once.
        quiet: hides the progress bar.

    Raises:
        Expected: a file is no picture, or a phrase is not "a <colour> <object>".
    """
    measuring.check_same_number(prompts=prompts, files=files)
    records = []
    for some in measuring.batches(list(zip(prompts, files, strict=True)), batch, "COCO-MIG", quiet):
        instances = [prompt.instances for prompt, _ in some]
        pictures = [resized(measuring.opened(file), SIZE) for _, file in some]
        detections = detect(pictures, instances, detector, batch)
        for (prompt, _), picture, found in zip(some, pictures, detections, strict=True):
            judged = judge(picture, prompt.instances, found, segmenter)
            success = all(one.success for one in judged)
            described = [one._asdict() for one in judged]
            records.append(
                {"name": prompt.name, "level": len(judged), "success": success, "instances": described}
            )
    return records


def detect(
    pictures: Sequence[Picture], instances: Sequence[Sequence[Instance]], detector: Detector, batch: int
) -> list[list[Boxes]]:
    """Return for each instance of each picture the distinct boxes that the detector finds of its name.

    A name that a picture has twice is looked for once.
    """
    names = [[label_of(one.phrase).object for one in each] for each in instances]
    wanted = list(dict.fromkeys((i, name) for i, each in enumerate(names) for name in each))
    seen: list[Detections] = []
    for part in measuring.parts(wanted, batch):
        indices, some = zip(*part, strict=True)
        seen += detector([pictures[i] for i in indices], some)
    boxes = {key: distinct(found) for key, found in zip(wanted, seen, strict=True)}
    return [[boxes[i, name] for name in each] for i, each in enumerate(names)]


def judge(
    picture: Picture, instances: Sequence[Instance], found: Sequence[Boxes], segmenter: Segmenter
) -> list[Judged]:
    """Return what becomes of a picture's instances, of each of which these boxes were found."""
    wanted = np.array([one.box for one in instances]) * SIZE
    overlaps = [float(overlap(box, boxes).max(initial=0)) for box, boxes in zip(wanted, found, strict=True)]
    placed = [i for i, value in enumerate(overlaps) if value >= LEAST_OVERLAP]
    shares: dict[int, float] = {}
    if placed:
        pixels = np.asarray(picture)
        masks = zip(placed, segmenter(picture, wanted[placed]), strict=True)
        shares = {i: colour_share(pixels[mask], label_of(instances[i].phrase).colour) for i, mask in masks}
    return [judged(one.phrase, overlaps[i], shares.get(i)) for i, one in enumerate(instances)]


def judged(phrase: str, overlap: float, share: float | None) -> Judged:
    """Return whether an instance is a success, and its IoU."""
    coloured = share is not None and share >= LEAST_SHARE
    iou = overlap if share is None or coloured else 0.0
    return Judged(phrase, overlap, share, coloured, iou)


def overlap(box: Float[np.ndarray, "4"], boxes: Boxes) -> Float[np.ndarray, " boxes"]:
    """Return the intersection over union of one box with each of the others."""
    corners = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
    shared = (corners[1] - corners[0]).clip(min=0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod()
    return np.asarray(shared / (areas - shared))


def distinct(found: Detections) -> Boxes:
    """Return the boxes that overlap none of a higher score by more than SAME, by falling score."""
    boxes = found.boxes[np.argsort(-found.scores, kind="stable")]
    kept: list[int] = []
    for i, box in enumerate(boxes):
        if not (overlap(box, boxes[kept]) > SAME).any():
            kept.append(i)
    return np.asarray(boxes[kept])


def colour_share(pixels: Pixels, colour: str) -> float:
    """Return the share of RGB pixels that have a colour of LIMITS; 0 if there are no pixels."""
    found = np.zeros(pixels.shape[:-1], dtype=bool)
    values = hsv(pixels)
    for limits in LIMITS[colour]:
        low, high = np.transpose(limits)
        found |= ((low <= values) & (values <= high)).all(-1)
    return float(found.mean()) if found.size else 0.0


FRACTION = 4096
"""OpenCV divides by integer tables with 12 bits of fraction."""
SATURATIONS = np.array([0, *(round(255 * FRACTION / value) for value in range(1, 256))])
HUES = np.array([0, *(round(30 * FRACTION / spread) for spread in range(1, 256))])


def hsv(pixels: Pixels) -> UInt8[np.ndarray, "*shape 3"]:
    """Return hue (0 to 179, of 2 degrees each), saturation and value (0 to 255) of 8-bit RGB.

    They are OpenCV's `COLOR_RGB2HSV` to the last bit, for all 2^24 colours.
    """
    red, green, blue = np.moveaxis(pixels.astype(np.int32), -1, 0)
    value = np.maximum(np.maximum(red, green), blue)
    spread = value - np.minimum(np.minimum(red, green), blue)
    of_green = np.where(value == green, blue - red + 2 * spread, red - green + 4 * spread)
    turned = np.where(value == red, green - blue, of_green)
    hue, saturation = (
        (x + FRACTION // 2) // FRACTION for x in (turned * HUES[spread], spread * SATURATIONS[value])
    )
    return np.asarray(np.stack([hue + 180 * (hue < 0), saturation, value], -1), dtype=np.uint8)


def summary(records: Sequence[Record]) -> dict[str, Estimate]:
    """Return the instance success rate (ISR), mIoU and image success rate of each level and of all.

    They are shares, named "ISR L2" to "ISR L6" and "ISR avg", and so on. A level without images has none.
    """
    estimates = {}
    for level in (*LEVELS, None):
        mine = [record for record in records if level in (None, record["level"])]
        if not mine:
            continue
        name = "avg" if level is None else f"L{level}"
        each = [record["instances"] for record in mine]
        numbers = [len(instances) for instances in each]
        estimates[f"ISR {name}"] = mean([sum(one["success"] for one in some) for some in each], numbers)
        estimates[f"mIoU {name}"] = mean([sum(one["iou"] for one in some) for some in each], numbers)
        estimates[f"image success {name}"] = mean([record["success"] for record in mine])
    return estimates
