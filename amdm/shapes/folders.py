"""The cache outside the repository, for results that take long to compute."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open


def cache_folder(part: str) -> Path:
    """Return a subfolder of the folder that the environment variable AMDM_CACHE names (~/.cache/amdm)."""
    named = os.environ.get("AMDM_CACHE")  # an empty name is none: the folder of the caller is not a cache
    return (Path(named).expanduser() if named else Path.home() / ".cache" / "amdm") / part


@contextmanager
def opened(path: Path, device: str = "cpu", remedy: str = "remove it") -> Iterator[Any]:
    """Open a file of tensors with `safe_open`.

    Raises:
        ValueError: the file is damaged or lacks a requested tensor. The message has its name and a remedy.
    """
    try:
        with safe_open(path, "pt", device=device) as file:
            yield file
    except (OSError, SafetensorError, KeyError, TypeError, RuntimeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged: {error!r}; {remedy}") from error
