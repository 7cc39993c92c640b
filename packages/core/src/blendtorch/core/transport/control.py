"""What the two ends say to each other beside the messages.

A consumer connects, and says so to the publisher with an empty message. Then::

    publisher -> consumer   Welcome         who I am, and where my ring is
    consumer -> publisher   Hello           who I am, how much I hold at most, what of yours I have yielded already
    publisher -> consumer   Delivery ...    a message, in the parts behind it
    consumer -> publisher   Acknowledgement of what was yielded
    consumer -> publisher   Goodbye         what I have not acknowledged is for others

After a connection was lost, or another process listens at the address, it begins anew with an empty message. The publisher
sends empty messages too, to learn who is still there.
"""

from typing import TypeVar

import msgspec
from blendtorch.core.errors import DecodeError, VersionError
from blendtorch.core.ring import RingDescriptor

_T = TypeVar("_T")


class _Control(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    pass


class Welcome(_Control, frozen=True, kw_only=True, tag="welcome/1"):
    """A publisher introduces itself.

    Attributes
    ----------
    session : int
        A random number of this publisher: another one listens there where it has changed.
    stream : str
        What its sequence numbers belong to: one that goes on where this one stopped has the same.
    ring : RingDescriptor or None
    column : int
        Of the ring, for this consumer.
    """

    session: int
    stream: str = ""
    ring: RingDescriptor | None = None
    column: int = 0


class Hello(_Control, frozen=True, kw_only=True, tag="hello/1"):
    """A consumer introduces itself.

    Attributes
    ----------
    session : int
        The publisher's.
    consumer : str
        A random name, the same after a reconnection.
    machine : str
        Where its process number counts: see `locality.this_machine`.
    pid : int
    credit : int
        How many messages it takes before it has acknowledged one.
    column : int
        Of the publisher's ring, -1 where it does not reach that.
    yielded : list of int
        The sequence numbers that it yielded last: their acknowledgements may have been lost.
    """

    session: int
    consumer: str
    machine: str
    pid: int
    credit: int
    column: int
    yielded: list[int]


class Delivery(_Control, frozen=True, kw_only=True, tag="delivery/1"):
    """Comes before the parts of a message.

    Attributes
    ----------
    number : int
        Counts what this consumer was sent since its Hello.
    sequence : int
        Of the message.
    slot : int
        Of the ring, -1 for none.
    spans : list of (tuple of int, or None)
        For each buffer of the message: offset and size in the slot, None for a part of its own.
    """

    number: int
    sequence: int
    slot: int = -1
    spans: list[tuple[int, int] | None] = []


class Acknowledgement(_Control, frozen=True, kw_only=True, tag="acknowledgement/1"):
    """The dataset has yielded these."""

    sequences: list[int]


class Goodbye(_Control, frozen=True, kw_only=True, tag="goodbye/1"):
    """The consumer closes."""


_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
_from_consumer: "msgspec.msgpack.Decoder[Hello | Acknowledgement | Goodbye]" = msgspec.msgpack.Decoder(
    Hello | Acknowledgement | Goodbye
)
_from_publisher: "msgspec.msgpack.Decoder[Welcome | Delivery]" = msgspec.msgpack.Decoder(Welcome | Delivery)


class _Envelope(msgspec.Struct):
    type: str


_envelopes = msgspec.msgpack.Decoder(_Envelope)
_KNOWN = frozenset({"welcome/1", "hello/1", "delivery/1", "acknowledgement/1", "goodbye/1"})


def decode_from_consumer(data: bytes) -> Hello | Acknowledgement | Goodbye:
    """Decode what a consumer says.

    Raises
    ------
    DecodeError
        If the bytes are none of it.
    """
    return _decode(_from_consumer, data)


def decode_from_publisher(data: bytes | memoryview) -> Welcome | Delivery:
    """Decode what a publisher says.

    Raises
    ------
    VersionError
        If it is newer than this side.
    DecodeError
        If the bytes are none of it.
    """
    return _decode(_from_publisher, data)


def _decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes | memoryview) -> _T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _newer(data) or DecodeError(f"received bytes are no valid message: {str(error)[:200]}") from None


def _newer(data: bytes | memoryview) -> VersionError | None:
    try:
        tag = _envelopes.decode(data).type
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    name, _, version = tag.partition("/")
    if tag in _KNOWN or not version.isdigit() or f"{name}/1" not in _KNOWN:
        return None
    return VersionError(
        f"received version {version[:20]} of {name!r}, and know version 1: install the same version of blendtorch on both sides"
    )
