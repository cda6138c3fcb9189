"""Confusion tables of the detectors, on test scenes with every kind of interaction equally frequent.

There are four conditions: clean renders; renders with Gaussian noise of 0.05 and of 0.1 per pixel (in [-1,
1], not clipped); and shuffled renders, which are read in the boxes of the next scene and compared with that
scene. On these a detector that sees only pixels and boxes is right by chance: as often as two independent
draws agree, one with the frequencies of its answers and one with those of the truths. Writes a table per
detector and condition, rates.csv and confusion.png to amdm/shapes/confusion.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Int
from matplotlib.figure import Figure
from torch import Tensor
from tqdm.auto import tqdm

from amdm.command_line.arguments import parser_of
from amdm.shapes import detectors, scores, world
from amdm.shapes.tables import write_csv

OUT = Path(__file__).parent / "confusion"
# The noise, and how many scenes further on the boxes and the truth are taken from.
CONDITIONS = {"clean": (0.0, 0), "noise_0.05": (0.05, 0), "noise_0.1": (0.1, 0), "shuffled": (0.0, 1)}
LINKS = ["none", *(f"{kind} {way}" for way in ("forth", "back") for kind in world.KINDS[1:])]
CLASSES = {
    "shapes": list(world.SHAPES),
    "colours": list(world.COLOURS),
    "interactions": LINKS,
    "styles": list(world.STYLES),
}
BATCH = 250

Table = Int[Tensor, "truths answers"]


def links_of(matrix: Int[Tensor, "batch 4 4"]) -> Int[Tensor, "batch 6"]:
    """Return for each pair of objects an index into LINKS; forth is from the object of lower number."""
    first, second = torch.tensor(detectors.PAIRS, device=matrix.device).T
    back = matrix[:, second, first]
    return matrix[:, first, second] + (back + len(world.KINDS) - 1) * (back > 0)


def count(truths: Tensor, answers: Tensor, classes: int) -> Table:
    """Return the number of times that each truth got each answer."""
    return torch.bincount(truths * classes + answers, minlength=classes**2).view(classes, classes)


def tables_of(images: world.Image, scenes: world.Scenes) -> dict[str, Table]:
    """Return the detectors' answers for these images in the boxes of these scenes, against the scenes."""
    found = scores.find(images, scenes)
    first, second = torch.tensor(detectors.PAIRS).T
    here = scenes.present
    pairs = here[:, first] & here[:, second]
    compared = {
        "shapes": (scenes.shapes[here], found.shapes[here]),
        "colours": (scenes.colours[here], found.colours[here]),
        "interactions": (links_of(world.link_matrix(scenes))[pairs], links_of(found.interactions)[pairs]),
        "styles": (scenes.styles, found.styles),
    }
    return {name: count(*both, len(CLASSES[name])) for name, both in compared.items()}


def rate(table: Table) -> float:
    """Return the fraction of answers that are right."""
    return (table.diagonal().sum() / table.sum()).item()


def worst(table: Table) -> float:
    """Return the fraction of right answers for the truth that has the lowest."""
    return (table.diagonal() / table.sum(1)).nan_to_num(1.0).min().item()


def chance(table: Table) -> float:
    """Return the fraction of right answers if they did not depend on the truths, at the same frequencies."""
    return (table.sum(0).double() @ table.sum(1).double() / table.sum() ** 2).item()


def measure(condition: str, seeds: Sequence[int], bar: "tqdm[int]") -> dict[str, Table]:
    """Return the tables of one condition. The noise is a function of the first seed of each batch."""
    sigma, shift = CONDITIONS[condition]
    total = {
        name: torch.zeros(len(labels), len(labels), dtype=torch.long) for name, labels in CLASSES.items()
    }
    for start in range(0, len(seeds), BATCH):
        batch = seeds[start : start + BATCH]
        images = world.render(world.sample_scenes(batch, uniform_kinds=True))
        generator = torch.Generator().manual_seed(batch[0])
        images = images + sigma * torch.randn(images.shape, generator=generator)
        scenes = world.sample_scenes([seed + shift for seed in batch], uniform_kinds=True)
        for name, table in tables_of(images, scenes).items():
            total[name] += table
        bar.update(len(images))
    return total


def draw(tables: dict[tuple[str, str], Table], path: Path) -> None:
    """Draw all tables, a row per condition; shades are fractions of the truth's row."""
    figure = Figure(figsize=(16, 16), layout="constrained")
    grid = figure.subplots(len(CONDITIONS), len(CLASSES))
    for axes, ((condition, name), table) in zip(grid.flat, tables.items(), strict=True):
        axes.imshow(table / table.sum(1, keepdim=True).clamp(min=1), vmin=0, vmax=1, cmap="Blues")
        labels = CLASSES[name]
        axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right", fontsize=7)
        axes.set_yticks(range(len(labels)), labels, fontsize=7)
        right = f"{100 * rate(table):.2f}% right"
        axes.set(title=f"{name}, {condition}: {right}", xlabel="answer", ylabel="truth")
    figure.savefig(path, dpi=80)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = parser_of(__doc__, OUT, "the tables and confusion.png")
    parser.add_argument("--scenes", type=int, default=10_000, help="per condition, of the test split")
    args = parser.parse_args()
    if not 0 < args.scenes <= len(world.TEST):
        parser.error(f"--scenes must lie in 1 to {len(world.TEST)}")
    return args


def main() -> None:
    """Measure, print and write."""
    args = parse()
    with tqdm(total=len(CONDITIONS) * args.scenes, unit="image", disable=args.quiet) as bar:
        measured = {name: measure(name, world.TEST[: args.scenes], bar) for name in CONDITIONS}
    tables = {(condition, name): measured[condition][name] for condition in CONDITIONS for name in CLASSES}
    rows: list[list[object]] = [["detector", "condition", "cases", "right", "worst class", "chance"]]
    for (condition, name), table in tables.items():
        body = ([label, *row] for label, row in zip(CLASSES[name], table.tolist(), strict=True))
        write_csv(args.out / f"{name}_{condition}.csv", [["truth", *CLASSES[name]], *body])
        rates = (f"{part(table):.4f}" for part in (rate, worst, chance))
        rows.append([name, condition, int(table.sum()), *rates])
    write_csv(args.out / "rates.csv", rows)
    draw(tables, args.out / "confusion.png")
    for row in rows:
        print("{:<14}{:<12}{:>7}{:>9}{:>13}{:>9}".format(*map(str, row)))


if __name__ == "__main__":
    main()
