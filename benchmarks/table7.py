"""Table 7: two densities in the plane composed by every method; 2,000 samples, five seeds.

The two models are the halves of a ring of eight modes. The table asks for their union: the whole ring.
Methods that target a product or a mean show what they sample instead.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from tqdm.auto import tqdm

from amdm import plots, sample_amdm, sample_ddim, sample_fkc, sample_mcmc, sample_superdiff
from amdm.denoisers import compose, conjunction, linear, projective
from amdm.schedules import karras_sigmas
from amdm.types import Denoiser
from benchmarks import pictures, plane
from benchmarks.measures import Estimate
from benchmarks.plane import Points
from benchmarks.report import Claim, Section
from benchmarks.tables import Cell, Row, Table, cell_of

TITLE = "Table 7: the union of two densities in the plane"
SAMPLES, SEEDS, STEPS, LEVELS = 2000, 5, 400, 40
BANDWIDTHS = (0.1, 0.5, 1.0)
WINDOWS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
ENERGIES = [plane.UPPER.log_density, plane.LOWER.log_density]
LIKELIHOOD, MEDIAN, COVARIANCE, WITHIN = "LL", "LL, median", "Var: covariance", "Var: within modes"
WITHOUT = "LL, no last step"
DISCREPANCY = {bandwidth: f"ln MMD^2, {bandwidth}" for bandwidth in BANDWIDTHS}
UNBIASED = {bandwidth: f"MMD^2 x 1000, unbiased, {bandwidth}" for bandwidth in BANDWIDTHS}


class Draw:
    """The models of one sampling, which count their evaluations, and the starts and noise of a seed.

    The models are the halves', `background` is the whole ring's.
    """

    def __init__(self, models: Sequence[Denoiser], seed: int, steps: int = STEPS) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.sigmas = karras_sigmas(steps, plane.SIGMA_MIN, plane.SIGMA_MAX)
        self.evaluations = 0
        *self.models, self.background = [self._counted(model) for model in models]
        self.starts = [plane.SIGMA_MAX * self.noise() for _ in self.models]
        self.before_last = torch.empty(0, 2)
        self.watched: dict[str, Any] = {"disable": True, "callback": self._watch}
        self.plain = self.watched | {"noise_sampler": self.noise}
        self.random = self.plain | {"generator": self.generator}

    def noise(self, *levels: object) -> Points:
        """Return standard normal points, whatever the levels."""
        return torch.randn(SAMPLES, 2, generator=self.generator, dtype=torch.float64)

    def _watch(self, info: dict[str, Any]) -> None:
        """Keep the input of the last step: samples at `SIGMA_MIN`."""
        self.before_last = info["x"]

    def _counted(self, model: Denoiser) -> Denoiser:
        def call(x: Tensor, sigma: Tensor) -> Tensor:
            self.evaluations += 1
            return model(x, sigma)

        return call


How = Callable[[Draw], Points]


def reversed_by(denoiser: Callable[[Draw], Denoiser], total: float = 1.0) -> How:
    """Return a run of a composed denoiser's reverse SDE, from the start for exponents of this sum."""
    return lambda draw: sample_ddim(
        denoiser(draw), draw.starts[0] / math.sqrt(total), draw.sigmas, eta=1.0, **draw.plain
    )


def sampled(sampler: Callable[..., Points], **options: Any) -> How:
    """Return a sampler of several models from one start, with noise."""
    return lambda draw: sampler(draw.models, draw.starts[0], draw.sigmas, **options, **draw.random)


def step_size(sigma: float, sigma_next: float) -> float:
    """Return a tenth of a mode's variance at a level, for a step of MCMC."""
    return 0.1 * (sigma**2 + plane.STD**2)


def united(draw: Draw) -> Points:
    """Run HMC on the energy log((q_1 + q_2)/2) and its gradient, both composed of the halves'."""
    denoiser, log_density = plane.union(draw.models, ENERGIES)
    return sample_mcmc(
        [denoiser],
        draw.starts[0],
        draw.sigmas,
        kernel="hmc",
        step_size=step_size,
        log_densities=[log_density],
        **draw.random,
    )


def aggregated(window: float, eta: float = 0.0) -> How:
    """Run AMDM with the paper's weight and scaled correction."""
    return lambda draw: sample_amdm(
        draw.models,
        draw.starts,
        draw.sigmas,
        window=window,
        eta=eta,
        noise_sampler=[draw.noise] * 2 if eta > 0 else None,
        **draw.watched,
    )


def true(draw: Draw) -> Points:
    """Return samples of the ring."""
    x = plane.WHOLE.sample(SAMPLES, generator=draw.generator)
    draw.before_last = x + plane.SIGMA_MIN * draw.noise()
    return x


METHODS: dict[str, How] = {
    "SuperDiff OR, T = 1": sampled(sample_superdiff, combine="or"),
    "SuperDiff OR, T = 1e6": sampled(sample_superdiff, combine="or", temperature=1e6),
    "SuperDiff OR, deterministic": sampled(sample_superdiff, combine="or", eta=0.0),
    "SuperDiff AND": sampled(sample_superdiff, combine="and"),
    "SuperDiff AND, deterministic": sampled(sample_superdiff, combine="and", eta=0.0),
    "linear": reversed_by(lambda draw: linear(draw.models)),
    "projective": reversed_by(lambda draw: projective(draw.background, draw.models)),
    "conjunction, weights 2": reversed_by(lambda draw: conjunction(draw.background, draw.models, 2.0)),
    "FKC, geometric mean": sampled(sample_fkc, exponents=(0.5, 0.5)),
    "FKC, product": sampled(sample_fkc),
    "sum, not corrected": reversed_by(lambda draw: compose(draw.models, [1.0, 1.0]), total=2.0),
    **{
        f"{kernel.upper()}, product": sampled(sample_mcmc, kernel=kernel, step_size=step_size)
        for kernel in ("ula", "mala", "uhmc", "hmc")
    },
    **{f"AMDM, window {window:g}": aggregated(window) for window in WINDOWS},
    "AMDM, window 0.4, eta 1": aggregated(0.4, eta=1.0),
}
# Methods that need densities at every level, which networks that predict noise do not have.
EXACT: dict[str, How] = {
    "truth": true,
    "the union's own score": reversed_by(lambda draw: plane.union(draw.models, ENERGIES)[0]),
    "HMC, the union's energy": united,
    "energy SMC, product": sampled(sample_fkc, log_densities=ENERGIES),
}
PANELS = (
    *("truth", "HMC, the union's energy", "SuperDiff OR, T = 1", "AMDM, window 0.4"),
    *("SuperDiff AND", "linear", "HMC, product", "AMDM, window 1"),
)
"""Methods in the picture: the first line's ask for the union, but for AMDM."""
KINDS = {"exact": "blue", "trained": "orange"}
BETTER = {MEDIAN: "more", DISCREPANCY[0.5]: "less"}
AT_LEVELS = ("ULA, product", "MALA, product", "UHMC, product", "HMC, product", "HMC, the union's energy")


def label(method: str, models: str) -> str:
    """Return a row's name."""
    return f"{method}, {models}"


def tabulate(size: str, *, quiet: bool = False) -> tuple[Table, Figure]:
    """Run every method on exact and on trained models."""
    densities = (plane.UPPER, plane.LOWER, plane.WHOLE)
    kinds: dict[str, Sequence[Denoiser]] = {
        "exact": densities,
        "trained": [plane.train(density, k, quiet=quiet) for k, density in enumerate(densities)],
    }
    table, drawn = {}, {}
    for row, run in tqdm(runs_of(kinds).items(), unit="row", disable=quiet):
        points, draws = zip(*(draw(row, run, seed) for seed in range(SEEDS)), strict=True)
        found = [measure(points[seed], draws[seed].before_last, seed) for seed in range(SEEDS)]
        cells = {metric: over_seeds([each[metric] for each in found]) for metric in found[0]}
        table[row] = Row(SAMPLES, SEEDS, draws[0].evaluations, cells)
        drawn[row] = points[0]
    return table, figure(table, drawn)


def measure(x: Points, before_last: Points, seed: int) -> dict[str, float]:
    """Return the metrics of one seed's samples, and the likelihood of those before the last step."""
    others = plane.WHOLE.sample(len(x), generator=torch.Generator().manual_seed(1000 + seed))
    log_densities = plane.WHOLE.log_density(x)
    found = {
        LIKELIHOOD: log_densities.mean().item(),
        MEDIAN: log_densities.median().item(),
        WITHOUT: plane.WHOLE.log_density(before_last).mean().item(),
        COVARIANCE: plane.covariance_error(x),
        WITHIN: plane.within_modes(x),
    }
    for bandwidth in BANDWIDTHS:
        biased, unbiased = plane.mmd(x, others, bandwidth)
        found |= {DISCREPANCY[bandwidth]: math.log(biased), UNBIASED[bandwidth]: 1000 * unbiased}
    return found


def over_seeds(values: Sequence[float]) -> Cell:
    """Return the mean, and Student's interval for it."""
    return cell_of(Estimate(float(np.mean(values)), np.array(values), "groups"))


def runs_of(kinds: Mapping[str, Sequence[Denoiser]]) -> dict[str, tuple[Sequence[Denoiser], How]]:
    """Return the models and the method of every row."""
    runs = {label(method, "exact"): (kinds["exact"], how) for method, how in EXACT.items()}
    for (method, how), (kind, models) in product(METHODS.items(), kinds.items()):
        runs[label(method, kind)] = (models, how)
    return runs


def draw(row: str, run: tuple[Sequence[Denoiser], How], seed: int = 0) -> tuple[Points, Draw]:
    """Return a row's samples of a seed, and the run."""
    models, how = run
    steps = LEVELS if row.rsplit(", ", 1)[0] in AT_LEVELS else STEPS
    sampling = Draw(models, seed, steps)
    return how(sampling), sampling


def shown() -> dict[str, Points]:
    """Return the samples in the picture: of exact models, from the first seed."""
    runs = runs_of({"exact": (plane.UPPER, plane.LOWER, plane.WHOLE)})
    return {row: draw(row, runs[row])[0] for row in map(partial(label, models="exact"), PANELS)}


def figure(table: Table, drawn: Mapping[str, Points]) -> Figure:
    """Return a picture of some rows' samples on the ring's density, and two metrics of all methods."""
    methods = list(dict.fromkeys(row.rsplit(", ", 1)[0] for row in table))
    size = plots.WIDTH / 4
    heights = [2 * (size + 0.25), 0.9 + pictures.LINE * len(methods)]
    whole = plots.empty(plots.WIDTH, sum(heights), gap=0.02)
    upper, lower = whole.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, method in zip(upper.subplots(2, 4).flat, PANELS, strict=True):
        scatter(part, drawn[label(method, "exact")], plots.COLOURS["blue"])
        part.set_title(method, fontsize=9)
    panels = lower.subplots(1, 2, sharey=True)
    for part, metric in zip(panels, (MEDIAN, DISCREPANCY[0.5]), strict=True):
        for place, method in enumerate(methods):
            for kind, colour in KINDS.items():
                if row := table.get(label(method, kind)):
                    pictures.point(part, row.cells[metric], place, plots.COLOURS[colour], label=False)
        part.set_title(f"{metric}, {BETTER[metric]} is better", fontsize=9)
        part.set_yticks(range(len(methods)), methods, fontsize=8)
        part.set_ylim(len(methods) - 0.4, -0.6)
        part.grid(axis="y", lw=0.3)
        part.spines[["top", "right"]].set_visible(False)
    for left, (kind, colour) in zip((0.05, 0.35), KINDS.items(), strict=True):
        words = f"{kind} models"
        panels[0].text(left, 0.9, words, color=plots.COLOURS[colour], transform=panels[0].transAxes)
    return whole


def scatter(axes: Axes, x: Points, color: str) -> None:
    """Draw samples over the density's contours."""
    grid = torch.linspace(-0.8, 0.8, 120, dtype=torch.float64)
    places = torch.cartesian_prod(grid, grid)
    density = plane.WHOLE.log_density(places, 0.03).exp().reshape(120, 120).T
    axes.contour(grid, grid, density, levels=3, colors="0.6", linewidths=0.5)
    axes.plot(*x[:1000].T, ".", ms=1, alpha=0.5, color=color)
    axes.set(xlim=(-0.8, 0.8), ylim=(-0.8, 0.8), xticks=[], yticks=[], aspect="equal")


PROTOCOL = """The paper gives neither the densities nor the kernel of its table: **its rows are another
protocol's**. Ours: eight modes of deviation 0.03 on a circle of radius 0.5, upper and lower four; LL is the
mean exact log-density of the union, whose own samples have 2.10, beside its median: a few points far off
decide a mean, and its interval says little then. *Var: covariance* is the Frobenius distance of
covariances, *within modes* the mean squared distance to the nearest mode per axis (0.0009 is right);
kernels are exp(-|x - y|^2/(2 b^2)) for b = 0.1, 0.5, 1. After ± stands half of a 95% interval over the
seeds. Evaluations are of models: not of densities, nor of derivatives, of which SuperDiff's deterministic
rows take one for each. *No last step*: as samples are at the last level, 0.002, before the step to 0. The
notebook that Du et al. published stops at a level of 0.025 (VP), where the ring's own samples have an LL of
1.40.

The union's score and energy are composed of the halves' at every level: log((q_1 + q_2)/2), and the scores
in shares q_i/(q_1 + q_2). That takes the densities themselves. Exact models have them; networks that
predict noise do not, hence no trained row (Du et al. train networks that are energies). *projective* and
*conjunction* are relative to the whole ring: exact, or a third network."""

QUESTION = "Can the union of two densities in the plane be composed?"
SAYS = (
    "AMDM draws one half or points far off: its likelihood (LL) can be the truth's, as a half has the "
    "whole's, but its discrepancy (MMD) from the whole ring is large.",
    "The union's own score and energy, and SuperDiff OR, draw the ring; products and means target "
    "something else.",
    "The paper gives neither densities nor kernel, so that its numbers are another protocol's: see "
    "PROTOCOL in `table7.py`.",
)
UNIT = "samples"
SHOWN = [
    *("truth", "the union's own score", "HMC, the union's energy", "SuperDiff OR, T = 1", "projective"),
    *("AMDM, window 0", "AMDM, window 0.4", "AMDM, window 1"),
]


def section(table: Table, differences: Table) -> Section:
    """Return the section: AMDM is not for this, by the discrepancy. A half has the whole's likelihood."""
    found = {row: cells.cells[DISCREPANCY[0.5]] for row, cells in table.items()}
    best = min((row for row in found if row.startswith("AMDM")), key=lambda row: found[row].value)
    energy, ours = found[label("HMC, the union's energy", "exact")], found[best]
    assert energy.high is not None and ours.low is not None
    claim = Claim(
        "AMDM fails to compose densities in the plane, Du et al. do not",
        "ln(MMD) -3.51 and -4.48, LL -2.43 and 1.30",
        f"{DISCREPANCY[0.5]}: {ours.value:.2f} ({best}) and {energy.value:.2f} (HMC, the union's energy)",
        "reproduces" if energy.high < ours.low else "does not reproduce",
        place="table 7",
    )
    return Section([claim], QUESTION, SAYS, printed(table))


def printed(table: Table) -> list[list[str]]:
    """The exact models' rows in print, with the digits that these numbers need."""
    metrics = [MEDIAN, DISCREPANCY[0.5], WITHIN]
    lines = [["exact models", *metrics, "evaluations"]]
    floor = {DISCREPANCY[0.5]: f"{math.log(plane.floor(SAMPLES, 0.5)):.2f}"}
    lines.append(["expected of two true sets", *(floor.get(metric, "") for metric in metrics), ""])
    for name in SHOWN:
        row = table[label(name, "exact")]
        cells = [row.cells[metric] for metric in metrics]
        words = [f"{c.value:.3g}±{(c.high or 0) - c.value:.1g}" for c in cells]
        lines.append([name, *words, str(row.evaluations)])
    return lines
