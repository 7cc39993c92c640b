"""Names of the files of recordings, and finding them.

`{prefix}_{worker:02d}.arrows`, and for what the same worker records further `{prefix}_{worker:02d}-{part:03d}.arrows`.
"""

import difflib
import itertools
import os
import re
from collections.abc import Iterable
from pathlib import Path

from blendtorch.core.errors import RecordingError

SUFFIX = ".arrows"
_NAME = re.compile(r"(.+)_(\d{2,})(?:-(\d{3,}))?\.arrows", re.ASCII | re.DOTALL)


def name_of(prefix: str | os.PathLike[str], worker: int, part: int = 0) -> Path:
    """Name a file."""
    return Path(f"{os.fspath(prefix)}_{worker:02d}{f'-{part:03d}' if part else ''}{SUFFIX}")


def create(prefix: str | os.PathLike[str], worker: int) -> tuple[Path, int]:
    """Create the next file of a worker; whoever creates a name has it.

    Returns
    -------
    path : Path
    fd : int
        Open for reading and writing.
    """
    return create_beside(name_of(prefix, worker))


def create_beside(first: Path) -> tuple[Path, int]:
    """Create a file, or where it is there already a further part of it."""
    for part in itertools.count():
        path = first if part == 0 else first.with_name(f"{first.stem}-{part:03d}{SUFFIX}")
        try:
            return create_new(path)
        except FileExistsError:
            continue
    raise AssertionError


def create_new(path: Path) -> tuple[Path, int]:
    """Create this file and no other.

    Raises
    ------
    FileExistsError
    """
    return path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)


def worker_of(path: Path) -> int:
    """Read the number of the worker out of a name; 0 where there is none."""
    match = _NAME.fullmatch(path.name)
    return int(match[2]) if match else 0


def files_of(prefix: str | os.PathLike[str]) -> list[Path]:
    """List the files of a prefix, by worker and part."""
    folder, stem = _split(prefix)
    return _sorted(path for path, found in _recordings_in(folder) if found == stem)


def find(place: str | os.PathLike[str]) -> list[Path]:
    """Find the files of a prefix, of a folder, or the one file.

    Raises
    ------
    RecordingError
        If there are none; says what is near.
    """
    path = Path(place)
    if path.is_dir() and not files_of(place):
        if files := _sorted(path.glob(f"*{SUFFIX}")):
            return files
        raise RecordingError(f"the folder {path} has no recording{_old_files(path)}: expected files *{SUFFIX}")
    if path.is_file():
        if path.suffix == ".btr":
            raise RecordingError(_refusal_of_old(path))
        return [path]
    if files := files_of(place):
        return files
    folder, stem = _split(place)
    if old := sorted(folder.glob(f"{_escaped(stem)}_*.btr")):
        raise RecordingError(_refusal_of_old(old[0]))
    if not folder.is_dir():
        raise RecordingError(f"there is no recording {os.fspath(place)}: the folder {folder} does not exist")
    prefixes = sorted({found for _, found in _recordings_in(folder)})
    near = difflib.get_close_matches(stem, prefixes, 3, 0.5) or prefixes[:5]
    hint = f"; {folder} has {', '.join(map(repr, near))}" if near else f", nor any other in {folder}"
    raise RecordingError(f"there is no recording with the prefix {stem!r}{hint}")


def _split(prefix: str | os.PathLike[str]) -> tuple[Path, str]:
    folder, stem = os.path.split(os.fspath(prefix))
    return Path(folder), stem


def _recordings_in(folder: Path) -> list[tuple[Path, str]]:
    """List the files whose names are ours, each with its prefix."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - there may be many
    except OSError:
        return []
    return [(folder / name, match[1]) for name in names if (match := _NAME.fullmatch(name))]


def _sorted(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=_order)


def _order(path: Path) -> tuple[str, int, int]:
    match = _NAME.fullmatch(path.name)
    if match is None:
        return path.name, 0, 0
    return match[1], int(match[2]), int(match[3] or 0)


def _escaped(stem: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", stem)


def _old_files(folder: Path) -> str:
    old = sorted(folder.glob("*.btr"))
    return f"; {_refusal_of_old(old[0])}" if old else ""


def _refusal_of_old(path: Path) -> str:
    return (
        f"{path} was recorded by blendtorch 0.4 as pickles, which may execute anything when they are read: "
        "it is not opened. Record again"
    )
