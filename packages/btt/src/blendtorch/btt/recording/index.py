"""The side index of a file: where each message is, and what is asked of all messages without reading them.

`{file}.index` begins with a header, and gets a record of 64 bytes after each message. It says nothing that the file does not
say: what is missing or does not fit is found by scanning, and nothing of it is believed but what can be checked.
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

RECORD = np.dtype(
    [
        ("offset", "<u8"),
        ("size", "<u8"),
        ("index", "<i8"),
        ("btid", "<i4"),
        ("has_index", "<u4"),
        ("sequence", "<i8"),
        ("time", "<i8"),
        ("spare", "<u8"),
        ("check", "<u8"),
    ]
)
_MAGIC = b"BTINDEX1"
_HEADER = struct.Struct("<8sQQ40x")  # magic, bytes and checksum of the schema message: whose index it is
_RECORD = struct.Struct("<QQqiIqqQ")
_WORDS = struct.Struct("<7Q")
_WORD = struct.Struct("<Q")
_MASK = 2**64 - 1
_FACTORS = [number * 0x9E3779B97F4A7C15 & _MASK for number in (3, 5, 7, 11, 13, 17, 19)]
_MIX = 0xBF58476D1CE4E5B9

Records = npt.NDArray[Any]


def path_of(file: Path) -> Path:
    """Name the index of a file."""
    return file.with_name(f"{file.name}.index")


def header(schema: bytes) -> bytes:
    """Make the header of the index of the file that begins with this schema message."""
    return _HEADER.pack(_MAGIC, len(schema), xxh3_64_intdigest(schema))


def record(offset: int, size: int, index: int | None, btid: int, sequence: int, time_ns: int) -> bytes:
    """Make the record of a message."""
    words = _RECORD.pack(offset, size, 0 if index is None else index, btid, index is not None, sequence, time_ns, 0)
    total = 0
    for word, factor in zip(_WORDS.unpack(words), _FACTORS, strict=True):
        total += (word ^ word >> 29) * factor
    total &= _MASK
    return words + _WORD.pack((total ^ total >> 32) * _MIX & _MASK)


def records(content: bytes) -> Records:
    """Lay records over their bytes."""
    return np.frombuffer(content, RECORD)


def empty() -> Records:
    """Make an index of nothing."""
    return np.zeros(0, RECORD)


def read(file: Path, schema: bytes, file_bytes: int, first: int = 0, begin: int | None = None) -> Records:
    """Read the records that can be believed.

    Parameters
    ----------
    file : Path
        Of the messages.
    schema : bytes
        What it begins with.
    file_bytes : int
        How long it is.
    first : int
        Number of the first record that is wanted.
    begin : int, optional
        Where that message begins. Default: after the schema.

    Returns
    -------
    ndarray of RECORD
        Of messages that lie one after the other in the file. Empty where there is no index, or that of another file.
    """
    try:
        with path_of(file).open("rb") as index:
            if index.read(_HEADER.size) != header(schema):
                return empty()
            index.seek(first * RECORD.itemsize, 1)
            content = index.read(file_bytes)  # no message is shorter than a record
    except OSError:
        return empty()
    found = records(content[: len(content) // RECORD.itemsize * RECORD.itemsize])
    ends = found["offset"] + found["size"]
    expected = np.concatenate([[np.uint64(len(schema) if begin is None else begin)], ends[:-1]])[: len(found)]
    good = (_checks(found) == found["check"]) & (found["offset"] == expected) & (found["size"] > 0) & (ends <= file_bytes)
    good &= ends > found["offset"]  # no sum that went round
    return found[: len(found) if good.all() else int(np.argmin(good))].copy()


def _checks(found: Records) -> npt.NDArray[np.uint64]:
    """Compute what `record` ends with, of many at once, which no hash library does."""
    words = found.view("<u8").reshape(-1, RECORD.itemsize // 8)[:, :-1]
    with np.errstate(over="ignore"):
        sums = ((words ^ (words >> np.uint64(29))) * np.array(_FACTORS, np.uint64)).sum(1, dtype=np.uint64)
        checks: npt.NDArray[np.uint64] = (sums ^ (sums >> np.uint64(32))) * np.uint64(_MIX)
    return checks
