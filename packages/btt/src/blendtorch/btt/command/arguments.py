"""The arguments of the command `blendtorch`, and which subcommand gets them."""

import argparse
import signal
import sys
from collections.abc import Sequence

from blendtorch.btt.command import doctor, plugins, runtime
from blendtorch.core.errors import BlendtorchError

_DESCRIPTION = """\
What blendtorch finds on this machine.

    blendtorch plugins      which renderers, annotators, randomizers and writers there are, and what is wrong with any
    blendtorch doctor       which Blenders there are, what they can do here, and whether the plug-ins work in them
    blendtorch runtime      private Blenders, each with the Python that it needs: add, list, remove

`blendtorch COMMAND --help` explains each.
"""
_SUBCOMMANDS = {"plugins": plugins, "doctor": doctor}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Default: those of this process.

    Returns
    -------
    int
        Exit code: 0, all is well; 1, something is wrong; 130, interrupted. Wrong arguments exit with 2.
    """
    options = make_parser().parse_args(argv)
    before = signal.signal(signal.SIGTERM, _terminate)  # ends the Blenders on the way out
    try:
        code: int = (_SUBCOMMANDS | {"runtime": runtime})[options.command].run(options)
    except BlendtorchError as error:
        print(f"blendtorch {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return code


def make_parser() -> argparse.ArgumentParser:
    """Describe the arguments."""
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("blendtorch", description=_DESCRIPTION, formatter_class=style)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in _SUBCOMMANDS.items():
        each = subparsers.add_parser(name, help=module.SUMMARY, description=module.DESCRIPTION, formatter_class=style)
        each.add_argument(
            "--blender",
            metavar="PATH",
            action="append",
            help="look at this Blender and no other: an executable, a Python that has bpy, a folder with one, or a private "
            "runtime (4.5); may be repeated (default: BLENDTORCH_BLENDER, this Python, private runtimes, blender on PATH)",
        )
        each.add_argument(
            "--plugin",
            metavar="FILE",
            action="append",
            default=[],
            help="a Python file with plug-ins that is not packaged; may be repeated",
        )
        module.add_arguments(each)
        each.add_argument("--json", action="store_true", help="print JSON, for scripts; progress goes to stderr")
    # It looks at no Blender, and its own subcommands have their own arguments.
    runtime.add_arguments(
        subparsers.add_parser("runtime", help=runtime.SUMMARY, description=runtime.DESCRIPTION, formatter_class=style)
    )
    return parser


def _terminate(number: int, _frame: object) -> None:
    sys.exit(128 + number)
