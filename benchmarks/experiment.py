"""An experiment: methods that draw the same scenes, the metrics, and the rows that are compared."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from amdm.shapes.world import Image, Scenes
from benchmarks import measures
from benchmarks.measures import Estimate
from benchmarks.runner import Batch, Drawer, Split, batches, held_out


class Experiment(NamedTuple):
    """The rows of a table on the same scenes, a split's from `first` on, each from `seeds` starts."""

    rows: Mapping[str, Drawer]
    scenes: int
    seeds: int = 1
    pairs: Sequence[tuple[str, str]] = ()
    """Rows of which the first is compared with the second."""
    measure: Callable[[Image, Scenes, Drawer], dict[str, Estimate]] = measures.measure
    """Measures a row's images, one seed after the other."""
    split: Split = "test"
    """`validation` for what is chosen by what is measured."""
    first: int = 0

    @property
    def wanted(self) -> Scenes:
        """Return the scenes."""
        return held_out(self.first, self.scenes, self.split)

    @property
    def batches(self) -> dict[str, list[Batch]]:
        """Return the batches of every row."""
        return {
            label: batches(method, range(self.seeds), self.scenes, self.split, self.first)
            for label, method in self.rows.items()
        }
