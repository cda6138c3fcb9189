"""Two models that know one thing each, joined by AMDM: handwritten digits, with exact denoisers.

The images are scikit-learn's 8x8 digits (Alpaydin and Kaynak 1998, https://doi.org/10.24432/C50P49). Half of
them become a mixture of probabilistic PCAs (Tipping and Bishop 1999), one per digit and stroke. A mixture's
denoiser is known in closed form, so nothing is trained and the samples are new images. Model A is told which
digit to draw, model B which stroke, thin or bold. Does A(+B) draw that digit with that stroke? The judges see
only pixels: a classifier of the other half of the images, and the mean ink of an image.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC
from torch import Tensor
from tqdm import tqdm

from amdm import Denoiser, amdm, sample_amdm, sample_ddim, sample_projective_guidance, start_noise
from amdm.command_line.arguments import parser_of
from amdm.denoisers import GaussianMixture, conjunction
from amdm.schedules import ddim_sigmas, sigmas_from_betas, stable_diffusion_betas
from amdm.shapes.scores import verdict
from amdm.shapes.tables import write_csv
from theory_checks.statistics import percentiles

Array = NDArray[Any]
Table = dict[str, "Row"]  # by method
STROKES = ("thin", "medium", "bold")  # the thirds of the real images, by ink
WANTED = [(digit, (digit + turn) % 2 * 2) for turn in range(2) for digit in range(10)]  # thin or bold
# Stable Diffusion's noise levels, those of the paper: 50 from 13.1 to 0.04, then 0.
SIGMAS = ddim_sigmas(sigmas_from_betas(stable_diffusion_betas()), 50)
STEPS = len(SIGMAS) - 1
WINDOW = 20  # steps, AMDM's default


class World(NamedTuple):
    """The mixture, and the way from its coordinates (centred, mean variance 1) to pixels."""

    mixture: GaussianMixture
    mean: Array
    scale: float

    def model(self, digit: int | None = None, stroke: int | None = None) -> Denoiser:
        """Return the denoiser of the given digit or stroke."""
        known = torch.zeros(10, len(STROKES), dtype=torch.float64)
        known[slice(None) if digit is None else digit, slice(None) if stroke is None else stroke] = 1
        return self.mixture.restrict(known.flatten() * self.mixture.weights)


class Judge(NamedTuple):
    """A judge of images by their pixels alone, with `(10, 3)` real images to show, by digit and stroke."""

    classifier: SVC
    limits: Array
    accuracy: float
    examples: Array

    def right(self, images: Array, digits: Array, strokes: Array) -> Array:
        """Return the success in digit, in stroke and in both: `(3, images)`."""
        digit = self.classifier.predict(images.reshape(-1, 64)) == digits
        stroke = stroke_of(images, self.limits) == strokes
        return np.stack([digit, stroke, digit & stroke])


class Row(NamedTuple):
    """A method's samples, and the judge's verdict on them."""

    images: Array
    right: Array
    evaluations: int

    def shares(self) -> Array:
        """Return the shares right in digit, stroke and both, each with its 95% Wilson interval: `(3, 3)`."""
        tests = [binomtest(int(count), len(self.images)) for count in self.right.sum(1)]
        return np.array([(test.statistic, *test.proportion_ci(method="wilson")) for test in tests])


def stroke_of(images: Array, limits: Array) -> Array:
    """Return 0 thin, 1 medium, 2 bold, by the mean pixel: the digit explains only 4% of its variance."""
    return np.asarray(np.digitize(images.mean((1, 2)), limits))


def prepare(seed: int) -> tuple[World, Judge]:
    """Return one half of the real images for the mixture, and the other for the classifier."""
    rows, digits = load_digits(return_X_y=True)
    images = rows.reshape(-1, 8, 8)
    limits = np.quantile(images.mean((1, 2)), [1 / 3, 2 / 3])
    labels = digits * len(STROKES) + stroke_of(images, limits)
    examples = images[np.unique(labels, return_index=True)[1]].reshape(10, len(STROKES), 8, 8)
    half, rest = train_test_split(np.arange(len(rows)), test_size=0.5, stratify=labels, random_state=seed)
    classifier = SVC().fit(rows[rest], digits[rest])
    accuracy = float(classifier.score(rows[half], digits[half]))
    return fit(images[half], labels[half]), Judge(classifier, limits, accuracy, examples)


def fit(images: Array, labels: Array, rank: int = 8) -> World:
    """Return a probabilistic PCA for each label 0, 1, ...: mean, principal axes, isotropic rest."""
    mean, sizes = images.mean(0), np.bincount(labels)
    scale = float((images - mean).std())
    rows = ((images - mean) / scale).reshape(-1, 64)
    parts = [PCA(rank).fit(rows[labels == label]) for label in range(len(sizes))]
    # With fewer images than pixels scikit-learn shares the rest among the images' dimensions; the maximum
    # likelihood shares it among the pixels' (Tipping and Bishop, https://doi.org/10.1111/1467-9868.00196).
    rest = np.array([part.noise_variance_ for part in parts]) * (np.minimum(sizes, 64) - rank) / (64 - rank)
    spread = np.stack([part.explained_variance_ for part in parts]) - rest[:, None]
    factors = spread[..., None] ** 0.5 * np.stack([part.components_ for part in parts])
    means = np.stack([part.mean_ for part in parts]).reshape(-1, 8, 8)
    arrays = (means, rest, sizes.astype(float), factors.reshape(-1, rank, 8, 8))
    return World(GaussianMixture(*map(torch.from_numpy, arrays)), mean, scale)


def sample(
    models: Sequence[Denoiser], x: Tensor | Sequence[Tensor], window: int = WINDOW
) -> tuple[Tensor, int]:
    """Run AMDM, joined in `window` of 50 steps; return samples and evaluations. One model is DDIM."""
    steps = list(amdm(models, x, SIGMAS, window=window))
    return steps[-1].x_next, sum(len(step.aggregation.xs) if step.aggregation else 1 for step in steps)


def sample_projective(
    models: Sequence[Denoiser], xs: Sequence[Tensor], untold: Denoiser, window: int
) -> tuple[Tensor, int]:
    """Return projective guidance's samples, both models joined in `window` of 50 steps, and its evaluations.

    The background is the model that is told nothing: here there is no caption. Without guidance it is AMDM's
    first step, then projective composition to the end of its window, then model 1 alone.
    """
    x = sample_projective_guidance(models, xs, SIGMAS, background=untold, window=window, disable=True)
    evaluations = len(models) + (len(models) + 1) * (window - 1) + STEPS - window
    return x, evaluations


def sample_guided(models: Sequence[Denoiser], xs: Sequence[Tensor], untold: Denoiser) -> tuple[Tensor, int]:
    """Run AMDM on models with guidance 2 in the window, then model 1 alone, without guidance.

    AMDM in effect steps by the mean prediction. For two models with guidance 2 that is u + (c_1 - u) + (c_2 -
    u), where u is told nothing: the projective composition.
    """
    guided = [conjunction(untold, [model], 2.0) for model in models]
    x = sample_amdm(guided, xs, SIGMAS[: WINDOW + 1], window=1.0, disable=True)
    evaluations = 2 * len(models) * WINDOW + STEPS - WINDOW
    return sample_ddim(models[0], x, SIGMAS[WINDOW:], disable=True), evaluations


def draw(world: World, pair: tuple[int, int], seeds: Sequence[int]) -> dict[str, tuple[Tensor, int]]:
    """Return every method, for one wanted pair, from the same starts."""
    a, b, both = world.model(digit=pair[0]), world.model(stroke=pair[1]), world.model(*pair)
    x_a, x_b = start_noise(seeds, (8, 8), float(SIGMAS[0]), 2, dtype=torch.float64)
    # The first aggregation joins two unrelated latents, which changes the norm of A's: by a factor of 1.00
    # with standard deviation 0.06. Is that what helps? The control gives A alone, sample by sample, the norm
    # that it then has in A(+B). A scaled start does it to 0.03%: the prediction is still small beside x.
    first = next(amdm([a, b], [x_a, x_b], SIGMAS)), next(amdm([a], x_a, SIGMAS))
    joined, alone = (torch.linalg.vector_norm(step.x_next, dim=(1, 2), keepdim=True) for step in first)
    return {
        "A": sample([a], x_a),
        "B": sample([b], x_b),
        "A(+B)": sample([a, b], [x_a, x_b]),
        "B(+A)": sample([b, a], [x_b, x_a]),
        "A, start rescaled": sample([a], x_a * joined / alone),
        "A(+B), shared start": sample([a, b], x_a),
        "A(+B), all steps": sample([a, b], [x_a, x_b], STEPS),
        "A(+B), projective": sample_projective([a, b], [x_a, x_b], world.model(), WINDOW),
        "B(+A), projective": sample_projective([b, a], [x_b, x_a], world.model(), WINDOW),
        "A(+B), projective, all steps": sample_projective([a, b], [x_a, x_b], world.model(), STEPS),
        "A(+B), guidance 2": sample_guided([a, b], [x_a, x_b], world.model()),
        "B(+A), guidance 2": sample_guided([b, a], [x_b, x_a], world.model()),
        "one model told both": sample([both], x_a),
    }


def experiment(world: World, judge: Judge, seeds: Sequence[int], quiet: bool) -> tuple[Table, Array]:
    """Return all methods and the wanted pairs `(samples, 2)`. The i-th seed wants pair i mod 20."""
    groups = [(pair, seeds[i :: len(WANTED)]) for i, pair in enumerate(WANTED[: len(seeds)])]
    runs = [draw(world, pair, group) for pair, group in tqdm(groups, desc="wanted pairs", disable=quiet)]
    wanted = np.repeat([pair for pair, _ in groups], [len(group) for _, group in groups], axis=0)
    rows = {}
    for method, (_, evaluations) in runs[0].items():
        images = torch.cat([run[method][0] for run in runs]).numpy() * world.scale + world.mean
        rows[method] = Row(images, judge.right(images, *wanted.T), evaluations)
    return rows, wanted


def compare(rows: Table, method: str, other: str) -> str:
    """Return the paired difference in joint success, with a 95% bootstrap interval over the samples."""
    gain = rows[method].right[2].astype(int) - rows[other].right[2]
    counts = np.array([(gain == value).sum() for value in (1, -1, 0)])
    # Drawing samples with replacement draws these counts from a multinomial distribution.
    redrawn = np.random.default_rng(0).multinomial(len(gain), counts / len(gain), size=9999)
    low, high = percentiles(100 * (redrawn[:, 0] - redrawn[:, 1]) / len(gain))
    return verdict(method, other, [100 * gain.mean(), low, high])


def report(rows: Table, judge: Judge) -> str:
    """Return the table and the verdict."""
    lines = [f"{'% right [95% interval]':29}{'n':>6}  {'digit':18}{'stroke':18}{'both':18}evaluations"]
    for method, row in rows.items():
        cells = "".join("{:5.1f} [{:4.1f},{:5.1f}] ".format(*share) for share in 100 * row.shares())
        lines.append(f"{method:29}{len(row.images):6} {cells}{row.evaluations:7}")
    lines.append(f"The judge of digits is right on {100 * judge.accuracy:.1f}% of real images new to it.")
    lines.append("\nBoth right, sample by sample:")
    lines += [compare(rows, "A(+B)", other) for other in ("A", "A, start rescaled", "one model told both")]
    lines += [compare(rows, "B(+A)", "B")]
    for method in ("A(+B)", "B(+A)"):
        others = (method, f"{method}, guidance 2")
        lines += [compare(rows, f"{method}, projective", other) for other in others]
    lines += [compare(rows, "A(+B), projective, all steps", "A(+B), all steps")]
    return "\n".join(lines)


def draw_figure(rows: Table, wanted: Array, judge: Judge, path: Path) -> None:
    """Draw the first sample of ten wanted pairs, framed if both are right, beside the methods' shares."""
    figure = Figure(figsize=(15, 8.8), layout="constrained")
    question = "Model A is told which digit to draw, model B which stroke. What do they draw together?"
    figure.suptitle(f"{question}\nFramed: both right. {compare(rows, 'A(+B)', 'A')}", fontsize=15)
    axes, bars = figure.subplots(1, 2, sharey=True, width_ratios=[1.7, 1])
    pairs = WANTED[: min(10, len(wanted))]
    samples = [int((wanted == pair).all(1).argmax()) for pair in pairs]
    images = [judge.examples[tuple(np.array(pairs).T)], *(row.images[samples] for row in rows.values())]
    mosaic = np.pad(images, [(0, 0), (0, 0), (1, 1), (1, 1)]).swapaxes(1, 2).reshape(10 * len(images), -1)
    edges = (-0.5, len(pairs) - 0.5, len(rows) + 0.5, -0.5)
    axes.imshow(mosaic, cmap="gray_r", vmin=0, vmax=16, extent=edges, aspect="auto")
    for y, x in np.argwhere([row.right[2, samples] for row in rows.values()]):
        axes.add_patch(Rectangle((x - 0.45, y + 0.55), 0.9, 0.9, fill=False, color="tab:green", lw=3))
    names = [f"{STROKES[stroke]}\n{digit}" for digit, stroke in pairs]
    axes.set_xticks(range(len(pairs)), names, fontsize=13)
    axes.set_yticks(range(len(images)), ["a real image", *rows], fontsize=13)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    draw_bars(bars, rows)
    figure.savefig(path, dpi=110)


def draw_bars(axes: Axes, rows: Table) -> None:
    """Draw the success rates with their intervals, each beside its method's images."""
    shares = np.stack([row.shares() for row in rows.values()])
    for i, color in enumerate(("tab:blue", "tab:orange", "tab:green")):
        (share, low, high), y = shares[:, i].T, np.arange(1, len(rows) + 1) + (-0.32, -0.16, 0.12)[i]
        height = (0.14, 0.14, 0.38)[i]
        drawn = axes.barh(y, share, height, xerr=[share - low, high - share], color=color, capsize=2)
    axes.bar_label(drawn, fmt="{:.0%}", label_type="center", color="white", weight="bold")
    axes.set(xlim=(0, 1), xlabel="share of the samples, with 95% intervals")
    axes.legend(axes.containers[1::2], ["digit right", "stroke right", "both right"], ncols=3)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)


def write_table(rows: Table, path: Path) -> None:
    """Write one line per method."""
    judged = [what + end for what in ("digit", "stroke", "joint") for end in ("", "_low", "_high")]
    lines: list[list[Any]] = [["method", "n", *judged, "evaluations_per_sample"]]
    for method, row in rows.items():
        lines.append([method, len(row.images), *row.shares().ravel().round(4).tolist(), row.evaluations])
    write_csv(path, lines)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the experiment, print the table and write the picture."""
    parser = parser_of(__doc__, "out/demo", "digits.png and .csv")
    parser.add_argument("--samples", type=int, default=2000, help="per method")
    parser.add_argument("--seed", type=int, default=0, help="of the split and of the start noises")
    args = parser.parse_args(argv)
    if args.samples < 1:
        parser.error(f"--samples is {args.samples}, expected 1 or more")
    world, judge = prepare(args.seed)
    seeds = range(args.seed * 10**6, args.seed * 10**6 + args.samples)
    rows, wanted = experiment(world, judge, seeds, args.quiet)
    print(report(rows, judge))
    draw_figure(rows, wanted, judge, args.out / "digits.png")
    write_table(rows, args.out / "digits.csv")
    print(f"\nWrote {args.out / 'digits.png'} and {args.out / 'digits.csv'}")


if __name__ == "__main__":
    torch.set_num_threads(1)  # the batches are too small to gain from more
    main()
