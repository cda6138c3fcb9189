"""The page: its tabs, and the server that shows it on this machine only."""

from collections.abc import Callable, MutableMapping
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from amdm.page import shapes_tab, your_models

HOST = "127.0.0.1"
INTRODUCTION = """# Two models, one picture
Two diffusion models control one thing each. **A(+B)** is A enriched with what B controls."""
TABS: dict[str, Callable[[], None]] = {"Shapes": shapes_tab.build, "Your models": your_models.build}
"""Functions that add a tab's components, by the tab's name."""

# Fonts that every system has: gradio's own come from Google.
FONTS = {
    "font": ["system-ui", "-apple-system", "Segoe UI", "sans-serif"],
    "font_mono": ["ui-monospace", "Consolas", "DejaVu Sans Mono", "monospace"],
}


# No script, font, picture or connection of another host. Gradio's own scripts are in part inline.
OWN_FILES_ONLY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'"


class OwnFilesOnly:
    """ASGI middleware that tells the browser to load nothing from another host (OWN_FILES_ONLY)."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self.app = app

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Callable[..., Any], send: Callable[..., Any]
    ) -> None:
        """Answer a request, with one header more."""

        async def with_policy(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"content-security-policy", OWN_FILES_ONLY.encode()),
                ]
            await send(message)

        await self.app(scope, receive, with_policy)


CSS = """
.gradio-container { max-width: 1480px !important; padding: 8px 20px !important; }
.gradio-container h1 { margin: 0; }
"""


def build() -> gr.Blocks:
    """Return the page."""
    with gr.Blocks(title="amdm", analytics_enabled=False, delete_cache=(3600, 3600), fill_width=True) as page:
        gr.Markdown(INTRODUCTION)
        for name, add in TABS.items():
            with gr.Tab(name):
                add()
    return page


def launch(port: int | None = None) -> gr.Blocks:
    """Serve the page on 127.0.0.1, in the background, and return it; its `local_url` says where.

    Args:
        port: the port; None for the first free one from 7860 on.

    Raises:
        OSError: the port is taken.
    """
    page = build()
    shapes_tab.warm()
    page.queue(default_concurrency_limit=2)
    page.launch(
        server_name=HOST,
        server_port=port,
        share=False,
        ssr_mode=False,
        quiet=True,
        prevent_thread_lock=True,
        theme=gr.themes.Default(primary_hue="blue", text_size="sm", spacing_size="sm", **FONTS),
        css=CSS + shapes_tab.CSS + your_models.CSS,
        footer_links=[],
        state_session_capacity=20,
        app_kwargs={"middleware": [Middleware(OwnFilesOnly)]},
    )
    return page
