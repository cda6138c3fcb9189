"""Where what takes long to make is kept, outside the repository."""

import os
from pathlib import Path


def cache_folder(part: str) -> Path:
    """A part of the folder that the environment variable AMDM_CACHE names (default: ~/.cache/amdm)."""
    return Path(os.environ.get("AMDM_CACHE", Path.home() / ".cache" / "amdm")) / part
