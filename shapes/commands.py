"""Arguments that the commands of this package and the examples share."""

import argparse
from pathlib import Path

from theory_checks.arguments import check_out, checked


def parser_of(doc: str | None, out: Path | str | None = None, files: str = "") -> argparse.ArgumentParser:
    """A parser described by a docstring's first line, with --quiet and, for a default folder, --out.

    Where --out can't be written to, parsing ends with one line that says so; a folder that is not there is
    made. `files` says for the help what is written.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else None)
    if out is not None:
        parser.add_argument(
            "--out", type=checked(check_out, Path), default=str(out), help=f"folder for {files}"
        )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser
