"""Publishing samples: the last step of a frame on the Blender side."""

import math
import sys
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import msgspec
from blendtorch.btb.convert import convert
from blendtorch.core.errors import BlendtorchError, EncodeError, RingError
from blendtorch.core.launch import InstanceFiles
from blendtorch.core.messages import EndOfStream, Failure, Frame
from blendtorch.core.payload import Payload
from blendtorch.core.ring import DEFAULT_SLOTS, Ring
from blendtorch.core.status import PublisherStatus
from blendtorch.core.transport import DEFAULT_QUEUE_SIZE, Keys, Push

open_publishers: set["DataPublisher"] = set()  # kept here: a script that lets go of one still has its consumers told
instance_files: InstanceFiles | None = None  # of the instance that runs in this process, in a launch
before_first_message: Callable[[], None] | None = None  # called before a script's first message: it may raise
# Where the numbers of an address go on: a script may have several publishers there, one after the other, and those of an
# instance that was started again begin where the messages before were delivered.
next_sequences: dict[str, int] = {}
_LOOK_MS = 100
_FAREWELL_MS = 5000  # how long a failing instance waits for its consumers to read what it had sent
_LONELY_S = 10.0


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
        Samples that one consumer may hold before `publish` waits; one with a smaller queue holds fewer.
    lingerms : int
        How long `close` and the end of the script wait for the consumers to yield what was published, in milliseconds;
        -1 as long as it takes.
    payload : type, optional
        A Struct that declares the fields; samples that do not fit are refused. See `blendtorch.core.payload`.
    abandoned : callable, optional
        Asked while `publish` waits; where it returns True, `publish` raises `Abandoned`.
    allow_pickle : bool
        Send what has no other way as a pickle; the dataset has to allow it, too.
    keys : Keys, optional
        For a tcp address that others can reach: only consumers with these keys get anything. Default: those of the launch.
    ring_slots : int
        Samples that lie in shared memory at most, for consumers on this machine; more travel by socket. 0 for none.

    Raises
    ------
    AddressError
        If the address is malformed or in use, or can be reached from other machines and there are no keys.
    """

    def __init__(
        self,
        address: str,
        btid: int | None = None,
        send_hwm: int = DEFAULT_QUEUE_SIZE,
        lingerms: int = -1,
        payload: type[msgspec.Struct] | None = None,
        abandoned: Callable[[], bool] | None = None,
        allow_pickle: bool = False,
        keys: Keys | None = None,
        ring_slots: int = DEFAULT_SLOTS,
    ) -> None:
        self.btid = btid or 0
        self._sequence = 0
        self._payload = None if payload is None else Payload(payload)
        self._lingerms = lingerms
        self._abandoned = abandoned
        self._allow_pickle = allow_pickle
        self._check_first = True
        self._has_sent = False
        self._record = self._status = None
        if instance_files is not None:
            self._record = instance_files.open_record(address)
            if self._record is not None:
                self._sequence = next_sequences.get(address, 0)
            self._status = PublisherStatus.create(instance_files.status(address))
            keys = keys or instance_files.load_keys()
        if address.startswith("tcp:") and keys is None:
            warnings.warn(f"{address} is open to every user of this machine: give keys, or use an ipc:// path", stacklevel=2)
        stream = "" if self._record is None else str(self._record.path)
        self._push = Push(address, send_hwm, _make_ring(ring_slots), keys, stream, self._delivered)
        open_publishers.add(self)

    @property
    def address(self) -> str:
        """Where it listens."""
        return self._push.address

    @property
    def sequence(self) -> int:
        """The number of the next message."""
        return self._sequence

    def skip_to(self, sequence: int) -> None:
        """Go on with a later number: what comes before it was delivered by an instance that had this part of the run before."""
        self._sequence = sequence

    def delivered(self, sequence: int) -> bool:
        """Whether a message was delivered by an instance that had this part of the run before."""
        return self._record is not None and self._record.delivered(sequence)

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
        if self._check_first and before_first_message is not None:
            before_first_message()
        self._check_first = False
        self._send(data, None)

    def publish_sample(self, sample: dict[str, Any], index: int) -> None:
        """Send a sample of a pipeline, which has a number in its run; see `publish`."""
        self._send(sample, index)

    def _send(self, data: dict[str, Any], index: int | None) -> None:
        if self.delivered(self._sequence):
            self._sequence += 1
            return
        misses = self._push.ring_misses
        frame = Frame(btid=self.btid, sequence=self._sequence, data=data, index=index)
        parcel = self._push.pack(frame, convert, self._allow_pickle)
        waited_ns = 0
        if not self._push.send(parcel, timeout_ms=0):
            begin = time.monotonic_ns()
            if self._status is not None:
                self._status.waiting()
            while not self._push.send(parcel, None if self._abandoned is None else _LOOK_MS):
                if self._abandoned is not None and self._abandoned():
                    raise Abandoned
            # Before the first one nobody was there yet: that is no fault of a slow trainer.
            waited_ns = time.monotonic_ns() - begin if self._has_sent else 0
        self._has_sent = True
        if self._status is not None:
            self._status.published(parcel.nbytes, waited_ns, self._push.ring_misses > misses)
        self._sequence += 1

    def drain(self, timeout_ms: int) -> bool:
        """Wait until everything that was published is delivered, `timeout_ms` at most; return whether it is."""
        return self._push.drain(timeout_ms)

    def close(self) -> None:
        """Say that the stream has ended, and wait until everything is delivered. Closing twice does nothing."""
        close_all([self])

    def abandon(self) -> None:
        """Close at once: nobody wants what is queued."""
        open_publishers.discard(self)
        next_sequences[self.address] = self._sequence
        self._push.close()

    def _end(self) -> EndOfStream:
        return EndOfStream(btid=self.btid, sequence=self._sequence, address=self.address)

    def _failure(self, error: str, traceback: str) -> Failure:
        return Failure(btid=self.btid, sequence=self._sequence, address=self.address, error=error, traceback=traceback)

    def _delivered(self, sequence: int) -> None:
        # A consumer of this launch folder has claimed it already; one on another machine cannot.
        if self._record is not None:
            with suppress(BlendtorchError):  # the disk is full: it would come again
                self._record.claim(sequence)


def close_all(publishers: Iterable[DataPublisher]) -> None:
    """Say that streams have ended, and wait until everything is delivered, or nobody wants it any more.

    Together: a consumer of several may wait for the end of one before it reads on at another.
    """
    _leave({each: (each._end(), each._lingerms) for each in publishers})


def fail_all(publishers: Iterable[DataPublisher], error: str, traceback: str) -> None:
    """Tell the consumers that the script has failed, as far as they listen in time, and close."""
    _leave({each: (each._failure(error, traceback), _FAREWELL_MS) for each in publishers})


def _leave(lasts: dict[DataPublisher, tuple[EndOfStream | Failure, int]]) -> None:
    begin = time.monotonic()
    lasts = {each: last for each, last in lasts.items() if each in open_publishers}
    for each in lasts:
        if each._status is not None:
            each._status.waiting()
    warn_at = begin + _LONELY_S
    while lasts:
        for each, (last, timeout_ms) in list(lasts.items()):
            over = each._push.farewell(last, _LOOK_MS if len(lasts) == 1 else _LOOK_MS // 10)
            late = 0 <= timeout_ms <= (time.monotonic() - begin) * 1000
            if over or late or (each._abandoned is not None and each._abandoned()):
                each.abandon()
                del lasts[each]
        if lasts and time.monotonic() > warn_at:
            warn_at = math.inf
            print(f"blendtorch: {len(lasts)} publishers wait for consumers to take the rest", file=sys.stderr, flush=True)


def _make_ring(slots: int) -> Ring | None:
    if slots == 0:
        return None
    try:
        return Ring(slots)
    except RingError as error:
        warnings.warn(f"samples travel by socket: {error}", stacklevel=3)
        return None
