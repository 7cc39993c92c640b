"""`blendtorch audit`: whether a data set is what its folder says."""

import argparse
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from blendtorch.btt.auditing.audit import audit
from blendtorch.btt.auditing.data import DataSet
from blendtorch.btt.auditing.rendering import RenderAgain
from blendtorch.btt.auditing.sheet import draw_sheet
from blendtorch.btt.auditing.table import show
from blendtorch.btt.command.blenders import absolute
from blendtorch.btt.cpus import allowed_cpus
from blendtorch.core.errors import BlendtorchError, ConfigurationError
from rich.console import Console
from rich.progress import Progress

SUMMARY = "look at a data set, and render some of it again"
DESCRIPTION = """\
Look at all samples of a folder that generate or export has made, and render some of them again from their seeds.

    blendtorch audit data                        8 samples again, spread over the data
    blendtorch audit data --samples 50 --seed 1  50, and others
    blendtorch audit data --samples 0            look only: no Blender, no rendering

Samples are read from the files that trainers read. A sample that is rendered again goes through the same format before it is
compared: what the format rounds makes no difference, and boxes and masks are to be the same. What the format itself loses is
told beside it. audit.png, in the folder or where -o says, shows the pictures with both labels, the worst first.

What is found: labels that are not those of the picture (boxes, masks, classes, keypoints, poses, objects that are missing or
too many); pictures that the same versions render otherwise; boxes outside of the picture, without area or apart from their
masks; categories that nobody has named; samples that cannot be read; the same picture, or pictures of one episode, in two
splits. And what may be meant so: pictures that are there twice or nearly, that are black, of one colour or half white; classes
that are rare; how many objects are tiny, truncated or hidden. Models, scenes and versions that are others than when the samples
were made are named.

exit codes:
  0  the labels agree, and nothing is wrong
  1  they do not, or something cannot be right: listed, with the sample and the object; or it failed on the way
  2  wrong arguments, or a folder that cannot be audited
"""
_WRONG = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument("folder", metavar="FOLDER", help="of blendtorch generate or export")
    parser.add_argument("--samples", metavar="N", type=int, default=8, help="how many are rendered again (default: 8)")
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0, help="which ones: another number chooses others (default: 0)"
    )
    parser.add_argument(
        "--min-iou",
        metavar="IOU",
        type=float,
        default=1.0,
        help="of boxes and masks that agree (default: 1; 0.98 where another GPU or Blender renders)",
    )
    parser.add_argument(
        "--blender",
        metavar="PATH",
        help="which Blender renders (default: one of the version that made the samples, if it is here)",
    )
    parser.add_argument(
        "--plugin",
        metavar="FILE",
        action="append",
        default=[],
        help="a Python file with plug-ins, which is run; what the folder itself names is not; may be repeated",
    )
    parser.add_argument(
        "--enable-autoexec", action="store_true", help="run the scripts inside the .blend, where the samples were made so"
    )
    parser.add_argument("--workers", metavar="N", type=int, help="processes that read (default: by the number of CPUs)")
    parser.add_argument("-o", "--output", metavar="FILE", help="the picture (default: audit.png in the folder)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON; all else goes to stderr")


def run(options: argparse.Namespace) -> int:
    """Look, render, compare, and tell."""
    try:
        _check(options)
        data = DataSet(options.folder, absolute(options.plugin), options.enable_autoexec)
        if options.samples:
            data.require_configuration()
        indexes = data.indexes
    except BlendtorchError as error:
        _say(f"blendtorch audit: {error}")
        return _WRONG
    for text in data.changed_files if options.samples else ():
        _say(f"Not as it was when the samples were made: {text}")
    workers = min(allowed_cpus(), len(indexes) // 16) if options.workers is None else options.workers
    try:
        with _Watch() as watch:
            audited = audit(data, RenderAgain(options.blender), options.samples, options.seed, options.min_iou, workers, watch)
    finally:
        data.close()
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(audited.report)).decode())
    show(audited.report, Console(stderr=options.json, highlight=False, soft_wrap=True))
    picture = Path(options.output or data.folder.audit).expanduser()
    try:
        draw_sheet(audited).savefig(picture)
    except (OSError, ValueError) as error:  # ValueError: a format that matplotlib does not know
        raise ConfigurationError(f"cannot write {picture}: {error}: name another file with -o") from None
    _say(f"The sheet is {picture}")
    return audited.report.exit_code


def _check(options: argparse.Namespace) -> None:
    if options.samples < 0:
        raise ConfigurationError(f"--samples {options.samples}: expected 0 or more")
    if options.workers is not None and options.workers < 0:
        raise ConfigurationError(f"--workers {options.workers}: expected 0 or more")
    if not 0 <= options.min_iou <= 1 or math.isnan(options.min_iou):
        raise ConfigurationError(f"--min-iou {options.min_iou}: expected 0 to 1")


class _Watch(Progress):
    """Shows how far it is, on a terminal."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        super().__init__(console=console, disable=not console.is_terminal, transient=True)

    def __call__(self, each: Iterable[Any], what: str, total: int) -> Iterator[Any]:
        return iter(self.track(each, total=total, description=what))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
