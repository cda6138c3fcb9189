"""The cache outside the repository, for results that take long to compute."""

import os
from pathlib import Path


def cache_folder(part: str) -> Path:
    """A part of the folder that the environment variable AMDM_CACHE names (default: ~/.cache/amdm)."""
    return Path(os.environ.get("AMDM_CACHE", Path.home() / ".cache" / "amdm")) / part
