"""The caption counted once (`projective_guidance`) beside AMDM: the head table, and what draws it.

AMDM in effect averages two guided predictions, which halves the guidance toward what one model alone is told.
Here the window's guided prediction is that of all controls. What all models are told, the caption, counts
once: the `base` model predicts its effect.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.figure import Figure
from torch import Tensor

from amdm import plots, sample_projective_guidance, seeded_noise
from amdm.geometry import lerp_fold, slerp_fold
from amdm.samplers import Controls, resolve_window
from amdm.shapes import latents
from amdm.shapes.world import Image, Scenes
from benchmarks import pictures
from benchmarks.experiment import Experiment
from benchmarks.methods import (
    SOLVERS,
    STARTS,
    Method,
    Schedule,
    Solver,
    extra_args,
    levels,
    model,
    seeds_of,
    starts_of,
)
from benchmarks.report import Direction, Question, asking
from benchmarks.runner import Drawer
from benchmarks.tables import Table

TITLE = "The caption counted once"


@dataclass(frozen=True)
class CaptionOnce:
    """Several models joined by projective guidance; by default in 20 of 50 steps, as AMDM.

    Attributes:
        models: names, the lead first.
        window: the steps that all controls guide, as `amdm` takes it.
        guidance: the guidance in the window; after it the lead has 3.
        weights: the weight of every partner's control, or one for each.
        window_eta: the share of fresh noise in the window.
        eta: the share of fresh noise after it.
        first: the window's first step: AMDM's from every model's own start, by the spherical or the linear
            fold; or none, if all models have the lead's start.
        background: the model that is told the caption alone.
        say_style: True if the captions name the style.
        rule: a rule of `RULES` that chooses the weights in place of `weights`; "" for none.
    """

    models: tuple[str, ...]
    steps: int = 50
    window: float | tuple[int, int] = 0.4
    guidance: float = 3.0
    weights: float | tuple[float, ...] = 1.0
    window_eta: float = 0.0
    eta: float = 0.0
    first: Literal["spherical", "linear", "shared"] = "spherical"
    background: str = "base"
    sampler: Solver = "ddim"
    schedule: Schedule = "ddim"
    say_style: bool = True
    rule: str = ""

    @property
    def calls(self) -> Counter[str]:
        """Return the number of evaluations of each network for an image, two passes counted as one."""
        start, stop = resolve_window(self.window, levels(self.schedule, self.steps).tolist())
        # Before the joining step and in it partners are guided: two passes.
        joined = start if self.first == "shared" else start + 1
        alone = 0 if self.first == "shared" else joined
        counts = dict.fromkeys(self.models[1:], alone + (stop - joined + 1) // 2)
        return Counter({self.models[0]: self.steps, **counts, self.background: (stop - joined) // 2})

    def draw(self, scenes: Scenes, seed: int, device: str = "cpu") -> Image:
        """Return images of scenes from the starts of this seed."""
        sigmas = levels(self.schedule, self.steps).to(device)
        x = starts_of(self.models, scenes, seed, sigmas[0])
        streams = [STARTS.index(name) for name in self.models]
        noises = [seeded_noise(seeds_of(scenes, seed), latents.SHAPE, stream=stream) for stream in streams]
        names = [*self.models, self.background]
        args = [extra_args(name, scenes, device, say_style=self.say_style) for name in names]
        drawn = sample_projective_guidance(
            [model(name, 3.0, device) for name in self.models],
            x[0] if self.first == "shared" else x,
            sigmas,
            args,
            background=model(self.background, 1.0, device),
            guidance=self.guidance,
            weights=self._weights(),
            window=self.window,
            fold=lerp_fold if self.first == "linear" else slerp_fold,
            sampler=SOLVERS[self.sampler],
            eta=self.eta,
            window_eta=self.window_eta,
            noise_sampler=noises[0] if self.first == "shared" else noises,
            disable=True,
        )
        return latents.decode(drawn)

    def _weights(self) -> float | list[float] | Callable[[Controls], list[Tensor]]:
        if self.rule:
            return RULES[self.rule]
        return self.weights if isinstance(self.weights, float) else list(self.weights)


def agreement(controls: Controls) -> list[Tensor]:
    """Return 1/(1 + cos), of the angle to the lead's direction: what both controls say is not said twice.

    Controls that do not contradict each other more than chance have cos = 0 and the weight 1.
    """
    return [1 / (1 + angle.cos().clamp(min=0)) for angle in controls.angle]


def large(controls: Controls) -> list[Tensor]:
    """Return 1 where a partner's direction is at least half as long as the lead's, else 0: it is decided."""
    lead, *partners = controls.norms
    return [(partner >= lead / 2).to(partner) for partner in partners]


RULES = {"agreement": agreement, "while large": large}
LEADS = (("layout", "attribute"), ("attribute", "layout"))
PUBLISHED, LINEAR = "AMDM as published", "linear fold"
ONCE, NOISY = "caption once, g = 3", "caption once, g = 2, eta = 1"
WAYS = (PUBLISHED, LINEAR, ONCE, NOISY)
SHOWN = {"scene right": "", "interactions": "layout", "colours": "attribute"}  # and the model that is told it


def label(models: tuple[str, ...], how: str) -> str:
    """Return a row's name."""
    lead, *partners = models
    return f"{lead}({''.join(f'+{partner}' for partner in partners)}), {how}"


def joined(models: tuple[str, ...]) -> dict[str, Drawer]:
    """Return the four ways to join two models."""
    return {
        PUBLISHED: Method(models),
        LINEAR: Method(models, fold="lerp", correction=0.0),
        ONCE: CaptionOnce(models),
        NOISY: CaptionOnce(models, guidance=2.0, window_eta=1.0),
    }


def experiment(size: str) -> Experiment:
    """Return both leads alone and joined in four ways, on scenes that no other experiment draws."""
    rows: dict[str, Drawer] = {}
    pairs = []
    for models in LEADS:
        ways = joined(models)
        rows |= {label(models, how): way for how, way in ways.items()}
        compared = [(how, PUBLISHED) for how in ways if how != PUBLISHED]
        compared += [(how, LINEAR) for how in (ONCE, NOISY)] + [(NOISY, ONCE)]
        pairs += [(label(models, one), label(models, other)) for one, other in compared]
        pairs += [(label(models, how), models[0]) for how in ways]
        pairs += [(models[0], label(models, PUBLISHED))]
    rows |= {models[0]: Method(models[:1]) for models in LEADS}
    scenes, seeds = (500, 3) if size == "full" else (300, 1)
    return Experiment(rows, scenes=scenes, seeds=seeds, pairs=pairs, first=1000)


def figure(table: Table, images: Mapping[str, Image], scenes: Scenes) -> Figure:
    """Return a picture of the success rates in the four ways, and of the model that is told it, alone."""
    title = "With the caption counted once, more of each model's control is kept"
    whole = compared(table, dict(zip(WAYS, WAYS, strict=True)), list(SHOWN), title, 3.6)
    for axes, (metric, told) in zip(whole.axes, [*SHOWN.items()] * len(LEADS), strict=True):
        if told:
            alone, place = table[told].cells[metric].value, (table[told].cells[metric].value, len(WAYS) - 0.5)
            axes.axvline(alone, color="0.5", lw=1, ls=":")
            axes.annotate(f"{told} alone ", place, ha="right", fontsize=7, color="0.4")
    return whole


def compared(
    table: Table, ways: Mapping[str, str], metrics: Sequence[str], title: str, height: float
) -> Figure:
    """Return a picture with a row of panels for each lead, a panel for a metric, and a line for each way.

    `ways` are the ways by which rows are labelled, and their names in the picture.
    """
    whole = plots.empty(plots.WIDTH, height)
    whole.suptitle(title, fontsize=10)
    grid = whole.subplots(len(LEADS), len(metrics), squeeze=False, sharey="row", sharex="col")
    for line, models in zip(grid, LEADS, strict=True):
        for axes, metric in zip(line, metrics, strict=True):
            for place, how in enumerate(ways):
                once = plots.COLOURS["vermilion"]
                colour = plots.colour_of(how) if how.startswith(("AMDM", "linear")) else once
                pictures.point(axes, table[label(models, how)].cells[metric], place, colour, label=True)
            axes.tick_params(labelsize=7)
            axes.grid(axis="both", lw=0.3)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
        line[0].set_yticks(range(len(ways)), list(ways.values()))
        line[0].set_ylim(len(ways) - 0.4, -0.6)
        line[0].set_ylabel(label(models, "")[:-2], fontsize=8)
    for axes, metric in zip(grid[-1], metrics, strict=True):
        axes.set_xlabel(f"{metric}{' x 1000' if metric.startswith('KID') else ', %'}", fontsize=8)
    return whole


MORE = "caption once: more is right than with AMDM or the linear fold"
KEPT = [f"{how}: the lead keeps its own control" for how in ("AMDM or linear fold", "caption once")]
NO_WORSE = "caption once: images no worse than with AMDM or the linear fold"


def questions() -> Iterator[Question]:
    """Yield the questions: the caption once against AMDM as published, the linear fold and the lead alone."""
    right: dict[str, Direction] = {"scene right": "more", "interactions": "more"}
    for models in LEADS:
        for how in (ONCE, NOISY):
            name = label(models, how)
            for other in (PUBLISHED, LINEAR):
                rows = name, label(models, other)
                claim = f"{name}: more is right than with {other}"
                yield Question(claim, "", rows, right, line=MORE)
                claim = f"{name}: images no worse than with {other}"
                yield Question(claim, "", rows, {"KID": "not more"}, line=NO_WORSE)
        lead = models[0]
        for how in WAYS:
            name = label(models, how)
            kept = next(metric for metric, told in SHOWN.items() if told == lead)
            line = KEPT[how in (ONCE, NOISY)]
            claim = f"{name}: no fewer {kept} than {lead} alone"
            yield Question(claim, "", (name, lead), {kept: "not less"}, line=line)


QUESTION = (
    "Does the lead keep what it controls if what all models are told counts once (`projective_guidance`, "
    'here "caption once")?'
)
SAYS = (
    "Yes, at both settings; `layout` does with the linear fold too. More scenes are right than with either "
    "at the same cost.",
    "An average of guided predictions halves the guidance of what one model alone is told; here each "
    "control keeps all of it, and `base` says what the caption adds.",
    "After the window the lead goes on alone in all rows, at guidance 3 without noise.",
)
COLUMNS = ["scene right", "colours", "interactions", "KID above renders"]
ROWS = [
    *(label(LEADS[0], how) for how in WAYS),
    LEADS[0][0],
    *(label(LEADS[1], how) for how in (PUBLISHED, NOISY)),
]
section = asking(list(questions()), QUESTION, SAYS, columns=COLUMNS, rows=ROWS)
