"""The paper's experiments on `shapes`: `python -m benchmarks [NAME ...] --size quick|full`.

Every experiment leaves a table, the differences of its rows, a picture and a manifest in <out>/results, and
its section in <out>/REPORT.md. What was drawn before is not drawn again. `accelerate launch -m benchmarks`
draws with all GPUs, `torchrun --nproc_per_node N -m benchmarks` with N processes.
"""

import argparse
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmarks import measures, report, tables
from benchmarks.experiment import Experiment
from benchmarks.provenance import commit, versions
from benchmarks.runner import (
    SPLITS,
    Batch,
    Drawer,
    Drawn,
    batches,
    draw_all,
    estimate,
    from_bytes,
    held_out,
    processes,
    settings,
)
from benchmarks.tables import Table
from shapes import world

FULL = ["table1_2", "table8_9", "table3", "best_length", "table4", "stages", "figure6_7", "controls"]
FULL += ["table10", "cost", "guidance", "table6_sweep", "table6", "table6_published", "table7", "published"]
WITHOUT_IMAGES = ("best_length", "table7")
SIZES = {"quick": ["table1_2"], "full": FULL}
HERE = Path(__file__).parent


def run(name: str, module: ModuleType, plan: Experiment, out: Path, *, quiet: bool) -> None:
    """Draw an experiment's images; the main process measures them and writes what there is to see."""
    todo = {label: all_of(plan, method) for label, method in plan.rows.items()}
    drawn = iter(draw_all([batch for row in todo.values() for batch in row], quiet=quiet))
    if not processes().is_main_process:
        return
    rows = {label: [next(drawn) for _ in row] for label, row in todo.items()}
    images = {label: from_bytes(torch.cat([batch.images for batch in row])) for label, row in rows.items()}
    table, differences = measure(plan, images)
    figure = module.figure(table, images, held_out(0, plan.scenes, plan.split))
    save(name, module, out, table, differences, figure, manifest(plan, rows))


def all_of(plan: Experiment, method: Drawer) -> list[Batch]:
    """What an experiment wants of a method."""
    return batches(method, range(plan.seeds), plan.scenes, plan.split)


def tabulate(name: str, module: ModuleType, size: str, out: Path, *, quiet: bool) -> None:
    """An experiment without images, by the main process alone."""
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
    """Write all that an experiment leaves, and print its section."""
    folder = out / "results"
    folder.mkdir(parents=True, exist_ok=True)
    tables.write_manifest(folder / f"{name}.json", how)
    figure.savefig(folder / f"{name}.png", dpi=100)
    if differences:
        tables.write(folder / f"{name}_differences.csv", differences)
    tables.write(folder / f"{name}.csv", table)  # the last: where it is, the rest is
    print(f"\n{report.text(name, module, table, differences, how)}\n", flush=True)


def measure(plan: Experiment, images: Mapping[str, world.Image]) -> tuple[Table, Table]:
    """All rows, after one of flawless images: KID's floor, the ceiling of the rest; and the differences."""
    scenes = held_out(0, plan.scenes, plan.split)
    measured = {label: plan.measure(drawn, scenes, plan.rows[label]) for label, drawn in images.items()}
    table = {}
    if plan.measure is measures.measure:
        flawless = measures.measure(world.render(scenes), scenes)
        table["renders"] = tables.row_of(flawless, plan.scenes, 1)
        for estimates in measured.values():
            estimates["KID above renders"] = estimates["KID"] - flawless["KID"]
    for label, estimates in measured.items():
        evaluations = plan.rows[label].calls.total()
        table[label] = tables.row_of(estimates, plan.scenes, plan.seeds, evaluations)
    differences = {
        f"{one} - {other}": tables.row_of(
            measures.difference(measured[one], measured[other]), plan.scenes, plan.seeds
        )
        for one, other in plan.pairs
    }
    return table, differences


def manifest(plan: Experiment, rows: Mapping[str, Sequence[Drawn]]) -> dict[str, Any]:
    """How the images came about; seconds are the median batch's, on the machine as it was, busy or not."""
    drawn = [batch for row in rows.values() for batch in row]
    first = SPLITS[plan.split].start
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
        "devices": sorted({batch.device for batch in drawn}),
        "versions": versions("accelerate", "diffusers", "numpy", "scipy", "torch-fidelity"),
        "rows": per_row,
    }


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SIZES['full'])}")
    parser.add_argument("--size", choices=SIZES, default="quick")
    parser.add_argument("--out", type=Path, help="benchmarks for the full size, out/benchmarks otherwise")
    parser.add_argument("--scenes", type=int, help="instead of an experiment's own number, for a trial")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args(argv)
    if unknown := set(args.names) - set(SIZES["full"]):
        parser.error(
            f"no such experiment: {', '.join(sorted(unknown))}; there are {', '.join(SIZES['full'])}"
        )
    if args.scenes is not None and (args.scenes < 2 * measures.GROUPS or args.scenes % measures.GROUPS):
        parser.error(f"--scenes is {args.scenes}, expected a multiple of {measures.GROUPS} from 20 on")
    if args.out is None:
        trial = args.size == "quick" or args.scenes is not None
        args.out = Path("out/benchmarks") if trial else HERE
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Say how long it will take, run the experiments, write the report."""
    args = parse(argv)
    names = args.names or SIZES[args.size]
    modules = {name: import_module(f"benchmarks.{name}") for name in names}
    plans: dict[str, Experiment] = {
        name: module.experiment(args.size) for name, module in modules.items() if name not in WITHOUT_IMAGES
    }
    if args.scenes is not None:
        plans = {name: plan._replace(scenes=args.scenes) for name, plan in plans.items()}
    todo = {
        batch for plan in plans.values() for method in plan.rows.values() for batch in all_of(plan, method)
    }
    is_main = processes().is_main_process
    if is_main:
        images, minutes = estimate(todo)
        whole = sum(batch.size for batch in todo)
        print(f"{images} of {whole} images to draw, about {minutes:.0f} minutes; measuring comes on top")
    for name, module in modules.items():
        if name in plans:
            run(name, module, plans[name], args.out, quiet=args.quiet)
        else:
            tabulate(name, module, args.size, args.out, quiet=args.quiet)
    if is_main:
        every = {name: import_module(f"benchmarks.{name}") for name in SIZES["full"]}
        print(f"Wrote {report.write(args.out, every)}")
    processes().destroy_process_group()  # else its threads may abort the interpreter at exit


if __name__ == "__main__":
    main()
