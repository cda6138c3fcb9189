"""Pictures of runs: angles by step, grids of images, previews of a latent, trajectories as animations.

Needs the extra `plots`; nothing in `amdm` imports this package by itself. Functions draw into the axes that
they get, or into a figure of their own, and return the figure: they never show it, and set nothing globally.
"""

from amdm.plots.images import SD_RGB, image_grid, latent_to_rgb
from amdm.plots.separation import Separation, plot_separation
from amdm.plots.style import COLOURS, WIDTH, colour_of, colours_of, empty, label_lines, plain_log
from amdm.plots.trajectory import Trajectory, gif

__all__ = [
    "COLOURS",
    "SD_RGB",
    "WIDTH",
    "Separation",
    "Trajectory",
    "colour_of",
    "colours_of",
    "empty",
    "gif",
    "image_grid",
    "label_lines",
    "latent_to_rgb",
    "plain_log",
    "plot_separation",
]
