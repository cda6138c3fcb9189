"""The best length of eq. (8) in several dimensions; `shapes` has only one n.

Two exact models of one Gaussian mixture are conditioned on one of two attributes each (4 values each, 16
modes), and the joined samples that have both are counted. The modes' distance from the origin is the same in
all dimensions, or grows with the radius of the noise, sqrt(n). The first 20 of 50 steps of DDIM aggregate.
"""

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from jaxtyping import Bool
from matplotlib.figure import Figure
from torch import Tensor
from tqdm.auto import tqdm

from amdm import plots, sample_amdm, start_noise
from amdm.samplers import Step
from amdm.types import Latent
from benchmarks import pictures
from benchmarks.measures import share
from benchmarks.methods import Length, levels
from benchmarks.report import Direction, Section, compare
from benchmarks.tables import Cell, Table, row_of
from theory_checks.mixtures import attribute_pair

TITLE = "Best length: the correction in n dimensions, on exact mixtures"
DIMENSIONS = (64, 256, 1024, 4096, 16384)
RADII: dict[str, Callable[[int], float]] = {
    "modes at 4": lambda n: 4.0,
    "modes at sqrt(n)/2": lambda n: math.sqrt(n) / 2,
}
PARTS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
LENGTHS = (0.1, 0.3, 1.0, 3.0)
HOW: dict[str, tuple[Length, str]] = {f"{part:g} of the way": (part, "part") for part in PARTS}
HOW |= {f"length {length:g}": (length, "length") for length in LENGTHS} | {"auto": ("auto", "auto")}
NONE = "0 of the way"
SAMPLES = 500
SHOWN = (64, 16384)
UNIT = "samples"
BOTH, GAIN, DEVIATION = "both attributes", "more than without", "|x' - mean|, VP"
QUESTION = "Does the correction help in other dimensions, up to Stable Diffusion's 16384?"
SAYS = (
    "The automatic length helps in none of them, nor does any other length; a part of the way gains 3 "
    "points at most.",
    "Two exact models of one mixture are told one attribute each; samples that have both are counted.",
    "Gains are over none, paired; the best is chosen on the same samples: its gain is an upper bound.",
)


def label(radius: str, n: int, how: str) -> str:
    """Return a row's name."""
    return f"n = {n}, {radius}, {how}"


def tabulate(size: str, *, quiet: bool = False) -> tuple[Table, Figure]:
    """Return a row per dimension, radius and length or part of the way, all from the same starts."""
    table = {}
    settings = list(product(RADII, DIMENSIONS))
    with tqdm(total=len(settings) * len(HOW), unit="row", disable=quiet) as bar:
        for radius, n in settings:
            shares, deviations = {}, {}
            for how, (value, unit) in HOW.items():
                right, deviations[how] = sample(n, RADII[radius](n), value, unit)
                shares[how] = share(right, torch.ones_like(right))
                bar.update()
            for how, both in shares.items():
                row = row_of({BOTH: both, GAIN: both - shares[NONE]}, SAMPLES, 1, 70)
                row.cells[DEVIATION] = Cell(deviations[how])
                table[label(radius, n, how)] = row
    return table, figure(table)


def sample(n: int, radius: float, value: Length, unit: str) -> tuple[Bool[Tensor, " samples"], float]:
    """Return True for samples with both attributes, and the mean |x' - mean| over samples and steps, VP."""
    models = attribute_pair((n,), radius)
    sigmas = levels("ddim", 50)
    starts = start_noise(range(SAMPLES), (n,), sigmas[0], len(models))
    deviations = []

    def correction(step: Step) -> Any:
        assert step.aggregation is not None
        deviation = step.aggregation.deviation
        deviations.append(deviation.mean().item())
        return value if isinstance(value, str) or unit == "length" else list(value * deviation)

    x = sample_amdm(models, starts, sigmas, disable=True, correction=correction)
    # The first aggregation joins independent starts: its distance is of another order than all that follow.
    later = deviations[1:]
    return has_both(x, *(model.means for model in models)), sum(later) / len(later)


def has_both(x: Latent, first: Latent, second: Latent) -> Bool[Tensor, " batch"]:
    """Return True if the nearest of all modes is the one that both models have, their first.

    The first model's modes are u_0 + v_j, the second's u_i + v_0; all are u_i + v_j.
    """
    modes = second[:, None] + first[None] - first[0]
    return torch.cdist(x.flatten(1), modes.flatten(0, 1).flatten(1)).argmin(1) == 0


def figure(table: Table) -> Figure:
    """Return a picture of the share with both attributes over the part of the way and over the length."""
    whole = plots.empty(plots.WIDTH, 5.5)
    for row, radius in zip(whole.subplots(2, 2, sharey="row"), RADII, strict=True):
        for n in DIMENSIONS:
            parts = [label(radius, n, f"{part:g} of the way") for part in PARTS]
            lengths = [label(radius, n, how) for how in (NONE, *(f"length {x:g}" for x in LENGTHS))]
            pictures.curve(row[0], PARTS, table, parts, BOTH, f"n = {n}")
            pictures.curve(row[1], [0, *LENGTHS], table, lengths, BOTH, f"n = {n}")
        pictures.describe(row[0], radius, "part of the way to the mean", "% with both attributes")
        pictures.describe(row[1], radius, "length (VP)")
        row[1].set_xscale("symlog", linthresh=0.1)
        row[1].set_xticks([0, 0.1, 0.3, 1, 3], ["0", "0.1", "0.3", "1", "3"])
        plots.label_lines(row[1])
    return whole


def section(table: Table, differences: Table) -> Section:
    """Return the section: the best part and best length in every dimension, if any is better than none."""
    rise: dict[str, Direction] = {GAIN: "more"}
    largest, least = max(DIMENSIONS), min(DIMENSIONS)
    claims = []
    for radius in RADII:
        auto = table[label(radius, largest, "auto")]
        claim = compare(f"0.3 is better than none at n = {largest}, {radius}", "table 3", auto, rise)
        claims.append(claim._replace(line=f"0.3 is better than none, on exact mixtures, n = {largest}"))
        unscaled = table[label(radius, least, "length 0.3")]
        claim = compare(f"0.3 is better than none at n = {least}, {radius}", "", unscaled, rise)
        claims.append(claim._replace(line=f"0.3 is better than none at n = {least}"))
    lines = [["% with both", "none", "auto", "best part of the way", "best length"]]
    for radius, n in product(RADII, SHOWN):
        cells = {how: table[label(radius, n, how)].cells for how in HOW}
        found = [cells[NONE][BOTH].short(), cells["auto"][GAIN].short("+.1f")]
        for unit in ("part", "length"):
            tried = [NONE, *(how for how in HOW if HOW[how][1] == unit)]
            best = max(tried, key=lambda how: cells[how][BOTH].value)
            found.append("none" if best == NONE else f"{best}: {cells[best][GAIN].short('+.1f')}")
        lines.append([f"n = {n}, {radius}", *found])
    return Section(claims, QUESTION, SAYS, lines)
