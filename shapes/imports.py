"""diffusers and k-diffusion, also beside a torchvision that does not fit torch."""

import importlib
import sys
from types import ModuleType
from typing import Any


def import_beside_torchvision(name: str) -> Any:
    """Import a package that imports torchvision, also where torch is a CPU build and torchvision a CUDA one.

    There torchvision's operators do not load and importing it stops. k-diffusion and diffusers need its
    image transforms only, so the registration of the operators is left out.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError:
        for loaded in [loaded for loaded in sys.modules if loaded.startswith("torchvision")]:
            del sys.modules[loaded]
        sys.modules["torchvision._meta_registrations"] = ModuleType("torchvision._meta_registrations")
    return importlib.import_module(name)
