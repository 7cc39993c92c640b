"""A few bytes that the processes of one training run share: a memory file, which has no name and leaves nothing behind."""

import fcntl
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from blendtorch.core.errors import BlendtorchError


class SharedFile:
    """A memory file that workers inherit (fork) or open through the process that sends it to them (spawn).

    The kernel takes it away with the last process that has it.

    Parameters
    ----------
    size : int
        In bytes; they are 0 at first.

    Attributes
    ----------
    size : int
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._open(os.memfd_create("blendtorch-shared"))
        os.ftruncate(self._fd, size)

    def read(self, size: int, offset: int = 0) -> bytes:
        """Read some of it."""
        return os.pread(self._fd, size, offset)

    def write(self, content: bytes, offset: int = 0) -> None:
        """Write some of it."""
        os.pwrite(self._fd, content, offset)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let no other process in meanwhile. The kernel unlocks for a process that is killed."""
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def _open(self, fd: int) -> None:
        self._fd = fd
        weakref.finalize(self, os.close, fd)

    def __getstate__(self) -> dict[str, Any]:
        return {"size": self.size, "path": f"/proc/{os.getpid()}/fd/{self._fd}"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.size = state["size"]
        try:
            self._open(os.open(state["path"], os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            raise BlendtorchError(f"the process that sent this dataset has ended, or is out of reach: {error}") from None
