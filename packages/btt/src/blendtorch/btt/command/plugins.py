"""`blendtorch plugins`: what is installed in the trainer and in each Blender, and what is wrong with it."""

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence

import msgspec
from blendtorch.btt.command.blenders import BlenderReport, absolute, add_blender_arguments, add_json_argument, look_at
from blendtorch.btt.command.comparison import problems_of
from blendtorch.btt.command.text import columns, listing
from blendtorch.core.discovery import KINDS
from blendtorch.core.inspection import Question
from blendtorch.core.inventory import InstalledPlugin, Inventory, take_inventory

SUMMARY = "list the plug-ins of the trainer and of each Blender"
DESCRIPTION = """\
List the renderers, annotators, randomizers and writers that are installed in this Python, the trainer's, and in each Blender
that is found (without writers, which run in the trainer): their distribution, what they emit (dtype, shape, unit), and what is
wrong: a distribution that cannot be imported, two plug-ins with one name, a hook that is misspelt or takes arguments, what is
installed here and absent from a Blender.

All of them are imported for this; a run imports only what it names. BLENDTORCH_DISABLE_PLUGINS switches some off, by the
names of distributions or of plug-ins, separated by commas.

exit codes:
  0  all of them can be used
  1  something is wrong, and is listed under "Problems"
  2  wrong arguments
"""


class PluginsReport(msgspec.Struct, frozen=True, kw_only=True):
    """The report of `blendtorch plugins`, as `--json` prints it."""

    problems: tuple[str, ...]
    trainer: Inventory
    blenders: tuple[BlenderReport, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    add_blender_arguments(parser)
    parser.add_argument("--no-blender", action="store_true", help="list those of the trainer only; starts no Blender")
    parser.add_argument(
        "--verbose", action="store_true", help="with options, needs, effects and tracebacks, each Blender's in full"
    )
    add_json_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Make the report and print it."""
    files = absolute(options.plugin)
    trainer = inventory_here(files)
    asked = Question(topics=("inventory",), plugins=files)
    blenders = [] if options.no_blender else look_at(options.blender, asked)
    problems = problems_of(trainer, blenders, named=bool(options.blender))
    if options.json:
        report = PluginsReport(problems=tuple(problems), trainer=trainer, blenders=tuple(blenders))
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        print("\n".join(_lines(trainer, blenders, problems, options.verbose)))
    return 1 if problems else 0


def inventory_here(files: Sequence[str]) -> Inventory:
    """List the trainer's own plug-ins; what they print as they are imported goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr):
        return take_inventory(files)


def _lines(trainer: Inventory, blenders: list[BlenderReport], problems: list[str], verbose: bool) -> Iterator[str]:
    yield f"Trainer: Python {trainer.python} ({trainer.interpreter})"
    yield from _tables(trainer.plugins, verbose)
    yield from (f"  switched off: {source}" for source in trainer.disabled)
    for blender in blenders:
        yield ""
        if blender.inventory is None:
            yield blender.name or f"{blender.origin}: {blender.reason}"
            continue
        yield blender.name + (" (lent what it lacks)" if blender.lent else "")
        there = _for_blender(blender.inventory)
        if verbose:
            yield from _tables(there, verbose)
            continue
        known = [_shown(plugin) for plugin in _for_blender(trainer)]
        others = [plugin for plugin in there if _shown(plugin) not in known]
        if not others and len(there) == len(known):
            yield f"  the same {len(there)} plug-ins"
        else:
            yield f"  {len(there) - len(others)} as in the trainer" + (", and others:" if others else "")
            yield from _tables(others, verbose) if others else ()
    yield ""
    yield from listing("Problems", problems)
    if verbose:
        inventories = [trainer, *(blender.inventory for blender in blenders if blender.inventory is not None)]
        tracebacks = {problem.traceback for inventory in inventories for problem in inventory.problems if problem.traceback}
        yield from (f"\n{text.rstrip()}" for text in sorted(tracebacks))


def _for_blender(inventory: Inventory) -> list[InstalledPlugin]:
    return [plugin for plugin in inventory.plugins if plugin.kind != "writer"]


def _shown(plugin: InstalledPlugin) -> tuple[str, ...]:
    """Say all that a table has of a plug-in, which two may differ in."""
    return plugin.kind, plugin.name, plugin.origin, *_cells(plugin)


def _tables(plugins: Sequence[InstalledPlugin], verbose: bool) -> Iterator[str]:
    if not plugins:
        yield "  no plug-ins"
    for kind in KINDS:
        chosen = [plugin for plugin in plugins if plugin.kind == kind]
        if not chosen:
            continue
        yield f"  {kind}s (hook {chosen[0].hook})"
        widths = [max(len(plugin.name) for plugin in plugins), max(len(plugin.origin) for plugin in plugins)]
        for plugin in chosen:
            cells = list(_cells(plugin))
            yield "    " + columns([plugin.name, plugin.origin, cells[0]], widths)
            yield from ("    " + columns(["", "", cell], widths) for cell in cells[1:])
            if verbose:
                yield from (f"        {line}" for line in _details(plugin))


def _cells(plugin: InstalledPlugin) -> Iterator[str]:
    """Say what it emits, a line for each array; of a randomizer, what it changes; of a writer, what it is."""
    if plugin.kind == "randomizer":
        yield f"changes {', '.join(plugin.effects)}" if plugin.effects else "what it changes depends on its options"
    elif plugin.kind == "writer":
        yield plugin.summary
    elif plugin.emits:
        yield from (f"{name}: {spec}" for name, spec in plugin.emits.items())
    else:
        yield "what it emits depends on its options"


def _details(plugin: InstalledPlugin) -> Iterator[str]:
    yield plugin.summary
    yield f"registered by {plugin.module}"
    if plugin.kind == "renderer" and plugin.effects:
        yield f"shows {', '.join(plugin.effects)}"
    if plugin.needs:
        yield f"needs {', '.join(plugin.needs)}"
    if plugin.uses:
        yield f"uses, where the run has it: {', '.join(plugin.uses)}"
    for option in plugin.options:
        yield f"option {option.name}: {option.type}" + ("" if option.default is None else f" = {option.default}")
