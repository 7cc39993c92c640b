"""The subcommands of the command `blendtorch`, and which one gets the arguments."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from blendtorch.btt.command import audit, doctor, export, generate, info, init, plugins, runtime, schema, verify, view
from blendtorch.core.errors import BlendtorchError

_DESCRIPTION = """\
From models of objects to pictures with labels, and what blendtorch finds on this machine.

    blendtorch init         write a commented configuration for your models
    blendtorch generate     render and label, into a folder
    blendtorch export       write a recording in the format of another tool
    blendtorch info         what is in a recording, or in a folder of samples
    blendtorch verify       read all of it, and list what is damaged
    blendtorch audit        look at a data set, and render some of it again to compare
    blendtorch view         look at samples in the browser: recorded, written, or live
    blendtorch schema       the JSON Schema of configurations, for editors
    blendtorch plugins      which renderers, annotators, randomizers and writers there are, and what is wrong with any
    blendtorch doctor       which Blenders there are, what they can do here, and whether the plug-ins work in them
    blendtorch runtime      private Blenders, each with the Python that it needs: add, list, remove

`blendtorch COMMAND --help` explains each.
"""
_SUBCOMMANDS = {
    "init": init,
    "generate": generate,
    "export": export,
    "info": info,
    "verify": verify,
    "audit": audit,
    "view": view,
    "schema": schema,
    "plugins": plugins,
    "doctor": doctor,
    "runtime": runtime,
}


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
        code: int = _SUBCOMMANDS[options.command].run(options)
    except BlendtorchError as error:
        print(f"blendtorch {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # what reads our output has seen enough: `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes the rest at its exit
        return 1
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
        module.add_arguments(each)
    return parser


def _terminate(number: int, _frame: object) -> None:
    sys.exit(128 + number)
