"""Measures of a row's images by the user's files, and why one is not taken if its file is missing.

What was measured of the same images with the same files is not measured again: `OUT/BENCHMARK/measured/ROW/`
has a file for each measure, and the records of each image beside it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from amdm.command_line.arguments import Expected
from amdm.sample.manifest import sha256_of
from amdm.sample.tables import Problems
from benchmarks.measures import GROUPS
from benchmarks.processes import own_device
from benchmarks.real import clip_score, coco_mig, fgahoi, hico, hoi_map, measuring, quality, style
from benchmarks.real.configurations import Images
from benchmarks.real.drawing import seconds_per_image
from benchmarks.real.mig_bench import LEVELS
from benchmarks.real.paths import Paths
from benchmarks.real.rows import Benchmark, Table
from benchmarks.tables import Cell

Cells = dict[str, Cell]


class Measure(NamedTuple):
    """A measure of some benchmarks' images: its columns, the files that it needs, and what measures."""

    benchmarks: Sequence[Benchmark]
    columns: Sequence[str]
    needs: Mapping[str, Callable[[Path], Any]]
    """By the names of `Paths`, functions that raise `Expected` unless a file is usable."""
    measure: Callable[[Images, Paths, Path, bool], Cells]
    """`measure(images, paths, folder, quiet)` returns cells by column; records go to the folder."""
    kept: bool = True
    """True if it is worth a file."""


def instances(images: Images, paths: Paths, folder: Path, quiet: bool) -> Cells:
    """Return the success rates and the mIoU of instances by level, in percent."""
    device = own_device()
    detector = coco_mig.GroundingDino.load(paths["measures.grounding_dino"], device)
    segmenter = coco_mig.Sam.load(paths["measures.sam"], device)
    records = coco_mig.measure(images.prompts, images.files, detector, segmenter, quiet=quiet)
    measuring.write(folder / "instances.jsonl", records)
    return cells_of(coco_mig.summary(records), 100)


def captions(images: Images, paths: Paths, folder: Path, quiet: bool) -> Cells:
    """Return the CLIP scores. MIG-Bench's are measured as its own evaluation does, with red for blue."""
    clip = clip_score.Clip.load(paths["measures.clip"], own_device())
    published = images.benchmark == "mig"
    records = clip_score.measure(images.prompts, images.files, clip, as_published=published, quiet=quiet)
    measuring.write(folder / "captions.jsonl", records)
    found = cells_of(clip_score.summary(records))
    return found if published else {"CLIP": found["CLIP global"]}


def styles(images: Images, paths: Paths, folder: Path, quiet: bool) -> Cells:
    """Return the CLIP score of the caption, which is the paper's, and the likeness to the wanted style."""
    clip = clip_score.Clip.load(paths["measures.clip"], own_device())
    records = style.measure(images.prompts, images.files, clip, quiet=quiet)
    measuring.write(folder / "styles.jsonl", records)
    found = cells_of(style.summary(records))
    return {"CLIP": found["CLIP-T"], "CLIP-I": found["CLIP-I"]}


def looks(images: Images, paths: Paths, folder: Path, quiet: bool) -> Cells:
    """Return FID and KID to HICO-DET's test photographs, stretched to the images' size; KID times 1000."""
    if len(images.files) < 2 * GROUPS:
        raise Expected(f"{2 * GROUPS} or more images, found {len(images.files)}")
    inception = quality.load(paths["measures.inception"], own_device())
    kept = images.config.out.parent / "measured" / "photographs.safetensors"
    with Image.open(images.files[0]) as picture:
        side = picture.width
    photographs = sorted(paths["data.hico_images"].glob("*.jpg"))
    source = {"photographs": f"{paths['data.hico_images']}, {len(photographs)}", "side": str(side)}
    theirs = features_in(kept, source)
    if theirs is None:
        theirs = quality.features(photographs, inception, device=own_device(), side=side, quiet=quiet)
        save_file({"features": theirs}, kept, source)
    ours = quality.features(images.files, inception, device=own_device(), quiet=quiet)
    return cells_of(quality.summary(ours, theirs))


def features_in(file: Path, source: Mapping[str, str]) -> Tensor | None:
    """Return the features in a file, or None if there is none of this source."""
    if not file.is_file():
        return None
    with safe_open(file, "pt") as opened:
        features: Tensor = opened.get_tensor("features")
        return features if opened.metadata() == source else None


def interactions(images: Images, paths: Paths, folder: Path, quiet: bool) -> Cells:
    """Return HICO-DET's mean average precisions, in percent.

    Raises:
        Expected: there are no detections, or not of every image, as those of a trial.
    """
    written = prepare(images, paths)
    if "measures.detections" not in paths.given:
        raise Expected(f"measures.detections in the file of paths: what FGAHOI finds in {written}")
    file = paths["measures.detections"] / f"{images.name}.pt"
    if not file.is_file():
        raise Expected(f"{file}, which FGAHOI finds in {written}")
    detections = hoi_map.read(file)
    drawn = [Path(one["file_name"]).stem for one in hico.read_images(written / "annotations/test_hico.json")]
    missing = [name for name in drawn if name not in detections]
    if missing:
        count = f"{missing[0]} and others, {len(missing)} of {len(drawn)} are missing"
        raise Expected(f"{file} to have {count}: let FGAHOI read {written} again")
    dataset = hico.read(written / "annotations")
    found = hoi_map.evaluate(detections, dataset, [name for name in drawn if name in dataset.truth])
    return {name: Cell(value) for name, value in found.items()}


def prepare(images: Images, paths: Paths) -> Path:
    """Write the folder that FGAHOI reads a row's images from, and return it."""
    folder = images.config.out.parent / "fgahoi" / images.name
    names = [prompt.name for prompt in images.prompts]
    fgahoi.write(folder, paths["data.hico"], dict(zip(names, images.files, strict=True)))
    return folder


def seconds(images: Images, paths: Paths, folder: Path, quiet: bool) -> Cells:
    """Return the time of an image on one device. Raises `Expected` if it is not known."""
    found = seconds_per_image(images)
    if found is None:
        raise Expected("images that this command has drawn")
    return {"seconds": Cell(found)}


def cells_of(estimates: Mapping[str, Any], scale: float = 1) -> Cells:
    """Return estimates and their intervals as cells."""
    return {
        name: Cell(scale * e.value, *(scale * end for end in e.interval or ()))
        for name, e in estimates.items()
    }


def check_photographs(folder: Path) -> None:
    """Raise `Expected` unless a folder has photographs enough for KID."""
    count = len(list(folder.glob("*.jpg")))
    if count < 2 * GROUPS:
        raise Expected(f"a folder of {2 * GROUPS} or more photographs, *.jpg, found {count}")


EACH = [f"L{level}" for level in LEVELS] + ["avg"]
MEASURES = {
    "instances": Measure(
        ("mig",),
        [f"{kind} {level}" for kind in ("ISR", "mIoU") for level in EACH],
        {"measures.grounding_dino": measuring.check_model, "measures.sam": measuring.check_model},
        instances,
    ),
    "captions": Measure(
        ("mig", "hico"),
        ("CLIP global", "CLIP local", "CLIP"),
        {"measures.clip": measuring.check_model},
        captions,
    ),
    "styles": Measure(("coco",), ("CLIP", "CLIP-I"), {"measures.clip": measuring.check_model}, styles),
    "looks": Measure(
        ("hico",),
        ("FID", "KID"),
        {"measures.inception": measuring.check_weights, "data.hico_images": check_photographs},
        looks,
    ),
    "interactions": Measure(
        ("hico",),
        ("Default Full", "Default Rare", "Known Full", "Known Rare"),
        {},
        interactions,
        kept=False,
    ),
    "seconds": Measure(("mig",), ("seconds",), {}, seconds, kept=False),
}


def of(table: Table, benchmark: Benchmark) -> dict[str, Measure]:
    """Return the measures of a benchmark that a table has a column of."""
    return {
        name: one
        for name, one in MEASURES.items()
        if benchmark in one.benchmarks and set(one.columns) & set(table.columns)
    }


def check(table: Table, paths: Paths, problems: Problems) -> None:
    """Note what is wrong with the files that a table is measured with; what is not given is not wrong."""
    for benchmark in table.benchmarks:
        for one in of(table, benchmark).values():
            for name, usable in one.needs.items():
                if name in paths.given and not problems.of(name):
                    problems.check(name, paths[name], usable)


def measure(table: Table, images: Images, paths: Paths, *, quiet: bool) -> tuple[Cells, dict[str, str]]:
    """Return a row's cells by column, and why others are missing."""
    cells: Cells = {}
    lacking: dict[str, str] = {}
    for name, one in of(table, images.benchmark).items():
        columns = [column for column in one.columns if column in table.columns]
        missing = [need for need in one.needs if need not in paths.given]
        try:
            if missing:
                raise Expected(f"{' and '.join(missing)} in the file of paths")
            cells |= remembered(name, one, images, paths, quiet)
            few = [column for column in columns if column not in cells]
            lacking |= {f"{column} of {images.name}": "expected more images" for column in few}
        except Expected as expected:
            where = "" if missing else f" of {images.name}"
            lacking[", ".join(columns) + where] = f"expected {expected}"
    return cells, lacking


def folder_of(images: Images) -> Path:
    """Return the folder for what is measured of a row."""
    return images.config.out.parent / "measured" / images.name


def remembered(name: str, one: Measure, images: Images, paths: Paths, quiet: bool) -> Cells:
    """Return cells from the file of an earlier run with the same images and files, else measure."""
    file = folder_of(images) / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    if not one.kept:
        return one.measure(images, paths, file.parent, quiet)
    source = {"images": digest(images), **{need: str(paths[need]) for need in one.needs}}
    if file.is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["source"] == source:
            return {column: Cell(*cell) for column, cell in found["cells"].items()}
    cells = one.measure(images, paths, file.parent, quiet)
    file.write_text(json.dumps({"source": source, "cells": cells}), encoding="utf-8")
    return cells


def digest(images: Images) -> str:
    """Return a digest of the images' bytes, from their manifests."""
    return hashlib.sha256("".join(sha256_of(job.manifest) for job in images.jobs).encode()).hexdigest()[:16]
