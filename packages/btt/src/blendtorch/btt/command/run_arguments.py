"""The arguments that describe a run, of all subcommands that start one: a configuration, or models or a scene, and changes."""

import argparse
from collections.abc import Sequence
from typing import Any

from blendtorch.btt.command.blenders import say
from blendtorch.btt.configuration import load_configuration
from blendtorch.btt.generation.arguments import check_arguments
from blendtorch.btt.generation.overrides import override, split
from blendtorch.btt.generation.preset import make_preset
from blendtorch.btt.generation.subject import Subject
from blendtorch.core.configuration import Entry
from blendtorch.core.errors import ConfigurationError


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add them all but the models or the scene, and `--count`, which each subcommand explains itself."""
    parser.add_argument(
        "--config", metavar="FILE", help="a configuration, YAML or JSON; relative paths in it count from this folder"
    )
    parser.add_argument("--start", metavar="N", type=int, help="index of the first sample (default: 0)")
    parser.add_argument("--seed", metavar="N", type=int, help="other samples of the same kind (default: 0)")
    parser.add_argument(
        "--unit", choices=("m", "cm", "mm", "in"), help="of the numbers in the models, where no configuration says it"
    )
    parser.add_argument(
        "--set", metavar="PATH=VALUE", action="append", default=[], dest="settings", help="change a value; may be repeated"
    )
    parser.add_argument("--instances", metavar="N", type=int, help="Blender processes (default: the configuration's, or 1)")
    parser.add_argument(
        "--blender", metavar="PATH", help="which Blender: an executable, a Python that has bpy, or a folder with one"
    )
    parser.add_argument(
        "--plugin", metavar="FILE", action="append", default=[], help="a Python file with plug-ins; may be repeated"
    )


def read_run(
    options: argparse.Namespace, subject: Sequence[str], annotators: Sequence[Entry] = ()
) -> tuple[dict[str, Any], str]:
    """Put a configuration together: the file or the preset, then --set, then what has an option of its own.

    Parameters
    ----------
    options : argparse.Namespace
        Of a parser with `add_run_arguments` and `--count`.
    subject : sequence of str
        Models or a scene.
    annotators : sequence of str or mapping
        That the preset is to have besides the usual ones, or with options.

    Returns
    -------
    configuration : dict
        The arguments of `btt.stream`.
    origin : str
        Where it comes from, for errors.

    Raises
    ------
    BlendtorchError
        If something of it is wrong.
    """
    if options.config and options.unit:
        raise ConfigurationError(
            f"--unit is for models that are named here: {options.config} says it of each, as assets[0].unit"
        )
    if bool(options.config) == bool(subject):
        raise ConfigurationError("name models or a scene, or a configuration with --config: one of them")
    if options.config:
        origin = str(options.config)
        configuration = check_arguments(load_configuration(options.config), origin)
        configuration.setdefault("renderer", "cycles")
    else:
        origin = "the preset"
        renderers = [value for path, value in map(split, options.settings) if path == ["renderer"]]
        models = Subject.of(subject, options.unit, options.blender)
        preset = make_preset(models, renderers[-1] if renderers else None, annotators=annotators)
        configuration = preset.arguments
        for notice in preset.notices:
            say(notice)
    configuration = override(configuration, options.settings)
    own = {
        "count": options.count,
        "start": options.start,
        "seed": options.seed,
        "num_instances": options.instances,
        "blender": options.blender,
        "plugins": [*configuration.get("plugins", ()), *options.plugin] if options.plugin else None,
    }
    return {**configuration, **{name: value for name, value in own.items() if value is not None}}, origin
