"""Animations of a run's steps."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from amdm.plots.images import Images, latent_to_rgb, pixels_of
from amdm.plots.separation import Separation


@dataclass
class Trajectory:
    """A callback that records a run: pass it as `callback` to any `sample_*` function, k-diffusion's too.

        film = Trajectory()
        latent = sample_amdm(models, x, sigmas, callback=film)
        film.save("run.gif")
        plot_separation(film.separation)

    Attributes:
        decode: turns the latents of a step, `(batch, *event)`, into its images (`Images`).
        of: what to show: "denoised", the model's prediction, or "x", the latent at unit variance.
        frames: the images of the batch at every step, arrays of bytes `(height, width, 3)`.
    """

    decode: Callable[[Tensor], Images] = latent_to_rgb
    of: str = "denoised"
    frames: list[list[np.ndarray]] = field(default_factory=list, repr=False)
    _rows: dict[int, Separation] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.of not in ("denoised", "x"):
            raise ValueError(f"of is {self.of!r}, expected 'denoised' or 'x'")

    def __call__(self, info: Mapping[str, Any]) -> None:
        """Record the step's images and the differences between the models' latents."""
        latent = info[self.of].detach()
        if self.of == "x":
            latent = latent / (1 + float(info["sigma"]) ** 2) ** 0.5
        self.frames.append(pixels_of(self.decode(latent)))
        joined = getattr(info.get("step"), "aggregation", None)
        if joined is not None:
            self._rows[info["i"] + 1] = Separation.row(joined)

    @property
    def separation(self) -> Separation:
        """Return the differences between the models' latents, for a run of `amdm`."""
        return Separation.stack(self._rows)

    def save(self, path: str | Path, *, seconds: float = 4.0, sample: int | None = None) -> Path:
        """Write an animation (GIF) of one sample, or of all side by side."""
        chosen = slice(None) if sample is None else slice(sample, sample + 1)
        return gif([np.concatenate(frame[chosen], axis=1) for frame in self.frames], path, seconds=seconds)


def gif(frames: Iterable[Images], path: str | Path, *, seconds: float = 4.0, height: int = 256) -> Path:
    """Write images as an animation that repeats, and return its path. It holds the last image for a second.

    Args:
        frames: the images.
        path: the file to write.
        seconds: its duration without the hold; a frame lasts at least 20 ms, the limit of viewers.
        height: smaller images are enlarged by a whole factor, pixel by pixel, to at most this height.
    """
    pictures = [Image.fromarray(pixels) for frame in frames for pixels in pixels_of(frame)]
    if not pictures:
        raise ValueError("frames is empty: nothing was recorded")
    factor = max(1, height // pictures[0].height)
    large = [image.resize((factor * image.width, factor * image.height), 0) for image in pictures]
    each = max(20, round(1000 * seconds / len(large)))
    first, *others = [image.quantize(256) for image in large]
    durations = [each] * len(others) + [each + 1000]
    first.save(path, format="GIF", save_all=True, append_images=others, duration=durations, loop=0)
    return Path(path)
