"""An experiment of few steps, run as the command runs its own: `tiny.py OUT`."""

import sys
from pathlib import Path

from benchmarks import table1_2
from benchmarks.__main__ import run
from benchmarks.experiment import Experiment
from benchmarks.methods import Method

A, AB, B, BA = table1_2.A, table1_2.AB, table1_2.B, table1_2.BA


def experiment(scenes=20, seeds=1):
    few = {A: ("layout",), AB: ("layout", "attribute"), B: ("attribute",), BA: ("attribute", "layout")}
    rows = {label: Method(names, steps=2) for label, names in few.items()}
    return Experiment(rows, scenes=scenes, seeds=seeds, pairs=table1_2.experiment("quick").pairs)


if __name__ == "__main__":
    run("tiny", table1_2, experiment(), Path(sys.argv[1]), quiet=True)
