"""Boxes drawn on a canvas as a scene: phrases with boxes in [0, 1], as the paper's systems take them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from amdm.command_line.arguments import Expected

CORNERS = ("xmin", "ymin", "xmax", "ymax")
LEAST = 0.02
"""The least side of a box, a share of the canvas: a click that was not dragged makes a smaller one."""


DIGITS = 4  # of a share: less than a pixel


class Instance(NamedTuple):
    """An object: what it is, and its box x0, y0, x1, y1 in [0, 1] from the upper left corner."""

    phrase: str
    box: tuple[float, float, float, float]


class Interaction(NamedTuple):
    """An interaction of two objects; subject and object are the numbers of drawn boxes, from 1."""

    subject: int
    action: str
    object: int


def instances_of(drawn: Mapping[str, Any] | None) -> list[Instance]:
    """Return the objects on the canvas, in the order in which they were drawn.

    Args:
        drawn: the canvas: its `image`, an array `(height, width, ...)`, and `boxes` with the corners xmin,
            ymin, xmax, ymax in its pixels and a label, the last drawn first. None for an empty one.

    Raises:
        Expected: a box without a label, or one that is too small.
    """
    if drawn is None:
        return []
    height, width = drawn["image"].shape[:2]
    return [_instance(i, box, width, height) for i, box in enumerate(boxes_of(drawn), 1)]


def boxes_of(drawn: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Return a canvas's boxes in the order in which they were drawn."""
    return list(reversed((drawn or {}).get("boxes") or ()))


def _instance(i: int, drawn: Mapping[str, Any], width: int, height: int) -> Instance:
    phrase = (drawn.get("label") or "").strip()
    if not phrase:
        raise Expected(f"a phrase for box {i}: double-click it and say what it holds")
    x, y, x_end, y_end = (
        round(min(max(drawn[corner] / side, 0.0), 1.0), DIGITS)
        for corner, side in zip(CORNERS, (width, height, width, height), strict=True)
    )
    (left, right), (top, bottom) = sorted((x, x_end)), sorted((y, y_end))
    if min(right - left, bottom - top) < LEAST:
        raise Expected(f"a larger box {i} ({phrase}): drag from one corner to the other")
    return Instance(phrase, (left, top, right, bottom))


def scene_of(
    caption: str,
    negative: str = "",
    instances: Sequence[Instance] = (),
    interactions: Sequence[Interaction] = (),
) -> dict[str, Any]:
    """Return a scene as the paper's systems read it: the caption, instances and interactions with boxes.

    Raises:
        Expected: an interaction without an action, or with a box that is not there.
    """
    return {
        "caption": caption,
        "negative": negative,
        "interactions": [_interaction(i, each, instances) for i, each in enumerate(interactions, 1)],
        "instances": [{"phrase": phrase, "box": list(box)} for phrase, box in instances],
    }


def _interaction(i: int, each: Interaction, instances: Sequence[Instance]) -> dict[str, Any]:
    action = each.action.strip()
    if not action:
        raise Expected(f"an action for interaction {i}, such as: feeding")
    for number in (each.subject, each.object):
        if not 1 <= number <= len(instances):
            raise Expected(f"a box {number} for interaction {i}: {len(instances)} are drawn")
    if each.subject == each.object:
        raise Expected(f"two different boxes for interaction {i}, found box {each.subject} twice")
    subject, target = instances[each.subject - 1], instances[each.object - 1]
    return {
        "subject": subject.phrase,
        "action": action,
        "object": target.phrase,
        "subject_box": list(subject.box),
        "object_box": list(target.box),
    }
