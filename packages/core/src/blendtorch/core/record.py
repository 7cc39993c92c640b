"""Which messages of a publisher were delivered: one byte for each in a file that the processes of a machine share.

A consumer claims a message just before it hands it to its user. An instance that was started again plays the same messages
with the same sequence numbers, and leaves out those.
"""

import fcntl
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from blendtorch.core.errors import BlendtorchError

MAX_SEQUENCE = 2**40
_BLOCK_BYTES = 1 << 16

# The kernel's locks exclude processes, not the threads of one. Held over a fork, for the child to find it free.
_threads = threading.Lock()
os.register_at_fork(before=_threads.acquire, after_in_parent=_threads.release, after_in_child=_threads.release)


class DeliveryRecord:
    """The record of one publisher; any process may open it, and it may be sent to workers.

    Parameters
    ----------
    path : Path
        Of the file; whoever comes first makes it, for its user alone (0600).

    Raises
    ------
    BlendtorchError
        If it cannot be made or opened: the launch has ended, for example.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     record = DeliveryRecord(pathlib.Path(folder) / "record")
    ...     print(record.claim(0), record.claim(0), record.claim(2))
    ...     print(record.delivered(1), record.first_undelivered(), record.count())
    True False True
    False 1 2
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise BlendtorchError(
                f"cannot open the record of what was delivered, {path}: {error.strerror}. Has its launch ended?"
            ) from None
        self._prefix = 0  # everything before was delivered: nothing is ever taken back
        weakref.finalize(self, os.close, self._fd)

    def claim(self, sequence: int) -> bool:
        """Note that a message is delivered; True for the first caller only, in whatever process or thread.

        Raises
        ------
        BlendtorchError
            If it cannot be noted: the disk is full. Nothing is claimed then, and the message may be claimed later.
        """
        with self._locked(sequence):
            if self.delivered(sequence):
                return False
            try:
                os.pwrite(self._fd, b"\1", sequence)
            except OSError as error:
                raise BlendtorchError(
                    f"cannot note in {self.path} that a message is delivered: {error.strerror}. "
                    "Make room there, or let TMPDIR name a folder that has room"
                ) from None
            return True

    def delivered(self, sequence: int) -> bool:
        """Whether a message was claimed."""
        return os.pread(self._fd, 1, _checked(sequence)) == b"\1"

    def first_undelivered(self) -> int:
        """Find the first message that was not claimed."""
        while block := os.pread(self._fd, _BLOCK_BYTES, self._prefix):
            gap = block.find(b"\0")
            self._prefix += len(block) if gap < 0 else gap
            if gap >= 0:
                break
        return self._prefix

    def count(self) -> int:
        """Count the messages that were claimed."""
        total = position = self.first_undelivered()
        while (position := self._next_data(position)) >= 0:
            block = os.pread(self._fd, _BLOCK_BYTES, position)
            total += block.count(b"\1")
            position += len(block)
        return total

    def _next_data(self, position: int) -> int:
        """Find where the file goes on behind a hole, -1 for nowhere: a number that a liar sends may lie far out."""
        try:
            return os.lseek(self._fd, position, os.SEEK_DATA)
        except OSError:  # ENXIO: the end of the file
            return -1

    @contextmanager
    def _locked(self, sequence: int) -> Iterator[None]:
        _checked(sequence)
        with _threads:
            fcntl.lockf(self._fd, fcntl.LOCK_EX, 1, sequence)  # the kernel unlocks for a process that is killed
            try:
                yield
            finally:
                fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, sequence)

    def __reduce__(self) -> Any:
        return type(self), (self.path,)


def _checked(sequence: int) -> int:
    if not 0 <= sequence < MAX_SEQUENCE:
        raise BlendtorchError(f"sequence number {sequence}: expected 0 to {MAX_SEQUENCE - 1}")
    return sequence
