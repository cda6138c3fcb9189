"""The processes that draw together, and what each of them draws.

`accelerate launch` starts them on GPUs and machines, `torchrun` on CPUs; a program that was started by itself
is one process.
"""

from datetime import timedelta

import torch
from accelerate import PartialState


def processes() -> PartialState:
    """Return the processes that draw. Long timeout: the others wait while the main process measures."""
    return PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=7))


def own_device() -> str:
    """Return the device of this process."""
    device = processes().device
    return "cpu" if device.type == "cpu" else str(device)


def own_share(count: int) -> range:
    """Return the indices of what this process draws, of `count`: of n processes each draws every n-th."""
    state = processes()
    return range(state.process_index, count, state.num_processes)
