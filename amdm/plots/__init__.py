"""Plots of runs: angles by step, grids of images, previews of a latent, trajectories as animations.

Needs the extra `plots`; `import amdm` does not import this package. Functions draw into the given axes or
into a new figure, and return the figure. They never show it, and they change no global settings.
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
