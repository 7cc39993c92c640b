"""PUSH and PULL sockets that carry messages: the only module that knows zmq.

Blender binds a `Push`, each consumer connects a `Pull` to all of them. Messages are fair-queued, each goes to exactly
one consumer, and one consumer sees the messages of each instance in order. Queues are bounded on both sides: when a
consumer is slow its queues fill up and `Push.send` waits. Nothing else controls the flow.
"""

import errno
import functools
import os
import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import zmq
from blendtorch.core import wire
from blendtorch.core.errors import AddressError, BlendtorchError
from blendtorch.core.messages import Message
from zmq.utils.monitor import recv_monitor_message

DEFAULT_QUEUE_SIZE = 10
MAX_IPC_PATH_BYTES = 107  # sockaddr_un.sun_path, with its final zero
_INTERRUPT_MS = 200  # Python sees signals at least so often while a socket waits
_FAREWELL_PAUSE_MS = 50


@functools.cache
def _push_context(process: int) -> zmq.Context[zmq.Socket[bytes]]:  # noqa: ARG001 - a forked process needs its own
    """Make the context of all senders of a process; it is never terminated.

    To terminate one per sender hung once in a hundred times, where a consumer left just then.
    """
    return zmq.Context()


class Push:
    """The sending end: binds, and queues for the consumers that are connected.

    Parameters
    ----------
    address : str
        `tcp://host:port` or `ipc:///path`.
    queue_size : int
        Messages queued per consumer before `send` waits.
    linger_ms : int
        How long queued messages may still leave after `close`, which does not wait; -1 for as long as the process lives.

    Raises
    ------
    AddressError
        If the address is malformed or in use.
    """

    def __init__(self, address: str, queue_size: int = DEFAULT_QUEUE_SIZE, linger_ms: int = -1) -> None:
        self.address = address
        check_address(address)
        self._socket = _push_context(os.getpid()).socket(zmq.PUSH)
        self._socket.set_hwm(queue_size)
        self._socket.setsockopt(zmq.LINGER, linger_ms)
        # Queue only for consumers whose handshake is done: what is queued for one that never comes is lost.
        self._socket.setsockopt(zmq.IMMEDIATE, 1)
        self._socket.copy_threshold = 0  # the parts own their memory: hand it over, do not copy it a second time
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self._consumers: set[int] = set()
        try:
            _refuse_taken_path(address)
            self._socket.bind(address)
        except (zmq.ZMQError, AddressError) as error:
            self.close(linger_ms=0)
            raise error if isinstance(error, AddressError) else _bind_error(address, error) from None

    def send(self, parts: Sequence[wire.Part], timeout_ms: int | None = None) -> bool:
        """Queue one encoded message; wait while every queue is full, or no consumer is connected.

        Parameters
        ----------
        parts : sequence of bytes-like
            From `wire.encode`. Their memory belongs to the socket from now on.
        timeout_ms : int, optional
            Give up after so long. None waits for ever.

        Returns
        -------
        bool
            Whether the message was queued.
        """
        deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        while not self._send_now(parts):
            if deadline is not None and time.monotonic() >= deadline:
                return False
            self._socket.poll(_INTERRUPT_MS if deadline is None else _remaining_ms(deadline), zmq.POLLOUT)
        return True

    def farewell(self, parts: Sequence[wire.Part], timeout_ms: int | None = None) -> bool:
        """Send a last message to every consumer, and wait until each of them has disconnected.

        Each consumer disconnects when it reads the message, which comes after all that was sent to it before. Without
        this, what a consumer has not read when the sender closes may be lost: libzmq gives up a connection whose other
        end is closed as soon as its own queue is full.

        Parameters
        ----------
        parts : sequence of bytes-like
            From `wire.encode`.
        timeout_ms : int, optional
            Give up after so long. None waits for ever.

        Returns
        -------
        bool
            Whether no consumer is left.
        """
        deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1000
        while self._follow_consumers():
            if deadline is not None and time.monotonic() >= deadline:
                return False
            # Messages go round: so many reach every consumer whose queue has room. The others get theirs in a later round.
            for _ in range(len(self._consumers)):
                self._send_now(parts)
            self._monitor.poll(_FAREWELL_PAUSE_MS)
        return True

    def close(self, linger_ms: int | None = None) -> None:
        """Close; what is queued may still leave for `linger_ms` (default: as constructed). Closing twice does nothing."""
        if not self._socket.closed:
            self._socket.disable_monitor()
            self._monitor.close(0)
            self._socket.close(linger_ms)

    def _send_now(self, parts: Sequence[wire.Part]) -> bool:
        self._follow_consumers()
        try:
            self._socket.send_multipart(parts, copy=False, flags=zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def _follow_consumers(self) -> bool:
        # Read on every occasion: once 1000 events wait to be read, libzmq's thread waits too, and accepts nobody any more.
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._consumers.add(event["value"])  # its file descriptor
            else:
                self._consumers.discard(event["value"])
        return bool(self._consumers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Pull:
    """The receiving end: connects to any number of `Push` addresses, which need not exist yet.

    Parameters
    ----------
    addresses : sequence of str
    queue_size : int
        Messages queued per sender before that one has to wait.

    Attributes
    ----------
    connected : set of str
        The addresses whose sender is connected at present; brought up to date by `wait`.

    Raises
    ------
    AddressError
        If an address is malformed.
    """

    def __init__(self, addresses: Sequence[str], queue_size: int = DEFAULT_QUEUE_SIZE) -> None:
        for address in addresses:
            check_address(address)
        self.connected: set[str] = set()
        self._addresses = list(addresses)
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PULL)
        self._socket.set_hwm(queue_size)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, wire.MAX_PART_BYTES)  # libzmq allocates what a header claims
        self._socket.setsockopt(zmq.RECONNECT_IVL, 50)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_CONNECTED | zmq.EVENT_DISCONNECTED)
        try:
            for address in addresses:
                self._socket.connect(address)
        except zmq.ZMQError as error:
            self.close()
            raise AddressError(f"cannot connect to {address}: {error.strerror}") from None

    def wait(self, timeout_ms: int) -> bool:
        """Wait for a message, `timeout_ms` at most; return whether there is one."""
        if self._socket.closed:
            return False
        self._follow_connections()
        return bool(self._socket.poll(timeout_ms, zmq.POLLIN))

    def receive(self) -> Message:
        """Take the next message; waits until there is one.

        Raises
        ------
        DecodeError
            If what arrived is not a message that the schema allows. The next one may be.
        """
        # Frame.buffer is the memory that libzmq received into: ours alone, writable, freed with the last array over it.
        return wire.decode([part.buffer for part in self._socket.recv_multipart(copy=False)])

    def disconnect(self, address: str) -> str | None:
        """Disconnect from the sender that listens at `address`; what it has sent and is not yet received is lost.

        With the last sender this end closes.

        Returns
        -------
        str or None
            The address as this end knows it: a sender that listens on all interfaces, or behind a forwarded port, has
            another one in its messages. None where it cannot be told which one is meant, and nothing was done.
        """
        port = address.rpartition(":")[2]
        same_port = [ours for ours in self._addresses if ours.startswith("tcp:") and ours.rpartition(":")[2] == port]
        if address not in self._addresses:
            candidates = self._addresses if len(self._addresses) == 1 else same_port
            if len(candidates) != 1:
                return None
            address = candidates[0]
        self._addresses.remove(address)
        self.connected.discard(address)
        self._socket.disconnect(address)
        if not self._addresses:
            # A disconnection is carried out by later calls on the socket, and there may be none.
            self.close()
        return address

    def _follow_connections(self) -> None:
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)
            address = event["endpoint"].decode()
            if event["event"] == zmq.EVENT_CONNECTED:
                self.connected.add(address)
            else:
                self.connected.discard(address)

    def close(self) -> None:
        """Close; what lies in the queue is lost. Closing twice does nothing."""
        if not self._socket.closed:
            self._socket.disable_monitor()
            self._monitor.close(0)
            self._socket.close(0)
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def check_address(address: str) -> None:
    """Refuse an address that no socket understands.

    Raises
    ------
    AddressError
        Says what an address looks like.
    """
    protocol, separator, rest = address.partition("://")
    if not separator or not rest or protocol not in ("tcp", "ipc"):
        raise AddressError(f"{address!r} is no address: expected tcp://host:port or ipc:///path")
    if protocol == "ipc" and len(rest.encode()) > MAX_IPC_PATH_BYTES:
        raise AddressError(
            f"{address} is too long for a socket, {MAX_IPC_PATH_BYTES} bytes at most: "
            "use a shorter socket name, or a shorter TMPDIR"
        )
    if protocol == "tcp" and not rest.rpartition(":")[2].isdigit():
        raise AddressError(f"{address!r} has no port: expected tcp://host:port")


def _refuse_taken_path(address: str) -> None:
    """Refuse an ipc address where somebody listens: libzmq would take it over, and the other would wait for ever."""
    if address.startswith("ipc://"):
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(address.removeprefix("ipc://")) == 0:
                raise AddressError(f"{address} is in use: another publisher listens there")


def _bind_error(address: str, error: zmq.ZMQError) -> BlendtorchError:
    if error.errno == errno.EADDRINUSE:
        return AddressError(f"{address} is in use: another launch listens there; end it, or choose another start_port")
    return AddressError(f"cannot listen on {address}: {error.strerror}")


def _remaining_ms(deadline: float) -> int:
    return max(0, min(_INTERRUPT_MS, round((deadline - time.monotonic()) * 1000)))
