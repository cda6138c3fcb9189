"""The output of the tab *Your models*: sentences, pictures as HTML, plots."""

import html
import re
import traceback
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from amdm.command_line.arguments import Expected
from amdm.page.comparing import Seen, orders, title_of
from amdm.page.configuration import LETTERS, ModelFields, part_of, pipeline_class
from amdm.page.grounding import Instance
from amdm.page.looks import pixels_of, url_of
from amdm.plots import COLOURS, empty, label_lines
from amdm.sample.configuration import Config, jobs
from amdm.sample.cost import Network, evaluations_of, plain, size_of
from amdm.sample.tables import Unusable

# The configuration's words, and the page's.
WORDS = {
    r"models\[(\d)\]": lambda found: f"model {LETTERS[int(found[1])]}",
    r"sampling\.weights": lambda _: "weight",
    r"(sampling|call|prompts\[0\])\.": lambda _: "",
    r"num_inference_steps": lambda _: "steps",
}


def sentence_of(problem: str) -> str:
    """Return what is wrong with a configuration as a sentence of the page's words.

    >>> sentence_of("models[1].pipeline is /a, expected a folder with model_index.json")
    'Model B: pipeline is /a, expected a folder with model_index.json.'
    """
    said = problem.strip()
    for words, put in WORDS.items():
        said = re.sub(words, put, said)
    said = re.sub(r"^model ([A-C])\.(call\.)?", r"model \1: ", said)
    return said[:1].upper() + said[1:] + ("" if said.endswith((".", "?")) else ".")


def wrong(error: Exception) -> str:
    """Return what is wrong in sentences, as HTML.

    What comes out of the code of pipelines is printed in full, too.
    """
    if isinstance(error, Unusable):
        return problems(map(sentence_of, error.problems))
    if isinstance(error, Expected):
        return problems([sentence_of(f"Expected {error}")])
    first = (str(error).splitlines() or [""])[0]
    if isinstance(error, TypeError | ValueError | FloatingPointError) and first:
        return problems([sentence_of(first)])
    traceback.print_exception(error)
    return problems([sentence_of(f"The models stopped with {type(error).__name__}: {first}")])


def problems(sentences: Iterable[str]) -> str:
    """Return sentences about what is wrong, as HTML."""
    return "".join(f'<p class="problem">{html.escape(each)}</p>' for each in sentences)


def status(sentence: str) -> str:
    """Return what the page is doing, as HTML."""
    return f'<p class="status">{html.escape(sentence)}</p>'


def about(model: ModelFields) -> str:
    """Return a line about a model's folder: what its pipeline is told of what is drawn."""
    kind = pipeline_class(model.folder)
    if not kind:
        return "no pipeline: this folder has no model_index.json" if model.folder.strip() else "&nbsp;"
    return f"{kind}: told {TOLD[part_of(model)]}"


TOLD = {
    "": "the prompt",
    "instances": "the prompt and the boxes",
    "interactions": "the prompt and the interactions of boxes",
}


def blank(width: int | None, height: int | None, side: int = 512) -> np.ndarray:
    """Return an empty canvas of the pictures' shape: light, with lines at the quarters."""
    width, height = width or side, height or side
    longest = max(width, height)
    width, height = round(side * width / longest), round(side * height / longest)
    image = np.full((height, width, 3), 246, np.uint8)
    for quarter in (1, 2, 3):
        image[height * quarter // 4] = image[:, width * quarter // 4] = 222
    return image


# Colours of boxes, in the order in which they are drawn.
BOXES = [
    tuple(int(COLOURS[name][i : i + 2], 16) for i in (1, 3, 5))
    for name in ("blue", "vermilion", "green", "orange", "purple", "sky")
]


def on_canvas(instances: Sequence[Instance], image: np.ndarray) -> dict[str, object]:
    """Return a canvas with these objects on it."""
    height, width = image.shape[:2]
    boxes = [
        {
            "xmin": round(x0 * width),
            "ymin": round(y0 * height),
            "xmax": round(x1 * width),
            "ymax": round(y1 * height),
            "label": phrase,
            "color": BOXES[k % len(BOXES)],
        }
        for k, (phrase, (x0, y0, x1, y1)) in enumerate(instances)
    ]
    return {"image": image, "boxes": boxes[::-1]}


# Memory


def estimate(config: Config, networks: Sequence[Network], free: int | None) -> str:
    """Return the memory and the evaluations of a comparison as Markdown, before anything is loaded.

    `free` is the device's free memory in bytes, None if it is not known.
    """
    total = sum(network.bytes for network in networks)
    rows = [
        f"| {model.name} | {model.pipeline.name} | {_parts(k, networks)} |"
        for k, model in enumerate(config.models)
    ]
    there = "" if free is None else f", where {size_of(free)} are free"
    lines = [
        f"**{size_of(total)}** of parameters in {config.dtype} on {config.device}{there}. "
        "Activations add to it.",
        "",
        "| | folder | networks |",
        "|---|---|---|",
        *rows,
    ]
    if free is not None and total > free:
        lines[:0] = [f"**These models need more memory than is free on {config.device}.**", ""]
    return "\n".join([*lines, "", evaluations(config)])


def _parts(k: int, networks: Sequence[Network]) -> str:
    own = [f"{part} {size_of(size)}" for number, part, size in networks if number == k]
    return ", ".join(own) or "shared with another model"


def evaluations(config: Config) -> str:
    """Return how often the networks are evaluated for all pictures of the comparison."""
    number, cost = len(config.models), {}
    for job in jobs(config):
        cost[len(job.models)] = sum(evaluations_of(config, job))
    alone, joined = cost[1], cost[number]
    return (
        f"A picture of one model takes {plain(alone)} evaluations of a network, one of all models "
        f"{plain(joined)}; the {2 * number} pictures take {plain(number * (alone + joined))}."
    )


# Pictures


def titles(number: int) -> list[str]:
    """Return the titles of a comparison's pictures."""
    return [title_of(order, LETTERS) for order in orders(number)]


def card(title: str, seen: Seen | None) -> str:
    """Return a picture with its title and how far it is, as HTML; an empty frame before it is begun."""
    picture, state, said = '<div class="frame"></div>', "waiting", "&nbsp;"
    if seen is not None:
        state, said = ("done", "&nbsp;") if seen.done else ("drawing", f"step {seen.steps} of {seen.of}")
        if seen.pixels is not None:
            picture = f'<img class="frame" alt="{title}" src="{url_of(seen.pixels)}">'
    return (
        f'<figure class="card {state}" data-picture="{title}"><b>{title}</b>{picture}'
        f'<span class="verdict">{said}</span></figure>'
    )


def as_html(figure: Figure, alt: str) -> str:
    """Return a figure as HTML, sharp on screens with small pixels."""
    return f'<img alt="{alt}" style="width: 100%; max-width: 900px" src="{url_of(pixels_of(figure, 200))}">'


def separation(seen: Mapping[str, Sequence[Seen]], config: Config) -> str:
    """Return a plot of the angle and the norm gap between the lead and its partners, by step, as HTML.

    A sentence if no step joins the models. The window is shaded. For projective guidance they are of what the
    models add to the prompt, else of the latents.
    """
    joined = {title: [each for each in run if each.apart] for title, run in seen.items()}
    lines = {title: run for title, run in joined.items() if run}
    if not lines:
        return "<p>This method joins predictions: there is one latent, and nothing to be apart.</p>"
    controls, window = config.sampling.method == "projective_guidance", config.sampling.options["window"]
    what = "what the models add" if controls else "the latents"
    unit = "" if controls else ", VP"
    figure = empty(8.4, 2.7)
    of = next(iter(lines.values()))[0].of
    names = {"angle": f"angle of {what}, rad", "norm_gap": f"norm gap of {what}{unit}"}
    for axes, (field, label) in zip(figure.subplots(1, 2), names.items(), strict=True):
        axes.axvspan(window[0] + 0.5, window[1] + 0.5, color=COLOURS["blue"], alpha=0.08, lw=0)
        axes.text(window[0] + 0.7, 1, "window", transform=axes.get_xaxis_transform(), va="top", fontsize=8)
        for title, colour in zip(lines, _LINES, strict=False):
            for j, values in enumerate(
                zip(*(getattr(each.apart, field) for each in lines[title]), strict=True)
            ):
                steps = [each.steps for each in lines[title]]
                style = {"color": colour, "ls": ("-", "--")[j], "label": title if j == 0 else None}
                axes.plot(steps, values, marker=".", ms=4, lw=1.3, **style)
        axes.set(xlim=(0.5, of + 0.5), xlabel="step", ylabel=label)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        label_lines(axes)
    return as_html(figure, "angle and norm gap by step")


_LINES = [COLOURS[name] for name in ("blue", "orange", "green")]
