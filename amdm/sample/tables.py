"""Dataclasses from tables: each field says how its value is read, and all that is wrong is collected."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

from amdm.command_line.arguments import Expected

Made = TypeVar("Made")


class Unusable(ValueError):  # noqa: N818 (the configuration is)
    """Raised for a configuration that cannot be drawn, with one line for everything that is wrong."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class Reader:
    """A function `read(value, folder)` that returns a field's value or raises `Expected`, shown by its name.

    Paths are relative to the folder.
    """

    def __init__(self, read: Callable[[Any, Path], Any]) -> None:
        self.read = read

    def __call__(self, value: Any, folder: Path) -> Any:
        """Read a value."""
        return self.read(value, folder)

    def __repr__(self) -> str:
        return self.read.__name__


@dataclass
class Problems:
    """The lines about what is wrong, in the order in which it was found."""

    lines: list[str] = field(default_factory=list)

    def add(self, where: str, value: object, expected: object) -> None:
        """Add the line "WHERE is VALUE, expected EXPECTED"."""
        shown = str(value) if isinstance(value, Path) else " ".join(repr(value).split())
        self.lines.append(
            f"{where} is {shown if len(shown) < 200 else shown[:200] + '...'}, expected {expected}"
        )

    def of(self, where: str) -> bool:
        """Return True if something is wrong there, inside of it, or with what it is in."""
        places = [re.split(" is | has ", line)[0] for line in self.lines]
        return any(within(place, where) or within(where, place) for place in places)

    def check(self, where: str, value: Any, check: Callable[[Any], Any]) -> Any:
        """Return what `check(value)` returns; if it raises `Expected`, note that and return None."""
        try:
            return check(value)
        except Expected as expected:
            self.add(where, value, expected)
            return None

    def finish(self) -> None:
        """Raise `Unusable` if there is a line."""
        if self.lines:
            raise Unusable(dict.fromkeys(self.lines))


def within(inner: str, outer: str) -> bool:
    """Return True for a place in another, or itself.

    >>> within("models[0].call", "models[0]"), within("models[10]", "models[1]")
    (True, False)
    """
    return inner == outer or inner.startswith((f"{outer}.", f"{outer}["))


def keys_of(made: Any) -> dict[str, Reader]:
    """Return how each key of a dataclass's table is read: its fields of the type `Annotated[kind, read]`."""
    hints = get_type_hints(made, include_extras=True)
    return {name: hint.__metadata__[0] for name, hint in hints.items() if hasattr(hint, "__metadata__")}


def table(made: type[Made], values: Any, where: str, folder: Path, problems: Problems, **others: Any) -> Made:
    """Return a dataclass read from a table. What is missing or wrong has its default, or is empty.

    `others` are the fields that are not keys. `where` begins the names in messages; it is empty at the top.
    """
    given = {} if not isinstance(values, Mapping) else dict(values)
    if not isinstance(values, Mapping):
        problems.add(where, values, "a table")
    known, read, hints = keys_of(made), {}, get_type_hints(made)
    unknown(given, list(known), where, problems)
    for each in fields(cast(Any, made)):
        if each.name not in known:
            continue
        full = f"{where}.{each.name}" if where else each.name
        read[each.name] = hints[each.name]() if needed(each) else default_of(each)
        if each.name in given:
            convert = partial(known[each.name], folder=folder)
            found = problems.check(full, given[each.name], convert)
            if not problems.of(full):
                read[each.name] = found
        elif needed(each) and isinstance(values, Mapping):
            problems.lines.append(f"{full} is missing, expected it")
    return made(**read, **others)


def needed(each: Field) -> bool:
    """Return True for a field without a default."""
    return each.default is MISSING and each.default_factory is MISSING


def default_of(each: Field) -> Any:
    """Return the default of a field that has one."""
    return each.default if each.default_factory is MISSING else each.default_factory()


def unknown(given: Iterable[str], known: Sequence[str], where: str, problems: Problems) -> None:
    """Note the keys that nothing reads."""
    for name in given:
        if name not in known:
            full = f"{where}.{name}" if where else name
            problems.lines.append(f"{full} is not a key, expected one of {', '.join(known)}")


# What the values are


@Reader
def text(value: Any, folder: Path) -> str:
    """Read a string."""
    if not isinstance(value, str):
        raise Expected("a string")
    return value


@Reader
def name(value: Any, folder: Path) -> str:
    """Read a name that is part of a file's."""
    if not isinstance(value, str) or not re.fullmatch(r"\w[\w .,()+-]*", value):
        raise Expected("a name for files: letters, digits, blanks and any of _.,()+-")
    return value


@Reader
def yes(value: Any, folder: Path) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise Expected("true or false")
    return value


@Reader
def path(value: Any, folder: Path) -> Path:
    """Read a path."""
    if not isinstance(value, str | Path) or not str(value):
        raise Expected("a path, in quotes")
    return (folder / Path(value).expanduser()).resolve()


@Reader
def paths(value: Any, folder: Path) -> tuple[Path, ...]:
    """Read a path, or a list of them."""
    return tuple(path(each, folder) for each in listed(value))


@Reader
def texts(value: Any, folder: Path) -> tuple[str, ...]:
    """Read a string, or a list of them."""
    values = listed(value)
    if not values or not all(isinstance(each, str) for each in values):
        raise Expected("a string, or a list of strings")
    return tuple(values)


@Reader
def seed(value: Any, folder: Path) -> int:
    """Read a whole number of 0 or more."""
    if type(value) is not int or value < 0:
        raise Expected("a whole number of 0 or more")
    return value


@Reader
def seeds(value: Any, folder: Path) -> tuple[int, ...]:
    """Read a seed, or a list of different ones."""
    values = listed(value)
    if not values or not all(type(each) is int and each >= 0 for each in values):
        raise Expected("a whole number of 0 or more, or a list of them")
    if len(set(values)) < len(values):
        raise Expected("different seeds")
    return tuple(values)


@Reader
def number(value: Any, folder: Path) -> float:
    """Read a finite number."""
    if type(value) not in (int, float) or not math.isfinite(value):
        raise Expected("a finite number")
    return float(value)


def choice(*choices: str) -> Reader:
    """Return the reader of one of these strings."""

    @Reader
    def one_of(value: Any, folder: Path) -> str:
        if value not in choices:
            raise Expected(f"one of {', '.join(choices)}")
        return str(value)

    return one_of


@Reader
def mapping(value: Any, folder: Path) -> dict[str, Any]:
    """Read a table as it is."""
    if not isinstance(value, Mapping):
        raise Expected("a table")
    return dict(value)


def listed(value: Any) -> list[Any]:
    """Return a list as it is, and anything else in one."""
    return list(value) if isinstance(value, list | tuple) else [value]
