"""Where the parts of a message lie in a file: the columns of a record batch of one row, found without pyarrow.

A random picture is to cost less than twice reading its bytes, which takes 30 to 55 us from the page cache. pyarrow takes 19 us
to say where the columns are, and this 9, or 1 where the metadata are those of a message before.
Formats: https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format and Message.fbs beside it.

A message is a marker, the length of its metadata, the metadata (a flatbuffer) and a body. The metadata says where in the body
each buffer of each column lies. `COLUMNS` are those that every recording has; the typed ones come after them.
"""

import functools
import struct
from dataclasses import dataclass

from blendtorch.core.errors import RecordingError

MARKER = 0xFFFFFFFF
PREFIX_BYTES = 8
MAX_METADATA_BYTES = 1 << 24
_KEPT_BYTES = 1 << 16  # 256 columns of pictures take 37 kB; what is longer would fill the memory
_RECORD_BATCH = 3
_BUFFER_BYTES = 16

# The buffers of the fixed columns, in the order of the columns: validity before each, and offsets before what has a length.
(
    INDEX_VALIDITY,
    INDEX,
    _,
    BTID,
    _,
    SEQUENCE,
    _,
    TIME,
    _,
    CHECKSUM,
    _,
    _,
    HEADER,
    _,
    _,
    _,
    PLACES,
    _,
    _,
    _,
    BUFFER_OFFSETS,
    BUFFERS,
    FIRST_TYPED,
) = range(23)

_int32 = struct.Struct("<i").unpack_from
_uint32 = struct.Struct("<I").unpack_from
_uint16 = struct.Struct("<H").unpack_from
_int64 = struct.Struct("<q").unpack_from
_prefix = struct.Struct("<II").unpack_from


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a message lies.

    Attributes
    ----------
    size : int
        Bytes of the message, with its prefix.
    body : int
        Where the body begins, from the beginning of the message.
    spans : tuple of int
        Begin and length of each buffer, in turn; begins count from that of the body.
    """

    size: int
    body: int
    spans: tuple[int, ...]

    def span(self, number: int) -> tuple[int, int]:
        """Return where a buffer begins and ends, from the beginning of the message."""
        begin, length = self.spans[2 * number : 2 * number + 2]
        return self.body + begin, self.body + begin + length


def metadata_bytes(message: memoryview) -> int:
    """Read the length of the metadata from the first 8 bytes of a message; 0 at the end of the stream.

    Raises
    ------
    RecordingError
        If these are not the first bytes of a message.
    """
    if len(message) < PREFIX_BYTES:
        raise RecordingError(f"a message begins with {PREFIX_BYTES} bytes, there are {len(message)}")
    marker, length = _prefix(message)
    if marker != MARKER or length > MAX_METADATA_BYTES or length % 8:
        raise RecordingError("here begins no message")
    return int(length)


def parse(message: memoryview) -> Layout:
    """Read the metadata of a message.

    Parameters
    ----------
    message : memoryview
        Its beginning at least: prefix and metadata.

    Raises
    ------
    RecordingError
        If it is not a record batch of one row, or says that something lies outside of it.
    """
    body = PREFIX_BYTES + metadata_bytes(message)
    if len(message) < body:
        raise RecordingError("the message ends in its metadata")
    metadata = bytes(message[PREFIX_BYTES:body])
    return _parse(metadata) if len(metadata) <= _KEPT_BYTES else _parse_anew(metadata)


def _parse_anew(metadata: bytes) -> Layout:
    try:
        root = _uint32(metadata, 0)[0]
        kind, header, length = (_field(metadata, root, number) for number in (1, 2, 3))
        if not (kind and header and length) or metadata[kind] != _RECORD_BATCH:
            raise RecordingError("the message is not a record batch")
        batch = header + _uint32(metadata, header)[0]
        rows, buffers, compression = (_field(metadata, batch, number) for number in (0, 2, 3))
        if not (rows and buffers) or compression or _int64(metadata, rows)[0] != 1:
            raise RecordingError("the message is not one row, uncompressed")
        vector = buffers + _uint32(metadata, buffers)[0]
        count = _uint32(metadata, vector)[0]
        if count * _BUFFER_BYTES > len(metadata):
            raise RecordingError("the message has more columns than its metadata have room for")
        spans = struct.unpack_from(f"<{2 * count}q", metadata, vector + 4)
        size = _int64(metadata, length)[0]
    except (struct.error, IndexError):
        raise RecordingError("the metadata of the message are damaged") from None
    begins, lengths = spans[::2], spans[1::2]
    if count < FIRST_TYPED or min(spans) < 0 or size < 0 or max(map(int.__add__, begins, lengths)) > size:
        raise RecordingError("the metadata of the message are damaged: a column lies outside of it")
    if sum(lengths) > size:
        raise RecordingError("the metadata of the message are damaged: its columns overlap")
    body = PREFIX_BYTES + len(metadata)
    return Layout(body + size, body, spans)


_parse = functools.lru_cache(maxsize=256)(_parse_anew)  # most messages of a file have the metadata of another


def _field(metadata: bytes, table: int, number: int) -> int:
    """Find a field of a table; 0 where it is left out, and has its default."""
    vtable = table - _int32(metadata, table)[0]
    entry = 4 + 2 * number
    if vtable < 0 or entry >= _uint16(metadata, vtable)[0]:
        return 0
    offset = _uint16(metadata, vtable + entry)[0]
    return int(table + offset) if offset else 0


def numbers(message: memoryview, layout: Layout) -> tuple[int | None, int, int]:
    """Read index, btid and sequence from their columns, which no checksum covers: the header has them too.

    Raises
    ------
    RecordingError
        If a column has no such value.
    """
    begin, end = layout.span(INDEX_VALIDITY)
    has_index = begin == end or bool(message[begin] & 1)
    index = integer(message, layout, INDEX)
    return index if has_index else None, integer(message, layout, BTID, 4), integer(message, layout, SEQUENCE)


def integer(message: memoryview, layout: Layout, number: int, width: int = 8) -> int:
    """Read the value of a column of integers.

    Raises
    ------
    RecordingError
        If the column has no value of this width.
    """
    begin, end = layout.span(number)
    if end - begin != width:
        raise RecordingError(f"the metadata of the message are damaged: a number of {width} bytes has {end - begin}")
    return int((_int64 if width == 8 else _int32)(message, begin)[0])
