"""The command `amdm`: one name for the programs of the library."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from amdm import __version__
from amdm.command_line.arguments import missing


class Command(NamedTuple):
    """A program: what it does, the module whose `main(argv)` runs it, and the extra that it needs."""

    does: str
    module: str
    extra: str = ""
    packages: Sequence[str] = ()
    """The extra's packages, by the names that Python imports."""


COMMANDS = {
    "demo": Command(
        "join two trained models, leave a picture and a table",
        "amdm.shapes.two_models",
        "demo",
        ("diffusers", "einops", "matplotlib", "safetensors", "sklearn"),
    ),
    "page": Command(
        "try it in the browser: draw boxes, join two models",
        "amdm.page.__main__",
        "page",
        ("gradio", "gradio_image_annotation", "diffusers", "einops", "matplotlib", "safetensors", "sklearn"),
    ),
    "theory": Command(
        "test every statement of the paper",
        "theory_checks.__main__",
        "theory",
        ("matplotlib", "rich", "scipy"),
    ),
    "sample": Command(
        "draw pictures with pipelines that are joined, as a file says",
        "amdm.sample.main",
        "diffusers",
        ("diffusers", "transformers", "peft", "safetensors", "PIL"),
    ),
    "environment": Command("print versions and devices, for a bug report", "amdm.environment"),
}


def main(argv: Sequence[str] | None = None) -> int | None:
    """Run one of COMMANDS with the arguments after its name, and return its exit status.

    The status is 2 for arguments that are wrong, or if a package that the command needs is not installed.
    """
    parser = argparse.ArgumentParser(
        prog="amdm",
        description="Sample from several pretrained diffusion models at once, without training.",
        epilog="commands:\n" + "\n".join(f"  {name:12} {command.does}" for name, command in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "command", choices=COMMANDS, metavar="COMMAND", help="one of the list; COMMAND --help tells more"
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="the command's own")
    args = parser.parse_args(argv)
    command = COMMANDS[args.command]
    if lacking := missing(*command.packages):
        extra = f"the extra {command.extra}, in a clone: pip install '.[{command.extra}]'"
        needed = f"{', '.join(lacking)} not found, expected {extra}"
        print(f"amdm {args.command}: {needed}", file=sys.stderr)
        return 2
    status: int | None = import_module(command.module).main(args.arguments)
    return status
