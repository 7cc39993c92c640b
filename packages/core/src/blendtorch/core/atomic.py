"""Files that are there whole or not at all, whatever becomes of who writes them."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_T = TypeVar("_T")


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that readers never see half of it.

    A process that is killed meanwhile leaves what was there before, and a draft whose name ends in `.part`.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")  # several processes may write one at the same time
    draft.write_bytes(content)
    draft.replace(path)


def whole(path: Path, write: Callable[[Path], _T]) -> _T:
    """Write a large file so that readers never see half of it, and that it is on the disk before it has its name.

    Parameters
    ----------
    path : Path
    write : callable
        `write(path)` writes it, under another name.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        result = write(draft)
        with draft.open("rb+") as file:
            os.fsync(file.fileno())  # what it was made of will be removed
    except Exception:
        draft.unlink(missing_ok=True)  # the disk may be full
        raise
    draft.replace(path)
    return result


def remove_drafts(folder: Path, name: re.Pattern[str], which: Callable[[re.Match[str]], bool] = bool) -> None:
    """Remove what killed processes left half-written of files of these names."""
    for path in folder.glob("*.part"):
        named, _, number = path.name.removesuffix(".part").rpartition(".")
        if number.isdecimal() and (found := name.fullmatch(named)) and which(found):
            path.unlink(missing_ok=True)
