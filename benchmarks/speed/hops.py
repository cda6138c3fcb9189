"""The code that one run of a sampler executes: functions, files and their lines.

A function of `amdm` counts if it is defined by `def`, with all lines of its source: its signature and its
documentation too. Writes results/hops.csv and .png.
"""

import argparse
import ast
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from matplotlib.axes import Axes
from torch import Tensor

import amdm
from amdm import sample_amdm, sample_ddim
from benchmarks.speed.measure import Lines, bars, script

PACKAGE = str(Path(amdm.__file__).parent)
Function = tuple[str, int, str]
"""File, first line, name."""


def model(x: Tensor, sigma: Tensor) -> Tensor:
    """Return the exact denoiser of a standard normal."""
    return x / (1 + sigma[:, None] ** 2)


def called(run: Callable[[], object]) -> set[Function]:
    """Return the functions of `amdm` that a run calls."""
    seen: set[Function] = set()

    def trace(frame: FrameType, event: str, arg: Any) -> None:
        code = frame.f_code
        if code.co_filename.startswith(PACKAGE) and not code.co_name.startswith("<"):
            seen.add((code.co_filename, code.co_firstlineno, code.co_name))

    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(None)
    return seen


def length(function: Function) -> int:
    """Return the lines of a function's source."""
    path, first, name = function
    for node in ast.walk(ast.parse(Path(path).read_text())):
        if isinstance(node, ast.FunctionDef) and node.name == name:
            begin = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            if begin == first and node.end_lineno is not None:
                return node.end_lineno - begin + 1
    raise ValueError(f"{name} is not at line {first} of {path}")


def measure(args: argparse.Namespace) -> Lines:
    x, sigmas = 14 * torch.randn(2, 256), torch.tensor([14.0, 5.0, 2.0, 1.0, 0.5, 0.0])
    off: dict[str, Any] = {"disable": True, "validate": False}
    runs: dict[str, Callable[[], object]] = {
        "sample_ddim": lambda: sample_ddim(model, x, sigmas, disable=True),
        "sample_ddim, validate=False": lambda: sample_ddim(model, x, sigmas, **off),
        "sample_amdm, 2 models": lambda: sample_amdm([model] * 2, x, sigmas, disable=True),
        "sample_amdm, 2 models, validate=False": lambda: sample_amdm([model] * 2, x, sigmas, **off),
    }
    functions = {name: called(run) for name, run in runs.items()}
    return [
        {
            "run": name,
            "functions": len(each),
            "files": len({path for path, *_ in each}),
            "lines": sum(map(length, each)),
        }
        for name, each in functions.items()
    ]


def draw(axes: Axes, lines: Lines) -> None:
    bars(axes, {str(line["run"]): float(str(line["functions"])) for line in lines}, 30, "30 functions")
    axes.set(xlabel="functions of amdm", title="Functions that one run calls")


if __name__ == "__main__":
    warnings.simplefilter("error")
    script("hops", __doc__, measure, draw, (7, 2.2))
