"""Draw a table of the paper on real images, measure it, and leave it beside the paper's numbers.

`python -m benchmarks.real TABLE --paths paths.toml`; `accelerate launch -m benchmarks.real ...` draws with
all GPUs, of several machines too. What was drawn is not drawn again. See README.md in this folder.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from amdm.sample.cost import evaluations_of, plain
from amdm.sample.tables import Problems, Unusable
from benchmarks.processes import processes
from benchmarks.real import measures, results
from benchmarks.real.configurations import Images, configured, images_of, needed, prompts_of
from benchmarks.real.drawing import distinct, draw_all, left_of
from benchmarks.real.paths import Paths, read_paths
from benchmarks.real.prompts import Prompt
from benchmarks.real.rows import TABLES, Benchmark


def main(argv: Sequence[str] | None = None) -> int:
    """Return 2 if something is wrong, after a line for each; what is there is looked at before drawing."""
    arguments = _parser().parse_args(argv)
    is_main = processes().is_main_process
    try:
        paths, images = planned(arguments.table, arguments.paths, arguments.limit)
        todo = distinct(images)
        left = left_of(todo)
        if is_main:
            print(report(todo, left), flush=True)
        if not arguments.dry_run:
            draw_all(todo, left, quiet=arguments.quiet)
            if is_main:
                print(measured(arguments.table, images, paths, arguments.limit, arguments.quiet), flush=True)
            processes().wait_for_everyone()
    except Unusable as unusable:
        if is_main:
            print("\n".join(unusable.problems), file=sys.stderr)
        return 2
    finally:
        processes().destroy_process_group()  # else its threads may abort the interpreter at exit
    return 0


def planned(number: int, file: Path, limit: int | None) -> tuple[Paths, list[Images]]:
    """Return the user's paths, and what a table needs to be drawn.

    Raises:
        Unusable: something is wrong, with a line for each.
    """
    problems, table, images = Problems(), TABLES[number], []
    paths = read_paths(file, problems)
    if not problems.lines:
        measures.check(table, paths, problems)
        if paths.need(needed(number), problems):
            for benchmark in table.benchmarks:
                prompts = prompts_of(benchmark, paths, problems)[:limit]
                if prompts:
                    images += _rows(number, benchmark, prompts, paths, problems)
    problems.finish()
    return paths, images


def _rows(
    number: int, benchmark: Benchmark, prompts: Sequence[Prompt], paths: Paths, problems: Problems
) -> list[Images]:
    """Return the images of a table's rows; what is wrong with their configurations is noted."""
    rows, configs = TABLES[number].rows, {}
    for setting in dict.fromkeys(row.setting for row in rows.values()):
        try:
            configs[setting] = configured(setting, benchmark, prompts, paths)
        except Unusable as unusable:
            problems.lines += unusable.problems
    return [
        images_of(number, name, benchmark, prompts, configs[row.setting])
        for name, row in rows.items()
        if row.setting in configs
    ]


def report(images: Sequence[Images], left: Sequence[Sequence[int]]) -> str:
    """Return what is to be drawn: images and evaluations, a line for each row."""
    lines = []
    for one, numbers in zip(images, left, strict=True):
        cost = evaluations_of(one.config, one.jobs[0])
        names = [one.config.models[k].name for k in one.jobs[0].models]
        each = " + ".join(f"{plain(count)} of {name}" for name, count in zip(names, cost, strict=True))
        lines.append(
            f"{one.benchmark}, {one.name}: {len(one.jobs)} images, {len(numbers)} to draw, each {each}: "
            f"{plain(len(numbers) * sum(cost))} evaluations"
        )
    return "\n".join(lines)


def measured(number: int, images: Sequence[Images], paths: Paths, limit: int | None, quiet: bool) -> str:
    """Measure a table's images, write the results, and return them in print."""
    table = TABLES[number]
    rows: results.Rows = {row: {} for row in table.rows}
    lacking: dict[str, str] = {}
    for one in images:
        cells, without = measures.measure(table, one, paths, quiet=quiet)
        rows[one.row] |= cells
        lacking |= without
    text = results.write(table, images, rows, lacking, paths, trial=limit is not None)
    notes = [f"not measured: {column}: {why}" for column, why in lacking.items()]
    return "\n".join([text, "", *notes, *([table.note] if table.note else [])])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.real", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("table", type=int, choices=TABLES, metavar="TABLE", help=", ".join(map(str, TABLES)))
    parser.add_argument("--paths", type=Path, required=True, metavar="FILE", help="TOML: what is where")
    parser.add_argument(
        "--limit", type=_count, metavar="N", help="the first N images of each benchmark, for a trial"
    )
    parser.add_argument("--dry-run", action="store_true", help="check all, and print what is to be drawn")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"is {text}, expected a whole number of 1 or more")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
