"""What every timing shares: timing, and a table that says where its numbers come from."""

import csv
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch.utils.benchmark import Timer

from benchmarks.provenance import commit, versions

RESULTS = Path(__file__).parent / "results"


def keep_freed_memory() -> None:
    """Start this script again with an allocator that keeps what is freed.

    glibc gives large blocks back to the system and the next call maps them anew, at 2 ms per 8 MB here: it
    would drown the arithmetic, and more or less by accident of what was allocated before.
    """
    settings = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**33)}
    if not settings.items() <= os.environ.items():
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **settings})


def milliseconds(function: Callable[[], object], min_run_time: float = 1.0) -> float:
    """The median time of a call after warming up, by torch's own timer, on all threads torch has."""
    timer = Timer("function()", globals={"function": function}, num_threads=torch.get_num_threads())
    timer.timeit(3)
    return timer.blocked_autorange(min_run_time=min_run_time).median * 1e3


def provenance(seed: int) -> dict[str, str | int]:
    """Versions, commit, machine and seed: a column each of every table."""
    return {
        "commit": commit(),
        **versions("k-diffusion"),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
        "seed": seed,
    }


def write_table(name: str, rows: Sequence[Mapping[str, object]], seed: int = 0) -> Path:
    """`rows` with their provenance as CSV in `results/`, and printed."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.csv"
    columns = list(rows[0])
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns + list(provenance(seed)), lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, **provenance(seed)} for row in rows)
    widths = [max(len(c), *(len(str(row[c])) for row in rows)) for c in columns]
    for line in ({c: c for c in columns}, *rows):
        print("  ".join(str(line[c]).rjust(width) for c, width in zip(columns, widths, strict=True)))
    print(f"wrote {path}")
    return path
