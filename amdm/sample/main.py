"""Draw what a file says: pipelines joined, prompts, seeds; or draw a picture again from its manifest.

`amdm sample CONFIG.toml`, `amdm sample PICTURE.json`.
"""

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from amdm.sample import cost
from amdm.sample.configuration import jobs
from amdm.sample.drawing import draw
from amdm.sample.manifest import is_drawn, read_manifest, sha256_of
from amdm.sample.reading import read_config
from amdm.sample.systems import libraries
from amdm.sample.tables import Unusable

EXAMPLE = (Path(__file__).parent / "example.toml").read_text(encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Draw, or with --dry-run say what that costs. Return 2 if something is wrong, after a line for each."""
    arguments = _parser().parse_args(argv)
    _hush(arguments.quiet)
    try:
        return _again(arguments) if arguments.config.suffix == ".json" else _all(arguments)
    except Unusable as unusable:
        print("\n".join(unusable.problems), file=sys.stderr)
        return 2
    except (
        ValueError,
        TypeError,
        FloatingPointError,
        torch.OutOfMemoryError,
    ) as error:  # ours say what was wrong
        notes = [f", {note}" for note in getattr(error, "__notes__", ())]
        print(f"amdm sample: {' '.join(str(error).split())}{''.join(notes)}", file=sys.stderr)
        return 1


def _all(arguments: argparse.Namespace) -> int:
    config = read_config(arguments.config)
    planned = jobs(config)
    left = [job for job in planned if not is_drawn(config, job)]
    if arguments.dry_run:
        print(cost.report(config, planned, left))
        return 0
    draw(config, left, quiet=arguments.quiet, say=print)
    print(f"{len(left)} pictures drawn, {len(planned) - len(left)} were there: {config.out}")
    return 0


def _again(arguments: argparse.Namespace) -> int:
    config, job = read_manifest(arguments.config)
    if arguments.dry_run:
        print(cost.report(config, [job], [job]))
        return 0
    new = replace(job, path=job.path.with_suffix(".again.png"))
    draw(config, [new], again=True, quiet=arguments.quiet)
    if sha256_of(new.manifest) == sha256_of(job.manifest):
        new.path.replace(job.path)
        new.manifest.unlink()
        print(f"{job.path}: the same bytes as before")
    else:
        print(f"{new.path}: other bytes than {job.path.name} had, which is left as it is")
    return 0


def _hush(quiet: bool) -> None:
    """Leave out what diffusers and transformers say of their own insides; with `quiet` also their bars."""
    for library in libraries():
        library.utils.logging.set_verbosity_error()
        if quiet:
            library.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module=r"(diffusers|transformers|peft)\.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="amdm sample",
        description=__doc__.splitlines()[0],
        epilog=f"A CONFIG that says everything there is to say:\n\n{EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "config",
        type=Path,
        metavar="CONFIG",
        help="a TOML file as below, or a picture's manifest, PICTURE.json",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check all, print evaluations and memory, and load nothing"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


if __name__ == "__main__":
    sys.exit(main())
