"""Pictures from a file that says all: `amdm sample CONFIG`.

`read_config` reads and checks the file, `jobs` plans the pictures, `draw` draws those it is given: all of
them, or one process's share. Needs the extra `diffusers`.
"""

from amdm.sample.configuration import Config, Job, Lora, Model, Prompt, jobs
from amdm.sample.drawing import draw
from amdm.sample.methods import Sampling
from amdm.sample.reading import config_of, read_config
from amdm.sample.tables import Unusable

__all__ = [
    "Config", "Job", "Lora", "Model", "Prompt", "Sampling", "Unusable", "config_of", "draw", "jobs",
    "read_config",
]  # fmt: skip
