"""The scaffold of every timing: a script that measures, a table with its provenance, and a picture."""

import argparse
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from torch.utils.benchmark import Timer

from amdm import plots
from amdm.shapes.tables import write_csv
from benchmarks.provenance import commit, versions
from benchmarks.tables import markdown

RESULTS = Path(__file__).parent / "results"

Lines = Sequence[Mapping[str, object]]


def script(
    name: str,
    doc: str | None,
    measure: Callable[[argparse.Namespace], Lines],
    draw: Callable[[Axes, Lines], None],
    size: tuple[float, float],
    **options: int,
) -> None:
    """Parse the command line, measure, and write results/<name>.csv and .png.

    Args:
        name: the name of the results.
        doc: the script's docstring; its first line describes the command.
        measure: makes the table's lines from the arguments.
        draw: draws them on axes.
        size: the size of the picture.
        options: the command's options, whole numbers, with their defaults.
    """
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    for option, default in options.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args()
    lines = measure(args)
    write_table(name, lines, getattr(args, "seed", 0))
    figure = plots.empty(*size)
    draw(figure.subplots(), lines)
    figure.savefig(RESULTS / f"{name}.png", dpi=120)


def keep_freed_memory() -> None:
    """Restart this script with an allocator that keeps freed memory.

    glibc returns large blocks to the system and the next call maps them anew, at 2 ms per 8 MB here. That
    would drown the arithmetic, by an amount that depends on earlier allocations.
    """
    settings = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**33)}
    if not settings.items() <= os.environ.items():
        os.execve(sys.executable, sys.orig_argv, {**os.environ, **settings})


def milliseconds(function: Callable[[], object], min_run_time: float = 1.0) -> float:
    """Return the median time of a call after warming up, by torch's own timer, on all threads torch has."""
    timer = Timer("function()", globals={"function": function}, num_threads=torch.get_num_threads())
    timer.timeit(3)
    return timer.blocked_autorange(min_run_time=min_run_time).median * 1e3


def write_table(name: str, lines: Lines, seed: int = 0) -> None:
    """Write lines as CSV with a column each for commit, versions, machine and seed, and print them."""
    made = {"commit": commit(), **versions("k-diffusion"), "machine": platform.machine()}
    made |= {"threads": str(torch.get_num_threads()), "seed": str(seed)}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.csv"
    write_csv(path, [[*lines[0], *made], *([*line.values(), *made.values()] for line in lines)])
    print(markdown([list(lines[0]), *([str(value) for value in line.values()] for line in lines)]))
    print(f"wrote {path}")


def bars(axes: Axes, values: Mapping[str, float], limit: float, limit_label: str) -> None:
    """Draw a horizontal bar per value and a line at the limit."""
    colors = ["tab:gray" if name.startswith("k_diffusion") else "tab:blue" for name in values]
    axes.barh(list(values), list(values.values()), color=colors)
    axes.axvline(limit, color="black", linestyle="--", label=limit_label)
    axes.invert_yaxis()
    axes.legend()
