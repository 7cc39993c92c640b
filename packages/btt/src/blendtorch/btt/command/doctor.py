"""`blendtorch doctor`: what this machine can do, and whether the plug-ins keep their promises in its Blenders."""

import argparse
from collections.abc import Iterator

import msgspec
from blendtorch.btt.command.blenders import BlenderReport, absolute, add_blender_arguments, add_json_argument, look_at
from blendtorch.btt.command.comparison import problems_of
from blendtorch.btt.command.machine import Machine, this_machine
from blendtorch.btt.command.plugins import inventory_here
from blendtorch.btt.command.text import fields, listing
from blendtorch.core.inspection import Capabilities, Checked, Question
from blendtorch.core.inventory import Inventory

SUMMARY = "say what this machine can do, and check the plug-ins inside each Blender"
DESCRIPTION = """\
Say what this machine can do: its CPUs, memory and system libraries, which Blenders there are and which of them a launch takes,
their engines, whether they draw on a GPU or in software, whether the passes of Cycles can be read from memory; and run
the conformance checks of every plug-in inside each Blender.

The checks render a few small frames with every renderer. In software EEVEE takes half a minute for its first: --quick
leaves the checks out. To check few plug-ins, switch the others off with BLENDTORCH_DISABLE_PLUGINS.

exit codes:
  0  all is well
  1  something is wrong, and is listed under "Problems"; a Blender that was found and cannot be used is one only where you have
     named it with --blender, or where none is left for a launch
  2  wrong arguments
"""


class DoctorReport(msgspec.Struct, frozen=True, kw_only=True):
    """The report of `blendtorch doctor`, as `--json` prints it."""

    problems: tuple[str, ...]
    machine: Machine
    trainer: Inventory
    blenders: tuple[BlenderReport, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    add_blender_arguments(parser)
    parser.add_argument("--quick", action="store_true", help="leave out the conformance checks of the plug-ins")
    add_json_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Make the report and print it."""
    files = absolute(options.plugin)
    trainer = inventory_here(files)
    machine = this_machine()
    asked = Question(topics=("inventory", "capabilities", *(() if options.quick else ("checks",))), plugins=files)
    blenders = look_at(options.blender, asked)
    problems = [*problems_of(trainer, blenders, named=bool(options.blender)), *_failures(blenders)]
    if machine.install:
        problems.insert(0, machine.install)
    if options.json:
        report = DoctorReport(problems=tuple(problems), machine=machine, trainer=trainer, blenders=tuple(blenders))
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
    else:
        print("\n".join(_lines(machine, trainer, blenders, problems, options.quick)))
    return 1 if problems else 0


def _failures(blenders: list[BlenderReport]) -> Iterator[str]:
    for blender in blenders:
        if blender.capabilities is not None and blender.capabilities.drawing_error:
            yield f"{blender.name} cannot draw: {blender.capabilities.drawing_error}"
        for checked in blender.checks:
            for outcome in checked.outcomes:
                if outcome.error:
                    yield f"{checked.kind} {checked.name}: {outcome.name}: {outcome.error}\n  in {blender.name}"


def _lines(
    machine: Machine, trainer: Inventory, blenders: list[BlenderReport], problems: list[str], quick: bool
) -> Iterator[str]:
    libraries = ", ".join(each.library for each in machine.missing_libraries)
    yield "This machine"
    yield from fields(
        [
            ("CPUs allowed", str(machine.cpus)),
            ("memory", f"{machine.memory_gib} GiB, {machine.memory_free_gib} GiB free"),
            ("system libraries", f"missing: {libraries}" if libraries else "all that Blender needs"),
            ("Python", f"{trainer.python} ({trainer.interpreter})"),
            ("torch", f"{machine.torch}, {', '.join(machine.cuda) or 'no GPU'}"),
            ("blendtorch", _versions(trainer)),
            ("plug-ins", _distributions(trainer)),
        ]
    )
    for blender in blenders:
        yield ""
        if not blender.name:
            yield f"{blender.origin}: {blender.reason}"
            continue
        yield blender.name
        yield from fields(list(_facts(blender, trainer, quick)))
    yield ""
    yield from listing("Problems", problems)


def _facts(blender: BlenderReport, trainer: Inventory, quick: bool) -> Iterator[tuple[str, str]]:
    yield "found as", blender.origin + ("; a launch takes this one" if blender.is_default else "")
    if blender.inventory is not None:
        fits = blender.inventory.packages.get("blendtorch-core") == trainer.packages.get("blendtorch-core")
        yield "blendtorch", _versions(blender.inventory) + (", as the trainer's" if fits else ", not the trainer's")
        if blender.lent:
            yield "lent", ", ".join(blender.lent)
        yield "plug-ins", _distributions(blender.inventory)
    if blender.capabilities is not None:
        yield from _abilities(blender.capabilities)
    if blender.failure:
        yield "failed", blender.failure.partition("\n")[0]
    elif quick:
        yield "checks", "left out"
    else:
        yield "checks", "\n".join(_verdict(checked) for checked in blender.checks) or "none: there are no plug-ins"


def _abilities(can: Capabilities) -> Iterator[tuple[str, str]]:
    yield "engines", ", ".join(can.engines) or "none"
    if can.drawing_error:
        yield "draws", f"nothing: {can.drawing_error}"
    else:
        yield "draws on", can.device + (", in software" if can.software else "")
        yield "Workbench", f"{can.frame_ms:.0f} ms for a frame of 320x240"
    if "CYCLES" in can.engines:
        yield "Cycles on", ", ".join(can.cycles_devices) or "nothing"
        memory = can.cycles_memory_error
        yield "Cycles passes", f"not readable in memory: {memory}" if memory else "readable in memory"


def _verdict(checked: Checked) -> str:
    failed = [outcome.name for outcome in checked.outcomes if outcome.error]
    skipped = [outcome for outcome in checked.outcomes if outcome.skipped]
    passed = len(checked.outcomes) - len(failed) - len(skipped)
    verdict = f"FAILED {', '.join(failed)}; {passed} passed" if failed else f"{passed} passed"
    if skipped:
        reasons = dict.fromkeys(outcome.skipped for outcome in skipped)
        verdict += f", {len(skipped)} skipped ({'; '.join(reasons)})"
    return f"{checked.kind} {checked.name}: {verdict}, {checked.seconds:.1f} s"


def _versions(inventory: Inventory) -> str:
    return ", ".join(f"{name.removeprefix('blendtorch-')} {version}" for name, version in inventory.packages.items())


def _distributions(inventory: Inventory) -> str:
    found = ", ".join(f"{name} {version}" for name, version in inventory.distributions.items())
    return f"{len(inventory.plugins)}, of {found or 'files'}"
