"""COCO's images: the caption of each, what is where, and the image itself as the reference of its style."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from amdm.command_line.arguments import Expected
from benchmarks.real.mig_bench import ACTION
from benchmarks.real.prompts import (
    Instance,
    Interaction,
    Prompt,
    box_inside,
    entry,
    read_json,
    with_article,
)

MOST = 6
"""The largest instances of an image count, as many as MIG-Bench has at most."""


class Seen(NamedTuple):
    """The instances in an image, and the name of its file."""

    file: str
    instances: list[Instance]


def prompts(captions: Mapping[int, str], seen: Mapping[int, Seen], folder: Path) -> list[Prompt]:
    """Return COCO's images by rising id: a caption, the largest instances, and the image as wanted style.

    Like MIG-Bench's, each instance is "and" with itself for InteractDiffusion; images without an instance are
    left out. This is our choice: the paper does not say what InteractDiffusion is told of COCO's captions.

    Raises:
        Expected: an image is not in the folder.
    """
    wanted = sorted(captions.keys() & seen.keys())
    missing = [seen[image].file for image in wanted if not (folder / seen[image].file).is_file()]
    if missing:
        raise Expected(f"a folder with {missing[0]} and others, {len(missing)} of {len(wanted)} are missing")
    return [
        Prompt(
            f"{image:012}",
            captions[image],
            tuple(instances),
            tuple(Interaction(one.phrase, ACTION, one.phrase, one.box, one.box) for one in instances),
            folder / file,
        )
        for image in wanted
        for file, instances in [seen[image]]
    ]


def first_captions(path: Path) -> dict[int, str]:
    """Return the caption of lowest `id` of each image, from `captions_val2017.json` or another year's.

    The file has `annotations` of `image_id`, `id` and `caption`.
    """
    first: dict[int, tuple[int, str]] = {}
    for i, value in enumerate(entry(read_json(path), "it", annotations=list)["annotations"]):
        one = entry(value, f"annotation {i}", image_id=int, id=int, caption=str)
        candidate = one["id"], one["caption"].strip()
        first[one["image_id"]] = min(first.get(one["image_id"], candidate), candidate)
    return {image: caption for image, (_, caption) in first.items()}


def largest_instances(path: Path) -> dict[int, Seen]:
    """Return what is in each image that has an instance, the largest first, from `instances_val2017.json`.

    The file has `images` of `id`, `width`, `height` and `file_name`, `categories` of `id` and `name`, and
    `annotations` of `image_id`, `category_id`, `bbox` (x, y, width, height in pixels) and `iscrowd`: a crowd
    is no instance.
    """
    found = entry(read_json(path), "it", images=list, categories=list, annotations=list)
    kinds = {"id": int, "width": int, "height": int, "file_name": str}
    images = {one["id"]: entry(one, f"image {i}", **kinds) for i, one in enumerate(found["images"])}
    names = {one["id"]: one["name"] for one in found["categories"]}
    seen: dict[int, list[Instance]] = defaultdict(list)
    for i, value in enumerate(found["annotations"]):
        one = entry(value, f"annotation {i}", image_id=int, category_id=int, bbox=list)
        if not one.get("iscrowd") and (instance := _instance(one, names, images[one["image_id"]])):
            seen[one["image_id"]].append(instance)
    return {
        image: Seen(images[image]["file_name"], sorted(some, key=_area, reverse=True)[:MOST])
        for image, some in seen.items()
    }


def _instance(one: Mapping[str, Any], names: Mapping[int, str], image: Mapping[str, Any]) -> Instance | None:
    x, y, width, height = one["bbox"]
    box = box_inside([x, y, x + width, y + height], image["width"], image["height"])
    return Instance(with_article(names[one["category_id"]]), box) if box else None


def _area(instance: Instance) -> float:
    x0, y0, x1, y1 = instance.box
    return (x1 - x0) * (y1 - y0)
