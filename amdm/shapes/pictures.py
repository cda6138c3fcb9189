"""Images of the world in matplotlib, and what the detectors see in them."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from amdm.shapes import world
from amdm.shapes.scores import Found
from amdm.shapes.world import Scenes

RIGHT, WRONG = "#4ade80", "#f87171"


def show(axes: Axes, image: world.Image) -> None:
    """Show the first image of a batch, without ticks; values outside [-1, 1] are clipped."""
    axes.imshow((image[0].movedim(0, -1).cpu() / 2 + 0.5).clamp(0, 1), extent=(0, world.SIZE, world.SIZE, 0))
    axes.set(xticks=[], yticks=[])


def mark(axes: Axes, found: Found, scenes: Scenes, index: int = 0, *, labels: bool = False) -> None:
    """Frame a scene's boxes, and mark its interactions with crosses: right ones in green, others in red.

    With labels, the detected shape is written above every box and the detected colour below.
    """
    for k in range(int(scenes.present[index].sum())):
        x0, y0, x1, y1 = scenes.boxes[index, k].tolist()
        same = (found.shapes[index, k] == scenes.shapes[index, k]).item()
        alike = (found.colours[index, k] == scenes.colours[index, k]).item()
        colour = RIGHT if same and alike else WRONG
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color=colour, lw=1.5))
        if labels:
            style: dict[str, Any] = {"ha": "center", "fontsize": 7, "weight": "bold"}
            shape, hue = world.SHAPES[found.shapes[index, k]], world.COLOURS[found.colours[index, k]]
            axes.text((x0 + x1) / 2, y0 - 0.3, shape, va="bottom", color=RIGHT if same else WRONG, **style)
            axes.text((x0 + x1) / 2, y1 + 0.3, hue, va="top", color=RIGHT if alike else WRONG, **style)
    for kind, subject, target in scenes.links[index].tolist():
        if kind:
            ends = scenes.boxes[index, [subject, target]].view(2, 2, 2).mean(1)
            colour = RIGHT if found.interactions[index, subject, target] == kind else WRONG
            axes.plot(*ends.mean(0).tolist(), "o", color=colour, markeredgecolor="black", markersize=5)
