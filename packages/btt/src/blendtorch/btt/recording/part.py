"""Writing one file: a schema, then a message with each row, each with one write."""

import contextlib
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blendtorch.btt.recording import arrow, index
from blendtorch.btt.recording.checksum import checksum
from blendtorch.btt.recording.columns import Column, fitting
from blendtorch.btt.recording.locks import lock, unlock_and_close
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
        self._files = (fd, _create_index(path))
        self._close = weakref.finalize(self, _close, *self._files, os.getpid())
        self._ends = (0, 0)
        lock(fd, wait=True)  # readers know by it that more may come
        self._schema = arrow.schema_of(list(columns), metadata)
        schema = arrow.schema_message(self._schema)
        try:
            self._write(schema, index.header(schema))
        except BaseException:
            self.close()
            remove(path)  # it would be in the way of who tries again
            raise

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
        digest = checksum(time_ns.to_bytes(8, "little", signed=True), parts)
        fixed = (frame.index, frame.btid, frame.sequence, time_ns, digest, bytes(parts[0]))
        message = arrow.batch_message(self._schema, fixed, places, buffers, typed)
        record = index.record(self._ends[0], len(message), frame.index, frame.btid, frame.sequence, time_ns)
        self._write(message, record)
        self.messages += 1

    def close(self) -> None:
        """Close the file; it is complete after each message."""
        self._close()

    def _write(self, *contents: Any) -> None:
        """Write to the file and to its index; all of it or nothing."""
        try:
            for fd, content in zip(self._files, contents, strict=True):
                _write_all(fd, content)
            self._ends = (self._ends[0] + len(contents[0]), self._ends[1] + len(contents[1]))
        except BaseException as error:  # Ctrl-C too: the index would lack a record, and be wrong from there on
            for fd, end in zip(self._files, self._ends, strict=True):
                with contextlib.suppress(OSError):
                    os.ftruncate(fd, end)
                    os.lseek(fd, end, os.SEEK_SET)
            if not isinstance(error, OSError):
                raise
            self.close()
            raise RecordingError(
                f"cannot record to {self.path}: {error.strerror}. What was recorded before is whole, {self.messages} messages "
                "in this file: make room, and record what comes now under another prefix"
            ) from error


def remove(path: Path) -> None:
    """Remove a file and its index."""
    for each in (path, index.path_of(path)):
        each.unlink(missing_ok=True)


def _create_index(path: Path) -> int:
    try:
        return os.open(index.path_of(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    except OSError as error:
        remove(path)
        raise RecordingError(f"cannot record to {path}: {error.strerror}") from None


def _write_all(fd: int, content: Any) -> None:
    rest = memoryview(content)
    while rest:  # the kernel writes what there is room for, and refuses the rest
        rest = rest[os.write(fd, rest) :]


def _close(fd: int, index_fd: int, owner: int) -> None:
    os.close(index_fd)
    unlock_and_close(fd, owner)
