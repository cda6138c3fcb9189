"""Values together with the Python that makes them, so that what the page does can be copied."""

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from textwrap import indent
from typing import Any

WIDTH = 100
PUBLIC = ("amdm", "amdm.denoisers", "amdm.geometry", "amdm.samplers", "amdm.schedules")
"""Modules that functions are imported from, if they have them; others are called as `module.function`."""


@dataclass(frozen=True)
class Source:
    """A value, an expression that makes it, and the imports that the expression needs."""

    value: Any
    text: str
    imports: frozenset[str] = frozenset()

    def __getitem__(self, key: Any) -> "Source":
        """Return an item of the value."""
        return Source(self.value[key], f"{self.text}[{written(key)}]", self.imports)

    def __call__(self, *args: Any, **options: Any) -> "Source":
        """Return what the value returns for these arguments, which are values or sources."""
        given = [source(arg) for arg in args]
        named = {name: source(option) for name, option in options.items()}
        value = self.value(
            *(each.value for each in given), **{name: each.value for name, each in named.items()}
        )
        parts = [each.text for each in given] + [f"{name}={each.text}" for name, each in named.items()]
        text = self.text + enclosed("(", parts, ")")
        return Source(value, text, self.imports | imports_of([*given, *named.values()]))


def source(value: Any) -> Source:
    """Return a value with its text: a number, a string, a function of the library, or a list of those."""
    if isinstance(value, Source):
        return value
    if isinstance(value, list):
        parts = [source(each) for each in value]
        text = enclosed("[", [each.text for each in parts], "]")
        return Source([each.value for each in parts], text, imports_of(parts))
    if callable(value):
        return of_function(value)
    return Source(value, written(value))


def written(value: Any) -> str:
    """Return a number or a string as Python has it, strings in double quotes."""
    return f'"{value}"' if isinstance(value, str) else repr(value)


def of_function(function: Callable[..., Any]) -> Source:
    """Return a function of the library, by its public name."""
    name = function.__name__
    for public in PUBLIC:
        if hasattr(importlib.import_module(public), name):
            return Source(function, name, frozenset([f"from {public} import {name}"]))
    package, _, module = function.__module__.rpartition(".")
    return Source(function, f"{module}.{name}", frozenset([f"from {package} import {module}"]))


def imports_of(parts: Iterable[Source]) -> frozenset[str]:
    """Return all imports that some sources need."""
    return frozenset[str]().union(*(part.imports for part in parts))


def enclosed(opening: str, parts: Sequence[str], closing: str) -> str:
    """Return the parts in brackets: on one line, or on a line each if that is too long."""
    line = f"{opening}{', '.join(parts)}{closing}"
    if len(line) <= WIDTH - 20 and "\n" not in line:
        return line
    each_on_a_line = indent(",\n".join(parts), "    ")
    return f"{opening}\n{each_on_a_line},\n{closing}"


@dataclass
class Script:
    """A program: values by name, in the order in which they were made.

    Attributes:
        lines: its statements, without the imports.
        imports: the imports.
        names: the values that have a name.
    """

    lines: list[str] = field(default_factory=list)
    imports: set[str] = field(default_factory=set)
    names: dict[str, Source] = field(default_factory=dict)

    def let(self, name: str, make: Callable[[], Source]) -> Source:
        """Return a value under a name. The first time it is made, and a line gives it the name."""
        if name not in self.names:
            made = make()
            self.add(f"{name} = {made.text}", made.imports)
            self.names[name] = Source(made.value, name)
        return self.names[name]

    def add(self, line: str, imports: Iterable[str] = ()) -> None:
        """Add a line."""
        self.lines.append(line)
        self.imports |= set(imports)

    @property
    def text(self) -> str:
        """Return the program, which runs as it is."""
        others = sorted(line for line in self.imports if line.startswith("import "))
        names: dict[str, list[str]] = {}
        for line in sorted(self.imports - set(others)):
            module, name = line.removeprefix("from ").split(" import ")
            names.setdefault(module, []).append(name)
        grouped = [f"from {module} import {', '.join(sorted(each))}" for module, each in names.items()]
        head = [*others, "", *grouped] if others else grouped
        return "\n".join([*head, "", *self.lines]) + "\n"
