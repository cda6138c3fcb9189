"""Fixtures."""

from collections.abc import Iterator
from typing import Any

import jaxtyping
import pytest
import torch
from hypothesis import settings

# Code that tests load as its users would, from where it lies; and a program, not tests.
collect_ignore = ["denoisers/standins", "mutants.py"]

settings.register_profile("amdm", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("amdm")


@pytest.fixture(scope="session")
def k_diffusion() -> Any:
    """k-diffusion, an independent reference."""
    from ecosystem.imports import import_beside_torchvision  # not there beside an installed amdm

    return import_beside_torchvision("k_diffusion")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """What is drawn from the global generators is the same in every run and order."""
    torch.manual_seed(0)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Run-time shape checking off, to see the library's own messages for bad arguments."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def rng() -> torch.Generator:
    """A generator of its own for every test."""
    return torch.Generator().manual_seed(0)
