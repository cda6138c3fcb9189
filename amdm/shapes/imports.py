"""Imports of diffusers and k-diffusion beside a torchvision that does not fit torch."""

import importlib
import sys
from types import ModuleType
from typing import Any


def import_beside_torchvision(name: str) -> Any:
    """Import a package that imports torchvision, even if torch is a CPU build and torchvision a CUDA one.

    In that case torchvision's operators do not load and importing it fails. k-diffusion and diffusers need
    only its image transforms, so this leaves out the registration of the operators.
    """
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        pass  # diffusers does without
    except RuntimeError:
        for loaded in [loaded for loaded in sys.modules if loaded.startswith("torchvision")]:
            del sys.modules[loaded]
        sys.modules["torchvision._meta_registrations"] = ModuleType("torchvision._meta_registrations")
    return importlib.import_module(name)
