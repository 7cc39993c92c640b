"""Taking a message apart, over the memory that it was read into."""

import itertools
from collections.abc import Sequence
from typing import Annotated

import msgspec
from blendtorch.btt.recording import layout
from blendtorch.btt.recording.checksum import checksum
from blendtorch.btt.recording.columns import Column
from blendtorch.core.errors import RecordingError

_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Numbers(msgspec.Struct):
    btid: Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
    sequence: _Int64
    index: _Int64 | None = None


_numbers = msgspec.msgpack.Decoder(_Numbers)


def numbers_of(header: memoryview) -> tuple[int | None, int, int]:
    """Read index, btid and sequence from a header, which the checksum covers.

    Raises
    ------
    RecordingError
        If it is none.
    """
    try:
        found = _numbers.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RecordingError("it is damaged: its header is none") from None
    return found.index, found.btid, found.sequence


class MessageForm:
    """How the messages of a file look.

    Parameters
    ----------
    columns : sequence of Column
        Its typed columns.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        ends = list(itertools.accumulate((column.buffers for column in columns), initial=layout.FIRST_TYPED))
        self._typed = [end - 1 for end in ends[1:]]  # the last buffer of a column has the elements
        self._buffers = ends[-1]

    def checked(self, message: memoryview) -> tuple[int, list[memoryview]]:
        """Take a message apart, if its checksum fits.

        Parameters
        ----------
        message : memoryview

        Returns
        -------
        time_ns : int
            When it came.
        parts : list of memoryview
            Of the wire message: header and arrays, in their order.

        Raises
        ------
        RecordingError
            If it is damaged.
        """
        found = layout.parse(message)
        if found.size != len(message):
            raise RecordingError("it is damaged: it is not as long as the index says. Remove the .index file, it is made anew")
        body, spans = message[found.body :], found.spans
        parts = self._parts(body, spans)
        time, told = _span(body, spans, layout.TIME), _span(body, spans, layout.CHECKSUM)
        if checksum(time, parts) != int.from_bytes(told, "little"):
            raise RecordingError("it is damaged: its checksum does not fit. The other messages can be read")
        return int.from_bytes(time, "little", signed=True), parts

    def _parts(self, body: memoryview, spans: tuple[int, ...]) -> list[memoryview]:
        """Put the arrays of the wire message back into their order."""
        numbers, offsets = _span(body, spans, layout.PLACES), _span(body, spans, layout.BUFFER_OFFSETS)
        if len(spans) != 2 * self._buffers or len(numbers) != 2 * len(self._typed) or len(offsets) % 8:
            raise RecordingError("it is damaged: its columns are not those of the file")
        ends = offsets.cast("q").tolist()
        others = _span(body, spans, layout.BUFFERS)
        if ends and (ends[0] != 0 or ends[-1] > len(others) or ends != sorted(ends)):
            raise RecordingError("it is damaged: an array lies outside of it")
        parts = [others[begin:end] for begin, end in itertools.pairwise(ends)]
        for place, column in sorted(zip(numbers.cast("H").tolist(), self._typed, strict=True)):
            if place > len(parts):
                raise RecordingError("it is damaged: an array has no place")
            parts.insert(place, _span(body, spans, column))
        return [_span(body, spans, layout.HEADER), *parts]


def _span(body: memoryview, spans: tuple[int, ...], number: int) -> memoryview:
    begin = spans[2 * number]
    return body[begin : begin + spans[2 * number + 1]]
