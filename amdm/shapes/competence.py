"""Scores of each model alone on held-out scenes: `python -m amdm.shapes.competence`.

DDIM takes 50 steps with guidance, from one start per scene that is the same for every model. Each model gets
its conditions and the caption, which names the style except for `style`. Two rates stand beside every rate:
`random` is the score of the caption's objects (colours, interactions) put into the boxes at random;
`exchanged` is the score of the model's own objects exchanged among the boxes. Intervals are of 95%. Writes
competence.csv and competence.png (the first scenes as each model draws them) to amdm/shapes/competence.
"""

import argparse
import math
from pathlib import Path

import torch
from matplotlib.figure import Figure
from tqdm.auto import tqdm

from amdm import sample_ddim, start_noise
from amdm.command_line.arguments import parser_of
from amdm.shapes import denoisers, latents, pictures, scores, world
from amdm.shapes.configs import CONFIGS
from amdm.shapes.tables import write_csv
from amdm.shapes.world import Image, Scenes

OUT = Path(__file__).parent / "competence"
BATCH = 50
PICTURED = 10
COLUMNS = ["model", "attribute", "wanted", "right", "low", "high"]
COLUMNS += ["random", "low", "high", "exchanged", "low", "high"]


def draw(name: str, scenes: Scenes, bar: "tqdm[int]", guidance: float = denoisers.GUIDANCE) -> Image:
    """Return a model's images of scenes, each from the start of its seed."""
    model = denoisers.load(name, guidance)
    sigmas = denoisers.sigmas(50)
    images = []
    for part in world.split(scenes, BATCH):
        x = start_noise(part.seeds.tolist(), latents.SHAPE, sigmas[0].item(), num_models=1)[0]
        x = sample_ddim(model, x, sigmas, denoisers.extra_args(name, part), disable=True)
        images.append(latents.decode(x))
        bar.update(len(x))
    return torch.cat(images)


def table(name: str, images: Image, scenes: Scenes) -> list[list[str]]:
    """Return a table with a row per attribute."""
    found = scores.find(images, scenes)
    counts = scores.compare(found, scenes)
    random, exchanged = (scores.chance(seen, scenes) for seen in (scores.truth(scenes), found))
    empty = (float("nan"),) * 3
    rows = []
    for attribute, counted in counts.items():
        wanted = int(counted.wanted.sum())
        parts = scores.rate(counted), random.get(attribute, empty), exchanged.get(attribute, empty)
        rates = ("" if math.isnan(value) else f"{value:.4f}" for part in parts for value in part)
        rows.append([name, attribute, str(wanted), *rates])
    return rows


def picture(images: dict[str, Image], path: Path) -> None:
    """Draw a picture with a row per model and a column per scene."""
    figure = Figure(figsize=(1.2 * PICTURED, 1.25 * len(images)), layout="constrained")
    grid = figure.subplots(len(images), PICTURED)
    for row, (name, drawn) in zip(grid, images.items(), strict=True):
        for axes, image in zip(row, drawn[:PICTURED], strict=True):
            pictures.show(axes, image[None])
        row[0].set_ylabel(name)
    figure.savefig(path, dpi=100)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = parser_of(__doc__, OUT, "competence.csv and .png")
    parser.add_argument("names", nargs="*", help="models; all by default")
    parser.add_argument("--scenes", type=int, default=1000, help="of the test split")
    parser.add_argument("--guidance", type=float, default=denoisers.GUIDANCE)
    parser.add_argument("--validation", action="store_true", help="scenes of the validation split instead")
    args = parser.parse_args()
    if unknown := set(args.names) - set(CONFIGS):
        parser.error(f"no such model: {', '.join(unknown)}; there are {', '.join(CONFIGS)}")
    if not PICTURED <= args.scenes <= len(world.TEST):
        parser.error(f"--scenes must lie in {PICTURED} to {len(world.TEST)}")
    return args


def main() -> None:
    """Draw, measure, print and write."""
    args = parse()
    split = world.VALIDATION if args.validation else world.TEST
    scenes = world.sample_scenes(split[: args.scenes])
    images = {"renders": world.render(scenes)}
    names = args.names or list(CONFIGS)
    with tqdm(total=len(names) * args.scenes, unit="image", disable=args.quiet) as bar:
        for name in names:
            bar.set_description(name)
            images[name] = draw(name, scenes, bar, args.guidance)
    rows = [COLUMNS, *(row for name, drawn in images.items() for row in table(name, drawn, scenes))]
    write_csv(args.out / "competence.csv", rows)
    picture(images, args.out / "competence.png")
    for row in rows:
        print("{:<15}{:<13}{:>7}{:>9}{:>8}{:>8}{:>9}{:>8}{:>8}{:>11}{:>8}{:>8}".format(*row))


if __name__ == "__main__":
    main()
