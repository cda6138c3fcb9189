"""The rows of the paper's tables, as settings of `amdm sample`.

Settings are those of the paper's appendix G.2. For the other methods of table 6 neither the paper nor its
published code says how they were run: `Setting.ours` says what is our choice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from benchmarks import paper

Benchmark = Literal["hico", "mig", "coco"]
ID, MIGC, IP = "InteractDiffusion", "MIGC", "IP-Adapter"
ID_XL, IP_XL = "InteractDiffusion-XL", "IP-Adapter-XL"
BACKGROUND = "Stable Diffusion"
"""Stable Diffusion 1.4 itself, told the caption: what projective composition is relative to."""
ID_MIGC, MIGC_ID, ID_IP, XL_IP = f"{ID}(+{MIGC})", f"{MIGC}(+{ID})", f"{ID}(+{IP})", f"{ID_XL}(+{IP_XL})"


@dataclass(frozen=True)
class Setting:
    """A way to draw a benchmark: the models, the lead first, the steps and `amdm sample`'s `[sampling]`."""

    models: tuple[str, ...]
    sampling: Mapping[str, Any]
    steps: int = 50
    ours: str = ""
    """Our choice, where the paper does not say."""


class Row(NamedTuple):
    """A row of a table: a setting's images, or those that one of its models draws alone, of its own start."""

    setting: str
    alone: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the paper: its number, its benchmarks, and its rows that can be drawn."""

    number: int
    benchmarks: tuple[Benchmark, ...]
    rows: Mapping[str, Row]
    note: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the paper's columns."""
        return tuple(self._published["columns"])

    def published(self, row: str) -> dict[str, float]:
        """Return the paper's numbers of a row by column."""
        return dict(zip(self.columns, self._published[row], strict=True))

    @property
    def _published(self) -> Mapping[str, Sequence[Any]]:
        found: Mapping[str, Sequence[Any]] = getattr(paper, f"TABLE_{self.number}")
        return found


def joined(*models: str, steps: int = 50, aggregated: int | list[int] = 20, pull: float = 0.3) -> Setting:
    """Return the paper's setting of AMDM for two models."""
    options = {"method": "amdm", "weights": 0.5, "correction": pull, "window": aggregated}
    return Setting(models, options, steps)


PULLS = [pull for pull in paper.TABLE_3 if pull not in ("columns", "0.3")]
LATER = {"middle": [15, 35], "late": [30, 50]}
"""Table 4's windows: the paper's pictures show which steps they are, its text does not."""
SETTINGS = {
    ID_MIGC: joined(ID, MIGC),
    MIGC_ID: joined(MIGC, ID),
    ID_IP: joined(ID, IP, steps=10, aggregated=5),
    XL_IP: joined(ID_XL, IP_XL, steps=10, aggregated=5),
    **{f"{ID_MIGC}, correction {pull}": joined(ID, MIGC, pull=float(pull)) for pull in PULLS},
    **{f"{ID_MIGC}, {name}": joined(ID, MIGC, aggregated=window) for name, window in LATER.items()},
    "Langevin": Setting(
        (ID, MIGC),
        {"method": "mcmc", "exponents": [0.5, 0.5], "kernel": "ula", "moves": 2, "step_size": 0.1},
        ours="the mean of both guided scores; at each of 50 levels two moves of 0.1 of sigma^2",
    ),
    "projective": Setting(
        (ID, MIGC, BACKGROUND),
        {"method": "linear", "weights": [1.0, 1.0, -1.0]},
        ours="guided predictions relative to Stable Diffusion 1.4 that is told the caption; 50 steps of DDIM",
    ),
    "FKC": Setting(
        (ID, MIGC),
        {"method": "fkc", "exponents": [0.5, 0.5], "particles": 4},
        ours="the geometric mean of both guided models; of 4 particles one is drawn by its weight; 50 steps",
    ),
    "SuperDiff AND": Setting(
        (ID, MIGC),
        {"method": "superdiff", "combine": "and"},
        ours="guided predictions; 50 steps with fresh noise",
    ),
}
ONE_EACH = {
    MIGC: Row(MIGC_ID, alone=MIGC),
    MIGC_ID: Row(MIGC_ID),
    ID: Row(ID_MIGC, alone=ID),
    ID_MIGC: Row(ID_MIGC),
}
TABLES = {
    1: Table(1, ("hico",), ONE_EACH),
    2: Table(2, ("mig",), ONE_EACH),
    3: Table(
        3,
        ("mig",),
        {
            pull: Row(ID_MIGC if pull == "0.3" else f"{ID_MIGC}, correction {pull}")
            for pull in list(paper.TABLE_3)[1:]
        },
    ),
    4: Table(
        4,
        ("mig", "hico"),
        {"early": Row(ID_MIGC)} | {name: Row(f"{ID_MIGC}, {name}") for name in LATER},
    ),
    6: Table(
        6,
        ("mig", "hico"),
        {
            "Du et al. (2023)": Row("Langevin"),
            "Bradley et al. (2025)": Row("projective"),
            "Skreta et al. (2025a)": Row("FKC"),
            "Skreta et al. (2025b)": Row("SuperDiff AND"),
            ID_MIGC: Row(ID_MIGC),
            MIGC_ID: Row(MIGC_ID),
        },
        note="The paper's mAP of the last two rows is the other way round than in its table 1.",
    ),
    8: Table(8, ("coco",), {ID: Row(ID_IP, alone=ID), ID_IP: Row(ID_IP), IP: Row(ID_IP, alone=IP)}),
    9: Table(9, ("coco",), {ID: Row(XL_IP, alone=ID_XL), ID_IP: Row(XL_IP), IP: Row(XL_IP, alone=IP_XL)}),
}
