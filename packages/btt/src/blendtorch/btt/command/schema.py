"""`blendtorch schema`: the JSON Schema of configurations."""

import argparse
import json
import sys
from pathlib import Path

from blendtorch.btt.command.blenders import absolute
from blendtorch.btt.generation.schema import make_schema
from blendtorch.core.atomic import write_atomically
from blendtorch.core.discovery import Catalogue
from blendtorch.core.errors import ConfigurationError

SUMMARY = "print the JSON Schema of configurations, with the options of every plug-in that is installed"
DESCRIPTION = """\
Print the JSON Schema (2020-12) of a configuration: its keys, the plug-ins that are installed here, and their options. With it
an editor completes names, explains options and underlines what is wrong.

    blendtorch schema -o blendtorch.schema.json

For editors with a YAML language server (VS Code: the extension "YAML" of Red Hat), write above the configuration:

    # yaml-language-server: $schema=blendtorch.schema.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument("-o", "--output", metavar="FILE", default="-", help="where to (default: the terminal)")
    parser.add_argument(
        "--plugin", metavar="FILE", action="append", default=[], help="a Python file with plug-ins; may be repeated"
    )


def run(options: argparse.Namespace) -> int:
    """Make and write it."""
    catalogue = Catalogue(absolute(options.plugin))
    text = json.dumps(make_schema(catalogue), indent=2) + "\n"
    for problem in catalogue.problems:
        print(f"left out: {problem}", file=sys.stderr)
    if options.output == "-":
        print(text, end="")
        return 0
    try:
        write_atomically(Path(options.output).expanduser(), text.encode())
    except OSError as error:
        raise ConfigurationError(f"cannot write {options.output}: {error.strerror or error}") from None
    return 0
