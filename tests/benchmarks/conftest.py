"""Fewer renders to compare images with, which take half a minute."""

import pytest

from benchmarks import measures


@pytest.fixture(scope="session", autouse=True)
def few_renders():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measures, "RENDERS", 500)
        yield
