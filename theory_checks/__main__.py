"""Test every statement of the paper: `amdm theory`.

Prints a table, writes theory.json (every record) and theory.png; with projective_guidance also
projective_guidance.csv and .png, its gap by level. The exit status is 1 if a statement that we
claim fails, 2 if packages of the extra `theory` are missing, else 0.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import get_args

from tqdm import tqdm

from amdm.command_line.arguments import check_device, check_out, checked, missing
from theory_checks.record import Size

MODULES = (
    "lemma_a1",
    "proposition_3_1",
    "proposition_3_2",
    "chord",
    "corollary_3_3",
    "proposition_d_1",
    "appendix_e_1",
    "same_ecosystem",
    "projective_guidance",
    "dilution",
)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="amdm theory",
        description=__doc__.splitlines()[0] if __doc__ else None,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=MODULES,
        default=list(MODULES),
        metavar="MODULE",
        help="the statements to test: some of the default",
    )
    parser.add_argument(
        "--size",
        choices=get_args(Size),
        default="default",
        help=f"how many settings, and how large: {', '.join(get_args(Size))}",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of all draws")
    device, folder = checked(check_device, str), checked(check_out, Path)
    parser.add_argument(
        "--device", type=device, default="cpu", help="device of torch on which the draws are made"
    )
    parser.add_argument(
        "--out", type=folder, default="out/theory", help="folder for theory.json and theory.png"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the checks, print their table and write the files."""
    args = parse(argv)
    if lacking := missing("matplotlib", "rich", "scipy"):
        extra = "the extra theory, in a clone: pip install '.[theory]'"
        print(f"{', '.join(lacking)} not found, expected {extra}", file=sys.stderr)
        return 2
    # After that: these import the extra's packages.
    from rich.console import Console

    from theory_checks import gap_by_level, report

    modules = [import_module(f"theory_checks.{name}") for name in args.only]
    checks = [check for module in modules for check in module.checks(args.size, args.seed, args.device)]
    records = [check() for check in tqdm(checks, unit="check", disable=args.quiet)]
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(report.table(records))
    report.write_json(records, args.out / "theory.json")
    report.picture(records).savefig(args.out / "theory.png", dpi=200)
    if "projective_guidance" in args.only:
        gap_by_level.write(args.out, args.size, args.seed)
    console.print(f"Wrote {args.out / 'theory.json'} and {args.out / 'theory.png'}")
    return int(any(report.broken(record) for record in records))


if __name__ == "__main__":
    sys.exit(main())
