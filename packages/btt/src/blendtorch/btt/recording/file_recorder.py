"""Recording by hand."""

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from blendtorch.btt.recording import files
from blendtorch.btt.recording.recorder import Recorder, frame_of, new_identity
from blendtorch.core.errors import RecordingError
from blendtorch.core.payload import Payload


class FileRecorder:
    """Records items into one file, by hand.

    Each item is on disk when `save` returns. There is no capacity: a recording grows until the disk is full.

    Parameters
    ----------
    outpath : path
        A file that is not there yet, `.arrows`; see `filename`. Should the arrays of items change their shape, there is
        another one beside it, `...-001.arrows`, which `FileDataset` reads with it.
    max_messages, update_interval
        As in 0.4, and without meaning.
    payload : type, optional
        A Struct that declares the fields of items; those that do not fit are refused. See `blendtorch.core.payload`.
    allow_pickle : bool
        Pickle what could not be kept otherwise; read only by who passes the same.

    Raises
    ------
    RecordingError
        If the file is there already or cannot be made.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> prefix = tempfile.mkdtemp() + "/record"
    >>> with FileRecorder(FileRecorder.filename(prefix, 0)) as recorder:
    ...     for number in range(3):
    ...         recorder.save({"image": np.full((48, 64, 3), number, np.uint8), "number": number})
    >>> from blendtorch import btt
    >>> dataset = btt.FileDataset(prefix)
    >>> len(dataset), dataset[-1]["number"], dataset[-1]["image"].shape
    (3, 2, (48, 64, 3))
    """

    def __init__(
        self,
        outpath: str | os.PathLike[str],
        max_messages: int | None = None,  # noqa: ARG002 - of 0.4
        update_interval: int | None = None,  # noqa: ARG002 - of 0.4
        *,
        payload: type[msgspec.Struct] | None = None,
        allow_pickle: bool = False,
    ) -> None:
        self.outpath = Path(outpath)
        if self.outpath.suffix != files.SUFFIX:
            raise RecordingError(
                f"{self.outpath}: recordings are {files.SUFFIX} files; FileRecorder.filename(prefix, worker_idx) names them"
            )
        if self.outpath.exists():
            raise self._taken()
        self._is_ours = False
        self._payload = None if payload is None else Payload(payload)
        self._recorder = Recorder(self._create, new_identity(), files.worker_of(self.outpath), allow_pickle)
        self._count = 0

    @staticmethod
    def filename(prefix: str | os.PathLike[str], worker_idx: int) -> str:
        """Name the file of a worker."""
        return str(files.name_of(prefix, worker_idx))

    def save(self, item: Mapping[str, Any]) -> None:
        """Record an item: a dict of arrays, numbers, text, and lists and dicts of them.

        Its `btid` is kept as that of the message, and the index in its `meta` as the index.

        Raises
        ------
        PayloadError
            If it is not what `payload` declares.
        EncodeError
            If a value cannot be kept; names its path.
        RecordingError
            If it cannot be written; or another recorder has made the file since this one was made.
        """
        if self._payload is not None:
            self._payload.check({key: value for key, value in item.items() if key != "btid"})
        self._recorder.record(frame_of(item, self._count))
        self._count += 1

    def close(self) -> None:
        """Close the file."""
        self._recorder.close()

    def __enter__(self) -> Self:
        """Record what the `with` block saves."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the file."""
        self.close()

    def _create(self) -> tuple[Path, int]:
        if self._is_ours:
            return files.create_beside(self.outpath)
        try:
            created = files.create_new(self.outpath)
        except FileExistsError:  # a part beside it would be replayed as one with what the other records
            raise self._taken() from None
        self._is_ours = True
        return created

    def _taken(self) -> RecordingError:
        return RecordingError(
            f"{self.outpath} is there already, and nothing recorded is overwritten: remove it, or name another"
        )
