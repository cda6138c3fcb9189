"""Which steps aggregate."""

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real

Window = float | int | tuple[int, int] | Callable[[Sequence[float]], tuple[int, int]]
"""A fraction of the steps from the first, a count, a (start, stop) pair, or a function of the levels."""


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
    elif callable(window) or (isinstance(window, Sequence) and len(window) == 2):
        start, stop = window(levels) if callable(window) else window
    else:
        raise TypeError(f"window is {window!r}, expected a fraction, a count, (start, stop) or sigma_window")
    if not 0 <= start <= stop <= steps:
        raise ValueError(f"window is [{start}, {stop}), expected 0 <= start <= stop <= {steps}, the steps")
    return start, stop
