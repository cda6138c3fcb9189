"""Start `benchmarks.speed.gpu` on a machine that has torch and no internet: `python gpu.py` in a bundle.

`make speed-gpu-bundle` copies this there, beside the sources and wheels. A wheel is an archive of what an
installation would put on the path, so they are unpacked, and come after the machine's own packages.
"""

import os
import runpy
import sys
from pathlib import Path
from zipfile import ZipFile


def start(folder: Path) -> None:
    """Unpack the folder's wheels and run the script with the command line's arguments."""
    site = folder / "site"
    for wheel in sorted((folder / "wheels").glob("*.whl")):
        with ZipFile(wheel) as file:
            file.extractall(site)
    sys.path.append(str(site))
    os.environ["HF_HUB_OFFLINE"] = "1"
    runpy.run_module("benchmarks.speed.gpu", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    start(Path(__file__).resolve().parent)
