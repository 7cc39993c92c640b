"""Writing one file: a schema, then a message with each row, each with one write."""

import contextlib
import fcntl
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blendtorch.btt.recording import arrow, index
from blendtorch.btt.recording.checksum import checksum
from blendtorch.btt.recording.columns import Column, fitting
from blendtorch.btt.recording.locks import unlock_and_close
from blendtorch.core.errors import RecordingError
from blendtorch.core.messages import Frame
from blendtorch.core.wire import ArrayField, Part


class PartWriter:
    """Appends messages to a new file, and to its side index.

    Parameters
    ----------
    path : Path
        Created just now by the caller.
    fd : int
        It, open; closed with this object.
    columns : mapping of Column to tuple of str
        The arrays that have a column, and the keys that lead to them.
    metadata : mapping of str to str
        Of the schema.

    Raises
    ------
    RecordingError
        If it cannot be written.
    """

    def __init__(self, path: Path, fd: int, columns: Mapping[Column, tuple[str, ...]], metadata: Mapping[str, str]) -> None:
        self.path = path
        self.columns = columns
        self.messages = 0
        self._fd = fd
        fcntl.flock(fd, fcntl.LOCK_EX)  # readers know by it that more may come
        self._schema = arrow.schema_of(list(columns), metadata)
        schema = arrow.schema_message(self._schema)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._index = os.open(index.path_of(path), flags, 0o666)
        self._close = weakref.finalize(self, _close, fd, self._index, os.getpid())
        self._end = self._index_end = 0
        self._write(schema, index.header(schema))

    def fits(self, fields: Mapping[tuple[str, ...], ArrayField]) -> bool:
        """Whether a message has the array of each column."""
        return len(fitting(self.columns, fields)) == len(self.columns)

    def append(self, frame: Frame, parts: list[Part], fields: Mapping[tuple[str, ...], ArrayField], time_ns: int) -> None:
        """Write a message that fits.

        Raises
        ------
        RecordingError
            If it cannot be written; what was written before is whole.
        """
        places = [fields[path].number for path in self.columns.values()]
        taken = set(places)
        buffers = [part for number, part in enumerate(parts[1:]) if number not in taken]
        typed = [(column, parts[1 + number]) for column, number in zip(self.columns, places, strict=True)]
        digest = checksum(time_ns, parts)
        fixed = (frame.index, frame.btid, frame.sequence, time_ns, digest, bytes(parts[0]))
        message = arrow.batch_message(self._schema, fixed, places, buffers, typed)
        record = index.record(self._end, len(message), frame.index, frame.btid, frame.sequence, time_ns)
        self._write(message, record.tobytes())
        self.messages += 1

    def close(self) -> None:
        """Close the file; it is complete after each message."""
        self._close()

    def _write(self, message: Any, record: bytes) -> None:
        try:
            _write_all(self._fd, message)
            _write_all(self._index, record)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._end)
                os.ftruncate(self._index, self._index_end)
            self.close()
            raise RecordingError(
                f"cannot record to {self.path}: {error.strerror}. What was recorded before is whole, {self.messages} messages "
                "in this file: make room, and record what comes now under another prefix"
            ) from error
        self._end += len(message)
        self._index_end += len(record)


def _write_all(fd: int, content: Any) -> None:
    rest = memoryview(content)
    while rest:  # the kernel writes what there is room for, and refuses the rest
        rest = rest[os.write(fd, rest) :]


def _close(fd: int, index_fd: int, owner: int) -> None:
    os.close(index_fd)
    unlock_and_close(fd, owner)
