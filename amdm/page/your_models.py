"""The tab *Your models*: folders of pipelines, alone and joined, with boxes that are drawn on a canvas."""

import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from gradio_image_annotation import image_annotator

from amdm.command_line.arguments import Expected
from amdm.diffusers import Prepared
from amdm.page import awaited, showing, window
from amdm.page.comparing import Loaded, Seen, compare, prepare_all
from amdm.page.configuration import (
    INTERACTED,
    LETTERS,
    OPTIONS,
    fields_of,
    model_of,
    values_of,
    window_of,
)
from amdm.page.grounding import boxes_of, instances_of
from amdm.page.toml import toml_of
from amdm.sample.configuration import Config
from amdm.sample.cost import networks_in_memory
from amdm.sample.reading import config_of

EVERY = 0.3
"""Seconds between previews."""
MOST_CARDS = len(showing.titles(len(LETTERS)))
METHODS = {
    "AMDM: the paper's": "amdm",
    "Projective guidance: keeps more of each control": "projective_guidance",
    "Linear: the mean of the predictions": "linear",
    "SuperDiff: what all find equally likely": "superdiff",
}
# They draw no noise on the way, so that the models' starts are all that is random.
SAMPLERS = ("ddim", "dpmpp_2m", "heun", "res_multistep", "uni_pc")
WEIGHTS = {"projective_guidance": (1.0, 1.0)}
"""The weights of B and C that a method begins with, if they are not the shares of equal parts."""
EQUAL = (0.5, 0.33)
STEPS, FIRST_WINDOW = 20, [0, 400]
CSS = """
.problem { color: #b91c1c; font-weight: 600; margin: 2px 0; }
.about, .about * { font-size: 12px; opacity: 0.85; }
.about { margin: -6px 0; }
.status { opacity: 0.75; margin: 2px 0; }
#my-cards { display: grid; grid-template-columns: repeat(4, minmax(0, 1fr)); gap: 10px; }
#my-cards .done .frame { image-rendering: auto; }
#my-cards:has([data-picture="C"]) { grid-template-columns: repeat(3, minmax(0, 1fr)); }
"""

AXIS = window.TEMPLATE
for here, said in {"noise levels": "steps", "HIGHEST": "first step", "LOWEST": "last step"}.items():
    AXIS = AXIS.replace(here, said)

Parts = dict[str, Any]
"""The tab's components by name, those that hold what a visitor says (`configuration.fields_of`)."""


def build() -> None:
    """Add the tab's components and what they do to the page."""
    loaded = Loaded()
    parts = models()
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=380):
            parts |= scene()
        with gr.Column(scale=3, min_width=480):
            parts |= joining()
    with gr.Row():
        start = gr.Button("Draw", variant="primary", elem_id="my-draw")
        check = gr.Button("Estimate memory", elem_id="my-check")
        stop = gr.Button("Cancel", elem_id="my-cancel")
    problem = gr.HTML(elem_id="my-problem")
    with gr.Row(elem_id="my-cards"):
        cards = [gr.HTML(showing.card(title, None), padding=False) for title in showing.titles(2)]
        cards += [gr.HTML(visible=False, padding=False) for _ in range(MOST_CARDS - len(cards))]
    with gr.Tab("Memory and cost"):
        memory = gr.Markdown(
            "The headers of your files tell, before anything is loaded.", elem_id="my-memory"
        )
    with gr.Tab("How far apart"):
        plot = gr.HTML(elem_id="my-plot")
    with gr.Tab("Copy as TOML"):
        gr.Markdown("`amdm sample FILE.toml` draws A, B and A(+B) of this page again.")
        code = gr.Code(interactive=False, label="", elem_id="my-code", max_lines=30)
    fields = list(parts.values())
    check.click(partial(checked, list(parts)), fields, [problem, memory, code], show_progress="hidden")
    awaited.buttons(
        partial(draw, list(parts), loaded),
        fields,
        [problem, memory, code, plot, *cards],
        last=["", *[gr.skip()] * (3 + MOST_CARDS)],
        start=start,
        stop=stop,
        concurrency_limit=1,
    )


def models() -> Parts:
    """Add the fields of the models side by side, and return them."""
    parts: Parts = {}
    with gr.Row(equal_height=False):
        for letter in LETTERS:
            with gr.Column(min_width=300):
                parts |= model(letter)
    return parts


def model(letter: str) -> Parts:
    """Add the fields of one model, and return them under the names of `ModelFields` after its letter."""
    what = "a folder with a pipeline of diffusers" if letter in LETTERS[:2] else "a third one, if you like"
    folder = gr.Textbox(label=f"Model {letter}", placeholder=what, elem_id=f"folder-{letter}")
    about = gr.HTML("&nbsp;", elem_classes="about", elem_id=f"about-{letter}")
    with gr.Accordion("LoRAs, ControlNet, IP-Adapter, MIGC, its own prompt", open=False):
        own = gr.Textbox(label="Its own prompt", placeholder="the prompt of all")
        parts = {"folder": folder, "prompt": own} | added()
    for name in TELLING:
        parts[name].change(describe, [parts[each] for each in TELLING], about, show_progress="hidden")
    return {f"{letter}.{name}": part for name, part in parts.items()}


TELLING = ("folder", "migc_checkout", "migc_weights")
"""The fields that say what a model's pipeline is told."""


def added() -> Parts:
    """Add the fields of a model's add-ons, and return them."""

    def path(label: str, what: str, lines: int = 1) -> gr.Textbox:
        return gr.Textbox(label=label, placeholder=what, lines=lines)

    return {
        "loras": path("LoRAs", "a line for each: its file, and its weight", 2),
        "controlnet": path("ControlNet", "its folder"),
        "control_image": path("The ControlNet's image", "a picture's file"),
        "control_scale": slider("The ControlNet's scale", 0, 2, 0.05, 1.0),
        "ip_adapter": path("IP-Adapter", "its file"),
        "image_encoder": path("Its image encoder", "a folder"),
        "ip_image": path("The IP-Adapter's image", "a picture's file"),
        "ip_scale": slider("The IP-Adapter's scale", 0, 2, 0.05, 0.8),
        "migc_checkout": path("MIGC's code", "a folder: a checkout of its repository"),
        "migc_weights": path("MIGC's weights", "a file"),
        "runs_code": gr.Checkbox(label="Code in its folder may run (InteractDiffusion needs it)"),
    }


def slider(label: str, low: float, high: float, step: float, value: float, **options: Any) -> gr.Slider:
    """Return a slider."""
    return gr.Slider(low, high, value, step=step, label=label, min_width=120, **options)


def scene() -> Parts:
    """Add canvas and interactions, and return the components."""
    canvas = image_annotator(
        showing.on_canvas([], showing.blank(None, None)),
        image_type="numpy",
        sources=[],
        height=420,
        boxes_alpha=0.25,
        show_download_button=False,
        label="Where: drag a box for each object and say what it is",
        elem_id="my-canvas",
    )
    parts: Parts = {"canvas": canvas}
    with gr.Accordion("Interactions", open=False, elem_id="my-interactions"):
        rows = [interaction(k) for k in INTERACTED]
    for row in rows:
        parts |= row
    boxes = [part for row in rows for name, part in row.items() if not name.startswith("action")]
    canvas.change(numbered, canvas, boxes, show_progress="hidden")
    with gr.Accordion("Size", open=False), gr.Row():
        for side in ("width", "height"):
            parts[side] = gr.Number(0, precision=0, label=f"{side.title()}, 0 for its own", min_width=80)
    for side in ("width", "height"):
        parts[side].blur(reshaped, [canvas, parts["width"], parts["height"]], canvas, show_progress="hidden")
    return parts


def interaction(k: int) -> Parts:
    """Add the row of an interaction of two boxes, and return its components."""
    with gr.Row():
        subject = gr.Dropdown([], label="Box", min_width=80)
        action = gr.Textbox(label="does", placeholder="feeding", min_width=80)
        target = gr.Dropdown([], label="with box", min_width=80)
    return {f"subject{k}": subject, f"action{k}": action, f"object{k}": target}


def joining() -> Parts:
    """Add prompts and what says how the models are joined, and return the components."""
    prompt = gr.Textbox(label="Prompt", lines=2, elem_id="my-prompt")
    negative = gr.Textbox(label="Negative prompt")
    method = gr.Dropdown(list(METHODS.items()), value="amdm", label="Method", elem_id="my-method")
    ends = gr.HTML(
        FIRST_WINDOW,
        html_template=AXIS,
        css_template=window.STYLE,
        js_on_load=window.SCRIPT,
        elem_id="my-window",
    )
    says = gr.HTML(joined_at(FIRST_WINDOW, STEPS), elem_classes="about", elem_id="my-joined")
    with gr.Row():
        steps = gr.Number(STEPS, precision=0, label="Steps", min_width=80, elem_id="my-steps")
        sampler = gr.Dropdown(list(SAMPLERS), value="ddim", label="Sampler", min_width=100)
        guidance = gr.Number(7.5, label="Guidance", min_width=80)
        seed = gr.Number(0, precision=0, label="Seed", min_width=80, elem_id="my-seed")
    with gr.Row():
        weights = [
            slider(f"{letter}'s weight", 0, 2, 0.01, value)
            for letter, value in zip(LETTERS[1:], EQUAL, strict=True)
        ]
        correction = gr.Textbox(label="Correction", placeholder="the paper's", min_width=80)
    with gr.Accordion("Device and precision", open=False), gr.Row():
        device = gr.Textbox(label="Device", placeholder="cuda if there is one", min_width=80)
        dtype = gr.Dropdown(
            [("as the device suits", ""), "float16", "bfloat16", "float32"],
            value="",
            label="Precision",
            min_width=80,
        )
    method.input(suited, method, [says, ends, *weights, correction], show_progress="hidden")
    for part in (ends, steps):
        part.change(joined_at, [ends, steps], says, show_progress="hidden")
    return {
        "prompt": prompt,
        "negative": negative,
        "method": method,
        "window": ends,
        "steps": steps,
        "sampler": sampler,
        "guidance": guidance,
        "seed": seed,
        "weightB": weights[0],
        "weightC": weights[1],
        "correction": correction,
        "device": device,
        "dtype": dtype,
    }


# What the components do.


def describe(*typed: str | None) -> str:
    """Return what a model's pipeline is told, from the fields TELLING."""
    return showing.about(model_of(dict(zip(TELLING, typed, strict=True))))


def numbered(canvas: Any) -> list[Any]:
    """Return the boxes to choose from, by number and phrase, for each dropdown of an interaction."""
    choices = [(f"{i} {box.get('label') or ''}", i) for i, box in enumerate(boxes_of(canvas), 1)]
    return [gr.update(choices=choices)] * (2 * len(INTERACTED))


def reshaped(canvas: Any, width: float | None, height: float | None) -> Any:
    """Return the canvas in the shape of the pictures, with its boxes at the same place."""
    image = showing.blank(int(width or 0), int(height or 0))
    if canvas is not None and canvas["image"].shape == image.shape:
        return gr.skip()
    try:
        return showing.on_canvas(instances_of(canvas), image)
    except Expected:
        return gr.skip()


def suited(method: str) -> list[Any]:
    """Return the fields that a method has; the others are hidden."""
    uses, weights = OPTIONS[method], WEIGHTS.get(method, EQUAL)
    return [
        *[gr.update(visible="window" in uses)] * 2,
        *(gr.update(value=weight, visible="weights" in uses) for weight in weights),
        gr.update(visible="correction" in uses),
    ]


def joined_at(ends: Sequence[int], steps: float | None) -> str:
    """Return the window in words."""
    try:
        start, stop = window_of(ends, int(steps or 0))
    except Expected as expected:
        return showing.wrong(expected)
    return f"steps {start + 1} to {stop} of {int(steps or 0)}"


def configured(names: Sequence[str], told: Sequence[Any]) -> tuple[Config, str]:
    """Return the configuration of a visitor's fields, all of it checked, and the same as TOML."""
    values = values_of(fields_of(dict(zip(names, told, strict=True))))
    return config_of(values, tempfile.gettempdir()), toml_of(values)


def checked(names: Sequence[str], *told: Any) -> tuple[Any, Any, Any]:
    """Return what is wrong, or memory and cost, and the configuration as TOML. Nothing is loaded."""
    try:
        config, code = configured(names, told)
        return "", costs(config), code
    except Exception as error:
        return showing.wrong(error), gr.skip(), gr.skip()


def costs(config: Config) -> str:
    """Return memory and evaluations as Markdown."""
    return showing.estimate(config, networks_in_memory(config), free_memory(config.device))


def free_memory(device: str) -> int | None:
    """Return a device's free memory in bytes, None if that is not known."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None


def draw(names: Sequence[str], loaded: Loaded, *told: Any) -> Generator[list[Any]]:
    """Draw the pictures of a comparison, and yield what the page shows so far."""
    try:
        yield [showing.status("Looking at the files."), *[gr.skip()] * (3 + MOST_CARDS)]
        config, code = configured(names, told)
        titles = showing.titles(len(config.models))
        cards = [gr.update(value=showing.card(title, None), visible=True) for title in titles]
        cards += [gr.update(value="", visible=False)] * (MOST_CARDS - len(titles))
        yield [showing.status("Waiting for the models."), costs(config), code, "", *cards]
        with loaded.lock:
            yield [showing.status("Loading the models."), *[gr.skip()] * (3 + MOST_CARDS)]
            yield from pictures(config, prepare_all(config, loaded.of(config)), titles)
    except Exception as error:
        yield [showing.wrong(error), *[gr.skip()] * (3 + MOST_CARDS)]


def pictures(config: Config, prepared: Sequence[Prepared], titles: Sequence[str]) -> Iterator[list[Any]]:
    """Yield what the page shows of the pictures while they are drawn."""
    runs: dict[str, list[Seen]] = {title: [] for title in titles}
    shown = 0.0
    for seen in compare(config, prepared):
        runs[seen.title].append(seen._replace(pixels=None))
        if not (seen.done or time.monotonic() - shown > EVERY):
            continue
        shown = time.monotonic()
        cards: list[Any] = [gr.skip()] * MOST_CARDS
        cards[titles.index(seen.title)] = showing.card(seen.title, seen)
        status, plot = showing.status(f"Drawing {seen.title}."), gr.skip()
        if seen.done and "+" in seen.title:
            plot = showing.separation(runs, config)
        yield [status, gr.skip(), gr.skip(), plot, *cards]
    yield ["", *[gr.skip()] * (3 + MOST_CARDS)]
