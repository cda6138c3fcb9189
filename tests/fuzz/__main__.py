"""`PYTHONPATH=tests python -m fuzz`: fuzz the public functions; exit status 1 if there is a fault."""

import argparse
import multiprocessing
import os
import sys
from collections import Counter

import torch
from tqdm import tqdm

from fuzz.calls import outcome


def main() -> int:
    """Make the calls, print the faults, and return whether there was one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--most", type=int, default=50, help="stop after this many faults")
    arguments = parser.parse_args()
    seen: Counter[str] = Counter()
    seeds = range(arguments.first, arguments.first + arguments.calls)
    print(f"seeds {seeds.start} to {seeds.stop - 1}")
    spawned = multiprocessing.get_context("spawn")
    # Processes are made anew after 5,000 calls: what a call leaves behind does not pile up.
    with spawned.Pool(arguments.jobs, torch.set_num_threads, (1,), maxtasksperchild=100) as pool:
        for found in tqdm(
            pool.imap(outcome, seeds, chunksize=50), total=len(seeds), unit="call", mininterval=1.0
        ):
            seen[found.kind] += 1
            if found.kind == "fault":
                tqdm.write(
                    f"FAULT seed {found.seed} (make fuzz SEED={found.seed})\n  {found.call}\n  {found.why}"
                )
                if seen["fault"] >= arguments.most:
                    break
    print(", ".join(f"{seen[kind]} {kind}" for kind in ("right", "clear", "fault")))
    return int(seen["fault"] > 0)


if __name__ == "__main__":
    sys.exit(main())
