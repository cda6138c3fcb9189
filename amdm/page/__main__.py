"""A page in the browser, on this machine only: draw boxes, join two models, see what each of them does."""

import os
from argparse import ArgumentParser
from collections.abc import Sequence

from amdm.command_line.arguments import Expected, checked


def check_port(port: int) -> None:
    """Raise `Expected` unless a server without rights can have the port."""
    if not 1024 <= port <= 65535:
        raise Expected("1024 to 65535")


def main(argv: Sequence[str] | None = None) -> None:
    """Serve the page until it is interrupted."""
    parser = ArgumentParser(prog="amdm page", description=__doc__)
    parser.add_argument("--quiet", action="store_true", help="print nothing")
    parser.add_argument(
        "--port", type=checked(check_port, int), help="default: the first free one from 7860 on"
    )
    args = parser.parse_args(argv)
    # Gradio reads them when it is imported: it reports nothing, and looks for nothing on a hub.
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    from amdm.page.app import launch

    try:
        page = launch(args.port)
    except OSError:
        parser.error(f"--port is {args.port}, expected one that is free")
    if not args.quiet:
        print(f"The page is at {page.local_url} and seen on this machine only. Ctrl-C stops it.", flush=True)
    page.block_thread()


if __name__ == "__main__":
    main()
