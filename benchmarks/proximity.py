"""Section 3.1's assumption, that models of one ecosystem predict alike: distances of predictions, by level.

Test scenes are rendered and noised, and models predict the clean latent at the same points, without guidance.
*Functional proximity* compares models that are told the same: nothing. *Conditional proximity* compares what
a model predicts when it is told a scene by its own conditions with what another model predicts when it is
told the same scene by its own. The yardstick is one model that is told two unrelated scenes. Distances are
root mean squares over a latent, in percent of the data's standard deviation, which is 1.

All networks were trained from `base`, so no two are of different ecosystems.
"""

from collections.abc import Iterator, Mapping

import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm.auto import tqdm

from amdm import plots, start_noise
from amdm.shapes import latents, world
from amdm.shapes.world import Scenes
from benchmarks import pictures
from benchmarks.measures import Estimate, share
from benchmarks.methods import extra_args, levels, model, seeds_of
from benchmarks.report import Section, compare
from benchmarks.runner import BATCH, held_out
from benchmarks.tables import Row, Table, row_of

TITLE = "Functional and conditional proximity"
STEPS = (0, 5, 10, 15, 20, 30, 40, 49)
SCENES = 200
OTHER = "one model, two unrelated scenes"
FUNCTIONAL = {f"{name} and base, told nothing": name for name in ("layout", "attribute", "style")}
SAME = "layout and attribute, one scene"
ADDED = {"layout and base, one scene": "layout", "attribute and base, one scene": "attribute"}
LINES = (OTHER, SAME, *ADDED, *FUNCTIONAL)
DISTANCE, LESS = "distance", "distance, less than unrelated"


def label(line: str, step: int) -> str:
    """Return a row's name."""
    return f"{line}, step {step}"


def tabulate(size: str, *, quiet: bool = False) -> tuple[Table, Figure]:
    """Return a row per kind of distance and level, with its difference from the yardstick."""
    count = SCENES if size == "full" else BATCH
    sigmas, table = levels("ddim", 50), {}
    for step in tqdm(STEPS, unit="level", disable=quiet):
        parts = [
            distances(held_out(1000 + first, BATCH), sigmas[step].item()) for first in range(0, count, BATCH)
        ]
        found: dict[str, Estimate] = {}
        for line in LINES:
            each = torch.cat([part[line] for part in parts])
            found[line] = share(each, torch.ones_like(each))
        for line, estimate in found.items():
            table[label(line, step)] = row_of({DISTANCE: estimate, LESS: found[OTHER] - estimate}, count, 1)
    return table, figure(table)


@torch.no_grad()
def distances(scenes: Scenes, sigma: float) -> dict[str, Tensor]:
    """Return the distance of every kind for each scene, at renders noised to a level."""
    noise = start_noise(seeds_of(scenes, 0), latents.SHAPE, sigma, num_models=1, convention="ve")[0]
    x = latents.encode(world.render(scenes)) + noise
    level = torch.full((len(x),), sigma)
    told, untold, elsewhere = {}, {}, {}
    for name in ("base", *FUNCTIONAL.values()):
        guided, args = model(name, 3.0, "cpu"), extra_args(name, scenes, "cpu")
        untold[name], told[name] = guided.both(x, level, **args)
        if name in ADDED.values():
            turned = {side: {key: part.roll(1, 0) for key, part in of.items()} for side, of in args.items()}
            elsewhere[name] = guided.conditional(x, level, **turned)
    unrelated = [rms(told[name], elsewhere[name]) for name in elsewhere]
    return {
        OTHER: torch.stack(unrelated).mean(0),
        SAME: rms(told["layout"], told["attribute"]),
        **{line: rms(told[name], told["base"]) for line, name in ADDED.items()},
        **{line: rms(untold[name], untold["base"]) for line, name in FUNCTIONAL.items()},
    }


def rms(x: Tensor, y: Tensor) -> Tensor:
    """Return the root mean square of the difference of each sample."""
    return (x - y).flatten(1).square().mean(1).sqrt()


def figure(table: Table) -> Figure:
    """Return a picture of the distances over the level."""
    whole, colours = plots.empty(plots.WIDTH, 4.2), plots.colours_of(list(LINES))
    axes, sigmas = whole.subplots(), levels("ddim", 50)[list(STEPS)].tolist()
    for line in LINES:
        names = [label(line, step) for step in STEPS]
        pictures.curve(axes, sigmas, table, names, DISTANCE, line, colours[line])
    axes.set_xscale("log")
    axes.invert_xaxis()
    plots.plain_log(axes.xaxis)
    axes.set_yscale("log")
    plots.plain_log(axes.yaxis)
    pictures.describe(
        axes, "Models of one ecosystem predict alike", "level sigma", "distance, % of the data's"
    )
    pictures.key(whole, axes)
    return whole


CLAIMS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "functional proximity": ("told the same, models predict alike", tuple(FUNCTIONAL)),
    "conditional proximity": ("told one task in two ways, models predict alike", (SAME,)),
}
QUESTION = "Do models of one ecosystem predict alike, as the paper assumes?"
SHOWN = (0, 20, 40)


def rows(table: Table) -> Iterator[tuple[str, str, Row]]:
    """Yield every claim, its line in the overview, and the row that it is judged by."""
    for name, (words, lines) in CLAIMS.items():
        for line in lines:
            for step in SHOWN:
                claim = f"{name}: {line}, step {step}: nearer than for unrelated scenes"
                yield claim, f"{name}: {words}", table[label(line, step)]


def section(table: Table, differences: Table) -> Section:
    """Return the claims, and the distances at some levels."""
    claims = [
        compare(claim, "section 3.1", row, {LESS: "more"})._replace(place="section 3.1", line=line)
        for claim, line, row in rows(table)
    ]
    first, last = (
        {line: table[label(line, step)].cells[DISTANCE].value for line in LINES} for step in (0, 20)
    )
    told_nothing = [
        f"{min(at[k] for k in FUNCTIONAL):.0f} to {max(at[k] for k in FUNCTIONAL):.0f}%"
        for at in (first, last)
    ]
    says = [
        f"Told nothing, the other models are {told_nothing[0]} of the data's deviation away from `base` at "
        f"the first step, and {told_nothing[1]} at step 20.",
        f"`layout` and `attribute`, each told one scene in its own way, are {first[SAME]:.0f}% and "
        f"{last[SAME]:.0f}% apart; one model that is told two unrelated scenes, {first[OTHER]:.0f}% and "
        f"{last[OTHER]:.0f}%.",
        "The models are near in late steps. In the first steps, where AMDM's window lies, they are half as "
        "far apart as unrelated tasks. All were trained from `base`: no pair of two ecosystems is here.",
    ]
    lines = [["distance, %", *(f"step {step}" for step in SHOWN)]]
    lines += [[line, *(table[label(line, step)].cells[DISTANCE].short() for step in SHOWN)] for line in LINES]
    return Section(claims, QUESTION, says, lines)
