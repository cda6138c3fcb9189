"""The paper's experiments on `shapes`: `python -m benchmarks [NAME ...] --size quick|full`.

Every experiment writes a table, the differences of its rows, a picture and a manifest to <out>/results, and
its section to <out>/REPORT.md. Images that were drawn before are not drawn again. `accelerate launch -m
benchmarks` draws with all GPUs, `torchrun --nproc_per_node N -m benchmarks` with N processes.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import torch
from matplotlib.figure import Figure

from amdm.shapes import world
from benchmarks import measures, report, tables
from benchmarks.experiment import Experiment
from benchmarks.processes import processes
from benchmarks.provenance import commit, versions
from benchmarks.runner import SPLITS, Drawn, draw_all, estimate, from_bytes, settings
from benchmarks.tables import Table

EXPERIMENTS = (
    *("table1_2", "table8_9", "table3", "best_length", "table4", "stages", "figure6_7", "controls"),
    *("table10", "cost", "guidance", "table6_sweep", "table6", "table6_published", "table7", "published"),
    *("caption_once", "caption_settings", "table6_caption_sweep", "table6_caption", "fronts"),
    *("caption_choice", "caption_noise", "caption_guide", "caption_three", "dilution", "afa_sweep", "afa"),
    "proximity",
)
WITHOUT_IMAGES = ("best_length", "table7", "proximity")
SIZES = {"quick": ("table1_2",), "full": EXPERIMENTS}
HERE = Path(__file__).parent


def modules(names: Iterable[str] = EXPERIMENTS) -> dict[str, ModuleType]:
    """Return the experiments' modules by name."""
    return {name: import_module(f"benchmarks.{name}") for name in names}


def run(name: str, module: ModuleType, plan: Experiment, out: Path, *, quiet: bool) -> None:
    """Draw an experiment's images; the main process measures them and writes the results."""
    todo = plan.batches
    drawn = iter(draw_all([batch for row in todo.values() for batch in row], quiet=quiet))
    if not processes().is_main_process:
        return
    rows = {label: [next(drawn) for _ in row] for label, row in todo.items()}
    images = {label: from_bytes(torch.cat([batch.images for batch in row])) for label, row in rows.items()}
    table, differences = measure(plan, images)
    figure = module.figure(table, images, plan.wanted)
    save(name, module, out, table, differences, figure, manifest(plan, rows))


def tabulate(name: str, module: ModuleType, size: str, out: Path, *, quiet: bool) -> None:
    """Run an experiment without images, in the main process alone."""
    if processes().is_main_process:
        table, figure = module.tabulate(size, quiet=quiet)
        how = {"measured by": commit(), "versions": versions("numpy", "scipy")}
        save(name, module, out, table, {}, figure, how)


def save(
    name: str,
    module: ModuleType,
    out: Path,
    table: Table,
    differences: Table,
    figure: Figure,
    how: Mapping[str, Any],
) -> None:
    """Write an experiment's results, and print its section."""
    folder = out / "results"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(how, indent=1) + "\n")
    figure.savefig(folder / f"{name}.png", dpi=200)
    if differences:
        tables.write(folder / f"{name}_differences.csv", differences)
    tables.write(folder / f"{name}.csv", table)  # the last: a table that is there has all the rest
    print(f"\n{report.text(name, module, table, differences, how)}\n", flush=True)


def measure(plan: Experiment, images: Mapping[str, world.Image]) -> tuple[Table, Table]:
    """Return the table of rows, first of flawless images (KID's floor, others' ceiling), and differences."""
    scenes = plan.wanted
    row_of = partial(tables.row_of, scenes=plan.scenes, seeds=plan.seeds)
    measured = {label: plan.measure(drawn, scenes, plan.rows[label]) for label, drawn in images.items()}
    table = {}
    if plan.measure is measures.measure:
        flawless = measures.measure(world.render(scenes), scenes)
        table["renders"] = tables.row_of(flawless, plan.scenes, 1)
        for estimates in measured.values():
            estimates["KID above renders"] = estimates["KID"] - flawless["KID"]
    for label, estimates in measured.items():
        table[label] = row_of(estimates, evaluations=plan.rows[label].calls.total())
    differences = {
        f"{one} - {other}": row_of(measures.difference(measured[one], measured[other]))
        for one, other in plan.pairs
    }
    return table, differences


def manifest(plan: Experiment, rows: Mapping[str, Sequence[Drawn]]) -> dict[str, Any]:
    """Return the settings, scenes, devices and versions of a table.

    Seconds are the median batch's, on the machine as it was during the run, busy or not.
    """
    drawn = [batch for row in rows.values() for batch in row]
    first = SPLITS[plan.split].start + plan.first
    per_row = {
        label: {
            "method": settings(plan.rows[label], defaults=True),
            "seconds per image": round(median(batch.seconds / len(batch.images) for batch in row), 3),
        }
        for label, row in rows.items()
    }
    return {
        "scenes": f"{first} to {first + plan.scenes - 1}, all kinds equally frequent",
        "seeds": list(range(plan.seeds)),
        "drawn by": sorted({batch.commit for batch in drawn}),
        "measured by": commit(),
        report.RENDERS: measures.RENDERS,
        "devices": sorted({batch.device for batch in drawn}),
        "versions": versions("accelerate", "diffusers", "numpy", "scipy", "torch-fidelity"),
        "rows": per_row,
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(EXPERIMENTS)}")
    parser.add_argument("--size", choices=SIZES, default="quick")
    parser.add_argument("--out", type=Path, help="benchmarks for the full size, out/benchmarks otherwise")
    parser.add_argument("--scenes", type=int, help="instead of an experiment's own number, for a trial")
    parser.add_argument("--report", action="store_true", help="draw nothing: the report of what is in --out")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args(argv)
    if unknown := set(args.names) - set(EXPERIMENTS):
        parser.error(f"no such experiment: {', '.join(sorted(unknown))}; there are {', '.join(EXPERIMENTS)}")
    if args.scenes is not None and (args.scenes < 2 * measures.GROUPS or args.scenes % measures.GROUPS):
        parser.error(f"--scenes is {args.scenes}, expected a multiple of {measures.GROUPS} from 20 on")
    if args.out is None:
        trial = args.size == "quick" or args.scenes is not None
        args.out = Path("out/benchmarks") if trial and not args.report else HERE
    return args


def planned(module: ModuleType, args: argparse.Namespace) -> Experiment:
    """Return an experiment of the requested size and number of scenes."""
    plan: Experiment = module.experiment(args.size)
    return plan if args.scenes is None else plan._replace(scenes=args.scenes)


def main(argv: Sequence[str] | None = None) -> None:
    """Print how long it will take, run the experiments, write the report."""
    args = parse(argv)
    if args.report:
        print(f"Wrote {report.write(args.out, modules())}")
        return
    chosen = modules(args.names or SIZES[args.size])
    plans = [planned(module, args) for name, module in chosen.items() if name not in WITHOUT_IMAGES]
    is_main = processes().is_main_process
    if is_main:
        todo = {batch for plan in plans for row in plan.batches.values() for batch in row}
        images, minutes = estimate(todo)
        whole = sum(batch.size for batch in todo)
        print(f"{images} of {whole} images to draw, about {minutes:.0f} minutes; measuring comes on top")
    for name, module in chosen.items():
        if name in WITHOUT_IMAGES:
            tabulate(name, module, args.size, args.out, quiet=args.quiet)
        else:  # planned anew: what one experiment draws may depend on what another found
            run(name, module, planned(module, args), args.out, quiet=args.quiet)
    if is_main:
        print(f"Wrote {report.write(args.out, modules())}")
    processes().destroy_process_group()  # else its threads may abort the interpreter at exit


if __name__ == "__main__":
    main()
