"""The tests run on stand-ins of ComfyUI's contract; with COMFYUI_PATH they run on the real core."""

import os
import sys

from comfyui.tests import standin

REAL = "COMFYUI_PATH" in os.environ
collect_ignore = ["real.py", "tiny_nodes"]  # they need the real core

if REAL:
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    arguments, sys.argv = sys.argv, ["main.py", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.utils  # reads the arguments
    import comfy_extras.nodes_custom_sampler  # noqa: F401

    comfy.utils.PROGRESS_BAR_ENABLED = False
    sys.argv = arguments
else:
    standin.install()
