"""Figures 6 and 7: how many steps aggregate; spherical, linear, and spherical with correction."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from benchmarks import pictures
from benchmarks.experiment import Experiment
from benchmarks.measures import CONTROL, LOOKS
from benchmarks.methods import FoldName, Length, Method
from benchmarks.report import Direction, Section, compare
from benchmarks.tables import Table
from shapes.world import Image, Scenes

TITLE = "Figures 6 and 7: how many steps aggregate, and by which fold"
STEPS = (5, 10, 15, 20, 25, 30, 40, 50)
FOLDS: dict[str, tuple[FoldName, Length]] = {
    "spherical": ("slerp", 0.0),
    "linear": ("lerp", 0.0),
    "spherical + correction": ("slerp", "auto"),
}
JUDGED = ("ISR avg", "mAP default full")
FEW = 10  # steps: where the paper sees linear ahead


def label(fold: str, steps: int) -> str:
    """A row's name."""
    return f"{fold}, s = {steps}"


CAUSES = """Why: what linear gains, and what it costs in quality, is the norm of its first fold (see the
controls). With deterministic steps every x_i is its mean_i: the correction goes back toward a model's own
latent, and undoes a part of the fold. The lead's interactions are what the partner does not know: they are
lost the more, the longer it takes part."""
BEST = label("spherical + correction", 20)


def experiment(size: str) -> Experiment:
    """layout(+attribute) over s = 0 .. 50."""
    rows = {"layout": Method(("layout",))}
    for name, (fold, correction) in FOLDS.items():
        for s in STEPS:
            # The default window, so that what other experiments draw as well is drawn once.
            window = 0.4 if s == 20 else (0, s)
            rows[label(name, s)] = Method(
                ("layout", "attribute"), fold=fold, correction=correction, window=window
            )
    pairs = [(label("spherical", s), label("linear", s)) for s in STEPS]
    pairs += [(label("spherical + correction", s), label("spherical", s)) for s in STEPS]
    pairs += [(label("spherical", 50), label("spherical", 20)), (BEST, label("spherical", 50))]
    pairs += [(label("spherical", s), "layout") for s in STEPS]
    return Experiment(rows, scenes=200, pairs=pairs)


def figure(table: Table, images: Mapping[str, Image], scenes: Scenes) -> Figure:
    """Figure 6's curves, and figure 7's grid at s = 20 and s = 50."""
    whole = pictures.picture(17, 10)
    left, right = whole.subfigures(1, 2, squeeze=False, width_ratios=[1, 1])[0]
    shown = {label(fold, s): images[label(fold, s)] for s in (20, 50) for fold in FOLDS}
    pictures.grid(left, shown, scenes)
    for axes, metric in zip(right.subplots(3, 2, sharex=True).flat, [*CONTROL, *LOOKS[:2]], strict=True):
        for fold in FOLDS:
            rows = ["layout", *(label(fold, s) for s in STEPS)]
            pictures.curve(axes, [0, *STEPS], table, rows, metric, fold)
        axes.set(title=metric, xlabel="aggregated steps")
    axes.legend(fontsize=8)
    return whole


def section(table: Table, differences: Table) -> Section:
    """What the paper says of the figures, and what is measured."""
    more: dict[str, Direction] = dict.fromkeys(JUDGED, "more")
    less: dict[str, Direction] = dict.fromkeys(JUDGED, "less")
    claims = []
    for s in STEPS:
        gap = differences[f"{label('spherical', s)} - {label('linear', s)}"]
        text = "linear is slightly better" if s <= FEW else "spherical is significantly better"
        claims.append(compare(f"s = {s}: {text}", "figure 6", gap, less if s <= FEW else more))
    for s in STEPS:
        gap = differences[f"{label('spherical', s)} - {label('linear', s)}"]
        text = f"s = {s}: linear leaves the manifold, its images are poorer"
        claims.append(compare(text, "figure 7", gap, {"KID": "less"}))
    for s in STEPS:
        gap = differences[f"{label('spherical + correction', s)} - {label('spherical', s)}"]
        claims.append(compare(f"s = {s}: the correction improves", "figure 6", gap, more))
    longer = differences[f"{label('spherical', 50)} - {label('spherical', 20)}"]
    claims.append(compare("spherical grows with s: 50 is better than 20", "figure 6", longer, more))
    best = differences[f"{BEST} - {label('spherical', 50)}"]
    claims.append(compare("20 steps with correction are better than 50 without", "section 4", best, more))
    alone = [differences[f"{label('spherical', s)} - layout"] for s in (20, 5)]
    claims.append(
        compare(
            "joined it surpasses one model in interactions, s = 20",
            "29.53 to 31.40",
            alone[0],
            {"mAP default full": "more"},
            under={"s = 5": alone[1]},
        )
    )
    return Section(claims, tables=[[*CONTROL, *LOOKS]], remarks=[CAUSES])
