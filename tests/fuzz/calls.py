"""One call from a seed, and what became of it."""

import random
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from arguments import PUBLIC, TARGETS, is_clear
from torch import Tensor

from fuzz.laws import LAWS, FaultError, finite


class Outcome(NamedTuple):
    """What became of a call."""

    kind: str
    """right, clear or fault."""
    seed: int
    call: str
    why: str = ""


def outcome(seed: int) -> Outcome:
    """Draw the call of this seed, make it, and classify it."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    make = any_arguments if rng.random() < 0.5 else rng.choice(LAWS)
    told: list[str] = []
    names = ["x", "xs", "weights", "sigmas"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            names = make(rng, told) or names
            kind, why = "right", ""
        except FaultError as fault:
            kind, why = "fault", str(fault)
        except Exception as error:
            clear = make is any_arguments and is_clear(error, ["x", *told[-1].split(", ")])
            clear |= of_the_user(error)
            kind, why = ("clear" if clear else "fault"), f"{type(error).__name__}: {error}"
    alien = [str(each.message) for each in caught if not is_ours(each.filename)]
    if alien and kind != "fault":
        kind, why = "fault", f"warned: {alien[0]}"
    return Outcome(kind, seed, f"{make.__name__}: {'; '.join(told[:1])}"[:300], why[:300])


def is_ours(filename: str) -> bool:
    """Whether a warning comes from the library, or from what checks its shapes in tests."""
    parts = Path(filename).parts
    return "jaxtyping" in parts or ("amdm" in parts and "site-packages" not in parts)


THE_USERS_OWN = re.compile(
    r"unexpected keyword argument|missing \d+ required|takes (from )?\d+.* positional argument|^vjp\(f"
)
"""What is said of a function that the user gave, called as documented: it comes through as it is."""


def of_the_user(error: BaseException) -> bool:
    """Whether a user's function was to blame."""
    return THE_USERS_OWN.search(str(error)) is not None


UNREAD = ("noise_sampler", "weights", "weight", "models", "unconditional", "background", "model", "network")
"""Arguments whose tensors geometry does not read, or functions: with alien values the result may be NaN."""
MOST = 10**6
"""A larger count of models, moves or samples is no fault of a function that takes its time and memory."""
EVERY_VALUE = [
    value
    for target in TARGETS.values()
    for argument in target.arguments.values()
    for value in (*argument.good, *argument.bad)
    if not any(value is function for function in PUBLIC.values())  # as a model they name their own arguments
    and not (isinstance(value, int) and value > MOST)
]


def any_arguments(rng: random.Random, told: list[str]) -> None:
    """A function of the table with right, wrong and alien values, and the laws of whatever it returns."""
    name = rng.choice(list(TARGETS))
    target = TARGETS[name]
    wrong = rng.choice([0, 0, 1, 1, 2])
    chosen = {a for a in target.arguments if a in target.required or rng.random() < 0.4}
    spoilt = set(rng.sample(sorted(target.arguments), min(wrong, len(target.arguments))))
    given: dict[str, Any] = {}
    for argument in sorted(chosen | spoilt):
        values = target.arguments[argument]
        if argument in spoilt and values.bad and rng.random() < 0.5:
            given[argument] = rng.choice(values.bad)
        elif argument in spoilt:
            given[argument] = rng.choice(EVERY_VALUE)
        else:
            given[argument] = rng.choice(values.good)
    told += [f"{name}({', '.join(f'{k}={v!r}' for k, v in given.items())})", ", ".join(target.arguments)]
    before = copies(given)
    result = target.call(**given)
    if not same(before, copies(given)):
        raise FaultError("an input was changed")
    alien = any(a in UNREAD and not any(given[a] is v for v in target.arguments[a].good) for a in given)
    if not alien and all(finite(value) for value in given.values()) and not finite(result):
        raise FaultError(f"finite in, not finite out: {result}")


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in a value."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors(each)


def copies(given: dict[str, Any]) -> list[Tensor]:
    """Copies of all tensors that are given, those without values aside."""
    return [t.clone() for value in given.values() for t in tensors(value) if not t.is_meta]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    """Whether they are equal, NaN to NaN."""
    return all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(one, other, strict=True))


def run(first: int, count: int, each: Callable[[Outcome], object] = lambda _: None) -> list[Outcome]:
    """The outcomes of so many seeds."""
    found = []
    for seed in range(first, first + count):
        found.append(outcome(seed))
        each(found[-1])
    return found
