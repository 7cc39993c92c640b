"""`blendtorch export`: from a recording to the format of another tool."""

import argparse

import msgspec
from blendtorch.btt.command.blenders import say
from blendtorch.btt.command.format_arguments import add_format_arguments
from blendtorch.btt.configuration import parse_yaml
from blendtorch.btt.exporting.plan import ExportPlan, make_export
from blendtorch.btt.exporting.run import ExportSummary, export
from blendtorch.btt.generation.format import parse_split
from blendtorch.core.errors import BlendtorchError, ConfigurationError

SUMMARY = "write the samples of a recording in the format of another tool"
DESCRIPTION = """\
Write the samples of a recording into a folder, in the format of another tool. Nothing is rendered, and no Blender is needed.

    blendtorch export data --format coco -o coco                              data: the folder of a recording
    blendtorch export runs/night --format images -o images                    runs/night: its prefix, as it was given to record
    blendtorch export data --format yolo --split train=0.9,val=0.1 -o yolo    by episodes: nothing leaks
    blendtorch export data --format '{name: coco, min_visibility: 0.2}' -o x  with options of the writer

`blendtorch plugins` lists the writers. The same command again goes on where it stopped: samples that are whole stay, and the
others are written. A folder that has samples of something else is refused. Samples that were recorded twice are written once.

What the folder has beside the samples: recording.json, which says what was exported; versions.json, and configuration.yaml
where `blendtorch generate` has recorded.

exit codes:
  0    all samples of the recording are there
  1    it failed on the way; what was written is whole, and the same command goes on
  2    wrong arguments, no such recording, or no room on the disk: nothing was written
  130  interrupted by Ctrl-C, 143 by SIGTERM: what was written is whole, and the same command goes on
"""
_WRONG = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument("recording", metavar="RECORDING", help="its prefix, its folder, or one of its files")
    parser.add_argument("-o", "--output", metavar="FOLDER", required=True, help="where to; made if it is not there")
    add_format_arguments(parser)
    parser.add_argument("--workers", metavar="N", type=int, help="processes that write (default: by the number of CPUs)")
    parser.add_argument(
        "--skip-damaged", action="store_true", help="leave out samples that are damaged (default: stop at the first)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="remove what blendtorch has written into the folder, and begin anew"
    )
    parser.add_argument(
        "--plugin", metavar="FILE", action="append", default=[], help="a Python file with plug-ins; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print a summary as JSON in the end; all else goes to stderr")


def run(options: argparse.Namespace) -> int:
    """Check, then write samples."""
    try:
        plan = _plan(options)
    except BlendtorchError as error:
        say(f"blendtorch export: {error}")
        return _WRONG
    say(_first_line(plan))
    try:
        summary = export(plan)
    except BlendtorchError as error:
        raise type(error)(f"{error}\nWhat was written is whole: once this is mended, the same command goes on.") from error
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(summary)).decode())
    for notice in summary.notices:
        say(notice)
    say(_last_line(summary))
    return summary.exit_code


def _plan(options: argparse.Namespace) -> ExportPlan:
    if options.workers is not None and options.workers < 0:
        raise ConfigurationError(f"--workers is {options.workers}: expected 0 or more")
    return make_export(
        options.recording,
        options.output,
        parse_yaml(options.format, "--format"),
        plugins=options.plugin,
        workers=options.workers,
        overwrite=options.overwrite,
        split=None if options.split is None else parse_split(options.split),
        loose=options.loose,
        skip_damaged=options.skip_damaged,
    )


def _first_line(plan: ExportPlan) -> str:
    there = f", {len(plan.written)} of them are there already" if plan.written else ""
    line = f"{len(plan.source.places)} samples of {plan.source.path} into {plan.folder.path}{there}; as {plan.format.cls.name}"
    return "\n".join([line, *plan.notices])


def _last_line(summary: ExportSummary) -> str:
    if summary.exit_code == 0 and not summary.made and not summary.damaged:
        return f"All {summary.wanted} samples are there already, in {summary.folder}: nothing to do"
    text = f"{summary.written} of {summary.wanted} samples are in {summary.folder}"
    if summary.made:
        text += f"; {summary.made} written" + (f", {summary.samples_per_s:.3g} samples/s" if summary.samples_per_s else "")
    if summary.exit_code:
        text += ". Run the same command again to write the rest"
    return text
