"""Which steps aggregate."""

import math
import warnings
from collections.abc import Callable, Sequence
from numbers import Integral, Real

Window = float | int | tuple[int, int] | Callable[[Sequence[float]], tuple[int, int]]
"""A fraction of the steps from the first (a float), a count (an int), a (start, stop) pair, or a function of
the levels. The type decides: 1.0 is all steps and 1 is one step."""


def sigma_window(lo: float, hi: float) -> Callable[[Sequence[float]], tuple[int, int]]:
    """The window of the steps that begin at a noise level in [lo, hi].

    >>> sigma_window(1.0, 10.0)([20.0, 10.0, 3.0, 0.5, 0.0])
    (1, 3)
    """
    if not 0 <= lo <= hi:
        raise ValueError(f"the window [{lo}, {hi}] is empty: expected 0 <= lo <= hi")

    def window(levels: Sequence[float]) -> tuple[int, int]:
        inside = [i for i, sigma in enumerate(levels[:-1]) if lo <= sigma <= hi]
        return (inside[0], inside[-1] + 1) if inside else (0, 0)

    return window


def resolve_window(window: Window, levels: Sequence[float]) -> tuple[int, int]:
    """The window as step indices [start, stop).

    Raises:
        TypeError: none of these.
        ValueError: a fraction outside [0, 1], or not 0 <= start <= stop <= the number of steps.

    >>> resolve_window(0.4, [1.0] * 51)
    (0, 20)
    """
    steps = len(levels) - 1
    if isinstance(window, Integral):
        start, stop = 0, int(window)
    elif isinstance(window, Real):
        if not 0 <= window <= 1:
            raise ValueError(f"window is {window}, expected a fraction of the steps in [0, 1]")
        start, stop = 0, math.floor(window * steps + 0.5)
    elif callable(window):
        start, stop = _pair(window(levels), "window returned")
    elif isinstance(window, Sequence) and len(window) == 2:
        start, stop = _pair(window, "window is")
    else:
        raise TypeError(f"window is {window!r}, expected a fraction, a count, (start, stop) or sigma_window")
    if not 0 <= start <= stop <= steps:
        raise ValueError(f"window is [{start}, {stop}), expected 0 <= start <= stop <= {steps}, the steps")
    return start, stop


def warn_if_empty(window: Window, start: int, stop: int, steps: int) -> None:
    """Warn if `window` is a fraction above 0 that rounds to no step: none of the steps aggregates."""
    if isinstance(window, Real) and start == stop and window > 0 and steps > 0:
        warnings.warn(
            f"window is {window}, which rounds to none of {steps} step(s): nothing is aggregated, expected a "
            "larger share, a count (window=1 is one step), or 0 if none is meant",
            stacklevel=3,
        )


def _pair(value: object, name: str) -> tuple[int, int]:
    """Two step indices."""
    if (
        isinstance(value, Sequence)
        and len(value) == 2
        and all(isinstance(index, Integral) for index in value)
    ):
        return int(value[0]), int(value[1])
    raise TypeError(f"{name} {value!r}, expected (start, stop), two step indices")
