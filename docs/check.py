"""Check built pages (`python docs/check.py build/docs`): all names are there, no other host is loaded."""

import importlib
import re
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from amdm.shapes.imports import import_beside_torchvision

import_beside_torchvision("diffusers")

MODULES = [
    "amdm.compatibility", "amdm.denoisers", "amdm.diffusers", "amdm.diffusers.afa",
    "amdm.diffusers.scheduler", "amdm.geometry", "amdm.k_diffusion", "amdm.noise", "amdm.sample",
    "amdm.samplers", "amdm.schedules", "amdm.types",
]  # fmt: skip
LOADS = re.compile(r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=\"(?:https?:)?//[^\"]*\"[^>]*>")
CSS_LOADS = re.compile(r"(?:url\(|@import )[\"']?(?:https?:)?//[^)]*")


def missing_names(documented: set[str]) -> Iterator[str]:
    """Yield every public name without an entry; those of `amdm` itself are documented in their modules."""
    for module in MODULES:
        for name in getattr(importlib.import_module(module), "__all__", ()):
            if f"{module}.{name}" not in documented:
                yield f"{module}.{name}"
    for name in importlib.import_module("amdm").__all__:
        if f"amdm.{name}" not in documented and not any(f"{m}.{name}" in documented for m in MODULES):
            yield f"amdm.{name}"


def documented_names(pages: Path) -> set[str]:
    """The names in Sphinx's inventory."""
    inventory = (pages / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split()[0] for line in zlib.decompress(inventory).decode().splitlines()}


def loads(pages: Path) -> Iterator[str]:
    """Yield what pages and styles load from other hosts; links to follow are not loaded."""
    for path in sorted(pages.rglob("*")):
        if path.suffix in (".html", ".css"):
            pattern = LOADS if path.suffix == ".html" else CSS_LOADS
            yield from (f"{path}: {found.group()}" for found in pattern.finditer(path.read_text()))


if __name__ == "__main__":
    pages = Path(sys.argv[1])
    missing = [f"no entry: {name}" for name in missing_names(documented_names(pages))]
    sys.exit("\n".join([*missing, *loads(pages)]) or None)
