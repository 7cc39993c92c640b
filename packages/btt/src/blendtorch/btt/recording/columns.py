"""Which arrays of a message get a column of their own, that other programs read without blendtorch.

Those that the first message of a part has, and whose bytes Arrow has a type for. A later message that lacks one, or has it
with another shape or dtype, starts a part without that column: a row of Arrow's fixed-size lists takes its bytes also where
it is null. So there are no more parts than columns, and what is ragged ends up in `buffers`, as exact as before.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import msgspec
from blendtorch.core.errors import RecordingError
from blendtorch.core.wire import ArrayField

# As numpy.dtype.str has it. Arrow keeps bools as bits: they are uint8 in a file, whatever bits they have.
_STORED = {"|b1": "|u1"} | {
    name: name for name in ("|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8")
}
_RESERVED = {"index", "btid", "sequence", "time", "checksum", "header", "places", "buffers"}
_MAX_COLUMNS = 256
_MAX_DIMENSIONS = 8
_MAX_SIZE = 2**31 - 1
_MAX_NUMBER = 2**16 - 1  # of an array in a message: places are uint16


@dataclass(frozen=True)
class Column:
    """A typed column.

    Attributes
    ----------
    name : str
        `image`, `boxes2d_tight.xyxy`.
    dtype : str
        As `numpy.dtype.str` gives it.
    shape : tuple of int
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def stored(self) -> str:
        """The dtype in the file."""
        return _STORED[self.dtype]

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(list(self.shape))

    @property
    def buffers(self) -> int:
        """How many buffers the column has in a file: one for the validity of each level, and one for the elements."""
        return len(self.shape) + 2

    def metadata(self) -> dict[str, str]:
        """Describe the array for who reads the file with pyarrow alone."""
        return {"dtype": self.dtype, "shape": msgspec.json.encode(self.shape).decode()}

    @classmethod
    def from_metadata(cls, name: str, metadata: Mapping[bytes, bytes] | None) -> "Column":
        """Read what `metadata` wrote.

        Raises
        ------
        RecordingError
            If it is something else.
        """
        if name in _RESERVED:
            return cls(name, "", ())
        try:
            shape = msgspec.json.decode((metadata or {})[b"shape"], type=tuple[int, ...])
            dtype = (metadata or {})[b"dtype"].decode()
        except (KeyError, msgspec.DecodeError, UnicodeDecodeError):
            raise RecordingError(f"its column {name[:50]!r} is not described as blendtorch does it") from None
        if dtype not in _STORED or len(shape) > _MAX_DIMENSIONS or not all(0 < size <= _MAX_SIZE for size in shape):
            raise RecordingError(f"its column {name[:50]!r} is said to be a {dtype[:20]} {shape[:9]}, which is never written")
        return cls(name, dtype, shape)


def typed_columns(fields: Mapping[tuple[str, ...], ArrayField]) -> dict[Column, tuple[str, ...]]:
    """Choose the arrays of a first message that get a column; and say which they are."""
    chosen: dict[Column, tuple[str, ...]] = {}
    names = set(_RESERVED)
    for path, field in fields.items():
        name = ".".join(path)
        fits = field.dtype in _STORED and len(field.shape) <= _MAX_DIMENSIONS and field.number <= _MAX_NUMBER
        if fits and 0 not in field.shape and name not in names and len(chosen) < _MAX_COLUMNS:
            names.add(name)
            chosen[Column(name, field.dtype, field.shape)] = path
    return chosen


def fitting(
    columns: Mapping[Column, tuple[str, ...]], fields: Mapping[tuple[str, ...], ArrayField]
) -> dict[Column, tuple[str, ...]]:
    """Return the columns that have their array in this message."""
    return {
        column: path
        for column, path in columns.items()
        if (field := fields.get(path)) is not None
        and (field.dtype, field.shape) == (column.dtype, column.shape)
        and field.number <= _MAX_NUMBER
    }
