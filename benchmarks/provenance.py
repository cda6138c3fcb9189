"""The commit and the versions that numbers come from."""

import importlib.metadata
import platform
import subprocess
from functools import cache
from pathlib import Path

import torch

MEASURED = (":/amdm", ":/shapes", ":/theory_checks/*.py", ":/benchmarks/*.py")


@cache
def commit() -> str:
    """The commit that this process runs, marked where what it measures differs from it; "" outside of one."""

    def git(*command: str) -> str:
        where = str(Path(__file__).parent)
        return subprocess.run(["git", "-C", where, *command], capture_output=True, text=True).stdout.strip()

    changes = git("status", "--porcelain", "--", *MEASURED)
    return git("rev-parse", "--short", "HEAD") + ("+changes" if changes else "")


def versions(*packages: str) -> dict[str, str]:
    """The versions of Python, torch and these packages."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name.replace("-", "_"): importlib.metadata.version(name) for name in packages},
    }
