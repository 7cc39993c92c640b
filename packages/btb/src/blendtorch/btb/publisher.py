"""Publishing samples: the last step of a frame on the Blender side."""

from collections.abc import Callable
from typing import Any

import msgspec
from blendtorch.btb.convert import convert
from blendtorch.core import wire
from blendtorch.core.errors import EncodeError
from blendtorch.core.messages import EndOfStream, Failure, Frame
from blendtorch.core.payload import Payload
from blendtorch.core.transport import DEFAULT_QUEUE_SIZE, Push

open_publishers: set["DataPublisher"] = set()  # kept here: a script that lets go of one still has its consumers told
_LOOK_MS = 100
_FAREWELL_MS = 5000  # how long a failing instance waits for its consumers to read what it had sent


class Abandoned(Exception):  # noqa: N818 - no error: a way out of a wait
    """Nobody wants this stream any more."""


class DataPublisher:
    """Sends samples to whoever is connected.

    Parameters
    ----------
    address : str
        Where to listen: an address from `parse_blendtorch_args().btsockets`.
    btid : int, optional
        Number of this instance; every item carries it. Default 0.
    send_hwm : int
        Samples queued per consumer before `publish` waits.
    lingerms : int
        How long `close` and the end of the script wait for the consumers to take what is queued, in milliseconds;
        -1 as long as it takes.
    payload : type, optional
        A Struct that declares the fields; samples that do not fit are refused. See `blendtorch.core.payload`.
    abandoned : callable, optional
        Asked while `publish` waits; where it returns True, `publish` raises `Abandoned`.

    Raises
    ------
    AddressError
        If the address is malformed or in use.
    """

    def __init__(
        self,
        address: str,
        btid: int | None = None,
        send_hwm: int = DEFAULT_QUEUE_SIZE,
        lingerms: int = -1,
        payload: type[msgspec.Struct] | None = None,
        abandoned: Callable[[], bool] | None = None,
    ) -> None:
        self.btid = btid or 0
        self._sequence = 0
        self._payload = None if payload is None else Payload(payload)
        self._lingerms = lingerms
        self._abandoned = abandoned
        self._push = Push(address, send_hwm, lingerms)
        open_publishers.add(self)

    def publish(self, **data: Any) -> None:
        """Send one sample. Waits while the consumers are too slow to take it.

        The arrays may be changed as soon as this returns: what is sent is a snapshot.

        Parameters
        ----------
        **data
            None, bool, int, float, complex, str, bytes, list, tuple, dict, set, datetime, Path, numpy arrays and
            scalars, mathutils types and bpy property arrays.

        Raises
        ------
        EncodeError
            If a value cannot travel, or a field is called `btid`. Nothing is sent then.
        PayloadError
            If the sample does not fit the declared payload. Nothing is sent then.
        """
        if "btid" in data:
            raise EncodeError("btid: this field is added by blendtorch; give yours another name")
        if self._payload is not None:
            data = {name: convert(value) for name, value in data.items()}
            self._payload.check(data)
        self._send(data, None)

    def publish_sample(self, sample: dict[str, Any], index: int) -> None:
        """Send a sample of a pipeline, which has a number in its run; see `publish`."""
        self._send(sample, index)

    def _send(self, data: dict[str, Any], index: int | None) -> None:
        parts = wire.encode(Frame(btid=self.btid, sequence=self._sequence, data=data, index=index), convert)
        while not self._push.send(parts, None if self._abandoned is None else _LOOK_MS):
            if self._abandoned is not None and self._abandoned():
                raise Abandoned
        self._sequence += 1

    def close(self) -> None:
        """Say that the stream has ended, and wait until the consumers have everything. Closing twice does nothing."""
        end = EndOfStream(btid=self.btid, sequence=self._sequence, address=self._push.address)
        self._leave(end, self._lingerms)

    def abandon(self) -> None:
        """Close at once: nobody wants what is queued."""
        open_publishers.discard(self)
        self._push.close(0)

    def fail(self, error: str, traceback: str) -> None:
        """Tell the consumers that the script has failed, as far as they listen in time, and close."""
        address = self._push.address
        failure = Failure(btid=self.btid, sequence=self._sequence, address=address, error=error, traceback=traceback)
        self._leave(failure, _FAREWELL_MS)

    def _leave(self, last: EndOfStream | Failure, timeout_ms: int) -> None:
        if self in open_publishers:
            open_publishers.discard(self)
            self._push.farewell(wire.encode(last), None if timeout_ms < 0 else timeout_ms)
            # Whoever is still there had its time, and whoever has gone read all it wanted. To linger for a message to one that
            # left just now took for ever, once in a hundred times.
            self._push.close(0)
