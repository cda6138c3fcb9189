"""HICO-DET as FGAHOI reads it, with images that were drawn in place of the photographs.

FGAHOI runs in an environment of its own. It is given a folder as `--hoi_path`, with `images/test`, which its
guide calls `test2015`, and `annotations`, and its detections come back as a file, see `hoi_map.read`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from amdm.command_line.arguments import Expected
from benchmarks.real.prompts import read_json

LINKED = (
    *("hoi_list_new.json", "hoi_id_to_num.json", "file_name_to_obj_cat.json"),
    *("trainval_hico.json", "corre_hico.npy"),
)
"""The files of HICO-DET's annotations that are taken as they are."""

Size = tuple[int, int]
"""Width and height in pixels."""


def write(folder: Path, annotations: Path, files: Mapping[str, Path]) -> None:
    """Write a folder for FGAHOI: links to images, and annotations whose boxes are in their pixels.

    Args:
        folder: what is written.
        annotations: HICO-DET's, as FGAHOI has them.
        files: the images by the names of HICO-DET's, without ending; of one size.

    Raises:
        Expected: a file of the annotations is missing.
    """
    missing = [name for name in LINKED if not (annotations / name).is_file()]
    if missing:
        raise Expected(f"{', '.join(missing)} in {annotations}, which FGAHOI reads")
    with Image.open(next(iter(files.values()))) as picture:
        size = picture.size
    pictures, notes = folder / "images" / "test2015", folder / "annotations"
    for part in (pictures, notes):
        part.mkdir(parents=True, exist_ok=True)
    link(folder / "images" / "test", pictures)
    for name, file in files.items():
        link(pictures / f"{name}.jpg", file)
    for name in LINKED:
        link(notes / name, annotations / name)
    lists = read_json(annotations / "anno_list.json")
    sizes = {image["global_id"]: tuple(image["image_size"][1::-1]) for image in lists}
    images = [image for image in lists if image["global_id"] in files]
    write_json(notes / "anno_list.json", [stretched_list(image, size) for image in images])
    test = read_json(annotations / "test_hico.json")
    some = {Path(image["file_name"]).stem: image for image in test}
    write_json(
        notes / "test_hico.json",
        [stretched_image(some[name], sizes[name], size) for name in files if name in some],
    )


def stretched_list(image: Mapping[str, Any], size: Size) -> dict[str, Any]:
    """Return an image of `anno_list.json` with boxes in the pixels of another size."""
    parts, (height, width) = ("human_bboxes", "object_bboxes"), image["image_size"][:2]
    hois = [
        {**hoi, **{part: [stretched(box, (width, height), size) for box in hoi[part]] for part in parts}}
        for hoi in image["hois"]
    ]
    return {**image, "image_size": [size[1], size[0], 3], "hois": hois}


def stretched_image(image: Mapping[str, Any], before: Size, size: Size) -> dict[str, Any]:
    """Return an image of `test_hico.json` with boxes in the pixels of another size."""
    boxes = [{**one, "bbox": stretched(one["bbox"], before, size)} for one in image["annotations"]]
    return {**image, "width": size[0], "height": size[1], "annotations": boxes}


def stretched(box: Sequence[float], before: Size, size: Size) -> list[int]:
    """Return a box in the pixels of another size, rounded down as in InteractDiffusion's evaluation."""
    return [int(size[i % 2] * edge / before[i % 2]) for i, edge in enumerate(box)]


def link(at: Path, to: Path) -> None:
    """Make a link, in place of one that is there."""
    at.unlink(missing_ok=True)
    at.symlink_to(to.resolve())


def write_json(path: Path, value: Any) -> None:
    """Write a value as JSON."""
    path.write_text(json.dumps(value), encoding="utf-8")
