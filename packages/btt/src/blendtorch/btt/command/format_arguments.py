"""The arguments that choose a writer, of all subcommands that write samples."""

import argparse


def add_format_arguments(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """Add `--format`, `--split` and `--loose`.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    default : str, optional
        The format where none is named. Default: one has to be named.
    """
    also = "" if default is None else f" (default: {default})"
    parser.add_argument(
        "--format",
        metavar="NAME",
        default=default,
        required=default is None,
        help=f"what writes: a writer's name, or {{name: ..., options}}{also}",
    )
    parser.add_argument(
        "--split",
        metavar="PARTS",
        help="divide the episodes, where the format has parts: train=0.9,val=0.1 (default: the format's)",
    )
    parser.add_argument(
        "--loose",
        action="store_true",
        help="take boxes around projected geometry where there are no tight ones, and do without masks",
    )
