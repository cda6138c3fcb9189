"""TOML written: the standard library only reads it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any


def toml_of(values: Mapping[str, Any]) -> str:
    """Return a dictionary as TOML: numbers, strings and lists first, then tables, then lists of tables."""
    return "\n".join(_lines(values, ""))


def _lines(values: Mapping[str, Any], where: str) -> Iterator[str]:
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping) or _is_tables(value)}
    yield from (f"{key_of(key)} = {value_of(value)}" for key, value in values.items() if key not in tables)
    for key, value in sorted(tables.items(), key=lambda item: _is_tables(item[1])):
        name = f"{where}{key_of(key)}"
        for each in value if _is_tables(value) else [value]:
            yield from ("", f"[[{name}]]" if _is_tables(value) else f"[{name}]")
            yield from _lines(each, f"{name}.")


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) for each in value)


def key_of(key: str) -> str:
    """Return a key, in quotes unless it is made of letters, digits, _ and -."""
    bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if bare else value_of(key)


def value_of(value: Any) -> str:
    """Return a value on one line."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case list():
            return f"[{', '.join(map(value_of, value))}]"
        case Mapping():
            return f"{{{', '.join(f'{key_of(key)} = {value_of(each)}' for key, each in value.items())}}}"
        case _:  # TOML's strings are JSON's, but for one character
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
