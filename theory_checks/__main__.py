"""Test every statement of the paper: `python -m theory_checks`.

Prints a table, writes theory.json (every record) and theory.png. The exit status is 1 if a statement that we
claim fails, 2 if one could not be tested, else 0.
"""

import argparse
import sys
from pathlib import Path

from rich.console import Console
from tqdm import tqdm

from theory_checks import (
    appendix_e_1,
    chord,
    corollary_3_3,
    lemma_a1,
    proposition_3_1,
    proposition_3_2,
    proposition_d_1,
    report,
    same_ecosystem,
)
from theory_checks.arguments import check_device, check_out, checked

MODULES = {
    "lemma_a1": lemma_a1,
    "proposition_3_1": proposition_3_1,
    "proposition_3_2": proposition_3_2,
    "chord": chord,
    "corollary_3_3": corollary_3_3,
    "proposition_d_1": proposition_d_1,
    "appendix_e_1": appendix_e_1,
    "same_ecosystem": same_ecosystem,
}
SIZES = ("small", "default", "thorough")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m theory_checks", description=__doc__.splitlines()[0] if __doc__ else None
    )
    parser.add_argument(
        "--only", nargs="+", choices=MODULES, default=list(MODULES), metavar="MODULE", help=", ".join(MODULES)
    )
    parser.add_argument("--size", choices=SIZES, default="default", help="how many settings, and how large")
    parser.add_argument("--seed", type=int, default=0, help="of all draws")
    device, folder = checked(check_device, str), checked(check_out, Path)
    parser.add_argument("--device", type=device, default="cpu", help="where the draws are made")
    parser.add_argument(
        "--out", type=folder, default="out/theory", help="folder for theory.json and theory.png"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser.parse_args()


def main() -> int:
    """Run the checks, print, write."""
    args = parse()
    checks = [
        check for name in args.only for check in MODULES[name].checks(args.size, args.seed, args.device)
    ]
    records = [check() for check in tqdm(checks, unit="check", disable=args.quiet)]
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(report.table(records))
    report.write_json(records, args.out / "theory.json")
    report.picture(records).savefig(args.out / "theory.png", dpi=100)
    console.print(f"Wrote {args.out / 'theory.json'} and {args.out / 'theory.png'}")
    return report.exit_code(records)


if __name__ == "__main__":
    sys.exit(main())
