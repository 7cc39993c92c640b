"""`blendtorch info`: what is in a recording, or in a folder of samples."""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from blendtorch.btt.command.blenders import say
from blendtorch.btt.command.text import columns, fields
from blendtorch.btt.exporting.contents import FolderInfo, data_folder, describe_folder, near
from blendtorch.btt.generation.estimate import in_units
from blendtorch.btt.generation.progress import duration
from blendtorch.btt.generation.versions import categories_in
from blendtorch.btt.recording import FileDataset
from blendtorch.btt.recording.description import FileInfo, RecordingInfo, describe
from blendtorch.core.errors import BlendtorchError, RecordingError

SUMMARY = "say what is in a recording, or in a folder of samples"
DESCRIPTION = """\
Say what is in a recording, or in a folder that `blendtorch generate` or `blendtorch export` has written.

    blendtorch info data            a folder: what made its samples, how many there are, how many are missing
    blendtorch info runs/night      a recording, by its prefix: its files, its fields, rates, whether a file was cut
    blendtorch info runs/night_00.arrows
    blendtorch info data --json     for scripts

Samples are not read, but for the first of a recording: `blendtorch verify` reads all.

exit codes:
  0  told
  2  wrong arguments, there is nothing of the kind, or it cannot be opened
"""
_WRONG = 2
_CUT = "cut: who recorded was killed or had no room; its {cut} bytes behind the last whole message are not read"
_GAPS = "damaged at {gaps} places between its messages, which are left out"


class Info(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints; a folder of samples may hold a recording.

    Attributes
    ----------
    folder : FolderInfo or None
    recording : RecordingInfo or None
    """

    folder: FolderInfo | None
    recording: RecordingInfo | None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this subcommand."""
    parser.add_argument("path", metavar="PATH", help="a folder, the prefix of a recording, or one of its files")
    parser.add_argument(
        "--plugin",
        metavar="FILE",
        action="append",
        default=[],
        help="a Python file with plug-ins, which is run; what the folder itself names is not; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def run(options: argparse.Namespace) -> int:
    """Look, and print it."""
    try:
        info = look(options.path, options.plugin)
    except BlendtorchError as error:
        say(f"blendtorch info: {error}")
        return _WRONG
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(info)).decode())
    else:
        print("\n".join([*_of_folder(info.folder), *_of_recording(info.recording, options.path)]))
    return 0


def look(path: str, plugins: Sequence[str]) -> Info:
    """Find out what is there.

    Raises
    ------
    RecordingError
        If there is neither; says what is near.
    """
    folder = data_folder(path)
    described = None if folder is None else describe_folder(folder, plugins)
    if described is not None and described.format.get("name") != "recording":
        return Info(folder=described, recording=None)
    try:
        return Info(folder=described, recording=_recording(Path(path).expanduser()))
    except RecordingError as error:
        if described is not None and not described.written:
            return Info(folder=described, recording=None)
        raise RecordingError(f"{error}{near(path)}") from None


def _recording(path: Path) -> RecordingInfo:
    info = describe(path)
    if info.categories is not None or not any(field.name == "meta.legend" for field in info.fields):
        return info
    try:  # samples of a run of plug-ins name the categories themselves
        categories = categories_in(str(FileDataset(path, warn=False)[0]["meta"]["legend"]))
    except BlendtorchError:  # damaged
        return info
    return msgspec.structs.replace(info, categories=categories)


def _of_folder(info: FolderInfo | None) -> Iterator[str]:
    if info is None:
        return
    yield info.folder
    options = {name: value for name, value in info.format.items() if name != "name"}
    told = ", ".join(f"{name} {_short(value)}" for name, value in options.items())
    written = str(info.written) + _range(info.first_index, info.last_index)
    if info.wanted is not None:
        written += f", {info.missing} of {info.wanted} of its configuration are missing" if info.missing else ", all of them"
    pairs = [("format", f"{info.format.get('name')}" + (f" ({told})" if told else "")), ("samples", written)]
    if info.recording is not None:
        pairs.append(("exported from", info.recording.recording))
    pairs.append(("categories", _categories(info.categories)))
    for number, versions in enumerate(info.versions):
        pairs.append(("made by" if not number else "and by", _versions(versions.blender) or "not known yet"))
        pairs.append(("written by", _versions(versions.trainer)))
    yield from fields(pairs)


def _of_recording(info: RecordingInfo | None, path: str) -> Iterator[str]:
    if info is None:
        return
    yield f"Recording {path}"
    messages = str(info.messages) + _range(info.first_index, info.last_index)
    messages += f", {info.missing} between them are missing" if info.missing else ""
    pairs = [("messages", messages), ("size", f"{in_units(info.bytes)} in {len(info.files)} files")]
    if info.begin_ns is not None:
        recorded = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(info.begin_ns / 1e9))} UTC, in {duration(info.seconds)}"
        if info.messages_per_s and info.bytes_per_s:
            recorded += f": {info.messages_per_s:.3g} messages/s, {in_units(info.bytes_per_s)}/s"
        pairs.append(("recorded", recorded))
    pairs.append(("instances", ", ".join(f"{count} messages of {btid}" for btid, count in info.btids.items()) or "none"))
    pairs.append(("categories", _categories(info.categories or {})))
    pairs.append(("versions", "recorded by blendtorch " + ", ".join(info.versions)))
    yield from fields(pairs)
    yield ""
    yield from _table([("file", "messages", "size", "worker", "state"), *map(_file, info.files)])
    if any(file.cut for file in info.files):
        yield "  What is cut lacks nothing that was recorded whole: it can be replayed and exported as it is."
    if any(file.gaps for file in info.files):
        yield f"  What is damaged is listed by: blendtorch verify {path}"
    yield ""
    rows = [
        (field.name, field.dtype, "" if field.shape is None else str(field.shape), "column" if field.column else "")
        for field in info.fields
    ]
    yield from _table([("field", "dtype", "shape", ""), *rows])


def _file(info: FileInfo) -> tuple[str, ...]:
    state = [_CUT.format(cut=info.cut)] if info.cut else []
    state += [_GAPS.format(gaps=info.gaps)] if info.gaps else []
    return (Path(info.path).name, str(info.messages), in_units(info.bytes), str(info.worker), "; ".join(state) or "whole")


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]) - 1)]
    yield from (f"  {columns(row, widths)}".rstrip() for row in rows)


def _range(first: int | None, last: int | None) -> str:
    return "" if first is None else f" (index {first} to {last})"


def _categories(names: dict[int, str]) -> str:
    return ", ".join(f"{number} {names[number]}" for number in sorted(names)) or "none"


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ",".join(f"{name}={each}" for name, each in value.items())
    return str(value)
