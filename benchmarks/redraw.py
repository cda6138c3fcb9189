"""Redraw pictures from committed tables: `python -m benchmarks.redraw [NAME ...]`.

Only the few scenes that a picture shows are drawn again, the first ones of its table; of `table7` the samples
that it shows.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from amdm.shapes.world import Image
from benchmarks import tables
from benchmarks.__main__ import EXPERIMENTS, HERE, WITHOUT_IMAGES, modules
from benchmarks.experiment import Experiment
from benchmarks.runner import held_out

SCENES = 8


class Shown(Mapping[str, Image]):
    """The first scenes of an experiment's rows, drawn on access."""

    def __init__(self, plan: Experiment) -> None:
        self.plan = plan
        self.scenes = held_out(plan.first, SCENES, plan.split)

    def __getitem__(self, row: str) -> Image:
        """Draw the row's scenes."""
        return self.plan.rows[row].draw(self.scenes, 0, "cpu")

    def __iter__(self) -> Iterator[str]:
        return iter(self.plan.rows)

    def __len__(self) -> int:
        return len(self.plan.rows)


def redraw(name: str, folder: Path) -> None:
    """Write one experiment's picture again."""
    module = modules([name])[name]
    table = tables.read(folder / f"{name}.csv")
    if hasattr(module, "shown"):
        figure = module.figure(table, module.shown())
    elif name in WITHOUT_IMAGES:
        figure = module.figure(table)
    else:
        images = Shown(module.experiment("full"))
        figure = module.figure(table, images, images.scenes)
    figure.savefig(folder / f"{name}.png", dpi=200)


def main(argv: Sequence[str] | None = None) -> None:
    """Redraw the named pictures, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.redraw", description="Redraw pictures.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(EXPERIMENTS)}")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the tables")
    args = parser.parse_args(argv)
    for name in args.names or EXPERIMENTS:
        redraw(name, args.results)


if __name__ == "__main__":
    main()
