"""The sending end of a stream."""

import os
import secrets
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import msgspec
import zmq
from blendtorch.core import wire
from blendtorch.core.errors import AddressError, DecodeError
from blendtorch.core.messages import EndOfStream, Failure, Message
from blendtorch.core.ring import Ring
from blendtorch.core.transport import control
from blendtorch.core.transport.addresses import bind_error, check_address, is_loopback, refuse_taken_path, wait_for_free_path
from blendtorch.core.transport.columns import Columns
from blendtorch.core.transport.keys import Keys, guard, push_context
from blendtorch.core.transport.locality import is_alive, local_pid
from blendtorch.core.transport.outbox import Consumer, Outbox, Parcel
from blendtorch.core.transport.packing import Packing
from blendtorch.core.transport.sockets import NOBLOCK, is_readable, send
from zmq.utils.monitor import recv_monitor_message

DEFAULT_QUEUE_SIZE = 10
_INTERRUPT_MS = 200  # Python sees signals at least so often while a socket waits
_PING_PAUSES_S = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)  # after a disconnection, until libzmq knows whose it was
_MAX_PINGS = 50  # to one who says nothing: they lie in its queue, and a full one breaks the connection
_SPARE = 64  # what may wait to leave for a consumer beside messages
_AT_ONCE = 200  # of what was said is heard before anything is sent: somebody may talk without end
_MOST_LOST = 2  # without keys, where anybody may say to be another machine's
_GRACE_S = 30.0  # for a consumer on another machine to come back
# A machine that has vanished is noticed after 30 s when it was idle, after a minute when something was on its way.
_KEEPALIVE = {zmq.TCP_KEEPALIVE_IDLE: 10, zmq.TCP_KEEPALIVE_INTVL: 5, zmq.TCP_KEEPALIVE_CNT: 4, zmq.TCP_MAXRT: 60_000}
_CONTROL_BYTES = 1 << 16


class Push:
    """The sending end: binds, keeps each message until it is delivered, and sends it to one consumer at a time.

    Parameters
    ----------
    address : str
        `tcp://host:port` or `ipc:///path`.
    queue_size : int
        Messages that one consumer may hold before `send` waits; a consumer may ask for fewer.
    ring : Ring, optional
        Shared memory for consumers that reach it; closed with this end.
    keys : Keys, optional
        Of the launch, for tcp.
    stream : str
        A name for the sequence numbers, where another process may go on with them.
    delivered : callable, optional
        Told the sequence number of each message that is delivered, perhaps more than once, and perhaps of one that a process
        before had sent.

    Attributes
    ----------
    ring_misses : int
        Messages whose arrays found no free slot and travelled as buffers of their own.

    Raises
    ------
    AddressError
        If the address is malformed or in use, or others could connect to it and there are no keys.
    """

    def __init__(
        self,
        address: str,
        queue_size: int = DEFAULT_QUEUE_SIZE,
        ring: Ring | None = None,
        keys: Keys | None = None,
        stream: str = "",
        delivered: Callable[[int], object] | None = None,
    ) -> None:
        self.address = address
        check_address(address)
        if address.startswith("tcp:") and keys is None and not is_loopback(address):
            raise AddressError(
                f"{address} can be reached from other machines: give `keys`, or listen on tcp://127.0.0.1 or an ipc:// path"
            )
        self.ring_misses = 0
        self._queue_size = queue_size
        self._ring = ring
        self._columns = None if ring is None else Columns(ring)
        self._has_keys = keys is not None and address.startswith("tcp:")
        self._stream = stream
        self._tell_delivered = delivered
        self._outbox = Outbox(self._delivered)
        self._session = secrets.randbits(62)
        self._pings: list[float] = []  # when to look who is gone
        self._welcomed: set[bytes] = set()
        self._gone: set[bytes] = set()  # connections that are lost, and may have brought something that is not read yet
        self._socket = push_context(os.getpid()).socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # to learn who is gone
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.SNDHWM, queue_size + _SPARE)  # for each connection; some may never read
        self._socket.setsockopt(zmq.MAXMSGSIZE, _CONTROL_BYTES)  # libzmq allocates what a header claims
        self._socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            self._socket.setsockopt(option, value)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        try:
            if keys is not None and self._has_keys:
                guard(self._socket, keys, str(self._session))
            refuse_taken_path(address)
            self._socket.bind(address)
        except zmq.ZMQError as error:
            self.close()
            raise bind_error(address, error) from None
        except BaseException:
            self.close()
            raise

    def pack(self, message: Message, convert: wire.Convert | None = None, allow_pickle: bool = False) -> Parcel:
        """Encode a message: a snapshot of its arrays, in a slot of the ring where one is free.

        Raises
        ------
        EncodeError
            See `wire.encode`.
        """
        packing = Packing(self._ring)
        try:
            parts = wire.encode(message, convert, allow_pickle=allow_pickle, allocate=packing.allocate)
        except BaseException:
            packing.cancel()
            raise
        self.ring_misses += packing.missed
        return packing.parcel(message.sequence, parts)

    def send(self, parcel: Parcel, timeout_ms: int | None = None) -> bool:
        """Hand a message to a consumer; wait while none has room for it.

        Parameters
        ----------
        parcel : Parcel
            From `pack`.
        timeout_ms : int, optional
            Give up after so long; the message may be sent again. None waits for ever.

        Returns
        -------
        bool
            Whether a consumer has it.
        """
        self._outbox.put(parcel)
        if self._wait(lambda: not self._outbox.waiting, timeout_ms):
            return True
        self._outbox.withdraw(parcel)
        return False

    def serve(self) -> None:
        """Read what the consumers say, and send what waits. Nothing else does while nothing is sent."""
        self._read_monitor()
        gone = list(self._gone)
        if self._read():  # also what those had said before they went
            for route in gone:
                self._gone.discard(route)
                self._lose(route)
        self._ping()
        self._outbox.expire(_GRACE_S, is_alive)
        self._dispatch()

    def drain(self, timeout_ms: int | None = None) -> bool:
        """Wait until everything is delivered, `timeout_ms` at most; return whether it is."""
        return self._wait(lambda: not self._outbox.outstanding(), timeout_ms)

    def farewell(self, last: EndOfStream | Failure, timeout_ms: int | None = None) -> bool:
        """Tell the consumers that this was all, and wait until everything is delivered and they have gone.

        Parameters
        ----------
        last : EndOfStream or Failure
        timeout_ms : int, optional
            Give up after so long. None waits for ever.

        Returns
        -------
        bool
            Whether everything is delivered.
        """
        parcel = self.pack(last)

        def over() -> bool:
            for consumer in self._outbox.consumers:
                # Who is told gets nothing any more: what somebody held who is gone is to be sent before.
                if self._outbox.waiting or self._gone:
                    break
                if consumer.lost_at is None and not consumer.told:
                    consumer.told = self._hand(consumer, parcel)
            return not self._outbox.outstanding() and not self._outbox.consumers

        return self._wait(over, timeout_ms)

    def close(self) -> None:
        """Close; what is not delivered is lost. Closing twice does nothing."""
        if not self._socket.closed:
            self._read_monitor()  # libzmq's thread may wait for room, and this one for that thread
            self._socket.disable_monitor()
            self._monitor.close(0)
            self._socket.close(0)
            wait_for_free_path(self.address)  # for who opens it again at once
            if self._ring is not None:
                self._ring.close()
                self._ring = self._columns = None
            # Nothing refers back to here any more: the memory of slots goes now, and not when Python looks for cycles.
            self._outbox, self._tell_delivered = Outbox(_forget), None

    def _wait(self, ready: Callable[[], bool], timeout_ms: int | None) -> bool:
        deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        while True:
            self.serve()
            if ready():
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False
            slice_ms = 0 if self._gone else _INTERRUPT_MS
            if self._pings:
                slice_ms = max(0, min(slice_ms, round((self._pings[0] - time.monotonic()) * 1000)))
            if deadline is not None:
                slice_ms = max(0, min(slice_ms, round((deadline - time.monotonic()) * 1000)))
            # A disconnection makes no noise here: what a killed consumer held waits for this look, or for the next.
            self._socket.poll(slice_ms, zmq.POLLIN)

    def _read(self) -> bool:
        """Hear what consumers say; return whether that was all."""
        for _ in range(_AT_ONCE):
            if not is_readable(self._socket):
                return True
            parts = self._socket.recv_multipart(NOBLOCK)
            if len(parts) == 2:
                self._hear(parts[0], parts[1])
        return False

    def _read_monitor(self) -> None:
        # Read on every occasion: once 1000 events wait to be read, libzmq's thread waits too, and accepts nobody any more.
        while is_readable(self._monitor):
            recv_monitor_message(self._monitor)
            self._pings = [time.monotonic() + pause for pause in _PING_PAUSES_S]

    def _ping(self) -> None:
        """Look who is gone: an event of libzmq does not say whose connection it was."""
        if not self._pings or time.monotonic() < self._pings[0]:
            return
        self._pings = self._pings[1:]
        for route in [*self._outbox.routes, *self._welcomed]:
            consumer = self._outbox.find(route)
            if consumer is not None:
                consumer.pings += 1
                if consumer.pid is not None and not is_alive(consumer.pid):
                    self._gone.add(route)
                    continue
            if consumer is None or consumer.pings <= _MAX_PINGS:
                self._send(route, [b""])

    def _hear(self, route: bytes, body: bytes) -> None:
        if not body:
            self._welcome(route)
            return
        try:
            said = control.decode_from_consumer(body)
        except DecodeError:
            return  # a stranger: nothing of it is kept
        if (consumer := self._outbox.find(route)) is not None:
            consumer.pings = 0
        if isinstance(said, control.Acknowledgement):
            self._outbox.acknowledge(route, said.sequences)
        elif isinstance(said, control.Goodbye):
            self._outbox.leave(route)
        elif said.session == self._session and route in self._welcomed:
            self._welcomed.discard(route)
            pid, column = local_pid(said.machine, said.pid), None
            if self._columns is not None and pid is not None:
                others = [each.ring for each in self._outbox.consumers if each.name != said.consumer]
                column = self._columns.settle(route, said.column, pid, others)
            credit = max(1, min(said.credit, self._queue_size))
            consumer = Consumer(said.consumer, route, credit, column, pid)
            # Who has the keys is believed what it yielded of a process before; others on this machine claim that themselves.
            goes_on = bool(self._stream) and self._has_keys
            self._outbox.join(consumer, said.yielded, goes_on)
            for sequence in said.yielded if goes_on else ():
                self._note_delivered(sequence)

    def _welcome(self, route: bytes) -> None:
        if route not in self._welcomed and self._outbox.find(route) is None:
            self._welcomed.add(route)
            welcome = control.Welcome(session=self._session, stream=self._stream)
            if self._ring is not None and self._columns is not None:
                column = self._columns.offer(route, [consumer.ring for consumer in self._outbox.consumers])
                if column is not None:
                    welcome = msgspec.structs.replace(welcome, ring=self._ring.descriptor, column=column)
            self._send(route, [control.encode(welcome)])

    def _dispatch(self) -> None:
        blocked: set[bytes] = set()
        while self._outbox.waiting and (consumer := self._outbox.choose(blocked)) is not None:
            if self._hand(consumer, self._outbox.waiting[0]):
                self._outbox.hand_over(consumer)
            else:
                blocked.add(consumer.route)

    def _hand(self, consumer: Consumer, parcel: Parcel) -> bool:
        slot, spans = -1, parcel.spans
        if parcel.slot is not None and consumer.ring is not None:
            slot = parcel.slot.number
        else:
            spans = [None] * len(parcel.spans)
        delivery = control.Delivery(number=consumer.number, sequence=parcel.sequence, slot=slot, spans=spans)
        buffers = [part for part, span in zip(parcel.parts[1:], spans, strict=True) if span is None]
        return self._send(consumer.route, [control.encode(delivery), parcel.parts[0], *buffers])

    def _send(self, route: bytes, parts: list[wire.Part]) -> bool:
        try:
            send(self._socket, [route, *parts])
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._gone.add(route)
            return False
        return True

    def _lose(self, route: bytes) -> None:
        if route in self._welcomed:
            self._welcomed.discard(route)
            if self._columns is not None:
                self._columns.withdraw(route)
        consumer = self._outbox.find(route)
        if consumer is None:
            return
        # Sockets of this machine do not lose a connection while both ends live, and of a process here we know if it does.
        if self.address.startswith("ipc:") or (consumer.pid is not None and not is_alive(consumer.pid)):
            self._outbox.leave(route)
        else:
            self._outbox.lose(route)
            if not self._has_keys:
                self._outbox.limit_lost(_MOST_LOST)

    def _delivered(self, parcel: Parcel) -> None:
        if parcel.slot is not None and self._ring is not None:
            self._ring.free(parcel.slot)
        self._note_delivered(parcel.sequence)

    def _note_delivered(self, sequence: int) -> None:
        if self._tell_delivered is not None:
            self._tell_delivered(sequence)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _forget(parcel: Parcel) -> None:
    """Of a closed sender."""
