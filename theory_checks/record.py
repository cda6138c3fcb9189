"""The record of a check: frozen, with a verdict that follows from its own numbers."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal

Verdict = Literal["holds", "holds but vacuous", "fails"]
Size = Literal["small", "default", "thorough"]
"""The amount that a run checks: seconds for the tests, a minute, or longer."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One statement at one setting: the claim, the measured number, and whether the claim holds."""

    statement: str
    """The paper's number of the statement, and the source of the constants."""
    claim: str
    """The claim as a formula."""
    assumptions: str = ""
    setting: Mapping[str, float | int | str] = field(default_factory=dict)
    """The arguments that the check was called with."""

    sense: Literal["at most", "at least", "equal"] = "at most"
    claimed: float = math.nan
    """The number that is claimed: often the largest probability that a bound fails."""
    measured: float = math.nan
    low: float = math.nan
    """The interval of the measured number; of width 0 for a number that is not random."""
    high: float = math.nan
    tolerance: float = 0.0
    """For `equal`: the distance from `claimed` that counts as equal, by the order of the neglected terms."""
    exact: float = math.nan
    """The measured number in closed form, if one is known; it must hold too."""

    bound: float = math.nan
    """The value of the bound, if the claim is a bound."""
    trivial: float = math.nan
    """The bound known without the statement: pi for an angle, 0 for a probability or a norm from below."""
    slack: float = math.nan
    """The least distance from the bound over the samples, negative if one lies beyond it."""
    tightness: float = math.nan
    """True quantile over bound, or bound over frequency: 1 if there is no sharper bound."""

    samples: int = 0
    ours: bool = True
    """True if we claim that it holds; False for claims of the paper that we do not believe."""

    @property
    def vacuous(self) -> bool:
        """Return True if the bound says no more than what is known without the statement."""
        return self.bound <= 0 if self.trivial == 0 else self.bound >= self.trivial

    @property
    def verdict(self) -> Verdict:
        """Return the verdict: it fails if all of the interval, or the exact value, is on the wrong side."""
        if any(math.isnan(value) for value in (self.claimed, self.low, self.high)):
            return "fails"
        known = [] if math.isnan(self.exact) else [(self.exact, self.exact)]
        for low, high in [(self.low, self.high), *known]:
            below, above = high < self.claimed - self.tolerance, low > self.claimed + self.tolerance
            if {"at most": above, "at least": below, "equal": above or below}[self.sense]:
                return "fails"
        return "holds but vacuous" if self.vacuous else "holds"

    def as_dict(self) -> dict[str, Any]:
        """Return the record for JSON, which has no NaN (here None) and no infinity (here a string)."""

        def plain(value: Any) -> Any:
            if not isinstance(value, float) or math.isfinite(value):
                return value
            return None if math.isnan(value) else str(value)

        return {key: plain(value) for key, value in (asdict(self) | {"verdict": self.verdict}).items()}


Check = Callable[[], Record]
"""One point of a module's grid, ready to be called."""


def grid(points: Callable[[Size], Iterator[Callable[..., Record]]]) -> Callable[..., Iterator[Check]]:
    """Return a module's `checks` from its points. Those with a seed or any keywords get seed and device."""

    def checks(size: Size, seed: int = 0, device: str = "cpu") -> Iterator[Check]:
        """Yield the checks of this module at one size."""
        for point in points(size):
            arguments = inspect.signature(point).parameters.values()
            draws = any(
                argument.name == "seed" or argument.kind is argument.VAR_KEYWORD for argument in arguments
            )
            yield partial(point, seed=seed, device=device) if draws else point

    return checks
