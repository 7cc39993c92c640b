"""`blendtorch verify`: read all of a recording, or of a folder of samples."""

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
from blendtorch.btt.command.blenders import say
from blendtorch.btt.exporting.contents import data_folder, near, verify_folder
from blendtorch.btt.generation.folder import DataFolder
from blendtorch.btt.generation.progress import Count, progress
from blendtorch.btt.recording import files
from blendtorch.btt.recording.description import verify
from blendtorch.btt.recording.reader import FileReader
from blendtorch.core.errors import BlendtorchError, ConfigurationError, RecordingError

SUMMARY = "read all of a recording or of a folder of samples, and list what is damaged"
DESCRIPTION = """\
Read all of a recording, and compare every message with its checksum; or read every sample of a folder back that `blendtorch
generate` or `blendtorch export` has written, where its writer can read.

    blendtorch verify runs/night      a recording, by its prefix, its folder or a file
    blendtorch verify data            a folder of samples
    blendtorch verify data --json     for scripts

What is damaged in a recording costs nothing else: `blendtorch export --skip-damaged` writes the rest.

exit codes:
  0    all of it is whole
  1    something is damaged, and is listed
  2    wrong arguments, there is nothing of the kind, or its writer cannot read
  130  interrupted by Ctrl-C, 143 by SIGTERM
"""
_WRONG = 2


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints.

    Attributes
    ----------
    path : str
    checked : int
        Messages, or samples.
    what : str
        Which of them.
    problems : tuple of str
        Sentences.
    """

    path: str
    checked: int
    what: str
    problems: tuple[str, ...]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument("path", metavar="PATH", help="a folder, the prefix of a recording, or one of its files")
    parser.add_argument(
        "--workers", metavar="N", type=int, help="processes that read a folder (default: by the number of CPUs)"
    )
    parser.add_argument(
        "--plugin",
        metavar="FILE",
        action="append",
        default=[],
        help="a Python file with plug-ins, which is run; what the folder itself names is not; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts; progress goes to stderr")


def run(options: argparse.Namespace) -> int:
    """Read all, and print what is damaged."""
    try:
        if options.workers is not None and options.workers < 0:
            raise ConfigurationError(f"--workers is {options.workers}: expected 0 or more")
        verdict = check(options.path, options.plugin, options.workers)
    except BlendtorchError as error:
        say(f"blendtorch verify: {error}")
        return _WRONG
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(verdict)).decode())
    else:
        print("\n".join(verdict.problems), end="\n" if verdict.problems else "")
    whole = "all of them are whole" if not verdict.problems else f"{len(verdict.problems)} problems"
    say(f"{verdict.checked} {verdict.what} of {options.path} were read: {whole}")
    return 1 if verdict.problems else 0


def check(path: str, plugins: Sequence[str], workers: int | None) -> Verdict:
    """Read what is there.

    Raises
    ------
    BlendtorchError
        If there is nothing to read; says what is near.
    """
    with ExitStack() as stack:

        def begin(total: int, what: str) -> Callable[[], Any]:
            counter = Count(total, 0, what)
            stack.enter_context(progress(counter))
            return counter.count

        folder = data_folder(path)
        if folder is not None and _format_of(folder) != "recording":
            checked, unreadable = verify_folder(folder, plugins, workers, lambda total: begin(total, "samples"))
            return Verdict(path=path, checked=checked, what="samples", problems=tuple(each.reason for each in unreadable))
        place = Path(path).expanduser()
        try:
            total = _messages(place)
        except RecordingError as error:
            raise RecordingError(f"{error}{near(path)}") from None
        problems = verify(place, begin(total, "messages"))
        return Verdict(path=path, checked=total, what="messages", problems=tuple(each.reason for each in problems))


def _messages(place: Path) -> int:
    count = 0
    for file in files.find(place):
        try:
            reader = FileReader(file, warn=False)
        except BlendtorchError:  # `verify` lists it
            continue
        count += len(reader)
        reader.close()
    return count


def _format_of(folder: DataFolder) -> str:
    return str(next((each.writer.get("name") for each in folder.read_versions()), ""))
