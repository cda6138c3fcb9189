"""How the best length of eq. (8) depends on the dimension: the trained ecosystem can't say, it has one n.

Two exact models of one Gaussian mixture, told one of two attributes each (4 values each, 16 modes): joined,
how often does a sample have both? The modes' distance from the origin is the same in all dimensions, or grows
with the radius of the noise, sqrt(n); the first 20 of 50 steps of DDIM aggregate.
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

from amdm import sample_amdm, start_noise
from amdm.geometry.rows import as_rows
from amdm.types import Latent, Step
from benchmarks import pictures
from benchmarks.methods import Length
from benchmarks.report import Section
from benchmarks.tables import Cell, Row, Table, markdown
from ecosystem import denoisers
from theory_checks.mixtures import attribute_pair
from theory_checks.statistics import frequency

TITLE = "The best length of the correction in n dimensions, on exact mixtures"
DIMENSIONS = (64, 256, 1024, 4096, 16384)
RADII: dict[str, Callable[[int], float]] = {
    "modes at 4": lambda n: 4.0,
    "modes at sqrt(n)/2": lambda n: math.sqrt(n) / 2,
}
PARTS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
LENGTHS = (0.1, 0.3, 1.0, 3.0)
HOW: dict[str, tuple[Length, str]] = {f"{part:g} of the way": (part, "part") for part in PARTS}
HOW |= {f"length {length:g}": (length, "length") for length in LENGTHS} | {"auto": ("auto", "auto")}
SAMPLES = 500
BOTH, DEVIATION = "both attributes", "|x' - mean|, VP"


def label(radius: str, n: int, how: str) -> str:
    """A row's name."""
    return f"n = {n}, {radius}, {how}"


def tabulate(size: str, *, quiet: bool = False) -> Table:
    """A row per dimension, radius and length or part of the way."""
    table = {}
    settings = list(product(RADII, DIMENSIONS))
    with tqdm(total=len(settings) * len(HOW), unit="row", disable=quiet) as bar:
        for radius, n in settings:
            for how, (value, unit) in HOW.items():
                right, deviation = sample(n, RADII[radius](n), value, unit)
                share, low, high = frequency(right, SAMPLES)
                cells = {BOTH: Cell(100 * share, 100 * low, 100 * high), DEVIATION: Cell(deviation)}
                table[label(radius, n, how)] = Row(SAMPLES, 1, 70, cells)
                bar.update()
    return table


def sample(n: int, radius: float, value: Length, unit: str) -> tuple[int, float]:
    """How many samples have both attributes; and |x' - mean| in VP, the mean over samples and steps."""
    models = attribute_pair((n,), radius)
    sigmas = denoisers.sigmas(50)
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
    return int(has_both(x, *(model.means for model in models)).sum()), sum(later) / len(later)


def has_both(x: Latent, first: Latent, second: Latent) -> Bool[Tensor, " batch"]:
    """Whether the nearest of all modes is the one that both models have, their first.

    The first model's modes are u_0 + v_j, the second's u_i + v_0; all are u_i + v_j.
    """
    modes = second[:, None] + first[None] - first[0]
    return torch.cdist(as_rows(x), as_rows(modes.flatten(0, 1))).argmin(1) == 0


def figure(table: Table) -> Figure:
    """The share with both attributes over the part of the way, and over the length; a curve per dimension."""
    whole = pictures.picture(13, 8)
    for row, radius in zip(whole.subplots(2, 2, sharey="row"), RADII, strict=True):
        for n in DIMENSIONS:
            parts = [label(radius, n, f"{part:g} of the way") for part in PARTS]
            lengths = [label(radius, n, how) for how in ("0 of the way", *(f"length {x:g}" for x in LENGTHS))]
            pictures.curve(row[0], PARTS, table, parts, BOTH, f"n = {n}")
            pictures.curve(row[1], [0, *LENGTHS], table, lengths, BOTH, f"n = {n}")
        row[0].set(title=radius, ylabel="% with both attributes", xlabel="part of the way to the mean")
        row[1].set(title=radius, xlabel="length (VP)")
        row[1].set_xscale("symlog", linthresh=0.1)
    row[0].legend(fontsize=8)
    return whole


def section(table: Table, differences: Table) -> Section:
    """The best part and the best length in every dimension, and what a length is a part of."""
    lines = [["", "none", "auto", "best part of the way", "best length", "|x' - mean| without correction"]]
    for radius, n in product(RADII, DIMENSIONS):
        rows = {how: table[label(radius, n, how)].cells[BOTH] for how in HOW}
        none, auto = rows.pop("0 of the way"), rows["auto"]
        best = [
            max((how for how in rows if HOW[how][1] == unit), key=lambda how: rows[how].value)
            for unit in ("part", "length")
        ]
        deviation = table[label(radius, n, "0 of the way")].cells[DEVIATION].value
        found = [f"{how}: {rows[how]}" for how in best]
        lines.append([f"n = {n}, {radius}", str(none), str(auto), *found, f"{deviation:.2f}"])
    return Section([], tables=[], remarks=[markdown(lines)])
