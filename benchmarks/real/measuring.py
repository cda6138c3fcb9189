"""The parts that the measures of real images share: checks of paths, pictures, records and their means.

A measure returns a record for every image, a dictionary that JSON can hold, and `summary` of its module the
means over records with intervals of 95% by the bootstrap over images. All models come from folders of this
machine: nothing is downloaded.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from jaxtyping import Int
from PIL import Image
from PIL.Image import Image as Picture
from tqdm.auto import tqdm

from amdm.command_line.arguments import Expected
from amdm.shapes.imports import import_beside_torchvision
from benchmarks.measures import Estimate
from benchmarks.real.prompts import entry, read_json
from theory_checks.statistics import ratios, redraws

T = TypeVar("T")

Record = dict[str, Any]
CONTENTS = (
    ("config.json",),
    ("preprocessor_config.json", "processor_config.json"),
    ("*.safetensors", "*.bin"),
)
"""The files of a model's folder, one of each group; the processor's are those of transformers 4 and 5."""


def check_model(folder: Path) -> None:
    """Raise `Expected` unless a folder has what transformers saves of a model: configurations and weights."""
    lacking = [" or ".join(some) for some in CONTENTS if not any(any(folder.glob(one)) for one in some)]
    if lacking:
        raise Expected(f"a folder of a model as transformers saves it, with {', '.join(lacking)}")


def check_weights(file: Path) -> None:
    """Raise `Expected` unless a file has weights that torch can read without running code."""
    if not file.is_file():
        raise Expected("a file of weights")
    try:
        torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever torch says of a file that is no checkpoint
        raise Expected(f"a file of torch.save with tensors: {str(error).splitlines()[0]:.80}") from error


def load(kind: str, folder: Path, device: str, dtype: torch.dtype) -> tuple[Any, Any]:
    """Return a model of transformers, ready to measure with, and its processor.

    Args:
        kind: the model's class.
        folder: where both are saved. Weights are read from safetensors, or by torch with `weights_only`.
        device: where the model computes.
        dtype: the weights' type.

    Raises:
        Expected: the folder is not that of a model, is one of another class, or lacks weights.
    """
    check_model(folder)
    transformers = import_beside_torchvision("transformers")
    transformers.utils.logging.disable_progress_bar()
    architectures = entry(read_json(folder / "config.json"), "config.json").get("architectures") or [kind]
    if kind not in architectures:
        raise Expected(f"a folder of a {kind}, found {', '.join(architectures)}")
    processor = transformers.AutoProcessor.from_pretrained(folder, local_files_only=True)
    model, notes = getattr(transformers, kind).from_pretrained(
        folder, local_files_only=True, output_loading_info=True
    )
    missing = sorted(notes["missing_keys"])
    if missing:  # transformers fills them with random numbers
        raise Expected(f"all weights of a {kind}, {len(missing)} are missing: {missing[0]} and so on")
    return model.eval().requires_grad_(False).to(device, dtype), processor


@dataclass(frozen=True)
class Judge:
    """A model of transformers that looks at pictures, of the class `kind`.

    Args:
        model: the model, from `load`.
        processor: its processor.
    """

    model: Any
    processor: Any
    kind: ClassVar[str]

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Self:
        """Return the model in a folder. Raises `Expected` if it has none."""
        return cls(*load(cls.kind, folder, device, dtype))


def opened(file: Path) -> Picture:
    """Return a file's picture, in RGB. Raises `Expected` if it is none."""
    try:
        with Image.open(file) as picture:
            return picture.convert("RGB")
    except OSError as error:
        raise Expected(f"{file} to be a picture: {str(error).splitlines()[0]}") from error


def resized(picture: Picture, side: int) -> Picture:
    """Return a picture stretched to a square by bilinear interpolation, to the last bit OpenCV's of bytes."""
    if picture.size == (side, side):
        return picture
    pixels = np.array(picture, dtype=int)
    (rows, across), (columns, along) = (_taps(size, side) for size in pixels.shape[:2])
    wide = (pixels[:, columns] * along[..., None]).sum(1) >> 4
    both = (wide[rows] * across[..., None, None]) >> 16
    return Image.fromarray(((both.sum(0) + 2) >> 2).astype(np.uint8))


def _taps(size: int, side: int) -> tuple[Int[np.ndarray, "2 side"], Int[np.ndarray, "2 side"]]:
    """Return for each of `side` new pixels its two old ones of `size`, and their weights in parts of 2048."""
    at = ((np.arange(side) + 0.5) * (size / side) - 0.5).astype(np.float32)
    first = np.floor(at)
    weights = np.rint(2048 * np.stack([first + 1 - at, at - first]))
    return np.stack([first, first + 1]).clip(0, size - 1).astype(int), weights.astype(int)


def check_same_number(**parts: Sequence[object]) -> None:
    """Raise ValueError unless all sequences are of one length, which is not 0."""
    lengths = {name: len(part) for name, part in parts.items()}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        described = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise ValueError(f"got {described}, expected one or more, and of each as many")


def batches(items: Sequence[T], size: int, description: str, quiet: bool) -> Iterator[Sequence[T]]:
    """Yield the items in batches of this size, beside a progress bar unless `quiet`."""
    with tqdm(total=len(items), desc=description, unit="image", disable=quiet) as bar:
        for part in parts(items, size):
            yield part
            bar.update(len(part))


def parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield the items in parts of this size, the last one of what is left."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def write(path: Path, records: Iterable[Record]) -> None:
    """Write records as JSON lines."""
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")


def read(path: Path) -> list[Record]:
    """Return the records of a file that `write` wrote."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def mean(some: Sequence[float], whole: Sequence[float] | None = None, least: float = -np.inf) -> Estimate:
    """Return the sum of `some` over that of `whole`, an entry per image; their mean without `whole`.

    Neither the value nor its draws are below `least`.
    """
    parts, wholes = np.asarray(some, float), np.ones(len(some)) if whole is None else np.asarray(whole, float)
    drawn = ratios(parts, wholes, redraws(len(parts)))
    return Estimate(max(least, float(parts.sum() / wholes.sum())), np.maximum(drawn, least))


def with_intervals(estimates: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    """Return estimates as JSON can hold them: each value, and its interval of 95% where one is known."""
    found = {}
    for name, one in estimates.items():
        limits = dict(zip(("low", "high"), one.interval or (), strict=False))
        found[name] = {"value": one.value, **limits}
    return found
