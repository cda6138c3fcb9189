"""How long `import amdm` takes beyond `import torch`, each in a fresh process.

Writes results/import_time.csv and .png.
"""

import argparse
import statistics
import subprocess
import sys

from matplotlib.figure import Figure
from tqdm.auto import tqdm

from benchmarks.speed.measure import RESULTS, write_table

CODE = """
import time
start = time.perf_counter()
import torch
middle = time.perf_counter()
import amdm
print(middle - start, time.perf_counter() - middle)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args()
    seconds = []
    for _ in tqdm(range(args.repeats), disable=args.quiet):
        out = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout
        seconds.append([float(part) for part in out.split()])
    rows: list[dict[str, object]] = [
        {
            "import": name,
            "median_s": round(statistics.median(times), 3),
            "max_s": round(max(times), 3),
            "repeats": args.repeats,
        }
        for name, times in zip(["torch", "amdm, after torch"], zip(*seconds, strict=True), strict=True)
    ]
    write_table("import_time", rows)
    figure = Figure(figsize=(6, 2), layout="constrained")
    axes = figure.subplots()
    axes.barh([str(row["import"]) for row in rows], [float(str(row["median_s"])) for row in rows])
    axes.axvline(0.3, color="black", linestyle="--", label="0.3 s")
    axes.set(xlabel="seconds", title="Import time, median of fresh processes")
    axes.invert_yaxis()
    axes.legend()
    figure.savefig(RESULTS / "import_time.png", dpi=120)


if __name__ == "__main__":
    main()
