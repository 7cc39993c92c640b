"""`blendtorch init`: a commented configuration to start from."""

import argparse
import sys
from pathlib import Path

from blendtorch.btt.generation.preset import make_preset
from blendtorch.btt.generation.subject import Subject
from blendtorch.core.atomic import write_atomically
from blendtorch.core.errors import BlendtorchError, ConfigurationError

SUMMARY = "write a commented configuration for your models, to change and to generate from"
DESCRIPTION = """\
Measure models (or take a scene), and write a configuration whose distances, lights and labels fit them. Every value has a
comment that says its unit and what it does.

    blendtorch init bracket.glb                       writes blendtorch.yaml
    blendtorch init bracket.stl screw.stl --unit mm   several kinds of objects; STL has no unit of its own
    blendtorch init lm/models                         a folder, of the BOP challenge for example
    blendtorch init bracket.glb -o -                  to the terminal

Then look and generate: blendtorch generate --config blendtorch.yaml --preview 16

exit codes:
  0  written
  2  wrong arguments, a model that is not there or cannot be read, or the file is there already: nothing was written
"""
_WRONG = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument(
        "subject", metavar="MODEL|SCENE", nargs="+", help="models (.glb, .obj, .stl ...), folders of them, or a .blend"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", default="blendtorch.yaml", help="where to; - for the terminal (%(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    parser.add_argument(
        "--unit", choices=("m", "cm", "mm", "in"), help="of the numbers in the models (default: what the format says, or m)"
    )
    parser.add_argument(
        "--blender", metavar="PATH", help="which Blender measures: an executable, a Python that has bpy, or a folder with one"
    )


def run(options: argparse.Namespace) -> int:
    """Measure, write, and say what comes next."""
    try:
        return _write(options)
    except BlendtorchError as error:
        print(f"blendtorch init: {error}", file=sys.stderr)
        return _WRONG


def _write(options: argparse.Namespace) -> int:
    file = Path(options.output).expanduser()
    if options.output != "-" and file.exists() and not options.overwrite:
        raise ConfigurationError(f"{file} is there already: name another file with -o, or replace it with --overwrite")
    preset = make_preset(Subject.of(options.subject, options.unit, options.blender), None, str(file))
    for notice in preset.notices:
        print(notice, file=sys.stderr)
    if options.output == "-":
        print(preset.text, end="")
        return 0
    try:
        write_atomically(file, preset.text.encode())
    except OSError as error:
        raise ConfigurationError(f"cannot write {file}: {error.strerror or error}") from None
    print(f"{file} is written. Look at what it makes: blendtorch generate --config {file} --preview 16", file=sys.stderr)
    return 0
