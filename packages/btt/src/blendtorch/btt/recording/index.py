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
_WORDS = RECORD.itemsize // 8
_FACTORS = np.array([3, 5, 7, 11, 13, 17, 19], np.uint64) * np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)

Records = npt.NDArray[Any]


def path_of(file: Path) -> Path:
    """Name the index of a file."""
    return file.with_name(f"{file.name}.index")


def header(schema: bytes) -> bytes:
    """Make the header of the index of the file that begins with this schema message."""
    return _HEADER.pack(_MAGIC, len(schema), xxh3_64_intdigest(schema))


def record(offset: int, size: int, index: int | None, btid: int, sequence: int, time_ns: int) -> Records:
    """Make the record of a message."""
    made = np.zeros(1, RECORD)
    made[0] = (offset, size, 0 if index is None else index, btid, index is not None, sequence, time_ns, 0, 0)
    made["check"] = _check(made)
    return made


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
    found = np.frombuffer(content[: len(content) // RECORD.itemsize * RECORD.itemsize], RECORD)
    ends = found["offset"] + found["size"]
    expected = np.concatenate([[np.uint64(len(schema) if begin is None else begin)], ends[:-1]])[: len(found)]
    good = (_check(found) == found["check"]) & (found["offset"] == expected) & (found["size"] > 0) & (ends <= file_bytes)
    good &= ends > found["offset"]  # no sum that went round
    return found[: len(found) if good.all() else int(np.argmin(good))].copy()


def _check(records: Records) -> npt.NDArray[np.uint64]:
    """Compute what tells a damaged record: for all of them at once, which no hash library does."""
    words = records.view("<u8").reshape(-1, _WORDS)[:, : _WORDS - 1]
    with np.errstate(over="ignore"):
        sums = ((words ^ (words >> np.uint64(29))) * _FACTORS).sum(1, dtype=np.uint64)
        mixed: npt.NDArray[np.uint64] = (sums ^ (sums >> np.uint64(32))) * _MIX
    return mixed
