"""Files that are there whole or not at all, whatever becomes of who writes them."""

import fcntl
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

LOCK = ".lock"  # the file by which processes take turns in a folder; it stays, for who waits has it open
_OLD = 3600.0  # seconds: nobody writes at a file for so long without a byte
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


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let one process at a time do something in a folder; others wait, and a killed one waits for nobody.

    Parameters
    ----------
    folder : Path
        The file `LOCK` is made in it, and stays.

    Raises
    ------
    OSError
        If the folder is not there, or its file system has no locks.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with locked(Path(folder)):
    ...         print(os.listdir(folder))
    ['.lock']
    """
    with (folder / LOCK).open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_drafts(
    folder: Path, name: re.Pattern[str], which: Callable[[re.Match[str]], bool] = bool, *, all_of_them: bool = False
) -> None:
    """Remove what killed processes left half-written of files of these names.

    Other processes may be writing in the same folder: a draft goes if it has not changed for an hour.

    Parameters
    ----------
    folder : Path
    name : pattern
        Of the whole names of the files.
    which : callable
        Chooses among them.
    all_of_them : bool
        Remove young ones too: nobody else is writing.
    """
    for path in folder.glob("*.part"):
        named, _, number = path.name.removesuffix(".part").rpartition(".")
        if number.isdecimal() and (found := name.fullmatch(named)) and which(found):
            with suppress(FileNotFoundError):  # it has got its name meanwhile
                if all_of_them or time.time() - path.stat().st_mtime > _OLD:
                    path.unlink()
