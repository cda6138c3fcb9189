"""Fixtures."""

import importlib.util
import os
from collections.abc import Iterator
from typing import Any

if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # beside other workers one thread is the fastest, here and in programs
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import jaxtyping
import pytest
import torch
from hypothesis import settings

# Code that tests load as its users would, from where it lies; and a program, not tests.
collect_ignore = ["adapters/standins", "mutants.py"]
if importlib.util.find_spec("gradio") is None:
    collect_ignore.append("page/browser")  # `make test-page` has an environment of its own

settings.register_profile("amdm", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("amdm")


@pytest.fixture(scope="session")
def k_diffusion() -> Any:
    """k-diffusion, an independent reference; it is not there for Python 3.13."""
    if importlib.util.find_spec("k_diffusion") is None:
        pytest.skip("k-diffusion is not installed")
    from amdm.shapes.imports import import_beside_torchvision  # not there beside an installed amdm

    return import_beside_torchvision("k_diffusion")


if "PYTEST_XDIST_WORKER" in os.environ:
    torch.set_num_threads(1)  # a plugin may have imported torch before this file


@pytest.fixture(autouse=True)
def _unchecked_if_slow(request: pytest.FixtureRequest) -> Iterator[None]:
    """No checks of shapes in loops of thousands of evaluations; fast tests call the same functions."""
    jaxtyping.config.update("jaxtyping_disable", request.node.get_closest_marker("slow") is not None)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


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


@pytest.fixture(autouse=True)
def few_renders(request, monkeypatch):
    """Fewer renders to compare images with: 8,000 take half a minute."""
    if request.path.parent.name == "benchmarks":
        from benchmarks import measures

        monkeypatch.setattr(measures, "RENDERS", 500)
