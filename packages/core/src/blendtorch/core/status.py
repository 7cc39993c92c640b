"""How a publisher fares: a few numbers in a small file that the processes of a machine share."""

import mmap
import os
import time
from pathlib import Path
from typing import Self

import msgspec
from blendtorch.core.errors import BlendtorchError

# Each number is eight aligned bytes that are written at once. A reader may still find numbers of two frames side by side; each
# is right by itself, and nothing is decided on one look (see `blendtorch.btt.supervision`).
_SIZE = 7 * 8
_STARTED, _LAST_FRAME, _WAITING_SINCE = 0, 1, 2  # of the fields of `Status`, in their order


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What a publisher has done; times are nanoseconds of CLOCK_MONOTONIC, which all processes of a machine share.

    Attributes
    ----------
    started_ns : int
        When the publisher was made.
    last_frame_ns : int
        When it sent its last frame; 0 before the first.
    waiting_since_ns : int
        Since when it waits for its consumers, 0 while it does not: a publisher that waits is not hung. One that has closed
        counts as waiting.
    frames : int
        What it has sent, and those before it in the same launch.
    bytes : int
    ring_misses : int
        Frames that found no free slot in the shared memory, and travelled through the socket.
    waited_ns : int
        Time in `publish` waiting for the consumers, in total; not for the first of them to come.
    """

    started_ns: int = 0
    last_frame_ns: int = 0
    waiting_since_ns: int = 0
    frames: int = 0
    bytes: int = 0
    ring_misses: int = 0
    waited_ns: int = 0


class PublisherStatus:
    """The numbers of a publisher: made by it, opened by whoever wants to know.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     status = PublisherStatus.create(pathlib.Path(folder) / "status")
    ...     status.waiting()
    ...     status.published(1000, waited_ns=20, ring_miss=False)
    ...     seen = PublisherStatus.open(status.path).read()
    >>> seen.frames, seen.bytes, seen.waited_ns, seen.waiting_since_ns
    (1, 1000, 20, 0)
    """

    def __init__(self, path: Path, fd: int, *, writable: bool) -> None:
        self.path = path
        try:
            memory = mmap.mmap(fd, _SIZE, access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ)
        finally:
            os.close(fd)
        self._numbers = memoryview(memory).cast("q")  # the mapping goes with it

    @classmethod
    def create(cls, path: Path) -> Self:
        """Make the file, for its user alone (0600), or take it over: the counts of the publisher before go on.

        Raises
        ------
        BlendtorchError
            If it cannot be made: the disk is full, for example.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(fd, 0, _SIZE)  # or a write to the mapping would end the process on a full disk
            except OSError:
                os.close(fd)
                raise
        except OSError as error:
            raise BlendtorchError(f"cannot make {path}: {error.strerror}. Let TMPDIR name a folder that has room") from None
        status = cls(path, fd, writable=True)
        status._put(_WAITING_SINCE, 0)
        status._put(_STARTED, time.monotonic_ns())
        return status

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open the file for reading.

        Raises
        ------
        BlendtorchError
            If it is not there (yet).
        """
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if os.fstat(fd).st_size < _SIZE:  # its publisher is making it just now
                os.close(fd)
                raise FileNotFoundError(2, "it is not complete yet")
        except OSError as error:
            raise BlendtorchError(f"no publisher has made {path} yet: {error.strerror}") from None
        return cls(path, fd, writable=False)

    def read(self) -> Status:
        """Read all numbers."""
        return Status(**dict(zip(Status.__struct_fields__, self._numbers, strict=True)))

    def waiting(self) -> None:
        """Say that the publisher waits for its consumers, or has nothing more to do."""
        self._put(_WAITING_SINCE, time.monotonic_ns())

    def published(self, nbytes: int, waited_ns: int, ring_miss: bool) -> None:
        """Say that a frame was sent: how large it was, how long it waited, whether it found no slot in the ring."""
        numbers = self._numbers
        _, _, _, frames, size, misses, waited = numbers
        counts = (frames + 1, size + nbytes, misses + ring_miss, waited + waited_ns)
        # One by one: `struct.pack_into` fills its target with zeros first, which somebody might read.
        for place, number in enumerate((time.monotonic_ns(), 0, *counts), _LAST_FRAME):
            numbers[place] = number

    def _put(self, place: int, number: int) -> None:
        self._numbers[place] = number
