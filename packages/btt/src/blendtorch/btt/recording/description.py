"""What is in a recording, and whether it is whole: for `blendtorch info` and `verify`, which print it."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
from blendtorch.btt.recording import files
from blendtorch.btt.recording.dataset import FileDataset
from blendtorch.btt.recording.reader import FileReader
from blendtorch.core.errors import BlendtorchError, RecordingError


class FieldInfo(msgspec.Struct, frozen=True):
    """A field of the items.

    Attributes
    ----------
    name : str
        `image`, `boxes2d_tight.xyxy`.
    dtype : str
        Of an array, as numpy names it; of anything else the name of its type.
    shape : tuple of int or None
        None for what is no array.
    column : bool
        Whether it has a column of its own in the file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    column: bool


class FileInfo(msgspec.Struct, frozen=True):
    """A file of a recording.

    Attributes
    ----------
    path : str
    messages : int
    bytes : int
        Of the file, without its index.
    cut : int
        Bytes behind the last whole message.
    gaps : int
        Damaged places between messages.
    worker : int
    id : str
        Of the recording.
    version : str
        Of the blendtorch that recorded.
    """

    path: str
    messages: int
    bytes: int
    cut: int
    gaps: int
    worker: int
    id: str
    version: str


class RecordingInfo(msgspec.Struct, frozen=True):
    """A recording.

    Attributes
    ----------
    files : list of FileInfo
    messages, bytes, cut : int
        Of all files.
    first_index, last_index : int or None
        The lowest and the highest index of a sample; None where some have none.
    missing : int
        Indexes between these two that are not there.
    btids : dict of int to int
        How many messages came from each instance.
    categories : dict of int to str, or None
        None where they are not known, or damaged.
    damages : list of str
        What is wrong with files, a sentence each; damaged messages are found by `verify`.
    fields : list of FieldInfo
        Of the first message; empty where it cannot be read.
    versions : list of str
        Of the blendtorch that recorded.
    begin_ns, end_ns : int or None
        When the first and the last message came, in nanoseconds since 1970.
    seconds : float
        Between these two.
    messages_per_s, bytes_per_s : float or None
        None where that was no time.
    """

    files: list[FileInfo]
    messages: int
    bytes: int
    cut: int
    first_index: int | None
    last_index: int | None
    missing: int
    btids: dict[int, int]
    categories: dict[int, str] | None
    damages: list[str]
    fields: list[FieldInfo]
    versions: list[str]
    begin_ns: int | None
    end_ns: int | None
    seconds: float
    messages_per_s: float | None
    bytes_per_s: float | None


class Problem(msgspec.Struct, frozen=True):
    """What is wrong with a file.

    Attributes
    ----------
    path : str
    message : int or None
        Its number in the file; None where it is about the file.
    reason : str
        A sentence, with the file's name.
    """

    path: str
    message: int | None
    reason: str


def describe(path: str | os.PathLike[str], allow_pickle: bool = False) -> RecordingInfo:
    """Say what is in a recording; reads its indexes and its first message.

    Parameters
    ----------
    path : path
        As of `FileDataset`.
    allow_pickle : bool
        Load the pickles in its first message.

    Raises
    ------
    RecordingError, VersionError
        As `FileDataset`. A file that is cut is none.

    Examples
    --------
    >>> import tempfile
    >>> from blendtorch import btt
    >>> file = btt.FileRecorder.filename(tempfile.mkdtemp() + "/record", 0)
    >>> with btt.FileRecorder(file) as recorder:
    ...     recorder.save({"image": np.zeros((48, 64, 3), np.uint8), "frameid": 1})
    >>> info = describe(file)
    >>> info.messages, [(field.name, field.dtype, field.shape) for field in info.fields]
    (1, [('image', 'uint8', (48, 64, 3)), ('frameid', 'int', None)])
    """
    dataset = FileDataset(path, allow_pickle=allow_pickle, warn=False)
    readers = dataset.files
    described = [
        FileInfo(
            path=str(reader.path),
            messages=len(reader),
            bytes=reader.path.stat().st_size,
            cut=reader.cut,
            gaps=reader.gaps,
            worker=reader.worker,
            id=reader.id,
            version=reader.version,
        )
        for reader in readers
    ]
    times = np.concatenate([reader.times for reader in readers])
    indexed = dataset.indexes if all(reader.has_indexes for reader in readers) else np.zeros(0, np.int64)
    seconds = float(times.max() - times.min()) / 1e9 if len(times) else 0.0
    size = sum(file.bytes for file in described)
    return RecordingInfo(
        files=described,
        messages=len(dataset),
        bytes=size,
        cut=sum(file.cut for file in described),
        first_index=int(indexed[0]) if len(indexed) else None,
        last_index=int(indexed[-1]) if len(indexed) else None,
        missing=int(indexed[-1] - indexed[0]) + 1 - len(np.unique(indexed)) if len(indexed) else 0,
        btids=dict(sorted(Counter(np.concatenate([reader.btids for reader in readers]).tolist()).items())),
        categories=_categories(dataset),
        damages=[damage for reader in readers for damage in reader.damages()],
        fields=list(_fields(dataset)),
        versions=sorted({file.version for file in described}),
        begin_ns=int(times.min()) if len(times) else None,
        end_ns=int(times.max()) if len(times) else None,
        seconds=seconds,
        messages_per_s=(len(times) - 1) / seconds if seconds else None,
        bytes_per_s=size / seconds if seconds else None,
    )


def verify(path: str | os.PathLike[str], advance: Callable[[], Any] = lambda: None) -> list[Problem]:
    """Read all of a recording, and compare each message with its checksum.

    Parameters
    ----------
    path : path
        As of `FileDataset`.
    advance : callable
        Called after each message.

    Returns
    -------
    list of Problem
        Empty where nothing is wrong. Pickles are not loaded.

    Raises
    ------
    RecordingError
        If there is no recording.
    """
    problems: list[Problem] = []
    for file in files.find(path):
        try:
            reader = FileReader(file, warn=False)
        except BlendtorchError as error:
            problems.append(Problem(str(file), None, str(error)))
            continue
        problems += [Problem(str(file), None, reason) for reason in reader.damages()]
        for number in range(len(reader)):
            try:
                reader.check(number)
            except BlendtorchError as error:
                problems.append(Problem(str(file), number, str(error)))
            advance()
        reader.close()
    return problems


def _categories(dataset: FileDataset) -> dict[int, str] | None:
    try:
        return dataset.categories
    except RecordingError:
        return None


def _fields(dataset: FileDataset) -> Iterator[FieldInfo]:
    for reader in dataset.files:
        if len(reader):
            try:
                item = reader[0]
            except RecordingError:
                return
            columns = {column.name for column in reader.columns}
            yield from _fields_of(item, "", columns)
            return


def _fields_of(item: Mapping[Any, Any], prefix: str, columns: set[str]) -> Iterator[FieldInfo]:
    for key, value in item.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from _fields_of(value, f"{name}.", columns)
        elif isinstance(value, np.ndarray):
            yield FieldInfo(
                name, value.dtype.name if value.dtype.kind in "biufc" else value.dtype.str, value.shape, name in columns
            )
        else:
            yield FieldInfo(name, type(value).__name__, None, False)
