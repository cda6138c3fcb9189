"""An experiment of few steps and three batches a row, run as the command runs its own: `tiny.py OUT`."""

import os
import sys
from pathlib import Path

from benchmarks import measures, runner, table1_2
from benchmarks.__main__ import run
from benchmarks.experiment import Experiment
from benchmarks.methods import Method
from benchmarks.runner import processes


def experiment(scenes=20, seeds=1):
    rows = {label: Method(models, steps=2) for label, models in table1_2.MODELS.items()}
    return Experiment(rows, scenes=scenes, seeds=seeds, pairs=table1_2.experiment("quick").pairs)


if __name__ == "__main__":
    runner.BATCH, measures.RENDERS = 20, 300
    assert processes().num_processes == int(os.environ.get("WORLD_SIZE", "1"))
    run("tiny", table1_2, experiment(60), Path(sys.argv[1]), quiet=True)
    processes().destroy_process_group()  # as the command does
