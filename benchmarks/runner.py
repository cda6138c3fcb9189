"""Drawing of many images in batches: shared between processes, cached on disk, resumed after an interruption.

A batch is one method's images of some scenes from one seed; it does not depend on the process that draws it.
It is a file in the folder that the environment variable AMDM_CACHE names (default: ~/.cache/amdm). Its name
depends on all its inputs but the code: the method's settings and its models' weights. The file has the commit
that drew it. Of n processes, started by `accelerate launch` or on CPUs by `torchrun`, each draws every n-th
batch; then they exchange their batches.
"""

import hashlib
import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import torch
from accelerate.utils import gather_object
from jaxtyping import UInt8
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from amdm.shapes import denoisers, latents, networks, world
from amdm.shapes.configs import AGGREGATED, TRAINED
from amdm.shapes.folders import cache_folder, opened
from amdm.shapes.world import Image, Scenes
from benchmarks.methods import extra_args, model
from benchmarks.processes import own_device, own_share, processes
from benchmarks.provenance import commit

BATCH = 50
Split = Literal["test", "validation"]
SPLITS = {"test": world.TEST, "validation": world.VALIDATION}
Pixels = UInt8[Tensor, "batch 3 32 32"]


class Drawer(Protocol):
    """A frozen dataclass of settings that draws scenes."""

    @property
    def calls(self) -> Counter[str]:
        """Return the number of evaluations of each network for an image."""

    def draw(self, scenes: Scenes, seed: int, device: str) -> Image:
        """Return images of scenes from the starts of this seed."""


class Batch(NamedTuple):
    """A method, a seed for the starts, and `size` scenes of a split from `first` on."""

    method: Drawer
    seed: int
    first: int
    size: int
    split: Split = "test"


class Drawn(NamedTuple):
    """A batch's images as bytes, and how they were drawn."""

    images: Pixels
    seconds: float
    commit: str
    device: str


def batches(
    method: Drawer, seeds: Iterable[int], scenes: int, split: Split = "test", first: int = 0
) -> list[Batch]:
    """Return a method's images of a split's scenes from `first` on, from every seed."""
    end = first + scenes
    starts = range(first, end, BATCH)
    return [Batch(method, seed, start, min(BATCH, end - start), split) for seed in seeds for start in starts]


def held_out(first: int, count: int, split: Split = "test") -> Scenes:
    """Return the scenes of all experiments: outside the training split, all interactions equally frequent."""
    return world.sample_scenes(SPLITS[split][first : first + count], uniform_kinds=True)


def draw_all(todo: Sequence[Batch], *, quiet: bool = False) -> list[Drawn]:
    """Return all batches in order, on every process; cached ones are read."""
    mine = own_share(len(todo))
    hidden = quiet or not processes().is_main_process
    with tqdm(total=sum(todo[i].size for i in mine), unit="image", disable=hidden) as bar:
        done = []
        for i in mine:
            bar.set_description(" + ".join(todo[i].method.calls))
            done.append((i, read_or_draw(todo[i], own_device())))
            bar.update(todo[i].size)
    return [drawn for _, drawn in sorted(gather_object(done), key=lambda pair: pair[0])]


def read_or_draw(batch: Batch, device: str) -> Drawn:
    """Return one batch from the cache, or draw it and keep it there."""
    path = path_of(batch)
    if path.exists():
        try:
            return read(batch)
        except ValueError as error:
            warnings.warn(f"{error}: drawn anew", stacklevel=2)
    begin = time.perf_counter()
    images = to_bytes(batch.method.draw(held_out(batch.first, batch.size, batch.split), batch.seed, device))
    how: dict[str, Any] = {"seconds": time.perf_counter() - begin, "commit": commit(), "device": device}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")  # a file that is there is whole
    metadata = {
        "how": json.dumps(how),
        "method": json.dumps(settings(batch.method)),
        "digest": digest(images),
    }
    save_file({"images": images}, unfinished, metadata)
    os.replace(unfinished, path)
    return Drawn(images, **how)


def read(batch: Batch) -> Drawn:
    """Return one batch from its file.

    Raises:
        ValueError: the file is damaged or belongs to another batch; the message has its name.
    """
    path = path_of(batch)
    with opened(path, remedy="it is no batch of images") as file:
        metadata, images = file.metadata(), file.get_tensor("images")
        drawn, method = Drawn(images, **json.loads(metadata["how"])), json.loads(metadata["method"])
    wanted: dict[str, tuple[Any, Any]] = {
        "shape": (tuple(images.shape), (batch.size, 3, 32, 32)),
        "dtype": (images.dtype, torch.uint8),
        "method": (method, json.loads(json.dumps(settings(batch.method)))),
        "digest": (metadata.get("digest"), digest(images) if "digest" in metadata else None),
    }
    for what, (found, expected) in wanted.items():
        if found != expected:
            raise ValueError(f"{path} has the {what} {found}, expected {expected}")
    return drawn


def _is_kept(batch: Batch) -> bool:
    try:
        return path_of(batch).exists() and bool(read(batch))
    except ValueError:
        return False


def digest(images: Pixels) -> str:
    """Return a digest of images, which tells whether a file is as it was written."""
    return hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest()[:12]


def to_bytes(images: Image) -> Pixels:
    """Return images in [-1, 1] as bytes on the host, with outside values clipped."""
    return (127.5 * (images + 1)).round().clamp(0, 255).byte().cpu()


def from_bytes(images: Pixels) -> Image:
    """Return bytes as images in [-1, 1]."""
    return images.float() / 127.5 - 1


def settings(method: Drawer, *, defaults: bool = False) -> dict[str, Any]:
    """Return a method's settings that differ from its kind's defaults: a new setting changes no name."""
    named = {
        field.name: value
        for field in fields(method)  # type: ignore[arg-type]
        if (value := getattr(method, field.name)) != field.default or defaults
    }
    return {"kind": type(method).__name__} | named


def path_of(batch: Batch) -> Path:
    """Return a batch's file in the cache."""
    beside = {getattr(batch.method, "kind", "")} & set(AGGREGATED)  # aggregators beside the networks
    weights = {name: weights_digest(name) for name in [*sorted(batch.method.calls), *beside]}
    text = json.dumps([settings(batch.method), weights], sort_keys=True)
    key = "-".join(batch.method.calls) + "-" + hashlib.sha256(text.encode()).hexdigest()[:12]
    split = "" if batch.split == "test" else f"{batch.split}-"
    return cache_folder("images") / key / f"{split}seed{batch.seed}-{batch.first}-{batch.size}.safetensors"


@cache
def weights_digest(name: str) -> str:
    """Return a digest of the files that a model is loaded from."""
    names = [name] + ([str(TRAINED[name].start)] if TRAINED[name].control else [])
    files = [path for part in names for path in sorted((networks.WEIGHTS / part).rglob("*.safetensors"))]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def estimate(todo: Iterable[Batch]) -> tuple[int, float]:
    """Return the number of images still to be drawn, and about how many minutes that takes here."""
    missing = [batch for batch in todo if not _is_kept(batch)]
    calls: Counter[str] = Counter()
    for batch in missing:
        calls.update({name: batch.size * times for name, times in batch.method.calls.items()})
    state = processes()
    seconds = sum(times * seconds_per_call(name, own_device()) for name, times in calls.items())
    return sum(batch.size for batch in missing), seconds / 60 / state.num_processes


def seconds_per_call(name: str, device: str) -> float:
    """Return the time of one guided evaluation of a network for one image of a batch."""
    scenes = held_out(0, BATCH)
    args = extra_args(name, scenes, device)
    x, sigma = torch.ones(BATCH, *latents.SHAPE, device=device), torch.ones(BATCH, device=device)
    denoiser = model(name, denoisers.GUIDANCE, device)
    denoiser(x, sigma, **args)
    begin = time.perf_counter()
    denoiser(x, sigma, **args).sum().item()
    return (time.perf_counter() - begin) / BATCH
