"""Reading one file of a recording."""

import contextlib
import os
import warnings
import weakref
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt
from blendtorch.btt.recording import arrow, index, layout
from blendtorch.btt.recording.locks import is_written
from blendtorch.btt.recording.message import MessageForm, numbers_of
from blendtorch.btt.recording.scanning import scan
from blendtorch.core import wire
from blendtorch.core.atomic import write_atomically
from blendtorch.core.errors import DecodeError, RecordingError, VersionError
from blendtorch.core.messages import Frame


class NothingRecordedError(RecordingError):
    """A file ends before its first message: who made it was killed, or is about to write it."""


class FileReader:
    """The messages of one file, by their numbers.

    Parameters
    ----------
    path : path
    allow_pickle : bool
        Load the pickles in it. Whoever wrote the file can then execute anything here.
    warn : bool
        Whether to warn of a file that is cut or damaged.

    Attributes
    ----------
    path : Path
    id : str
        Of the recording; its other files have the same.
    worker : int
        Of the DataLoader that recorded.
    version : str
        Of the blendtorch that recorded.
    columns : list of Column
        Arrays that have a column of their own in the file.
    cut : int
        Bytes behind the last whole message: who recorded was killed. 0 for a file that is whole, or still being written.
    gaps : int
        Places between messages that are damaged. Known only where the index was lost: else the message itself says so.

    Raises
    ------
    RecordingError
        If it is not there, or is no recording.
    VersionError
        If it was recorded by a newer version.

    Warns
    -----
    UserWarning
        If it is cut, or damaged between messages.
    """

    def __init__(self, path: str | os.PathLike[str], allow_pickle: bool = False, warn: bool = True) -> None:
        self.path = Path(path)
        self._warns = warn
        self._allow_pickle = allow_pickle
        self._descriptors: dict[int, int] = {}  # by process
        self._closers: dict[int, Any] = {}
        self.cut = self.gaps = 0
        self._schema = self._read_schema()
        try:
            metadata, self.columns = arrow.read_schema(self._schema)
        except VersionError as error:
            raise VersionError(f"{self.path}: {error}") from None
        except RecordingError as error:
            raise RecordingError(f"{self.path} is no recording: {error}") from None
        self._schema_is_damaged = "blendtorch.id" not in metadata
        self.id = metadata.get("blendtorch.id", "")
        self.version = metadata.get("blendtorch.version", "")
        self.worker = int(text) if (text := metadata.get("blendtorch.worker", "")).isdecimal() else 0
        self._categories = metadata.get("blendtorch.categories")
        self._form = MessageForm(self.columns)
        self._records = index.empty()
        self._end = len(self._schema)
        self.refresh()

    def refresh(self) -> int:
        """Look for what was recorded since.

        Returns
        -------
        int
            How many messages there are now.
        """
        fd = self._descriptor()
        written = is_written(fd)
        size = os.fstat(fd).st_size
        if size < self._end:
            raise RecordingError(f"{self.path} has become shorter: it was replaced meanwhile. Open it again")
        known = index.read(self.path, self._schema, size, len(self._records), self._end)
        begin = int(known["offset"][-1] + known["size"][-1]) if len(known) else self._end
        scanned, end = scan(fd, begin, size, self._metadata_bytes(known))
        self._records = np.concatenate([self._records, known, scanned])
        self._offsets, self._sizes = self._records["offset"], self._records["size"]
        self._end = end
        self.cut = 0 if written else size - end
        self.gaps = int(np.sum(self._offsets[1:] != (self._offsets + self._sizes)[:-1]))
        if len(scanned) and not written and not self.gaps:
            self._write_index()
        for damage in self.damages() if self._warns else ():
            warnings.warn(damage, stacklevel=3)
        return len(self._records)

    def damages(self) -> list[str]:
        """Say what is wrong with the file; a sentence each. What is wrong with a message is known when it is read."""
        found = []
        if self._schema_is_damaged:
            found.append(f"{self.path} is damaged at its beginning: its identity and its categories are not known")
        if self.cut:
            found.append(
                f"{self.path} is cut: its last {self.cut} bytes are no whole message, as a recorder leaves it that was killed. "
                f"The {len(self._records)} messages before are there"
            )
        if self.gaps:
            found.append(f"{self.path} is damaged in {self.gaps} places between messages: what was there is left out")
        return found

    def __len__(self) -> int:
        """Return the number of whole messages."""
        return len(self._records)

    def __getitem__(self, number: int) -> dict[str, Any]:
        """Read an item.

        Returns
        -------
        dict
            As it was recorded. Its arrays are writable, and lie over memory of its own.

        Raises
        ------
        IndexError
        RecordingError
            If it is damaged; names the file and the message.
        """
        return self.read(number).data

    def read(self, number: int) -> Frame:
        """Read a message: see `__getitem__`."""
        try:
            return self._decode(number, *self._form.checked(self._read(number)))
        except (RecordingError, DecodeError) as error:
            raise self._named(number, error) from None

    def check(self, number: int) -> None:
        """Read a message, and compare it with its checksum, its columns and the index; pickles are not loaded.

        Raises
        ------
        IndexError, RecordingError, VersionError
            As `read`; and where a column has another number than the message, which can be read.
        """
        try:
            message = self._read(number)
            time_ns, (header, *_) = self._form.checked(message)
            wire.array_fields(header)
            told = numbers_of(header)
            self._compare(number, *told, time_ns)
            columns = layout.numbers(message, layout.parse(message))
            for name, column, expected in zip(("index", "btid", "sequence"), columns, told, strict=True):
                if column != expected:
                    raise RecordingError(
                        f"its column {name} is damaged: it has {column}, and the message {expected}. blendtorch reads the "
                        "message as it was; other programs read the column"
                    )
        except (RecordingError, DecodeError) as error:
            raise self._named(number, error) from None

    @property
    def indexes(self) -> npt.NDArray[np.int64]:
        """The index of each sample; -1 where it has none."""
        return np.where(self._records["has_index"] != 0, self._records["index"], -1)

    @property
    def has_indexes(self) -> bool:
        """Whether each message has the index of its sample."""
        return bool(np.all(self._records["has_index"] != 0))

    @property
    def times(self) -> npt.NDArray[np.int64]:
        """When each message came, in nanoseconds since 1970."""
        return np.array(self._records["time"])

    @property
    def btids(self) -> npt.NDArray[np.int32]:
        """Which instance each message came from."""
        return np.array(self._records["btid"])

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """What each message takes in the file, in bytes."""
        return self._sizes.astype(np.int64)

    @property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Where each message begins in the file."""
        return self._offsets.astype(np.int64)

    @cached_property
    def categories(self) -> dict[int, str] | None:
        """The names of the categories by their ids; None where they were not known.

        Raises
        ------
        RecordingError
            If they are damaged.
        """
        if self._schema_is_damaged:
            raise RecordingError(f"{self.path}: its categories are damaged")
        if self._categories is None:
            return None
        try:
            return msgspec.json.decode(self._categories, type=dict[int, str], strict=False)
        except msgspec.DecodeError as error:
            raise RecordingError(f"{self.path}: its categories are damaged: {error}") from None

    @property
    def is_open(self) -> bool:
        """Whether this process has the file open."""
        return os.getpid() in self._descriptors

    def close(self) -> None:
        """Close the file in this process; reading opens it again."""
        if (close := self._closers.pop(os.getpid(), None)) is not None:
            self._descriptors.pop(os.getpid(), None)
            close()

    def __enter__(self) -> Self:
        """Read in the `with` block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the file."""
        self.close()

    def _named(self, number: int, error: Exception) -> RecordingError | VersionError:
        """Say which message of which file it was."""
        kind = VersionError if isinstance(error, VersionError) else RecordingError
        return kind(f"{self.path}, message {number % len(self)}: {error}")

    def _read(self, number: int) -> memoryview:
        """Read a message into memory of its own, where its arrays will lie.

        They lie there as in the file, at multiples of 8 bytes: aligned for every dtype but those of 16 bytes.
        """
        if not -len(self) <= number < len(self):
            raise IndexError(f"{self.path} has {len(self)} messages, there is no number {number}")
        offset, size = int(self._offsets[number]), int(self._sizes[number])
        message = np.empty(size, np.uint8).data
        fd, read = self._descriptor(), 0
        while read < size:  # the kernel reads 2 GB at once at most
            count = os.preadv(fd, [message[read:] if read else message], offset + read)
            if count == 0:
                raise RecordingError("the file has become shorter meanwhile")
            read += count
        return message

    def _decode(self, number: int, time_ns: int, parts: list[memoryview]) -> Frame:
        frame = wire.decode(parts, allow_pickle=self._allow_pickle)
        if not isinstance(frame, Frame):
            raise RecordingError(f"it is no frame, but a {type(frame).__name__}")
        self._compare(number, frame.index, frame.btid, frame.sequence, time_ns)
        return frame

    def _compare(self, number: int, index: int | None, btid: int, sequence: int, time_ns: int) -> None:
        """Refuse a message that is not what the index says."""
        _, _, sample, known_btid, has_index, known_sequence, known_time, _, _ = self._records[number].item()
        if (sample if has_index else None, known_btid, known_sequence, known_time) != (index, btid, sequence, time_ns):
            raise RecordingError("it is not what the index says. Remove the .index file, it is made anew")

    def _read_schema(self) -> bytes:
        try:
            fd = self._descriptor()
            head = os.pread(fd, layout.PREFIX_BYTES, 0)
            length = layout.metadata_bytes(memoryview(head))
            content = os.pread(fd, layout.PREFIX_BYTES + length, 0)
        except OSError as error:
            raise RecordingError(f"cannot read {self.path}: {error.strerror}") from None
        except RecordingError:
            if len(head) < layout.PREFIX_BYTES:
                raise NothingRecordedError(f"{self.path} ends before its first message: there is nothing in it") from None
            raise RecordingError(f"{self.path} is no recording: it does not begin with an Arrow schema") from None
        if len(content) < layout.PREFIX_BYTES + length:
            raise NothingRecordedError(f"{self.path} ends before its first message: there is nothing in it")
        return content

    def _metadata_bytes(self, known: index.Records) -> int | None:
        """Read how long the metadata of the messages are, from one of them."""
        records = known if len(known) else self._records
        if not len(records):
            return None
        head = os.pread(self._descriptor(), layout.PREFIX_BYTES, int(records["offset"][0]))
        try:
            return layout.metadata_bytes(memoryview(head))
        except RecordingError:
            return None

    def _write_index(self) -> None:
        """Keep what was found by scanning, where the folder lets us."""
        with contextlib.suppress(OSError):
            write_atomically(index.path_of(self.path), index.header(self._schema) + self._records.tobytes())

    def _descriptor(self) -> int:
        pid = os.getpid()
        if pid not in self._descriptors:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            self._descriptors[pid] = fd
            self._closers[pid] = weakref.finalize(self, os.close, fd)
        return self._descriptors[pid]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_descriptors": {}, "_closers": {}}
