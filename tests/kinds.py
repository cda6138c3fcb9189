"""The samplers of a kind, by name: of one model, without a share of noise, without noise."""

import inspect

from amdm.samplers import SAMPLERS

OF_ONE_MODEL = [name for name, each in SAMPLERS.items() if "model" in inspect.signature(each).parameters]
WITHOUT_ETA = [name for name in OF_ONE_MODEL if "must be 0" in SAMPLERS[name].__doc__]
DETERMINISTIC = [name for name in WITHOUT_ETA if name != "lcm"]
