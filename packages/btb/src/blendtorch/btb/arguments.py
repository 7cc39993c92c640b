"""The command line of a Blender instance: what `btt.BlenderLauncher` tells its script."""

import argparse
import sys
from collections.abc import Sequence

from blendtorch.core.errors import LaunchError


def parse_blendtorch_args(argv: Sequence[str] | None = None) -> tuple[argparse.Namespace, list[str]]:
    """Parse what stands behind `--` on the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Default: `sys.argv`.

    Returns
    -------
    args : argparse.Namespace
        `btid` (int), the number of this instance; `btseed` (int), its seed; `btsockets` (dict of str to str),
        the address to bind for each socket name.
    remainder : list of str
        The other arguments: the launcher's `instance_args`.

    Raises
    ------
    LaunchError
        If there is no `--`, or an argument cannot be read.

    Examples
    --------
    >>> argv = ["--", "-btsockets", "DATA=tcp://127.0.0.1:11000", "-btid", "1", "--size", "64"]
    >>> args, remainder = parse_blendtorch_args(argv)
    >>> args.btid, args.btsockets, remainder
    (1, {'DATA': 'tcp://127.0.0.1:11000'}, ['--size', '64'])
    """
    argv = sys.argv if argv is None else list(argv)
    if "--" not in argv:
        raise LaunchError(
            "this script finds no arguments of blendtorch: start it with btt.BlenderLauncher, "
            "or by hand with: -- -btid 0 -btseed 0 -btsockets DATA=tcp://127.0.0.1:11000"
        )
    parser = _Parser(prog="blendtorch", add_help=False, allow_abbrev=False)
    parser.add_argument("-btid", type=int, default=0)
    parser.add_argument("-btseed", type=int, default=0)
    parser.add_argument("-btsockets", nargs="*", default=[])
    args, remainder = parser.parse_known_args(argv[list(argv).index("--") + 1 :])
    args.btsockets = dict(_named_address(text) for text in args.btsockets)
    return args, remainder


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]  # raises, as NoReturn would say
        raise LaunchError(f"cannot read the arguments behind --: {message}")


def _named_address(text: str) -> tuple[str, str]:
    name, separator, address = text.partition("=")
    if not separator or not name or not address:
        raise LaunchError(f"-btsockets {text!r}: expected NAME=ADDRESS")
    return name, address
