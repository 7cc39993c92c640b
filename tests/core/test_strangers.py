"""Strangers who reach our sockets: what they can do, which is nothing.

Frames stream from an honest publisher to an honest dataset while strangers attack one of the two. Whatever they do: the dataset
gets every frame exactly once, or an error of ours says what came; nothing stands still for 5 s; memory does not grow; and
nothing of what came is executed.

Attacks on bytes go against six sockets: a publisher's and a consumer's, each on ipc, on tcp, and on tcp with keys. A consumer is
attacked by who listens where a publisher should. Attacks on messages need a socket that strangers can speak to: one without keys.
"""

import contextlib
import os
import pathlib
import pickle
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np
import psutil
import pytest
import zmq
from blendtorch import btt
from blendtorch.core import Frame
from blendtorch.core.errors import BlendtorchError, DecodeError, StreamTimeoutError, VersionError
from blendtorch.core.ring import COLUMNS, Ring, RingDescriptor
from blendtorch.core.transport import Keys, Pull, Push, control
from blendtorch.core.transport import push as push_module
from blendtorch.core.transport.locality import this_machine

HANG_S = 5.0
MEMORY_BYTES = 50 << 20
MORE, LONG, COMMAND = 1, 2, 4  # flags of a ZMTP frame
HUGE = 2**62
_MEETINGS = 40  # of a consumer with strangers
SOCKETS = [f"{side}-{way}" for side in ("publisher", "consumer") for way in ("ipc", "tcp", "keys")]
OPEN = ["ipc", "tcp"]  # without keys


# The honest ends.


class Stream:
    """A publisher in a thread, and a dataset that is to get each of its frames once."""

    def __init__(self, address, hostile=(), keys=None, nbytes=5000, name=""):
        self._told = set()  # what counts as delivered
        self.push = Push(address, ring=Ring(16, 1 << 16), keys=keys, stream=name, delivered=self._told.add)
        self.dataset = btt.RemoteIterableDataset(
            [address, *hostile], timeoutms=round(HANG_S * 1000), keys=keys and keys.for_consumers()
        )
        self.numbers, self.errors = [], []
        self.longest_s = 0.0
        self.pause_s = 0.0  # after each frame
        self._nbytes = nbytes
        self._count = None  # of all frames; known when the last one came
        self._kept = []  # the dataset's user may keep arrays as long as it likes
        self._iterator = iter(self.dataset)
        self._process = psutil.Process()
        self._peak_bytes = 0
        self._stop, self._abandoned = threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(2)
        self._publishing = self._pool.submit(self._publish)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._abandoned.set()
        self.dataset.close()
        self._pool.shutdown()
        self.push.close()

    def during(self, attack, late=False, memory_bytes=MEMORY_BYTES):
        """Take frames as long as the attack lasts and some more; `late`: the dataset comes when it has begun."""
        if not late:
            self.take(20)
        before, self._peak_bytes = self._process.memory_info().rss, 0
        attacking = self._pool.submit(attack)
        self.take_until(attacking.done)
        attacking.result()
        self.take(20)
        assert self._peak_bytes - before < memory_bytes, f"memory grew by {self._peak_bytes - before >> 20} MB"

    def take(self, count):
        enough = len(self.numbers) + count
        self.take_until(lambda: len(self.numbers) >= enough)

    def take_until(self, enough, limit_s=30.0):
        """Take frames; an error of ours is noted, and taking goes on."""
        begin = last = time.monotonic()
        while not enough():
            assert time.monotonic() - begin < limit_s, "what was waited for does not come"
            try:
                item = next(self._iterator)
            except StreamTimeoutError:
                if self._publishing.done():
                    self._publishing.result()  # raises what has ended the publisher
                raise
            except BlendtorchError as error:
                self.errors.append(error.with_traceback(None))
                self._iterator = iter(self.dataset)
                continue
            now = time.monotonic()
            self.longest_s, last = max(self.longest_s, now - last), now
            self._peak_bytes = max(self._peak_bytes, self._process.memory_info().rss)
            assert (item["x"] == item["number"] % 251).all()
            self.numbers.append(item["number"])
            if item["last"]:
                self._count = item["number"] + 1
            if len(self._kept) < 3:
                self._kept.append(item)
            time.sleep(self.pause_s)

    def finish(self):
        """Stop publishing, take the rest, and see that everything came once and stayed what it was."""
        self._stop.set()
        self.take_until(lambda: self._count is not None and len(self.numbers) >= self._count)
        assert self._publishing.result(HANG_S), "not everything is delivered"
        assert sorted(self.numbers) == list(range(self._count))
        assert self._told == set(self.numbers)
        assert self.longest_s < HANG_S
        for item in self._kept:
            assert (item["x"] == item["number"] % 251).all(), "memory was given out again that the dataset's user still has"

    @property
    def consumers(self):
        return len(self.push._outbox.consumers)

    def _publish(self):
        number = 0
        while not self._stop.is_set():
            self._send(number, last=False)
            number += 1
            time.sleep(0.002)
        self._send(number, last=True)
        return self._abandoned.is_set() or self.push.drain(round(HANG_S * 1000))

    def _send(self, number, last):
        data = {"number": number, "last": last, "x": np.full(self._nbytes, number % 251, np.uint8)}
        parcel = self.push.pack(Frame(btid=0, sequence=number, data=data))
        deadline = time.monotonic() + HANG_S
        while not (self.push.send(parcel, 100) or self._abandoned.is_set()):
            assert time.monotonic() < deadline, f"nobody takes frame {number}"


# The strangers.


class Door:
    """Where strangers meet one of our sockets. They dial a publisher; a consumer dials them.

    A consumer is given many hostile addresses, each for one connection.
    """

    def __init__(self, name, folder):
        side, way = name.split("-")
        self.at_consumer = side == "consumer"
        self.keys = Keys.make() if way == "keys" else None
        self.kind = b"ROUTER" if self.at_consumer else b"DEALER"  # what the stranger claims to be
        self._sockets = contextlib.ExitStack()
        self._listeners, self._hostile = [], []
        for number in range(_MEETINGS if self.at_consumer else 0):
            listener = self._sockets.enter_context(listen(f"ipc://{folder}/{number}" if way == "ipc" else "tcp://127.0.0.1:0"))
            self._listeners.append(listener)
            name = listener.getsockname()
            self._hostile.append(f"ipc://{name}" if way == "ipc" else f"tcp://127.0.0.1:{name[1]}")
        self.honest = address_on("ipc" if way == "ipc" else "tcp", folder, "honest")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave()

    def leave(self):
        """Close all connections of strangers."""
        self._sockets.close()

    def stream(self, **arguments):
        return Stream(self.honest, self._hostile, keys=self.keys, **arguments)

    def meet(self):
        """Connect once more."""
        return self._listeners.pop().accept()[0] if self.at_consumer else dial(self.honest)

    def shake_hands(self):
        """Connect once more, and speak ZMTP until messages can follow, which an end with keys does not let happen."""
        connection = self.meet()
        if shake_hands(connection, self.kind) != (self.keys is None):
            connection.close()
            pytest.fail("the handshake has failed, or has not though there are keys")
        return connection

    def hold(self, connection):
        """Leave a connection open until the end of the test."""
        self._sockets.enter_context(connection)


@pytest.fixture
def door(request, short_tmp):
    with Door(request.param, short_tmp) as door:
        yield door


every_socket = pytest.mark.parametrize("door", SOCKETS, indirect=True)


def address_on(way, folder, name):
    if way == "ipc":
        return f"ipc://{folder}/{name}"
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def listen(address):
    protocol, _, where = address.partition("://")
    if protocol == "tcp":
        listener = socket.create_server(("127.0.0.1", int(where.rpartition(":")[2])))
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(where)
        listener.listen()
    listener.settimeout(HANG_S)
    return listener


def dial(address):
    protocol, _, where = address.partition("://")
    if protocol == "tcp":
        return socket.create_connection(("127.0.0.1", int(where.rpartition(":")[2])), HANG_S)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(where)  # waits where many wait already, which it would not with a time-out
    connection.settimeout(HANG_S)
    return connection


def greeting(mechanism=b"NULL", version=b"\x03\x00"):
    return b"\xff" + bytes(8) + b"\x7f" + version + mechanism.ljust(20, b"\0") + bytes(32)


def frame(body, flags=0, claim=None):
    """Make one frame of ZMTP; `claim` is what its header says of its size."""
    size = len(body) if claim is None else claim
    if size > 255 or flags & LONG:
        return bytes([flags | LONG]) + struct.pack(">Q", size) + body
    return bytes([flags, size]) + body


def ready(kind):
    return frame(b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind, COMMAND)


def tell(connection, *said):
    """Send, though the other end may have hung up already."""
    with contextlib.suppress(OSError):
        for what in said:
            connection.sendall(what)


def shake_hands(connection, kind):
    """Speak ZMTP until messages can follow; return whether they can."""
    tell(connection, greeting(), ready(kind))
    heard = b""
    with contextlib.suppress(OSError):
        while b"\x05READY" not in heard and (more := connection.recv(4096)):
            heard += more
    return b"\x05READY" in heard


def hangs_up(connection):
    """Whether the other end closes a connection."""
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class Visitor:
    """Talks to a publisher as a consumer does, and lies."""

    def __init__(self, address):
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RCVHWM, 1)  # takes no more than it is made to
        self._socket.connect(address)
        try:
            self.say(b"")
            self.welcome = control.decode_from_publisher(self.hear()[0])
        except BaseException:
            self._context.destroy(0)
            raise

    def say(self, what):
        self._socket.send(what)

    def hello(self, **lies):
        fine = {"machine": this_machine(), "pid": os.getpid(), "credit": 10, "yielded": []}
        fine |= {"session": self.welcome.session, "column": self.welcome.column, "consumer": f"stranger {random.random()}"}
        self.say(control.encode(control.Hello(**{**fine, **lies})))

    def listen(self):
        """Wait a moment for something to come."""
        self._socket.poll(50)

    def hear(self):
        """Return the next message that is not empty."""
        while self._socket.poll(HANG_S * 1000):
            if any(parts := self._socket.recv_multipart()):
                return parts
        raise AssertionError("the publisher says nothing")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._context.destroy(0)


class Imposter:
    """Listens where a publisher should. Says the welcomes, one for each answer, and then the messages."""

    def __init__(self, address, welcomes, messages=(), keys=None):
        self.heard = []
        self._welcomes, self._messages = list(welcomes), list(messages)
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.LINGER, 0)
        if keys is not None:
            self._socket.curve_server = True
            self._socket.curve_publickey, self._socket.curve_secretkey = (
                keys.server_public.encode(),
                keys.server_secret.encode(),
            )
        self._socket.bind(address)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        self._context.destroy(0)

    def _listen(self):
        while not self._stop.is_set():
            if not self._socket.poll(20):
                continue
            route, said = self._socket.recv_multipart()
            self.heard.append(said)
            hello = control.decode_from_consumer(said) if said else None
            if self._welcomes and not isinstance(hello, control.Acknowledgement):
                self._socket.send_multipart([route, control.encode(self._welcomes.pop(0))])
            elif isinstance(hello, control.Hello):
                number = 0
                for message in self._messages:
                    claims, *parts = message
                    if isinstance(claims, dict):
                        claims = {"number": number, "sequence": number, **claims}
                        number += 1
                        parts = [control.encode(control.Delivery(**claims)), *parts]
                    self._socket.send_multipart([route, *parts])
                self._messages = []


def header(data, kind="frame/1"):
    return msgspec.msgpack.encode({"type": kind, "btid": 1, "sequence": 0, "data": data})


def tagged(kind):
    return msgspec.msgpack.encode({"type": kind, "more": HUGE})


def extension(code, *content):
    return msgspec.msgpack.Ext(code, msgspec.msgpack.encode(content if len(content) > 1 else content[0]))


# Attacks on bytes.


@every_socket
def test_a_port_scanner_hinders_nobody(door):
    """Hundreds of connections say nothing: they close at once, are reset, or stay. An honest consumer comes after them."""

    def scan():
        for _ in range(10 if door.at_consumer else 200):
            door.meet().close()
        for _ in range(10 if door.at_consumer else 50):
            reset(door.meet())
        for _ in range(10 if door.at_consumer else 100):
            door.hold(door.meet())
        half = door.meet()
        half.shutdown(socket.SHUT_WR)
        door.hold(half)

    with door.stream() as stream:
        files = psutil.Process().num_fds()
        stream.during(scan, late=not door.at_consumer)
        door.leave()
        assert stream.consumers == 1
        if not door.at_consumer:  # it has closed its side of all connections but the consumer's
            stream.take_until(lambda: psutil.Process().num_fds() < files + 30, HANG_S)
        stream.finish()
        assert not stream.errors


@every_socket
def test_random_bytes_hinder_nobody(door):
    """On a fresh connection, in the middle of a greeting, after it, and after a handshake; also other protocols and versions."""
    chance = random.Random(1)
    begins = [
        b"",
        b"\xff" + bytes(8) + b"\x7f",
        greeting(),
        greeting(b"PLAIN"),
        greeting(b"CURVE"),
        greeting(b"CURVE") + frame(b"\x05HELLO" + b"\x01\x00" + bytes(72), COMMAND),
        greeting(version=b"\x01\x05")[:12] + frame(b""),  # ZMTP 2, which knows no keys
        b"\x01\x00\x01\x00\x06\x00noise",  # ZMTP 1, which knows no greeting either
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ]

    def babble():
        for begin in begins:
            with door.meet() as connection:
                tell(connection, begin, chance.randbytes(chance.choice([1, 60, 200, 5000])))
        for _ in range(4):
            with door.shake_hands() as connection:
                tell(connection, chance.randbytes(5000))
        for _ in range(3):
            connection = door.shake_hands()
            tell(connection, frame(b""), frame(chance.randbytes(100)), frame(b"", MORE) + frame(chance.randbytes(300)))
            door.hold(connection)

    with door.stream() as stream:
        stream.during(babble)
        assert stream.consumers == 1
        stream.finish()
        assert all(isinstance(error, DecodeError) for error in stream.errors)
        assert door.at_consumer or not stream.errors


@every_socket
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "left open"])
def test_a_message_that_is_cut_off_hinders_nobody(door, closed):
    """In the greeting, in the handshake, in a frame, between the parts of a message."""
    if door.at_consumer:
        whole = [control.encode(control.Welcome(session=1)), b"x" * 70_000]
    else:
        hello = control.Hello(session=1, consumer="c", machine="m", pid=1, credit=9, column=-1, yielded=[])
        whole = [control.encode(hello), b"x" * 10_000]
    early = [
        greeting()[:1],
        greeting()[:11],
        greeting()[:40],
        greeting() + ready(door.kind)[:9],
        greeting(b"CURVE") + b"\x04\xc8\x05H",
    ]
    late = [frame(what)[:cut] for what in whole for cut in (1, 2, 8, -1)]
    late += [frame(whole[0], MORE), frame(whole[0], MORE) + frame(whole[1], MORE)[:-1], frame(b"\x04PING", COMMAND)[:-2]]

    def cut_off():
        for begins, what in [(False, what) for what in early] + [(True, what) for what in late]:
            connection = door.shake_hands() if begins else door.meet()
            tell(connection, what)
            if closed:
                connection.close()
            else:
                door.hold(connection)

    with door.stream() as stream:
        stream.during(cut_off)
        assert stream.consumers == 1
        stream.finish()
        assert not stream.errors


@every_socket
def test_a_frame_that_claims_2_to_the_62_bytes_takes_no_memory(door):
    """libzmq would allocate what a header claims: it is refused, or so much is claimed that pages are never touched."""
    claims = [
        greeting() + frame(b"\x05READY", COMMAND, HUGE),
        greeting() + frame(b"\x05READY\x0bSocket-Type\x7f\xff\xff\xff" + door.kind, COMMAND),
        greeting(b"CURVE") + frame(b"\x05HELLO", COMMAND, HUGE),
        greeting(version=b"\x01\x05")[:12] + frame(b"", LONG, HUGE),
        b"\xff" + struct.pack(">Q", HUGE) + b"\0",  # ZMTP 1
    ]
    most = 1 << 30 if door.at_consumer else 1 << 16
    refused = [frame(b"x" * 100, flags, claim) for flags in (0, MORE, COMMAND) for claim in (HUGE, 2**64 - 1, most + 1)]
    allowed = [frame(b"x" * 100, flags, most) for flags in (0, MORE)]

    def claim():
        for what in claims:
            with door.meet() as connection:
                tell(connection, what)
                connection.settimeout(0.05)
                with contextlib.suppress(OSError):
                    while connection.recv(4096):
                        pass
        for what in refused + allowed:
            with door.shake_hands() as connection:
                tell(connection, what)
                if what in refused:
                    assert hangs_up(connection)
                else:
                    time.sleep(0.02)

    with door.stream() as stream:
        stream.during(claim)
        assert stream.consumers == 1
        stream.finish()
        assert not stream.errors


@pytest.mark.parametrize("way", ["ipc", "tcp", "keys"])
def test_a_consumer_finds_its_publisher_where_strangers_have_listened(way, short_tmp):
    """A port was another program's for a while: nothing that this said keeps the consumer from coming back."""
    keys = Keys.make() if way == "keys" else None
    address = address_on("ipc" if way == "ipc" else "tcp", short_tmp, "socket")
    said = [b"HTTP/1.1 400 Bad Request\r\n\r\n", greeting()[:20], greeting() + ready(b"PUB")]
    said += [greeting(b"CURVE" if keys else b"NULL") + frame(b"x" * 10, COMMAND, HUGE)]
    said += [greeting() + ready(b"ROUTER") + what for what in (frame(b"x" * 100, 0, HUGE), b"\xff" * 100)]
    with Pull([address], keys=keys and keys.for_consumers()) as pull:
        with listen(address) as listener:
            for what in said:
                with accept_while_waiting(listener, pull, f"after {said[: said.index(what)][-1:]}") as connection:
                    tell(connection, what)
                    wait_for(pull, lambda: False, 0.05)
        (short_tmp / "socket").unlink(missing_ok=True)
        with Push(address, keys=keys) as push:
            parcel = push.pack(Frame(btid=0, sequence=7, data={}))
            wait_for(pull, lambda: push.send(parcel, 0), HANG_S)
            assert pull.wait(1000)
            assert pull.receive().sequence == 7


def wait_for(pull, condition, seconds):
    end = time.monotonic() + seconds
    while not (done := condition()) and time.monotonic() < end:
        assert not pull.wait(10) or done
    return done


def accept_while_waiting(listener, pull, when):
    connections = []

    def accept():
        with contextlib.suppress(TimeoutError):
            connections.append(listener.accept()[0])
        return connections

    listener.settimeout(0.01)
    assert wait_for(pull, accept, HANG_S), f"the consumer does not come back {when}"
    return connections[0]


# Attacks on messages: on a consumer.


@pytest.fixture(params=OPEN)
def addresses(request, short_tmp):
    """Of an honest publisher and of an imposter."""
    return [address_on(request.param, short_tmp, name) for name in ("honest", "hostile")]


def errors_of(addresses, messages, welcomes=None):
    """Stream from an honest publisher and from an imposter; return the errors that the imposter's messages give, in order."""
    welcomes = [control.Welcome(session=1)] if welcomes is None else welcomes
    with Imposter(addresses[1], welcomes, messages), Stream(addresses[0], addresses[1:]) as stream:
        stream.during(lambda: None)
        stream.take_until(lambda: len(stream.errors) >= len(messages))
        stream.during(lambda: None)
        stream.finish()
        return stream.errors


def test_a_ring_of_2_to_the_62_slots_is_not_mapped(addresses):
    """Neither is one that is as large as it says, in a file that has nothing in it."""
    with Ring(2, 4096) as ring:
        honest = ring.descriptor
        lies = [
            {"slots": HUGE},
            {"slot_bytes": HUGE},
            {"slots": HUGE, "slot_bytes": HUGE},
            {"slots": -HUGE, "slot_bytes": -HUGE},
            {"pid": HUGE},
            {"pid": -1, "fd": HUGE},
            {"token": b""},
        ]
        descriptors = [msgspec.structs.replace(honest, **lie) for lie in lies]
        file = os.memfd_create("hostile", os.MFD_ALLOW_SEALING)
        try:
            size = 64 * 64 + 4096 + 64 * (1 << 55)  # more than a process can address
            os.ftruncate(file, size)
            descriptors.append(RingDescriptor(pid=os.getpid(), fd=file, token=bytes(16), slots=64, slot_bytes=1 << 55))
            welcomes = [control.Welcome(session=number, ring=ring) for number, ring in enumerate(descriptors)]
            welcomes += [control.Welcome(session=99, ring=honest, column=column) for column in (HUGE, -1)]
            with Imposter(addresses[1], welcomes) as imposter, Stream(addresses[0], addresses[1:]) as stream:
                stream.during(lambda: None)
                stream.during(lambda: stream.take_until(lambda: len(imposter.heard) > len(welcomes)))
                views = [link._view for link in stream.dataset._receiver()._pull._links if link.address == addresses[1]]
                assert views == [None]
                hellos = [control.decode_from_consumer(said) for said in imposter.heard if said]
                assert [hello.column for hello in hellos] == [-1] * len(welcomes)
                stream.finish()
                assert not stream.errors
        finally:
            os.close(file)


def test_spans_and_shapes_of_2_to_the_62_bytes_are_refused(addresses):
    with Ring(2, 8192) as ring:
        [fine] = [slot.number for slot in [ring.take()] if slot.allocate(64) is not None]
        one = header({"x": extension(1, "|u1", [64], 0)})
        two = header({"x": extension(1, "|u1", [64], 0), "y": extension(1, "|u1", [64], 1)})
        messages = [
            ({"slot": HUGE, "spans": [(0, 64)]}, one),
            ({"slot": -HUGE, "spans": [(0, 64)]}, one),
            ({"slot": 2, "spans": [(0, 64)]}, one),
            ({"slot": fine, "spans": [(HUGE, 64)]}, one),
            ({"slot": fine, "spans": [(0, HUGE)]}, one),
            ({"slot": fine, "spans": [(-64, 128)]}, one),
            ({"slot": fine, "spans": [(0, -64)]}, one),
            ({"slot": fine, "spans": [(8192, 64)]}, one),
            ({"slot": fine, "spans": [(0, 64), (0, 64)]}, two),
            ({"slot": fine, "spans": [(0, 64)] * 5000}, one),
            ({"slot": fine, "spans": [(0, 64), None]}, two),
            ({"slot": fine, "spans": [(0, 64)]},),
            ({"number": HUGE}, one),
            ({"number": HUGE + 1, "spans": [None]}, header({"x": extension(1, "|u1", [HUGE], 0)}), b"x" * 64),
            *[
                ({"number": HUGE + 2 + place, "spans": [None]}, header({"x": extension(1, dtype, shape, 0)}), b"x" * 64)
                for place, (dtype, shape) in enumerate(
                    [("<f8", [2**31, 2**31]), ("|u1", [HUGE, 4]), (f"|S{2**33 - 1}", [HUGE])]
                )
            ],
        ]
        errors = errors_of(addresses, messages, [control.Welcome(session=1, ring=ring.descriptor)])
        assert [type(error) for error in errors] == [DecodeError] * len(messages)
        assert ring.take().number == 1
        assert ring.take() is None, "no slot is taken and none is held"


def test_a_consumer_names_both_versions_of_a_newer_message(addresses):
    inner = [({}, header({}, kind)) for kind in ("frame/2", "end/2", "failure/3")]
    outer = [(None, tagged(kind)) for kind in ("delivery/2", "welcome/2", "welcome/17")]
    errors = errors_of(addresses, inner + outer)
    assert [type(error) for error in errors] == [VersionError] * len(errors)
    for error, (name, version) in zip(
        errors,
        [("frame", 2), ("end", 2), ("failure", 3), ("delivery", 2), ("welcome", 2), ("welcome", 17)],
        strict=True,
    ):
        assert f"received version {version} of" in str(error)
        assert f"'{name}'" in str(error)
        assert "know version" in str(error)
        assert " 1: install the same version" in str(error)


class Bomb:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self._path,)


def test_a_pickle_is_not_loaded(addresses, tmp_path):
    """Wherever it stands: as a value, in a buffer of its own, as an array of objects, as a header, as a message."""
    pickle.loads(pickle.dumps(Bomb(tmp_path / "proof")))
    assert (tmp_path / "proof").exists(), "the bomb works"
    bomb = pickle.dumps(Bomb(tmp_path / "harm"))
    oldest = pickle.dumps(Bomb(tmp_path / "harm"), 0)
    messages = [
        ({}, header({"x": extension(11, bomb)})),
        ({}, header({"x": [{"y": extension(3, [extension(11, oldest), 1])}]})),
        ({"spans": [None]}, header({"x": extension(11, 0)}), bomb),
        ({"spans": [None]}, header({"x": extension(1, "|O", [len(bomb) // 8], 0)}), bomb[: len(bomb) // 8 * 8]),
        ({"spans": [None]}, bomb, bomb),
        ({}, oldest),
        (None, bomb),
        (None, oldest, bomb),
    ]
    errors = errors_of(addresses, messages)
    assert [type(error) for error in errors] == [DecodeError] * len(messages)
    assert "a pickled value, which is not loaded" in str(errors[0])
    assert not (tmp_path / "harm").exists()


def test_a_flood_does_not_hold_up_a_consumer(addresses):
    """Of what is no frame: questions whether it is there, welcomes, and noise, each of which is an error."""
    kinds = [frame(b""), frame(control.encode(control.Welcome(session=1))), frame(b"noise")]

    with listen(addresses[1]) as listener, Stream(addresses[0], addresses[1:]) as stream:

        def flood():
            for kind in kinds:
                with listener.accept()[0] as connection:
                    assert shake_hands(connection, b"ROUTER")
                    pour(connection, kind, 0.3)

        stream.during(flood)
        assert stream.longest_s < 1
        stream.finish()
        assert all(isinstance(error, DecodeError) for error in stream.errors)


def pour(connection, what, seconds):
    """Send the same again and again, as fast as the other end takes it."""
    end, many, place = time.monotonic() + seconds, memoryview(what * (1 + 65_536 // len(what))), 0
    connection.settimeout(0.2)
    while time.monotonic() < end:
        with contextlib.suppress(TimeoutError):
            place = (place + connection.send(many[place:])) % len(many)


# Attacks on messages: on a publisher.


@pytest.fixture(params=OPEN)
def address(request, short_tmp, monkeypatch):
    """Of a publisher that waits less for consumers elsewhere to come back, as strangers say they are, than 30 s."""
    monkeypatch.setattr(push_module, "_GRACE_S", 0.5)
    return address_on(request.param, short_tmp, "honest")


def test_a_publisher_ignores_newer_messages_and_pickles(address, tmp_path):
    """On a connection that it has welcomed, and on one that counts as a consumer."""
    bomb = pickle.dumps(Bomb(tmp_path / "harm"))
    said = [tagged(f"{name}/2") for name in ("hello", "acknowledgement", "goodbye", "welcome", "delivery")]
    said += [bomb, pickle.dumps(Bomb(tmp_path / "harm"), 0), msgspec.msgpack.encode(msgspec.msgpack.Ext(11, bomb))]
    said += [msgspec.msgpack.encode({"type": "acknowledgement/1", "sequences": extension(11, bomb)})]

    def speak():
        with Visitor(address) as new, Visitor(address) as known:
            known.hello(credit=1)
            known.hear()
            for what in said:
                new.say(what)
                known.say(what)
            time.sleep(0.3)  # both are still there
            assert stream.consumers == 2

    with Stream(address) as stream:
        stream.during(speak)
        stream.take_until(lambda: stream.consumers == 1)
        stream.finish()
        assert not stream.errors
    assert not (tmp_path / "harm").exists()


LIES = {
    "process numbers": [{"pid": pid} for pid in (2**40, HUGE, -1, 0, -HUGE, 1)],
    "columns of others": [{"column": column} for column in range(COLUMNS)],
    "yielded frames of others": [{"yielded": [HUGE, -HUGE, *range(5000)]}] * 10,
    "yielded frames of others, with a record": [{"yielded": [HUGE, -HUGE, *range(5000)]}],
    "counts": [
        {"credit": HUGE},
        {"credit": -HUGE},
        {"column": HUGE},
        {"column": -HUGE},
        {"consumer": "", "machine": ""},
        {"consumer": "x" * 50_000},
        {"session": 0},
    ],
}


@pytest.mark.parametrize("lies", LIES)
def test_a_hello_that_lies_disturbs_nobody(address, lies):
    """The dataset's user has frames of the first seconds still: their memory is not given out again."""
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as dead:
        pass

    def lie():
        for lie in LIES[lies]:
            with Visitor(address) as stranger:
                stranger.hello(**{"pid": dead.pid, **lie})
                stranger.listen()  # the lie is heard by then; who has it may be given up at once
                stranger.say(control.encode(control.Acknowledgement(sequences=[HUGE, -HUGE, 0])))

    with Stream(address, name="record" if lies.endswith("record") else "") as stream:  # as an instance's that may start again
        stream.during(lie)
        with Pull([address]) as late:  # is offered a column, at which the owners of all are looked at
            assert late.wait(5000)
        stream.take(200)  # each slot is filled some times
        assert not stream.errors
        stream.finish()


@pytest.mark.parametrize("machine", ["this machine", "another machine"])
def test_what_a_stranger_keeps_comes_back_when_it_leaves(address, machine):
    """Without keys it counts as a consumer. That it may be back is believed for a while where it says to be elsewhere."""
    no_process = 2**22 + 1
    where = {"pid": no_process} if machine == "this machine" else {"machine": "elsewhere", "pid": 1}
    with Stream(address) as stream, contextlib.ExitStack() as strangers:
        kept = []
        for number in range(5):
            stranger = strangers.enter_context(Visitor(address))
            stranger.hello(consumer=f"fake {number}", credit=1000, **where)
            kept += [control.decode_from_publisher(stranger.hear()[0]).sequence for _ in range(10)]
        stream.take(100)
        assert not set(kept) & set(stream.numbers), "nobody else has what a stranger keeps"
        strangers.close()
        stream.finish()
        assert sorted(kept) == list(range(50))
        assert not stream.errors


@pytest.mark.parametrize("way", ["one connection", "new connections"])
def test_a_stranger_that_says_hello_again_and_again_takes_no_memory(address, way, monkeypatch):
    """Under new names, with frames of 2 MB that it never reads and never acknowledges."""

    def again_on_one_connection():
        with Visitor(address) as stranger:
            for _ in range(200):
                stranger.hello()  # only the first counts
            time.sleep(0.1)
            assert stream.consumers == 2
            for _ in range(12):
                stranger.say(control.encode(control.Goodbye()))
                time.sleep(0.1)  # what it has kept goes to others, and there are new ones to keep
                stranger.say(b"")
                stranger.hello()
                time.sleep(0.04)

    def again_on_new_connections():
        for _ in range(20):
            with Visitor(address) as stranger:
                stranger.hello(machine="elsewhere")
                time.sleep(0.04)

    monkeypatch.setattr(push_module, "_GRACE_S", 30.0)
    with Stream(address, nbytes=2 << 20) as stream:
        stream.take(1)
        stream.pause_s = 0.005  # else the honest consumer, which holds less, is given almost everything
        stream.during(again_on_one_connection if way == "one connection" else again_on_new_connections, memory_bytes=150 << 20)
        stream.pause_s = 0
        monkeypatch.setattr(push_module, "_GRACE_S", 0.1)
        stream.finish()
        assert not stream.errors


def test_hundreds_of_handshakes_leave_nothing(address):
    """Each is welcomed, offered a column of the ring, and gone."""

    def greet():
        for number in range(200):
            with dial(address) as connection:
                assert shake_hands(connection, b"DEALER")
                tell(connection, frame(b""))
                if number % 2:
                    assert b"welcome/1" in connection.recv(4096)

    with Stream(address) as stream:
        stream.take(1)
        files = psutil.Process().num_fds()
        stream.during(greet)
        stream.take_until(lambda: not stream.push._welcomed, HANG_S)
        assert list(stream.push._columns._owners.values()) == [os.getpid()]
        assert stream.consumers == 1
        assert psutil.Process().num_fds() < files + 10
        stream.finish()
        assert not stream.errors


def test_a_flood_of_hellos_does_not_hold_up_a_publisher(address):
    """From three connections, faster than it reads."""
    hello = control.Hello(session=1, consumer="x", machine="m", pid=1, credit=1, column=-1, yielded=list(range(20)))

    def flood():
        with ThreadPoolExecutor(3) as pool, contextlib.ExitStack() as stack:
            for _ in range(3):
                connection = stack.enter_context(dial(address))
                assert shake_hands(connection, b"DEALER")
                pool.submit(pour, connection, frame(control.encode(hello)), 1.5)
            pool.shutdown()

    with Stream(address) as stream:
        stream.during(flood)
        assert stream.longest_s < 1
        stream.finish()
        assert not stream.errors
        assert stream.consumers <= 1


# Keys.


def test_without_the_right_keys_a_stranger_gets_nothing(short_tmp):
    """With none, with others, with the publisher's public key and others, and by older protocols that know no keys."""
    with Door("publisher-keys", short_tmp) as door, door.stream() as stream:
        others = Keys.make()
        stolen = msgspec.structs.replace(others, server_public=door.keys.server_public)
        half = msgspec.structs.replace(others, server_public=door.keys.server_public, client_public=door.keys.client_public)

        def knock():
            with contextlib.ExitStack() as stack:
                strangers = [
                    stack.enter_context(Pull([door.honest], keys=keys))
                    for keys in [None, others.for_consumers(), stolen.for_consumers(), half.for_consumers()]
                    for _ in range(5)
                ]
                for _ in range(4):
                    assert not any(stranger.wait(5) for stranger in strangers)
                assert not any(stranger.connected for stranger in strangers)
                assert stream.consumers == 1

        def speak_old_protocols():
            probe = frame(b"") + frame(control.encode(control.Acknowledgement(sequences=[*range(1000)])))
            for begin in [
                b"\xff" + bytes(8) + b"\x7f\x01\x05" + frame(b""),  # ZMTP 2
                b"\x01\x00\x01\x00",  # ZMTP 1
                greeting() + ready(b"DEALER"),
                greeting(b"PLAIN") + frame(b"\x05HELLO\x01a\x01b", COMMAND),
                greeting(b"CURVE") + ready(b"DEALER"),
                greeting(b"CURVE") + frame(b"\x05HELLO\x01\x00" + bytes(72) + os.urandom(120), COMMAND),
                greeting(b"CURVE") + frame(b"\x08INITIATE" + os.urandom(300), COMMAND),
            ]:
                for _ in range(5):
                    with door.meet() as connection:
                        tell(connection, begin, probe)
                        connection.settimeout(0.02)
                        heard = b""
                        with contextlib.suppress(OSError):
                            while more := connection.recv(4096):
                                heard += more
                        assert b"READY" not in heard
                        assert b"welcome" not in heard
                        assert b"frame/1" not in heard

        stream.during(knock)
        stream.during(speak_old_protocols)
        assert stream.consumers == 1
        assert not stream.push._welcomed
        stream.finish()
        assert not stream.errors


@pytest.mark.parametrize("knows", ["no keys", "other keys", "the consumers' keys"])
def test_a_consumer_with_keys_tells_an_imposter_nothing(knows, short_tmp):
    honest, hostile = (address_on("tcp", short_tmp, name) for name in ("honest", "hostile"))
    keys = Keys.make()
    secret = {
        "no keys": None,
        "other keys": Keys.make(),
        "the consumers' keys": msgspec.structs.replace(
            keys, server_public=keys.client_public, server_secret=keys.client_secret
        ),
    }[knows]
    message = ({}, header({"x": 1}))
    with Imposter(hostile, [control.Welcome(session=1)], [message], keys=secret) as imposter:
        with Stream(honest, [hostile], keys=keys) as stream:
            stream.take(150)
            stream.finish()
            assert not stream.errors
        lonely = btt.RemoteIterableDataset([hostile], timeoutms=300, keys=keys.for_consumers())
        with pytest.raises(StreamTimeoutError, match="not connected"):
            next(iter(lonely))
        lonely.close()
        assert imposter.heard == []
