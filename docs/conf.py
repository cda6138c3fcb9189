"""Settings of Sphinx for the documentation (`make docs`): nothing is fetched, no page needs another host."""

import re
import sys
from html import escape as escape_html
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

sys.path.insert(0, str(Path(__file__).parent.parent))

from amdm.shapes.imports import import_beside_torchvision

import_beside_torchvision("diffusers")

import amdm  # noqa: E402

logger = logging.getLogger(__name__)
project, author, copyright = "amdm", "the amdm authors", "the amdm authors"  # noqa: A001
version = release = amdm.__version__
html_title = f"amdm {version}"

extensions = [
    "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_nb",
]  # fmt: skip
exclude_patterns = ["_build", "notebooks/.ipynb_checkpoints"]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
suppress_warnings = ["mystnb.unknown_mime_type"]

default_role = "literal"  # a name in single backticks, as the docstrings have it
autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autosummary_generate = False
napoleon_use_rtype = False
napoleon_use_ivar = True
add_module_names = False
python_maximum_signature_line_length = 80
nitpick_ignore_regex = [("py:class", ".*")]  # annotations name types of other packages

html_theme = "furo"
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = "mathml"
pygments_style, pygments_dark_style = "friendly", "native"


def mathml(node: nodes.Element, as_block: bool = False) -> str:
    """Return a formula as MathML, which browsers show without a script; warn of what docutils cannot read."""
    try:
        return str(tex2mathml(node.astext(), as_block=as_block))
    except MathError as error:
        logger.warning("%s in %r", error, node.astext(), location=node)
        return f"<code>{escape_html(node.astext())}</code>"


def inline_math(self: Any, node: nodes.math) -> None:
    """Write a formula of a line."""
    self.body.append(mathml(node))
    raise nodes.SkipNode


def display_math(self: Any, node: nodes.math_block) -> None:
    """Write a formula of its own."""
    self.body.append(
        f'<div class="math" style="overflow-y: hidden; padding: 0.3em 0">{mathml(node, as_block=True)}</div>'
    )
    raise nodes.SkipNode


PROMPTS = re.compile(r"^\s*>>> .*?(?=\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)
MARKUP = re.compile(r"^(\s*\* )|([*|]|(?<=\w)_(?!\w))", re.MULTILINE)  # a bullet stays one
LITERALS = re.compile(r"(``.+?``|`[^`]+`)", re.DOTALL)


def escaped(text: str) -> str:
    """Return a docstring in which |x|, a * b and x_ stand for themselves, outside of code."""
    pieces, at = [], 0
    for prompt in PROMPTS.finditer(text):
        pieces += [_plain(text[at : prompt.start()]), prompt.group()]
        at = prompt.end()
    return "".join([*pieces, _plain(text[at:])])


def _plain(text: str) -> str:
    parts = LITERALS.split(text)
    parts[::2] = [MARKUP.sub(lambda found: found[1] or f"\\{found[2]}", part) for part in parts[::2]]
    parts[2::2] = [re.sub(r"^(?=\w)", r"\\ ", part) for part in parts[2::2]]  # the s of `Step`s
    return "".join(parts)


def escape(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Let `escaped` see every docstring before napoleon does."""
    lines[:] = escaped("\n".join(lines)).split("\n")


def setup(app: Any) -> None:
    """Register the renderer and the filter above."""
    app.add_html_math_renderer("mathml", (inline_math, None), (display_math, None))
    app.connect("autodoc-process-docstring", escape, priority=100)
