"""Two trained diffusion models that control one thing each, joined: scenes of coloured shapes.

Model A (`layout`) is told where each shape is and how they interact, model B (`attribute`) where each
colour is; both get the caption, which says what there is but not where. Both are latent diffusion models in
diffusers' classes, trained on `amdm.shapes.world` and stored in `amdm/shapes/weights`. They are joined by
projective guidance, for which the model `base` says what the caption alone makes of an image, and by AMDM.
The same held-out scenes and the same starts for all; detectors that see pixels and boxes only say what is
right.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tqdm import tqdm

from amdm import sample_amdm, sample_projective_guidance, seeded_noise, start_noise
from amdm.command_line.arguments import parser_of
from amdm.denoisers import Guided
from amdm.samplers import dpmpp_2m, dpmpp_2m_sde
from amdm.samplers.march import Callback
from amdm.schedules import karras_sigmas
from amdm.shapes import denoisers, latents, pictures, scores, world
from amdm.shapes.scores import Counts, Found
from amdm.shapes.tables import write_csv
from amdm.shapes.world import Image, Scenes
from amdm.types import Latent

METHODS = {
    "A": ("layout",),
    "B": ("attribute",),
    "A(+B)": ("layout", "attribute"),
    "B(+A)": ("attribute", "layout"),
    "A(+B), AMDM": ("layout", "attribute"),
    "B(+A), AMDM": ("attribute", "layout"),
}
STARTS = ("layout", "attribute")  # each model has a start of its own, the same in every method
JUDGED = ("shapes", "colours", "interactions", "all three")
PICTURED, BATCH, STEPS = 8, 64, 10

Table = dict[str, dict[str, Counts]]  # by method and by what is judged


def draw(scenes: Scenes, guidance: float, quiet: bool) -> dict[str, Image]:
    """Return every method's images, in ten steps of DPM-Solver++(2M)."""
    models = {name: denoisers.load(name, guidance) for name in (*STARTS, "base")}
    parts = world.split(scenes, BATCH)
    images = {}
    with tqdm(total=len(METHODS) * len(parts) * STEPS, unit="step", disable=quiet) as bar:
        for method in METHODS:
            bar.set_description(method)
            drawn = [sample(method, models, part, lambda _: bar.update()) for part in parts]
            images[method] = latents.decode(torch.cat(drawn))
    return images


def sample(method: str, models: dict[str, Guided], part: Scenes, callback: Callback) -> Latent:
    """Return one batch by one method.

    AMDM, and a model alone, have the library's defaults. Projective guidance has guidance 2 and fresh noise.
    """
    names, seeds = METHODS[method], part.seeds.tolist()
    low, high = denoisers.sigmas(50)[[-2, 0]].tolist()
    sigmas = karras_sigmas(STEPS, low, high).float()
    starts = dict(
        zip(STARTS, start_noise(seeds, latents.SHAPE, sigmas[0], num_models=len(STARTS)), strict=True)
    )
    x, joined = [starts[name] for name in names], [models[name] for name in names]
    args = [denoisers.extra_args(name, part) for name in names]
    if len(names) == 1 or "AMDM" in method:
        return sample_amdm(joined, x, sigmas, args, callback, disable=True, sampler=dpmpp_2m)
    return sample_projective_guidance(
        joined,
        x,
        sigmas,
        [*args, denoisers.extra_args("base", part)],
        callback,
        disable=True,
        background=models["base"],
        guidance=2.0,
        sampler=dpmpp_2m_sde,
        eta=1.0,
        noise_sampler=[seeded_noise(seeds, latents.SHAPE, stream=k) for k in range(len(names))],
    )


def judge(found: Found, scenes: Scenes) -> dict[str, Counts]:
    """Return counts by JUDGED; "all three" is every shape, colour and interaction of a scene."""
    counts = scores.compare(found, scenes)
    return counts | {"all three": scores.everything(counts, JUDGED[:3])}


def verdict(table: Table, method: str, other: str) -> str:
    """Return the paired difference in scenes that are right in everything."""
    estimate = scores.difference(table[method]["all three"], table[other]["all three"])
    return scores.verdict(method, other, [100 * value for value in estimate])


def report(table: Table, scenes: Scenes) -> str:
    """Return the table and the verdicts."""
    lines = [f"{'% right [95% interval]':24}" + "".join(f"{what:20}" for what in JUDGED)]
    for method, counts in table.items():
        rates = ([100 * value for value in scores.rate(counts[what])] for what in JUDGED)
        lines.append(f"{method:24}" + "".join("{:5.1f} [{:4.1f},{:5.1f}]   ".format(*rate) for rate in rates))
    random = scores.chance(scores.truth(scenes), scenes)
    chances = "".join(f"{100 * random[what][0]:5.1f}{'':15}" for what in JUDGED[:3])
    lines.append(f"{'objects put at random':24}{chances}")
    lines.append(f"\nAll three right, scene by scene (n = {len(scenes.seeds)}):")
    pairs = [("A(+B)", "A"), ("B(+A)", "B"), ("A(+B)", "A(+B), AMDM"), ("B(+A)", "B(+A), AMDM")]
    lines += [verdict(table, one, other) for one, other in pairs]
    return "\n".join(lines)


def draw_figure(images: dict[str, Image], found: dict[str, Found], table: Table, scenes: Scenes) -> Figure:
    """Draw the first scenes, a column per method, beside the success rates."""
    figure = Figure(figsize=(17, 12), layout="constrained")
    question = "A is told where shapes and interactions are, B where colours are. What do they draw together?"
    figure.suptitle(f"{question}\n{verdict(table, 'A(+B)', 'A')}", fontsize=15)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=[1, 0.9])[0]
    left.suptitle("green: shape and colour of a box, kind of an interaction right; red: wrong")
    grid = left.subplots(PICTURED, len(images))
    for row, scene in zip(range(PICTURED), grid, strict=True):
        for axes, (method, drawn) in zip(scene, images.items(), strict=True):
            pictures.show(axes, drawn[row : row + 1])
            if method in found:
                pictures.mark(axes, found[method], scenes, row)
            if row == 0:
                axes.set_title(method)
    draw_bars(right.subplots(), table)
    return figure


def draw_bars(axes: Axes, table: Table) -> None:
    """Draw the success rates with their intervals."""
    for i, what in enumerate(JUDGED):
        rates = [[100 * value for value in scores.rate(counts[what])] for counts in table.values()]
        value, low, high = torch.tensor(rates).T
        bars = axes.barh(
            torch.arange(len(table)) + 0.2 * (i - 1.5),
            value,
            0.18,
            xerr=torch.stack([value - low, high - value]),
        )
        axes.bar_label(bars, fmt="%.0f%%", label_type="center", color="white", weight="bold")
    axes.set_yticks(range(len(table)), list(table), fontsize=13)
    axes.invert_yaxis()
    axes.set(xlim=(0, 100), xlabel="% right, with 95% intervals")
    axes.legend(axes.containers[1::2], JUDGED, ncols=len(JUDGED), loc="lower center", bbox_to_anchor=(0.5, 1))
    axes.spines[["top", "right"]].set_visible(False)


def write_table(table: Table, scenes: Scenes, path: Path) -> None:
    """Write one line per method."""
    columns = (f"{what}{end}" for what in JUDGED for end in ("", " low", " high"))
    lines: list[list[object]] = [["method", "scenes", *columns]]
    for method, counts in table.items():
        rates = (f"{value:.4f}" for what in JUDGED for value in scores.rate(counts[what]))
        lines.append([method, len(scenes.seeds), *rates])
    write_csv(path, lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw the scenes, print the table and write the picture."""
    parser = parser_of(__doc__, "out/demo", "shapes.png and .csv", "amdm demo")
    many = f"how many held-out scenes, {PICTURED} to {len(world.TEST)}; {PICTURED} are in the picture"
    parser.add_argument("--scenes", type=int, default=64, help=many)
    scale = "scale of classifier-free guidance of A, B and AMDM; projective guidance always uses 2"
    parser.add_argument("--guidance", type=float, default=denoisers.GUIDANCE, help=scale)
    args = parser.parse_args(argv)
    if not PICTURED <= args.scenes <= len(world.TEST):
        parser.error(f"--scenes is {args.scenes}, expected {PICTURED} to {len(world.TEST)}")
    scenes = world.sample_scenes(world.TEST[: args.scenes])
    images = draw(scenes, args.guidance, args.quiet)
    found = {method: scores.find(drawn, scenes) for method, drawn in images.items()}
    table = {method: judge(seen, scenes) for method, seen in found.items()}
    print(report(table, scenes))
    drawn = {"wanted": world.render(scenes), **images}
    draw_figure(drawn, found, table, scenes).savefig(args.out / "shapes.png", dpi=100)
    write_table(table, scenes, args.out / "shapes.csv")
    print(f"\nWrote {args.out / 'shapes.png'} and {args.out / 'shapes.csv'}")
