"""Checks of a command's arguments and of the packages it needs, before the work begins."""

import argparse
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch

T = TypeVar("T")


class Expected(Exception):  # noqa: N818 (what it says is what was expected)
    """Raised with a description of the expected argument."""


def check_out(path: Path) -> None:
    """Make the folder if there is none, and raise `Expected` unless a file can be written there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise Expected(f"a folder that can be written to: {error.strerror}") from error


def check_device(name: str) -> None:
    """Raise `Expected` unless torch can compute there."""
    try:
        torch.zeros(1, device=name).item()
    except Exception as error:  # each backend that is not there has its own
        raise Expected(f"a device that is here: {str(error).splitlines()[0]}") from error


def checked(check: Callable[[T], Any], make: Callable[[str], T]) -> Callable[[str], T]:
    """Return an argument's `type` for argparse: `make`, then `check`, whose `Expected` is the error."""

    def convert(text: str) -> T:
        value = make(text)
        try:
            check(value)
        except Expected as expected:
            raise argparse.ArgumentTypeError(f"is {text}, expected {expected}") from expected
        return value

    return convert


def parser_of(
    doc: str | None, out: Path | str | None = None, files: str = "", prog: str | None = None
) -> argparse.ArgumentParser:
    """Return a parser described by a docstring's first line, with --quiet and, for a default folder, --out.

    If --out cannot be written to, parsing ends with a one-line error. A missing folder is made. `files` names
    the written files in the help, `prog` the command.
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description=doc.splitlines()[0] if doc else None,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    if out is not None:
        parser.add_argument(
            "--out", type=checked(check_out, Path), default=str(out), help=f"folder for {files}"
        )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def missing(*packages: str) -> list[str]:
    """Return the packages that are not installed."""
    return [name for name in packages if find_spec(name) is None]
