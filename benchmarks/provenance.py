"""Where numbers come from."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

import torch

MEASURED = (":/amdm", ":/ecosystem/*.py", ":/ecosystem/weights")


def commit() -> str:
    """The commit of this repository, marked where what is measured differs from it; "" outside of one."""
    git = ["git", "-C", str(Path(__file__).parent)]
    found = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *MEASURED]).returncode
    return found.strip() + ("+changes" if changed else "")


def versions(*packages: str) -> dict[str, str]:
    """Of Python, torch and these packages."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name.replace("-", "_"): importlib.metadata.version(name) for name in packages},
    }
