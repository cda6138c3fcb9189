"""AMDM for ComfyUI: a guider made of guiders. Link or copy this folder into `custom_nodes`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import AMDMExtension

WEB_DIRECTORY = "./web"
"""Where ComfyUI finds the nodes' help pages."""


async def comfy_entrypoint() -> AMDMExtension:
    """Return the extension; ComfyUI calls this when it loads the folder."""
    from .nodes import AMDMExtension

    return AMDMExtension()
