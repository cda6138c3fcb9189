"""The time that `import amdm` takes beyond `import torch`, each in a fresh process.

Writes results/import_time.csv and .png.
"""

import argparse
import statistics
import subprocess
import sys

from matplotlib.axes import Axes
from tqdm.auto import tqdm

from benchmarks.speed.measure import Lines, bars, script

CODE = """
import time
start = time.perf_counter()
import torch
middle = time.perf_counter()
import amdm
print(middle - start, time.perf_counter() - middle)
"""


def measure(args: argparse.Namespace) -> Lines:
    seconds = []
    for _ in tqdm(range(args.repeats), disable=args.quiet):
        out = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout
        seconds.append([float(part) for part in out.split()])
    return [
        {
            "import": name,
            "median_s": round(statistics.median(times), 3),
            "max_s": round(max(times), 3),
            "repeats": args.repeats,
        }
        for name, times in zip(["torch", "amdm, after torch"], zip(*seconds, strict=True), strict=True)
    ]


def draw(axes: Axes, lines: Lines) -> None:
    bars(axes, {str(line["import"]): float(str(line["median_s"])) for line in lines}, 0.3, "0.3 s")
    axes.set(xlabel="seconds", title="Import time, median of fresh processes")


if __name__ == "__main__":
    script("import_time", __doc__, measure, draw, (6, 2), repeats=15)
