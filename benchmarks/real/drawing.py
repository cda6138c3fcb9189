"""Drawing of a table's images: shared among processes, resumed after an interruption.

Every image is a file of its own with a manifest beside it, and depends on its prompt, its seed and its
setting alone: not on the number of processes, nor on what was there already. All processes, on whatever
machines, see one folder.
"""

import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from accelerate.utils import broadcast_object_list

from amdm.sample import draw
from amdm.sample.manifest import is_drawn
from amdm.sample.tables import Unusable
from amdm.shapes.imports import import_beside_torchvision
from benchmarks.processes import own_share, processes
from benchmarks.real.configurations import Images


def distinct(images: Sequence[Images]) -> list[Images]:
    """Return images without those that another row has too."""
    return list({(one.benchmark, one.name): one for one in images}.values())


def left_of(images: Sequence[Images]) -> list[list[int]]:
    """Return the numbers of the images that are not there yet, of each row. All processes get the same.

    Raises:
        Unusable: an image is there with a manifest that says something else.
    """
    left: list[list[int]] = []
    problems: list[str] = []
    for one in images if processes().is_main_process else ():
        try:
            left.append([i for i, job in enumerate(one.jobs) if not is_drawn(one.config, job)])
        except Unusable as unusable:
            problems += unusable.problems
    left, problems = broadcast_object_list([left, problems])
    if problems:
        raise Unusable(problems)
    return left


def draw_all(images: Sequence[Images], left: Sequence[Sequence[int]], *, quiet: bool = False) -> None:
    """Draw what is left: each process its share, until all have drawn theirs."""
    quiet = quiet or not processes().is_main_process
    if quiet:  # else networks are loaded beside a bar, in every process
        for library in ("diffusers", "transformers"):
            import_beside_torchvision(library).utils.logging.disable_progress_bar()
    for one, numbers in zip(images, left, strict=True):
        mine = [one.jobs[numbers[i]] for i in own_share(len(numbers))]
        begin = time.perf_counter()
        if mine:
            draw(one.config, mine, quiet=quiet)
            note(one, len(mine), time.perf_counter() - begin)
    processes().wait_for_everyone()


def note(images: Images, count: int, seconds: float) -> None:
    """Add a line about what this process has drawn to `drawn.jsonl`, beside the images' folder."""
    device = torch.cuda.get_device_name() if images.config.device.startswith("cuda") else images.config.device
    line = {"name": images.name, "images": count, "seconds": round(seconds, 3), "device": device}
    with log_of(images).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def log_of(images: Images) -> Path:
    """Return the file of `note`."""
    return images.config.out.parent / "drawn.jsonl"


def drawn(images: Images) -> Iterator[dict[str, object]]:
    """Yield the lines about a row's images."""
    if log_of(images).is_file():
        lines = map(json.loads, log_of(images).read_text(encoding="utf-8").splitlines())
        yield from (line for line in lines if line["name"] == images.name)


def seconds_per_image(images: Images) -> float | None:
    """Return the time of an image on one device, networks loaded within it; None if it is not known."""
    lines = list(drawn(images))
    count = sum(int(str(line["images"])) for line in lines)
    return sum(float(str(line["seconds"])) for line in lines) / count if count else None
