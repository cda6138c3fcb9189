"""The tab *Shapes*: boxes on a canvas, and what two models draw of them, alone and joined."""

import time
from collections.abc import Iterator
from threading import Thread
from typing import Any, NamedTuple

import gradio as gr
from gradio_image_annotation import image_annotator

from amdm.page import awaited, drawing, levels, looks, methods, scene, window
from amdm.page.drawing import PICTURES, Drawing
from amdm.page.methods import METHODS, MODELS, RECOMMENDED, SAMPLERS_OFFERED, Settings
from amdm.page.sentences import in_words
from amdm.shapes import world

EVERY = 0.1
"""Seconds between previews."""
FIRST = methods.defaults_of(RECOMMENDED)
CSS = """
#wanted { flex: 1 1 0 !important; min-width: 0; }
#cards { flex: 4.25 1 0 !important; }
#numbers { flex: 2 1 0 !important; }
#window { flex: 1 1 0 !important; min-width: 300px; }
#canvas [aria-label^="Rotate"] { display: none; }
.cards { display: flex; gap: 10px; }
.card { flex: 1 1 0; margin: 0; display: flex; flex-direction: column; gap: 3px; }
.card .frame { width: 100%; aspect-ratio: 1; border-radius: 6px; background: rgb(28, 31, 41);
  image-rendering: pixelated; object-fit: contain; }
#strip .card { max-width: 170px; }
.card .verdict { font-weight: 600; font-size: 13px; }
.card.right .verdict { color: #15803d; } .card.wrong .verdict { color: #b91c1c; }
.empty { color: var(--body-text-color-subdued); padding: 20px; }
.plot { width: 100%; max-width: 860px; }
.card figcaption { font-size: 12px; line-height: 1.3; color: var(--neutral-600); }
"""


EMPTY = '<p class="empty">Draw something first.</p>'


class Result(NamedTuple):
    """The last drawings of one visitor."""

    drawings: dict[str, Drawing]
    settings: Settings


class Controls(NamedTuple):
    """The components that say how the models are joined, in the order of `Settings`."""

    method: gr.Dropdown
    lead: gr.Radio
    steps: gr.Number
    sampler: gr.Dropdown
    eta: gr.Slider
    window: gr.HTML
    weight: gr.Slider
    guidance: gr.Slider
    correction: gr.Slider
    seed: gr.Number
    eight: gr.Checkbox


def build() -> None:
    """Add the tab's components and what they do to the page."""
    result = gr.State(None, time_to_live=3600)
    with gr.Row(equal_height=False):
        with gr.Column(scale=7, min_width=340):
            wish, seeds = wishes()
            with gr.Row():
                start = gr.Button("Draw", variant="primary", elem_id="draw")
                stop = gr.Button("Cancel", elem_id="cancel")
        with gr.Column(scale=17, min_width=600):
            with gr.Row():
                wanted = gr.HTML(
                    wanted_card(scene.first_boxes(), *FIRST_WISH), elem_id="wanted", min_width=90
                )
                cards = gr.HTML(looks.cards({}, FIRST), elem_id="cards", scale=4)
            controls, says = choices(seeds)
            closer = closer_looks(result)
    listen_to(wish, controls, says, wanted)
    shown = [cards, result, *closer]
    awaited.buttons(
        in_words(draw),
        [*wish, *controls],
        shown,
        last=[gr.skip()] * len(shown),
        start=start,
        stop=stop,
        concurrency_limit=2,
    )


FIRST_WISH = ("pointing", "top left", "top right", "flat")
HELP = "**What you want:** press the square under the canvas, drag boxes; double-click renames one."


Seeds = tuple[gr.Number, gr.Checkbox]


def wishes() -> tuple[list[Any], Seeds]:
    """Add the canvas, what else a scene has and the seed, and return the components."""
    gr.Markdown(HELP)
    boxes = canvas()
    kind, subject, target, style = FIRST_WISH
    with gr.Row():
        first = gr.Dropdown(list(scene.CELLS), value=subject, label="Box at the", min_width=100)
        how = gr.Dropdown(list(world.KINDS), value=kind, label="interaction", min_width=100)
        second = gr.Dropdown(
            list(scene.CELLS), value=target, label="box at the", min_width=100, elem_id="target"
        )
    with gr.Row():
        look = gr.Dropdown(list(world.STYLES), value=style, label="Style", min_width=100)
        seed = gr.Number(FIRST.seed, precision=0, label="Seed", min_width=70, elem_id="seed")
        eight = gr.Checkbox(label="Eight seeds", min_width=110)
    return [boxes, how, first, second, look], (seed, eight)


def canvas() -> Any:
    """Add the canvas, with the boxes that the page opens with."""
    return image_annotator(
        {"image": scene.blank(), "boxes": scene.first_boxes()},
        label_list=list(scene.LABELS),
        label_colors=[scene.rgb(label) for label in scene.LABELS],
        image_type="numpy",
        sources=[],
        height=360,
        boxes_alpha=0.35,
        show_download_button=False,
        show_clear_button=False,
        show_remove_button=True,
        show_label=False,
        elem_id="canvas",
    )


def choices(seeds: Seeds) -> tuple[Controls, gr.Markdown]:
    """Add the components that say how the models are joined, and the line that explains the method."""
    with gr.Row():
        method = gr.Dropdown(list(METHODS), value=FIRST.method, label="Method", elem_id="method", scale=5)
        steps = gr.Number(FIRST.steps, precision=0, label="Steps", min_width=80, elem_id="steps", scale=2)
        samplers = list(SAMPLERS_OFFERED)
        sampler = gr.Dropdown(samplers, value=FIRST.sampler, label="Sampler", min_width=150, scale=3)
        lead = gr.Radio(list(MODELS), value=FIRST.lead, label="Lead model (A)", elem_id="lead", scale=4)
    says = gr.Markdown(explained(FIRST), elem_id="says")
    with gr.Row():
        span = window.slider(FIRST.window, elem_id="window")
        with gr.Row(elem_id="numbers"):
            weight = number("B's weight", 0, 2, 0.05, FIRST.weight, elem_id="weight")
            guidance = number("Guidance", 1, 8, 0.1, FIRST.guidance)
            correction = number("Correction", 0, 1, 0.01, FIRST.correction, visible=False)
            eta = number("Fresh noise", 0, 1, 0.05, FIRST.eta)
    made = Controls(method, lead, steps, sampler, eta, span, weight, guidance, correction, *seeds)
    return made, says


def number(label: str, low: float, high: float, step: float, value: float, **options: Any) -> gr.Slider:
    """Return a slider."""
    return gr.Slider(low, high, value, step=step, label=label, min_width=120, **options)


class Closer(NamedTuple):
    """The components of a closer look at what was drawn."""

    plot: gr.HTML
    which: gr.Radio
    step: gr.Slider
    strip: gr.HTML
    code: gr.Code


def closer_looks(result: gr.State) -> Closer:
    """Add plots, the scrubber through the steps and the program, and return the components."""
    with gr.Tab("How far apart"):
        plot = gr.HTML(EMPTY, elem_id="plot")
    with gr.Tab("Step by step"):
        with gr.Row():
            which = gr.Radio(list(PICTURES), value="A(+B)", label="Picture", elem_id="which", min_width=200)
            step = gr.Slider(1, 10, 1, step=1, label="Step", elem_id="step", interactive=True)
        strip = gr.HTML(EMPTY, elem_id="strip")
    with gr.Tab("Copy as Python"):
        gr.Markdown(
            "This program draws the picture that *Step by step* shows: A(+B), unless you chose another."
        )
        code = gr.Code(language="python", interactive=False, label="", elem_id="code", max_lines=16)
    closer = Closer(plot, which, step, strip, code)
    look = {"inputs": [result, which, step], "outputs": [strip], "show_progress": "hidden"}
    step.change(in_words(scrubbed), **look, trigger_mode="always_last")
    choose = {"inputs": [result, which], "outputs": [step, strip, code], "show_progress": "hidden"}
    which.change(in_words(chosen), **choose)
    return closer


def listen_to(wish: list[Any], controls: Controls, says: gr.Markdown, wanted: gr.HTML) -> None:
    """Show the scene while it is changed, a method's settings when it is chosen, and what it costs."""
    for component in wish:
        component.change(rendered, wish, wanted, show_progress="hidden", trigger_mode="always_last")
    controls.method.input(suited, controls.method, [*controls[2:9], says], show_progress="hidden")
    for component in (controls.steps, controls.sampler):
        component.change(told_cost, [*controls], says, show_progress="hidden")
    controls.window.input(told_cost, [*controls], says, show_progress="hidden")


# What the components do.


def scene_of(boxes: Any, kind: str, subject: str, target: str, style: str) -> world.Scenes:
    """Return the scene of the canvas and the rows under it."""
    drawn = (boxes or {}).get("boxes") or []
    return scene.scene_of(drawn, scene.Link(kind, subject, target), style)


def settings_of(*values: Any) -> Settings:
    """Return the settings that the controls have; raise ValueError for an empty field."""
    given = Controls(*values)._asdict()
    for name, value in given.items():
        if value is None:
            raise ValueError(f"The field {name} is empty: choose a value.")
    images = drawing.MOST_IMAGES if given.pop("eight") else 1
    numbers: dict[str, Any] = {
        name: float(given[name]) for name in ("eta", "weight", "guidance", "correction")
    }
    numbers |= {"window": levels.levels_of(given["window"]), "images": images}
    return Settings(**given | numbers)


def draw(*values: Any) -> Iterator[tuple[Any, ...]]:
    """Draw the four pictures, and yield what the page shows so far."""
    count = len(FIRST_WISH) + 1
    wanted, settings = scene_of(*values[:count]), settings_of(*values[count:])
    drawings: dict[str, Drawing] = {}
    closer, shown = [gr.skip()] * len(Closer._fields), 0.0
    for picture in PICTURES:
        for so_far in drawing.draw(picture, wanted, settings):
            drawings[picture] = so_far
            if so_far.found or time.monotonic() - shown > EVERY:
                yield looks.cards(drawings, settings), gr.skip(), *closer
                shown = time.monotonic()
    result = Result(drawings, settings)
    step, strip, code = chosen(result, "A(+B)")
    yield gr.skip(), result, looks.separation(drawings, settings), "A(+B)", step, strip, code


def rendered(*wish: Any) -> str:
    """Return the card of what is wanted; what is wrong with it takes the picture's place."""
    return wanted_card((wish[0] or {}).get("boxes") or [], *wish[1:])


def wanted_card(boxes: list[Any], kind: str, subject: str, target: str, style: str) -> str:
    """Return the scene as its world draws it, or what is wrong with it."""
    try:
        image = world.render(scene_of({"boxes": boxes}, kind, subject, target, style))
    except ValueError as error:
        return looks.refused("Wanted", str(error))
    return looks.strip({"Wanted": image}, "your boxes, moved into the world's 2 x 2 grid")


def explained(settings: Settings) -> str:
    """Return what a method does and costs."""
    method = METHODS[settings.method]
    passes, published = method.passes(settings), methods.PUBLISHED
    cost = f" A(+B): {passes} network passes (AMDM as published: {published})."
    return method.says + (cost if passes else "")


def told_cost(*values: Any) -> str:
    """Return the same for what the controls have, as far as it is valid."""
    try:
        settings = settings_of(*values)
        drawing.check(settings)
        return explained(settings)
    except ValueError as error:
        return str(error)


def suited(method: str) -> list[Any]:
    """Return the settings that suit a method, those that it does not have hidden, and what it does."""
    settings, uses = methods.defaults_of(method), METHODS[method].uses
    names = ("sampler", "eta", "window", "weight", "guidance", "correction")
    values = {name: getattr(settings, name) for name in names}
    values["window"] = levels.positions_of(settings.window)
    shown = [gr.update(value=values[name], visible=name in uses) for name in names]
    return [settings.steps, *shown, explained(settings)]


def chosen(result: Result | None, picture: str) -> tuple[Any, str, str]:
    """Return the scrubber at the last step of a picture, what it shows there, and the picture's program."""
    if result is None:
        return gr.skip(), EMPTY, ""
    last = len(result.drawings[picture].moments)
    step = gr.update(maximum=last, value=last)
    return step, scrubbed(result, picture, last), result.drawings[picture].program


def scrubbed(result: Result | None, picture: str, step: int) -> str:
    """Return a step's latent, and what each model makes of it."""
    if result is None:
        return EMPTY
    return looks.strip(drawing.looks(result.drawings[picture], int(step) - 1, result.settings))


def warm() -> None:
    """Load the models while the visitor still looks at the page."""
    Thread(target=lambda: [methods.loaded(name) for name in (*MODELS, "base")], daemon=True).start()
