"""Drawings as the page shows them: pictures as HTML, verdicts, plots."""

import base64
import html
from collections.abc import Mapping
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image as Pillow

from amdm.page.drawing import Drawing, Gap, apart, judged
from amdm.page.methods import HIGHEST, LOWEST, METHODS, Settings
from amdm.plots import COLOURS, empty, label_lines
from amdm.samplers import resolve_window, sigma_window
from amdm.schedules import karras_sigmas
from amdm.shapes import pictures, world
from amdm.shapes.scores import Found
from amdm.shapes.world import Image, Scenes

TOLD = {
    "layout": "is told where each shape is, and how they interact",
    "attribute": "is told where each colour is",
}
LEGENDS = {"A(+B)": "A with what B controls", "B(+A)": "B with what A controls"}
ACROSS = 3
"""Images in a row, if there are several."""
GROUND = [round(255 * part) for part in world.BACKGROUND]


def url_of(pixels: np.ndarray) -> str:
    """Return an image, bytes `(height, width, 3)`, as an address that holds it."""
    buffer = BytesIO()
    Pillow.fromarray(pixels).save(buffer, "png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def tiled(images: Image) -> np.ndarray:
    """Return images as one, with ACROSS of them in a row: bytes."""
    parts = ((images.movedim(1, -1) / 2 + 0.5).clamp(0, 1) * 255).round().byte().cpu().numpy()
    across = min(ACROSS, len(parts))
    missing = np.broadcast_to(np.array(GROUND, np.uint8), (-len(parts) % across, *parts.shape[1:]))
    parts = np.concatenate([parts, missing])
    return np.concatenate([np.concatenate(list(row), 1) for row in np.split(parts, len(parts) // across)])


def marked(images: Image, found: Found, scenes: Scenes) -> np.ndarray:
    """Return the same, enlarged, with the detectors' verdicts in green and red."""
    across = min(ACROSS, len(images))
    down = -(-len(images) // across)
    size = 1.8 if across == 1 else 1.2 * across
    figure = Figure(figsize=(size, size * down / across), facecolor=world.BACKGROUND)
    for k, axes in enumerate(figure.subplots(down, across, squeeze=False).flat):
        axes.set_axis_off()
        if k < len(images):
            pictures.show(axes, images[k : k + 1])
            pictures.mark(axes, found, scenes, k)
    figure.subplots_adjust(0, 0, 1, 1, 0.02, 0.02)
    return pixels_of(figure, 200.0)


def pixels_of(figure: Figure, dpi: float) -> np.ndarray:
    """Return a figure as bytes `(height, width, 3)`."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return np.asarray(Pillow.open(buffer).convert("RGB"))


def cards(drawings: Mapping[str, Drawing], settings: Settings) -> str:
    """Return the four pictures side by side as HTML; those not begun are empty frames."""
    titles = {"A": (settings.lead,), "B": (settings.other,)}
    parts = []
    for name in ("A", "B", "A(+B)", "B(+A)"):
        legend = f"{titles[name][0]}: {TOLD[titles[name][0]]}" if name in titles else LEGENDS[name]
        parts.append(card(name, legend, drawings.get(name)))
    return f'<div class="cards">{"".join(parts)}</div>'


def card(name: str, legend: str, drawing: Drawing | None) -> str:
    """Return one picture with its title, its legend and its verdict as HTML."""
    picture, verdict, state = '<div class="frame"></div>', "&nbsp;", "waiting"
    if drawing is not None and drawing.preview is not None:
        verdict, state = f"step {len(drawing.moments)} of {drawing.steps}", "drawing"
        pixels = tiled(drawing.preview)
        if drawing.images is not None and drawing.found is not None:
            pixels = marked(drawing.images, drawing.found, drawing.scenes)
            verdict, state = verdict_of(drawing)
        picture = f'<img class="frame" alt="{html.escape(name)}" src="{url_of(pixels)}">'
    return (
        f'<figure class="card {state}" data-picture="{html.escape(name)}"><b>{name}</b>{picture}'
        f'<span class="verdict">{verdict}</span><figcaption>{legend}</figcaption></figure>'
    )


def verdict_of(drawing: Drawing) -> tuple[str, str]:
    """Return a drawing's verdict in words, and "right" or "wrong"."""
    verdicts = judged(drawing)
    right = verdicts.count("all right")
    if len(verdicts) == 1:
        return verdicts[0], "right" if right else "wrong"
    return f"{right} of {len(verdicts)} images all right", "right" if right == len(verdicts) else "wrong"


def separation(drawings: Mapping[str, Drawing], settings: Settings) -> str:
    """Return the plot of angles and norm gaps as HTML."""
    pixels = pixels_of(separation_figure(drawings, settings), 200.0)
    return f'<img class="plot" alt="angle and norm gap by step" src="{url_of(pixels)}">'


def separation_figure(drawings: Mapping[str, Drawing], settings: Settings) -> Figure:
    """Return a plot of the angle and the norm gap between the two models' latents, by step.

    The window is shaded. After the first joined step projective guidance has one latent for both models; the
    plot then has the angle and the gap between what the models add to the caption.
    """
    figure = empty(8.6, 2.2)
    lines, controls = lines_of(drawings)
    what = "what the models add" if controls else "the latents"
    titles = {"angle": f"Angle between {what}, radians", "norms": f"Norm gap of {what}"}
    for axes, (field, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        shade(axes, settings)
        for name, gaps in lines.items():
            steps, values = [i + 1 for i in gaps], [getattr(gap, field) for gap in gaps.values()]
            colour, width = LINES[name]
            axes.plot(steps, values, ".-", ms=4, lw=width, color=colour, label=name)
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_title(title, fontsize=9)
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
        axes.spines[["top", "right"]].set_visible(False)
        label_lines(axes)
    return figure


# Joined lines coincide where the fold is symmetric: a thin line on a thick one.
LINES = {
    "A and B alone": (COLOURS["grey"], 1.3),
    "A(+B)": (COLOURS["blue"], 3.0),
    "B(+A)": (COLOURS["orange"], 1.2),
}


def lines_of(drawings: Mapping[str, Drawing]) -> tuple[dict[str, dict[int, Gap]], bool]:
    """Return the plot's lines by name, and whether they are of the models' controls."""
    joined = {name: drawings[name] for name in ("A(+B)", "B(+A)") if name in drawings}
    controls = {name: drawing.controls for name, drawing in joined.items() if drawing.controls}
    if controls:
        return controls, True
    found = {name: drawing.latents for name, drawing in joined.items() if drawing.latents}
    if {"A", "B"} <= drawings.keys():
        found = {"A and B alone": apart(drawings["A"], drawings["B"])} | found
    return found, False


def shade(axes: Axes, settings: Settings) -> None:
    """Shade the steps of the window."""
    levels = karras_sigmas(settings.steps, LOWEST, HIGHEST).tolist()
    start, stop = resolve_window(sigma_window(*settings.window), levels)
    axes.set_xlim(0.5, settings.steps + 0.5)
    if start < stop and "window" in METHODS[settings.method].uses:
        axes.axvspan(start + 0.5, stop + 0.5, color=COLOURS["blue"], alpha=0.08, lw=0)
        axes.text(start + 0.7, 0.03, "window", transform=axes.get_xaxis_transform(), fontsize=8)


def strip(images: Mapping[str, Image], says: str = "") -> str:
    """Return small pictures side by side with their titles, and words about all of them, as HTML."""
    parts = [
        f'<figure class="card"><b>{title}</b><img class="frame" alt="{title}" src="{url_of(tiled(image))}">'
        f"<figcaption>{says}</figcaption></figure>"
        for title, image in images.items()
    ]
    return f'<div class="cards">{"".join(parts)}</div>'


def refused(title: str, why: str) -> str:
    """Return a card without a picture, with what is wrong."""
    return (
        f'<div class="cards"><figure class="card wrong"><b>{title}</b><div class="frame"></div>'
        f'<span class="verdict">{html.escape(why)}</span></figure></div>'
    )
