"""Who records: locks that the kernel takes away with the process that has them."""

import contextlib
import errno
import fcntl
import os
import weakref
from pathlib import Path

from blendtorch.core.errors import RecordingError


def lock(fd: int, wait: bool = False) -> bool:
    """Lock a file for one writer; False where it has one already. On a file system without locks everybody has one."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def unlock_and_close(fd: int, owner: int) -> None:
    """End the lock, though forked processes still have the descriptor."""
    if os.getpid() == owner:
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def is_written(fd: int) -> bool:
    """Whether some process still writes a file."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


class PrefixLock:
    """Keeps other recorders off a prefix as long as this object lives; `{prefix}.lock`, which goes with it.

    Raises
    ------
    RecordingError
        If somebody else records to it, or the folder cannot be written to.
    """

    def __init__(self, prefix: str | os.PathLike[str]) -> None:
        path = Path(f"{os.fspath(prefix)}.lock")
        while True:
            try:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except OSError as error:
                raise RecordingError(f"cannot record to {os.fspath(prefix)}: {error.strerror} ({path})") from None
            if not lock(fd):
                os.close(fd)
                raise RecordingError(
                    f"another dataset records to {os.fspath(prefix)} just now: give this one a prefix of its own"
                )
            if _is_at(fd, path):
                break
            os.close(fd)  # its owner removed it meanwhile
        self._finalizer = weakref.finalize(self, _remove, fd, path, os.getpid())

    def release(self) -> None:
        """Let others record to the prefix."""
        self._finalizer()


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _remove(fd: int, path: Path, owner: int) -> None:
    if os.getpid() == owner and _is_at(fd, path):
        path.unlink(missing_ok=True)
    unlock_and_close(fd, owner)
