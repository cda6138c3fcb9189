"""Wrong input as a sentence on the page."""

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

WRONG = (TypeError, ValueError, FloatingPointError, OSError)
"""Errors whose message tells the visitor what to change."""


def in_words(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Return a handler of an event, a function or a generator, whose WRONG errors appear on the page.

    All other errors are the page's own: they are printed where it was started, and the page says "Error".
    """
    if inspect.isgeneratorfunction(handler):

        @functools.wraps(handler)
        def generator(*args: Any, **kwargs: Any) -> Iterator[Any]:
            try:
                yield from handler(*args, **kwargs)
            except WRONG as error:
                raise sentence(error) from error

        return generator

    @functools.wraps(handler)
    def function(*args: Any, **kwargs: Any) -> Any:
        try:
            return handler(*args, **kwargs)
        except WRONG as error:
            raise sentence(error) from error

    return function


def sentence(error: Exception) -> gr.Error:
    """Return the error as gradio shows it: the first line of its message, for ten seconds."""
    said = (str(error) or type(error).__name__).splitlines()[0]
    return gr.Error(said, print_exception=False)
