"""Finding the messages of a file without its index."""

import os

import numpy as np
from blendtorch.btt.recording import index, layout
from blendtorch.btt.recording.message import numbers_of
from blendtorch.core.errors import RecordingError

_HEAD_BYTES = 4096  # metadata and the short columns of most messages
_BLOCK_BYTES = 1 << 20


def scan(fd: int, begin: int, end: int, metadata_bytes: int | None = None) -> tuple[index.Records, int]:
    """Find the messages in a part of a file.

    Parameters
    ----------
    fd : int
    begin, end : int
        Where in the file; a message begins at `begin`.
    metadata_bytes : int, optional
        Of the messages before. Those of one file are equally long: so the next is found behind a damaged one.

    Returns
    -------
    records : ndarray of index.RECORD
        A gap between two of them is damaged.
    end : int
        Of the last whole message: what follows is cut, or damaged to the end.
    """
    found: list[bytes] = []
    place = whole = begin
    while place + layout.PREFIX_BYTES <= end:
        try:
            record, size, metadata_bytes = _record_at(fd, place, end)
        except RecordingError:
            place = end if metadata_bytes is None else _next(fd, place + layout.PREFIX_BYTES, end, metadata_bytes)
            continue
        if record is None:  # the end of the stream, as other programs mark it
            return index.records(b"".join(found)), max(whole, end if end - place == layout.PREFIX_BYTES else whole)
        found.append(record)
        place = whole = place + size
    return index.records(b"".join(found)), whole


def _record_at(fd: int, place: int, end: int) -> tuple[bytes | None, int, int]:
    """Make the record of the message that begins here, None at the end of the stream; its bytes, and those of its metadata."""
    head = memoryview(os.pread(fd, min(_HEAD_BYTES, end - place), place))
    length = layout.metadata_bytes(head)
    if length == 0:
        return None, 0, 0
    if (wanted := layout.PREFIX_BYTES + length + 1024) > len(head):
        head = memoryview(os.pread(fd, min(wanted, end - place), place))
    found = layout.parse(head)
    if found.size > end - place:
        raise RecordingError("the message goes beyond the end of the file")
    try:  # a bit that has flipped in a column is not to lead to another sample
        number, btid, sequence = numbers_of(_header(fd, place, head, found))
    except RecordingError:  # reading the message will say so
        number, btid, sequence = layout.numbers(head, found)
    time_ns = layout.integer(head, found, layout.TIME)
    return index.record(place, found.size, number, btid, sequence, time_ns), found.size, length


def _header(fd: int, place: int, head: memoryview, found: layout.Layout) -> memoryview:
    begin, end = found.span(layout.HEADER)
    return head[begin:end] if end <= len(head) else memoryview(os.pread(fd, end - begin, place + begin))


def _next(fd: int, begin: int, end: int, metadata_bytes: int) -> int:
    """Find where something like a message begins, `end` for nowhere. Messages begin at multiples of 8."""
    wanted = np.uint64(layout.MARKER | metadata_bytes << 32)
    while begin + layout.PREFIX_BYTES <= end:
        words = np.frombuffer(os.pread(fd, min(_BLOCK_BYTES, end - begin) // 8 * 8, begin), "<u8")
        matches = np.flatnonzero(words == wanted)
        if len(matches):
            return begin + 8 * int(matches[0])
        begin += max(words.nbytes, 8)
    return end
