"""Arguments that the commands of this package and the examples share."""

import argparse
from pathlib import Path

from theory_checks.arguments import check_out, checked


def parser_of(doc: str | None, out: Path | str | None = None, files: str = "") -> argparse.ArgumentParser:
    """Return a parser described by a docstring's first line, with --quiet and, for a default folder, --out.

    If --out cannot be written to, parsing ends with a one-line error. A missing folder is made. `files` names
    the written files in the help.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0] if doc else None)
    if out is not None:
        parser.add_argument(
            "--out", type=checked(check_out, Path), default=str(out), help=f"folder for {files}"
        )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser
