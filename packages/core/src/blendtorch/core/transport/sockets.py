"""Calls made for each message, in plain numbers: an operation on flags of pyzmq, which are enums, takes a microsecond."""

from collections.abc import Sequence

import zmq
from blendtorch.core.wire import Part

NOBLOCK = int(zmq.NOBLOCK)
_NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)
_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)
_WORTH_SHARING = 65_536  # bytes of a part: what is smaller libzmq copies faster than it gives back


def is_readable(socket: "zmq.Socket[bytes]") -> bool:
    """Whether a message may be read at once."""
    return bool(int(socket.getsockopt(_EVENTS)) & _POLLIN)


def send(socket: "zmq.Socket[bytes]", parts: Sequence[Part]) -> None:
    """Send the parts of one message, without waiting.

    Raises
    ------
    zmq.ZMQError
        If it cannot be sent now, or to nobody. Nothing is sent then.
    """
    last = len(parts) - 1
    for number, part in enumerate(parts):
        size = len(part) if isinstance(part, bytes) else part.nbytes
        socket.send(part, NOBLOCK if number == last else _NOBLOCK_MORE, copy=size < _WORTH_SHARING)
