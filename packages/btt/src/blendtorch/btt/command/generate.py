"""`blendtorch generate`: from models, a scene or a configuration to a data set on disk."""

import argparse
import sys
from typing import Any

import msgspec
from blendtorch.btt.command.format_arguments import add_format_arguments
from blendtorch.btt.command.run_arguments import add_run_arguments, read_run
from blendtorch.btt.configuration import parse_yaml
from blendtorch.btt.generation.format import find_format, parse_split
from blendtorch.btt.generation.plan import Plan, make_plan
from blendtorch.btt.generation.preview import preview
from blendtorch.btt.generation.run import Summary, generate
from blendtorch.core.discovery import Catalogue
from blendtorch.core.errors import BlendtorchError, ConfigurationError

SUMMARY = "render and label samples of your models or of a scene, into a folder"
DESCRIPTION = """\
Render and label samples, and write them into a folder.

    blendtorch generate bracket.glb --preview 16 -o data      look first: 16 samples, every label drawn, in data/preview.png
    blendtorch generate bracket.glb --count 1000 -o data      make 1000 samples of your model, by a preset that fits its size
    blendtorch generate scene.blend --count 1000 -o data      the same of a scene that you have
    blendtorch generate --config run.yaml -o data             by a configuration: `blendtorch init` writes one to start from

The same command again goes on where it stopped: samples that are whole stay, the others are made, and they are the same as
if nothing had happened. A folder that has samples of another configuration is refused.

    --set resolution=[1280,720] --set renderer.samples=64     change single values: a path, and YAML
    --set randomizers.camera_shell.distance=0.5               entries of lists by what they are called, or by their place: [0]

Job arrays of a cluster, all into one folder or each into its own; the samples are the same as those of one run:

    blendtorch generate --config run.yaml --start $((SLURM_ARRAY_TASK_ID*1000)) --count 1000 -o data

In the format of another tool, divided by episodes so that nothing leaks from one part to another; `blendtorch plugins` lists
the writers. What is made with --format recording can be exported to any of them later: `blendtorch export`.

    blendtorch generate --config run.yaml --format coco --split train=0.9,val=0.1 -o data
    blendtorch generate --config run.yaml --format '{name: coco, min_visibility: 0.2}' -o data

What the folder has beside the samples: configuration.yaml, which makes them again, and versions.json.

exit codes:
  0    all samples of this run are there
  1    it failed on the way; what was written is whole, and the same command goes on
  2    wrong arguments or configuration, or no room on the disk: nothing was started, and nothing was written
  130  interrupted by Ctrl-C, 143 by SIGTERM: what was written is whole, and the same command goes on
"""
_WRONG = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument(
        "subject", metavar="MODEL|SCENE", nargs="*", help="models (.glb, .obj, .stl ...), folders of them, or a .blend"
    )
    add_run_arguments(parser)
    parser.add_argument(
        "-o", "--output", metavar="FOLDER", help="where to; made if it is not there (needed, but for --preview)"
    )
    parser.add_argument("--count", metavar="N", type=int, help="how many samples (default: the configuration's, or 100)")
    parser.add_argument(
        "--preview",
        metavar="N",
        type=int,
        nargs="?",
        const=16,
        help="draw N samples with all labels on one sheet, and end (16)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="remove what blendtorch has written into the folder, and begin anew"
    )
    add_format_arguments(parser, default="images")
    parser.add_argument("--workers", metavar="N", type=int, help="processes that write (default: by the number of CPUs)")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON in the end; all else goes to stderr")


def run(options: argparse.Namespace) -> int:
    """Check, then look or make samples."""
    try:
        written_as = parse_yaml(options.format, "--format")
        wanted = find_format(written_as, Catalogue(options.plugin)).cls.annotators if options.subject else ()
        configuration, origin = read_run(options, options.subject, wanted)
        if options.preview is not None:
            return _preview(options, configuration, origin)
        if not options.output:
            raise ConfigurationError("say where to write, with -o FOLDER; or look first, with --preview")
        if options.workers is not None and options.workers < 0:
            raise ConfigurationError(f"--workers is {options.workers}: expected 0 or more")
        split = None if options.split is None else parse_split(options.split)
        plan = make_plan(
            configuration, origin, options.output, written_as, options.workers, options.overwrite, split, options.loose
        )
    except BlendtorchError as error:
        _say(f"blendtorch generate: {error}")
        return _WRONG
    _say(_first_line(plan))
    try:
        summary = generate(plan)
    except BlendtorchError as error:
        raise type(error)(
            f"{_plain(error)}\nWhat was written is whole: once this is mended, the same command goes on."
        ) from error
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(summary)).decode())
    for notice in summary.notices:
        _say(notice)
    _say(_last_line(summary))
    return summary.exit_code


def _preview(options: argparse.Namespace, configuration: dict[str, Any], origin: str) -> int:
    path, notice = preview(configuration, origin, options.output, options.preview)
    if notice:
        _say(notice)
    if options.json:
        print(msgspec.json.encode({"preview": str(path)}).decode())
    _say(f"The sheet is {path}")
    return 0


def _first_line(plan: Plan) -> str:
    count, first = plan.arguments["count"], plan.indexes.start
    there = f", {len(plan.written)} of them are there already" if plan.written else ""
    renderers = " and ".join(_described(part.label, part.plugin.options) for part in plan.composition.renderers)
    lines = [f"{count} samples ({first} to {first + count - 1}) into {plan.folder.path}{there}; rendered by {renderers}"]
    return "\n".join([*lines, *plan.notices])


def _described(label: str, options: Any) -> str:
    values = msgspec.to_builtins(options)
    shown = [f"{name} {values[name]}" for name in ("samples", "denoiser", "device") if name in values]
    return f"{label} ({', '.join(shown)})" if shown else label


def _last_line(summary: Summary) -> str:
    if summary.exit_code == 0 and not summary.made:
        return f"All {summary.wanted} samples are there already, in {summary.folder}: nothing to do"
    text = f"{summary.written} of {summary.wanted} samples are in {summary.folder}"
    if summary.made:
        rate = f"{summary.images_per_s:.3g} images/s " if summary.images_per_s else ""
        text += f"; {summary.made} made, {rate}on {', '.join(summary.devices) or 'an unknown device'}"
    if summary.missing:
        text += ". Run the same command again to make the rest"
    return text


def _plain(error: BlendtorchError) -> str:
    """Take off what PyTorch has put around an error of a worker."""
    text, name = str(error), f"{type(error).__module__}.{type(error).__qualname__}: "
    return text.rpartition(name)[2] if text.startswith("Caught ") and name in text else text


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
