"""The receiving end of streams."""

import contextlib
import os
import secrets
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import zmq
from blendtorch.core import wire
from blendtorch.core.arrays import Buffer
from blendtorch.core.errors import AddressError, DecodeError, RingError
from blendtorch.core.messages import EndOfStream, Failure, Message
from blendtorch.core.ring import RingView
from blendtorch.core.transport import control
from blendtorch.core.transport.addresses import check_address
from blendtorch.core.transport.keys import Keys, unlock
from blendtorch.core.transport.locality import this_machine
from blendtorch.core.transport.push import DEFAULT_QUEUE_SIZE
from blendtorch.core.transport.sockets import NOBLOCK, is_readable
from zmq.utils.monitor import recv_monitor_message

_LOOK_S = 0.1  # so often connections are looked at
_FLUSH_MS = 1000  # for the last acknowledgements and the goodbye to leave
_RECONNECT_MS = 50, 1000
_SPARE = 64  # what a publisher asks and says beside messages; of those it sends no more than there is credit
_GIVEN_UP_S = 0.3
# libzmq hears nothing until a part has arrived as a whole: 60 s are for one of 1 GiB at 20 MB/s.
_HEARTBEAT_MS, _SILENCE_MS = 5000, 60_000


class Pull:
    """The receiving end: connects to any number of `Push` addresses, which need not exist yet.

    Parameters
    ----------
    addresses : sequence of str
    queue_size : int
        Messages that are on their way from each sender, or here and not acknowledged.
    ring : bool
        Use the shared memory of senders on this machine.
    keys : Keys, optional
        Of the launch, for tcp.
    allow_pickle : bool
        Accept pickled values. They can do what you can.

    Attributes
    ----------
    connected : set of str
        The addresses whose sender is connected at present; brought up to date by `wait`.
    origin : str
        The address of the message that `receive` returned last.
    nbytes : int
        Its size, arrays included.
    ended : set of str
        The addresses whose sender has sent its last message.

    Raises
    ------
    AddressError
        If an address is malformed.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        queue_size: int = DEFAULT_QUEUE_SIZE,
        ring: bool = True,
        keys: Keys | None = None,
        allow_pickle: bool = False,
    ) -> None:
        for address in addresses:
            check_address(address)
        self.ended: set[str] = set()
        self.origin = ""
        self.nbytes = 0
        self._allow_pickle = allow_pickle
        self._context = zmq.Context()
        self._poller = zmq.Poller()
        self._links: list[_Link] = []
        self._message: Message | None = None
        self._origin: tuple[_Link, int] | None = None
        self._received: tuple[_Link, int, int] | None = None
        self._next_look = 0.0
        try:
            for address in addresses:
                link = _Link(self._context, address, queue_size, ring, keys)
                self._links.append(link)
                self._poller.register(link.socket, zmq.POLLIN)
        except zmq.ZMQError as error:
            self.close()
            raise AddressError(f"cannot connect to {address}: {error.strerror}") from None
        except BaseException:
            self.close()
            raise

    @property
    def connected(self) -> set[str]:
        """The addresses whose sender is connected at present."""
        return {link.address for link in self._links if link.connected}

    def wait(self, timeout_ms: int) -> bool:
        """Wait for a message, `timeout_ms` at most; return whether there is one.

        Raises
        ------
        DecodeError
            If what arrived is not a message that the schema allows, or one is missing. The next one may be.
        """
        deadline = time.monotonic() + timeout_ms / 1000
        while self._message is None:
            now = time.monotonic()
            if now >= self._next_look:
                self._next_look = now + _LOOK_S
                for link in self._links:
                    link.follow()
            if not self._links:
                return False
            if ready := [link for link in self._links if is_readable(link.socket)]:
                self._read(ready)
            elif self._poller.poll(max(0, round(min(_LOOK_S, deadline - now) * 1000))):
                continue
            elif time.monotonic() >= deadline:
                return False
        return True

    def receive(self) -> Message:
        """Take the next message; waits until there is one.

        Its arrays are the caller's own once it is acknowledged: another consumer may get the same memory before.

        Raises
        ------
        DecodeError
            See `wait`.
        """
        while not self.wait(1000):
            pass
        message, self._message = self._message, None
        if message is None or self._origin is None:
            raise RuntimeError("wait() said that there is a message")
        link, number = self._origin
        self.origin, self.nbytes = link.address, link.nbytes
        self._received = (link, number, message.sequence)
        return message

    def acknowledge(self) -> None:
        """Say that the message which `receive` returned last is delivered: it is not sent to anybody again."""
        if self._received is not None:
            link, connection, sequence = self._received
            self._received = None
            link.acknowledge(connection, sequence)

    def close(self) -> None:
        """Close; what was not acknowledged is for other consumers. Closing twice does nothing."""
        for link in self._links:
            link.close()
        self._links = []
        self._message = self._origin = self._received = None  # and the slots that they hold
        self._context.term()

    def _read(self, ready: "list[_Link]") -> None:
        """Read the first message of the connections that are ready; they take turns."""
        for link in ready:
            message = link.read(self._allow_pickle)
            if message is None:
                continue
            self._links.remove(link)
            self._links.append(link)
            self._message, self._origin = message, (link, link.connection)
            if isinstance(message, (EndOfStream, Failure)):
                # It comes after everything that this sender had for us, and that is acknowledged, for it was taken before.
                self.ended.add(link.address)
                self._poller.unregister(link.socket)
                self._links.remove(link)
                link.close()
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class _Link:
    """The connection to one sender."""

    def __init__(
        self, context: "zmq.Context[zmq.Socket[bytes]]", address: str, credit: int, ring: bool, keys: Keys | None
    ) -> None:
        self.address = address
        self.connected = False
        self.connection = 0  # counts the welcomes
        self.nbytes = 0  # of the last message
        self._credit = credit
        self._use_ring = ring
        self._name = secrets.token_hex(8)
        self._session = -1
        self._stream = ""
        self._view: RingView | None = None
        self._column = -1
        self._number = 0
        self._yielded: deque[int] = deque(maxlen=credit)  # their acknowledgements may be lost with the connection
        self.socket = context.socket(zmq.DEALER)
        self._monitor = self.socket.get_monitor_socket(
            zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_CONNECT_RETRIED
        )
        self._gone_at: float | None = None  # when the connection was lost, until libzmq tries again
        try:
            self._set_options(keys)
            self.socket.connect(address)
        except BaseException:
            self.close()
            raise

    def _set_options(self, keys: Keys | None) -> None:
        self.socket.setsockopt(zmq.PROBE_ROUTER, 1)  # tells the sender of the first connection; of others see `follow`
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVHWM, self._credit + _SPARE)
        self.socket.setsockopt(zmq.MAXMSGSIZE, wire.MAX_PART_BYTES)  # libzmq allocates what a header claims
        self.socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS[0])
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MS[1])
        if self.address.startswith("tcp:"):
            # On this side only: the sender shall wait for a trainer that was stopped.
            self.socket.setsockopt(zmq.HEARTBEAT_IVL, _HEARTBEAT_MS)
            self.socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, _SILENCE_MS)
            if keys is not None:
                unlock(self.socket, keys)

    def follow(self) -> None:
        """Bring `connected` up to date, and tell the sender of a connection that was made again.

        To libzmq it is the connection of before, so that what that had brought may still be read here. With `ZMQ_IMMEDIATE` it
        would be another one, and that would be gone: a failing instance's last frames, and its failure.
        """
        again = False
        while is_readable(self._monitor):
            event = recv_monitor_message(self._monitor)["event"]
            if event == zmq.EVENT_CONNECT_RETRIED:
                self._gone_at = None
                continue
            again = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            self.connected = self.connected and again
            self._gone_at = None if again else time.monotonic()
        if again:
            with contextlib.suppress(zmq.Again):
                self.socket.send(b"", NOBLOCK)
        if self._gone_at is not None and time.monotonic() - self._gone_at > _GIVEN_UP_S:
            # libzmq does not, where a stranger listened who knows no ZMTP.
            self._gone_at = None
            with contextlib.suppress(zmq.ZMQError):
                self.socket.disconnect(self.address)
            self.socket.connect(self.address)

    def read(self, allow_pickle: bool) -> Message | None:
        """Read once; None where that was no message."""
        parts = self.socket.recv_multipart(NOBLOCK, copy=False)
        if len(parts) == 1 and not len(parts[0]):
            return None  # somebody asks whether we are there
        said = control.decode_from_publisher(parts[0].buffer)
        if isinstance(said, control.Welcome):
            self._greet(said)
            return None
        if said.number != self._number:
            missing, self._number = self._number, said.number + 1
            raise DecodeError(f"of what {self.address} sent, message {missing} is missing: got {said.number}")
        self._number += 1
        self.nbytes = sum(len(part) for part in parts[1:]) + sum(span[1] for span in said.spans if span is not None)
        try:
            # Frame.buffer is the memory that libzmq received into: ours alone, writable, freed with the last array over it.
            return wire.decode(self._gather(said, [part.buffer for part in parts[1:]]), allow_pickle=allow_pickle)
        except DecodeError:
            self.acknowledge(self.connection, said.sequence)  # it is not to come again
            raise

    def acknowledge(self, connection: int, sequence: int) -> None:
        """Tell the sender that a message is delivered."""
        self._yielded.append(sequence)
        if connection == self.connection and not self.socket.closed:
            self._say(control.Acknowledgement(sequences=[sequence]))

    def close(self) -> None:
        """Say goodbye; what was not acknowledged is for others."""
        if not self.socket.closed:
            self._say(control.Goodbye())
            self.follow()  # libzmq's thread may wait for room, and this one for that thread
            self.socket.disable_monitor()
            self._monitor.close(0)
            self.socket.close(_FLUSH_MS if self.connected else 0)
            if self._view is not None:
                self._view.close()
                self._view = None

    def _greet(self, welcome: control.Welcome) -> None:
        if welcome.session != self._session:
            self._session = welcome.session
            if not welcome.stream or welcome.stream != self._stream:
                self._yielded.clear()
            self._stream = welcome.stream
            if self._view is not None:
                self._view.close()
            self._view, self._column = None, -1
            if welcome.ring is not None and self._use_ring:
                try:
                    self._view = RingView(welcome.ring, welcome.column)
                    self._column = welcome.column
                except RingError:
                    pass  # on another machine, or in another container
        self.follow()  # the end of the connection before, if there was one
        self.connected = True
        self.connection += 1
        self._number = 0
        self._say(
            control.Hello(
                session=self._session,
                consumer=self._name,
                machine=this_machine(),
                pid=os.getpid(),
                credit=self._credit,
                column=self._column,
                yielded=list(self._yielded),
            )
        )

    def _gather(self, delivery: control.Delivery, parts: list[memoryview]) -> list[Buffer]:
        """Put the buffers of a message in their order: those of the slot, and those that came with it."""
        spans = [span for span in delivery.spans if span is not None]
        if not spans:
            return list(parts)
        if self._view is None:
            raise DecodeError(f"{self.address} names a slot of a ring that it has not shown")
        header, *own = parts or [memoryview(b"")]
        if len(own) + len(spans) != len(delivery.spans):
            raise DecodeError(f"{self.address} describes {len(delivery.spans)} buffers, and sent {len(own) + len(spans)}")
        try:
            shared = iter(self._view.open(delivery.slot, spans))
        except RingError as error:
            raise DecodeError(f"{self.address}: {error}") from None
        rest = iter(own)
        return [header, *(next(rest) if span is None else next(shared) for span in delivery.spans)]

    def _say(self, what: control.Hello | control.Acknowledgement | control.Goodbye) -> None:
        with contextlib.suppress(zmq.Again):  # the sender has stopped; a hello tells it what was delivered when it is back
            self.socket.send(control.encode(what), NOBLOCK)
