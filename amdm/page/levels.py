"""The axis of noise levels, on which a window is chosen: positions in equal ratios of levels."""

import math
from typing import Any

from amdm.page.methods import ALL_LEVELS, HIGHEST, LOWEST

PARTS = 1000
"""Position 0 is the highest level, where sampling begins, and PARTS the lowest."""


def positions_of(window: tuple[float, float]) -> list[int]:
    """Return the positions of the highest and of the lowest level of a window."""
    span = math.log(HIGHEST / LOWEST)
    parts = (PARTS * math.log(HIGHEST / max(level, LOWEST)) / span for level in reversed(window))
    return [max(0, round(part)) for part in parts]


def levels_of(positions: Any) -> tuple[float, float]:
    """Return the lowest and the highest level between two positions, with three digits.

    Raises ValueError unless they are two positions in order.
    """
    if not (isinstance(positions, list) and len(positions) == 2):
        raise ValueError(f"The window is {positions!r}: choose two ends.")
    first, last = (min(max(float(position), 0), PARTS) for position in positions)
    if first > last:
        raise ValueError("The window ends before it begins: choose another.")
    low, high = (float(f"{HIGHEST * (LOWEST / HIGHEST) ** (end / PARTS):.3g}") for end in (last, first))
    return ALL_LEVELS[0] if last == PARTS else low, ALL_LEVELS[1] if first == 0 else high
