"""The commit and the package versions behind the numbers."""

import importlib.metadata
import platform
import subprocess
from functools import cache
from pathlib import Path

import torch

MEASURED = (":/amdm", ":/theory_checks/*.py", ":/benchmarks/*.py")


@cache
def commit() -> str:
    """Return this process's commit, marked if the measured code differs from it; "" without a repository."""

    def git(*command: str) -> str:
        where = str(Path(__file__).parent)
        return subprocess.run(["git", "-C", where, *command], capture_output=True, text=True).stdout.strip()

    changes = git("status", "--porcelain", "--", *MEASURED)
    return git("rev-parse", "--short", "HEAD") + ("+changes" if changes else "")


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python, torch and these packages."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name.replace("-", "_"): importlib.metadata.version(name) for name in packages},
    }
