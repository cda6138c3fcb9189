"""Drawings that go on while a visitor waits for them: *Cancel* ends one, and so does *Draw* again.

Gradio can cancel an event by itself, but ends it a moment later, and with it the next one of that button.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from itertools import count
from typing import Any

import gradio as gr


class Awaited:
    """The numbers of the drawings that a visitor waits for."""

    def __init__(self) -> None:
        self._next, self._numbers = count(1), set[int]()

    def instead_of(self, before: int) -> int:
        """Return the number of a new drawing, whose visitor no longer waits for the one before."""
        self.give_up(before)
        self._numbers.add(number := next(self._next))
        return number

    def give_up(self, number: int) -> None:
        """Wait no longer for this drawing."""
        self._numbers.discard(number)

    def only(self, draw: Callable[..., Generator[Any]], last: Any) -> Callable[..., Generator[Any]]:
        """Return `draw` with a drawing's number as first argument: given up, it yields `last` and ends."""

        def drawn(number: int, *values: Any) -> Generator[Any]:
            try:
                with closing(draw(*values)) as pictures:
                    for shown in pictures:
                        if number not in self._numbers:
                            yield last
                            return
                        yield shown
            finally:
                self.give_up(number)

        return drawn


def buttons(
    draw: Callable[..., Generator[Any]],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    *,
    last: Any,
    start: gr.Button,
    stop: gr.Button,
    **options: Any,
) -> None:
    """Let `start` draw, and `stop` and another `start` give up what is being drawn.

    Args:
        draw: a generator function that takes the values of `inputs` and yields those of `outputs`.
        inputs: the components that say what to draw.
        outputs: the components that show it.
        last: the values of `outputs` of a drawing that was given up.
        start: the button that draws.
        stop: the button that cancels.
        options: of the event that draws, such as its `concurrency_limit`.
    """
    awaited, number = Awaited(), gr.Number(0, precision=0, visible=False)
    at_once: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
    begun = start.click(awaited.instead_of, number, number, **at_once)
    begun.then(
        awaited.only(draw, last),
        [number, *inputs],
        list(outputs),
        trigger_mode="multiple",
        show_progress="hidden",
        **options,
    )
    stop.click(awaited.give_up, number, None, **at_once).then(cancelled, show_progress="hidden")


def cancelled() -> None:
    """Say that drawing was stopped."""
    gr.Info("Cancelled.", duration=3)
