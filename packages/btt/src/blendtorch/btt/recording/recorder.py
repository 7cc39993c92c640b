"""Recording the messages of one process, in as many parts as they need."""

import itertools
import time
import uuid
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from blendtorch.btt.recording.arrow import FORMAT_VERSION
from blendtorch.btt.recording.columns import Column, fitting, typed_columns
from blendtorch.btt.recording.part import PartWriter
from blendtorch.core import wire
from blendtorch.core.errors import EncodeError, RecordingError
from blendtorch.core.messages import Frame

Categories = Callable[[], Mapping[int, str] | None]


class Recorder:
    """Writes the messages of one worker into parts.

    Parameters
    ----------
    create : callable
        Makes the file of the next part; returns its path and its descriptor.
    identity : str
        Of the recording.
    worker : int
    allow_pickle : bool
        Pickle what could not be kept otherwise.
    """

    def __init__(self, create: Callable[[], tuple[Path, int]], identity: str, worker: int, allow_pickle: bool = False) -> None:
        self._create = create
        self._identity = identity
        self._worker = worker
        self._allow_pickle = allow_pickle
        self._part: PartWriter | None = None
        self._refusal = ""  # why nothing more is recorded
        self._memory: list[np.ndarray[Any, np.dtype[np.uint8]]] = []

    def record(self, frame: Frame, categories: Categories = lambda: None) -> None:
        """Write a message.

        Parameters
        ----------
        frame : Frame
        categories : callable
            Called where a part begins; returns the names of the categories by their ids, or None.

        Raises
        ------
        RecordingError
            If it cannot be written. What was recorded before is whole.
        EncodeError
            If a value cannot be kept; names its path.
        """
        if self._refusal:
            raise RecordingError(self._refusal)
        if not (_fits(frame.btid, 31) and _fits(frame.sequence, 63) and (frame.index is None or _fits(frame.index, 63))):
            raise RecordingError(f"message {frame.sequence} of instance {frame.btid}: its numbers are out of range")
        used = itertools.count()
        parts = wire.encode(frame, _plain, allow_pickle=self._allow_pickle, allocate=lambda size: self._lend(next(used), size))
        fields = wire.array_fields(parts[0])
        try:
            if self._part is None:
                self._part = self._begin(typed_columns(fields), categories)
            elif not self._part.fits(fields):
                columns = fitting(self._part.columns, fields)
                self._part.close()
                self._part = None  # should what follows be interrupted
                self._part = self._begin(columns, categories)
            self._part.append(frame, parts, fields, time.time_ns())
        except RecordingError as error:
            self._refusal = str(error)
            raise

    def close(self) -> None:
        """Close the file."""
        self._refusal = self._refusal or "this recorder is closed: nothing more can be recorded with it"
        if self._part is not None:
            self._part.close()

    def _begin(self, columns: Mapping[Column, tuple[str, ...]], categories: Categories) -> PartWriter:
        metadata = {
            "blendtorch.recording": str(FORMAT_VERSION),
            "blendtorch.id": self._identity,
            "blendtorch.worker": str(self._worker),
            "blendtorch.version": version("blendtorch-btt"),
        }
        if (names := categories()) is not None:
            metadata["blendtorch.categories"] = msgspec.json.encode({str(key): name for key, name in names.items()}).decode()
        try:
            path, fd = self._create()
        except OSError as error:
            raise RecordingError(f"cannot record to {error.filename}: {error.strerror}") from None
        return PartWriter(path, fd, columns, metadata)

    def _lend(self, number: int, size: int) -> memoryview:
        """Lend the memory that the same array of the message before had: fresh pages cost as much as the copy."""
        if number == len(self._memory):
            self._memory.append(np.empty(size, np.uint8))
        elif self._memory[number].size != size:
            self._memory[number] = np.empty(size, np.uint8)
        return self._memory[number].data


def new_identity() -> str:
    """Make the name of a recording, which its files share."""
    return uuid.uuid4().hex


def _plain(value: object) -> object:
    """Take tensors, and what else numpy can read, as arrays."""
    if not hasattr(value, "__array__"):
        return value
    try:
        return np.asarray(value)
    except Exception as error:  # whatever a foreign __array__ raises
        raise EncodeError(
            f"numpy cannot read a {type(value).__module__}.{type(value).__qualname__}: {type(error).__name__}: {error} "
            "Of a tensor record .detach().cpu(), and of bfloat16 .float()"
        ) from error


def frame_of(item: Mapping[str, Any], sequence: int) -> Frame:
    """Make the message of an item: with its `btid`, and the index that is in its `meta`."""
    meta = item.get("meta")
    index = meta.get("index") if isinstance(meta, Mapping) else None
    btid = item.get("btid", meta.get("btid") if isinstance(meta, Mapping) else None)
    return Frame(btid=_int(btid, 31) or 0, sequence=sequence, data=dict(item), index=_int(index, 63))


def _int(value: object, bits: int) -> int | None:
    """Return a number that fits; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        return None
    return int(value) if _fits(int(value), bits) else None


def _fits(value: int, bits: int) -> bool:
    return value.bit_length() <= bits
