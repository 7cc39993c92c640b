"""Real sockets between real threads and processes."""

import contextlib
import gc
import multiprocessing
import os
import socket
import threading
import time
import weakref

import msgspec
import numpy as np
import pytest
import zmq
from blendtorch.core import EndOfStream, Frame
from blendtorch.core.errors import AddressError, DecodeError, LaunchError, VersionError
from blendtorch.core.ring import Ring
from blendtorch.core.transport import Keys, Parcel, Pull, Push, control
from blendtorch.core.transport import pull as pull_module
from blendtorch.core.transport import push as push_module
from blendtorch.core.transport.locality import this_machine


def send(push, number, timeout_ms=None, **data):
    return push.send(push.pack(Frame(btid=0, sequence=number, data=data)), timeout_ms)


def take(pull):
    message = pull.receive()
    pull.acknowledge()
    return message


@pytest.fixture(params=[True, False], ids=["ring", "no-ring"])
def ring(request):
    return Ring() if request.param else None


@pytest.fixture(params=["ipc", "tcp"])
def address(request, short_tmp):
    if request.param == "ipc":
        return f"ipc://{short_tmp}/socket"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def test_messages_arrive_in_order(address):
    with Push(address) as push, Pull([address]) as pull:
        sender = threading.Thread(target=lambda: [send(push, number) for number in range(200)])
        sender.start()
        assert [take(pull).sequence for _ in range(200)] == list(range(200))
        sender.join()


def test_the_consumer_may_come_first(address):
    with Pull([address]) as pull:
        assert not pull.wait(50)
        with Push(address) as push:
            sender = threading.Thread(target=send, args=(push, 1), kwargs={"a": np.arange(1e5)})
            sender.start()
            assert pull.wait(2000)
            sender.join()
            np.testing.assert_array_equal(pull.receive().data["a"], np.arange(1e5))


@pytest.mark.parametrize("size", [1, 10, 100, 500, 3000, 100_000])
def test_received_arrays_are_the_callers_own(address, size, ring):
    """At every size: libzmq hands small parts over unaligned, and shares memory among some of them."""
    with Push(address, ring=ring) as push, Pull([address]) as pull:

        def run():
            for number in range(3):
                send(push, number, x=np.full(size, number, np.uint8), y=np.full(size, float(number)))

        sender = threading.Thread(target=run)
        sender.start()
        frames = [take(pull) for _ in range(3)]
        sender.join()
        for frame in frames:
            for array in frame.data.values():
                assert array.flags.writeable
                assert array.flags.aligned
                array += 100
        for number, frame in enumerate(frames):
            assert all((array == number + 100).all() for array in frame.data.values())


def test_arrays_may_change_after_send(address, ring):
    array = np.zeros(100_000)
    with Push(address, ring=ring) as push, Pull([address]) as pull:

        def run():
            for number in range(6):
                array[:] = number
                send(push, number, a=array)

        sender = threading.Thread(target=run)
        sender.start()
        frames = [take(pull) for _ in range(6)]
        sender.join()
        assert [frame.data["a"][-1] for frame in frames] == [0, 1, 2, 3, 4, 5]


def greet(push, *pulls):
    """Let consumers that have just connected say hello."""
    names = {link._name for pull in pulls for link in pull._links}
    deadline = time.monotonic() + 5
    while {consumer.name for consumer in push._outbox.consumers} != names:
        assert time.monotonic() < deadline, "somebody has not come, or has not left"
        push.serve()
        for pull in pulls:
            pull.wait(5)


def test_a_consumer_holds_as_many_as_it_has_room_for(address):
    with Push(address) as push, Pull([address], queue_size=3) as pull:
        greet(push, pull)
        assert [send(push, number, timeout_ms=50) for number in range(4)] == [True, True, True, False]
        assert take(pull).sequence == 0
        assert send(push, 3, timeout_ms=1000)
        assert not send(push, 4, timeout_ms=50)
        assert [take(pull).sequence for _ in range(3)] == [1, 2, 3]
        assert not pull.wait(50)


def test_what_a_consumer_holds_when_it_closes_goes_to_the_next(address, ring):
    with Push(address, ring=ring) as push:
        with Pull([address], queue_size=5) as first:
            greet(push, first)
            assert all(send(push, number, 1000, a=np.full(9000, number)) for number in range(5))
            assert [take(first).sequence for _ in range(2)] == [0, 1]
            assert first.receive().sequence == 2, "taken, and not acknowledged"
        with Pull([address]) as second:
            greet(push, second)
            messages = [take(second) for _ in range(3)]
            assert [(message.sequence, message.data["a"][0]) for message in messages] == [(2, 2), (3, 3), (4, 4)]
            assert push.drain(1000)


def test_the_consumer_that_holds_least_is_next(address):
    with Push(address) as push, Pull([address]) as one, Pull([address]) as two:
        greet(push, one, two)
        for number in range(6):
            assert send(push, number, timeout_ms=1000)
        assert sorted([sum(1 for _ in iter(lambda p=p: p.wait(100) and take(p), False)) for p in (one, two)]) == [3, 3]


def test_without_a_consumer_send_waits(address):
    with Push(address) as push:
        assert not send(push, 0, timeout_ms=100)


def test_an_address_in_use_is_named(address):
    with Push(address), pytest.raises(AddressError, match="in use"):
        Push(address)


def test_thousands_of_connections_do_not_stop_a_sender(address):
    """libzmq's thread waits when 1000 events of its monitor are not read: each connection makes two."""
    family, where = (
        (socket.AF_UNIX, address[6:]) if address.startswith("ipc") else (socket.AF_INET, ("127.0.0.1", int(address[16:])))
    )
    with Push(address) as push:
        for number in range(1500):
            with socket.socket(family) as visitor:
                visitor.connect(where)
            if number % 100 == 0:
                assert not send(push, 0, timeout_ms=0)
                time.sleep(0.01)
        with Pull([address]) as pull:
            greet(push, pull)
            assert send(push, 1, timeout_ms=5000)
            assert pull.wait(5000)


@pytest.mark.parametrize(
    "address", ["", "tcp://", "nonsense", "tcp://localhost", "http://x:1", "ipc://" + "/x" * 80, "tcp://nohost.invalid:80"]
)
def test_malformed_addresses_are_refused(address):
    with pytest.raises(AddressError):
        Push(address).close()


def test_noise_is_an_error_and_not_the_end(address):
    """What is no message of ours is an error at the consumer, and not sent again."""
    with Push(address) as push, Pull([address]) as pull:
        greet(push, pull)
        assert push.send(Parcel(0, [b"noise"], []), 1000)
        assert send(push, 1, timeout_ms=1000)
        with pytest.raises(DecodeError):
            pull.receive()
        assert take(pull).sequence == 1
        assert push.drain(1000)


def test_a_publisher_hears_no_strangers(address):
    """Whatever somebody says who can connect: consumers get everything, and nobody gets what is not acknowledged twice."""
    said = [
        b"",
        b"noise",
        b"\x81\xa4type\xa8hello/99",
        control.encode(control.Acknowledgement(sequences=[0, 1])),
        b"x" * 60_000,
    ]
    with Push(address) as push, Pull([address]) as pull, zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.connect(address)
        for what in said:
            stranger.send(what)
        stranger.send_multipart([b"", b"", b""])
        greet(push, pull)
        for number in range(20):
            assert send(push, number, timeout_ms=1000)
            assert take(pull).sequence == number
        assert push.drain(1000)
        assert len(push._outbox.consumers) == 1
        stranger.close(0)


def test_a_consumer_hears_a_missing_message_and_newer_versions(address):
    with Push(address) as push, Pull([address]) as pull:
        greet(push, pull)
        consumer = push._outbox.consumers[0]
        consumer.number += 1
        assert send(push, 0, timeout_ms=1000)
        with pytest.raises(DecodeError, match="message 0 is missing: got 1"):
            pull.receive()
        push._socket.send_multipart([consumer.route, msgspec.msgpack.encode({"type": "delivery/2"})])
        with pytest.raises(VersionError, match="received version 2 of 'delivery'"):
            pull.receive()


def test_a_connection_that_is_lost_and_made_again_delivers_once(short_tmp):
    """Through a relay on tcp that is cut in the middle: the consumer may hold messages, and acknowledgements be lost."""
    with Relay() as relay, Push(relay.target, queue_size=4) as push, Pull([relay.address], queue_size=4) as pull:
        received = []

        def run():
            for number in range(60):
                assert send(push, number, timeout_ms=10_000)
            assert push.drain(10_000)

        sender = threading.Thread(target=run)
        sender.start()
        while len(received) < 60:
            assert pull.wait(10_000), f"got {received}"
            received.append(take(pull).sequence)
            if len(received) in (20, 40):
                relay.cut()
        sender.join()
        assert sorted(set(received)) == list(range(60))
        assert len(received) == 60


class Relay:
    """Passes bytes on between two tcp ports, and can cut all connections."""

    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as here, socket.create_server(("127.0.0.1", 0)) as there:
            self._place, self._port = here.getsockname(), there.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self._place[1]}"
        self.target = f"tcp://127.0.0.1:{self._port}"
        self.deaf = False  # what comes from the consumers is lost
        self._pairs = []

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        self._listener = socket.create_server(self._place)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def stop(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self):
        for one in self._pairs:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def _accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                here, _ = listener.accept()
                there = socket.create_connection(("127.0.0.1", self._port))
                self._pairs += [here, there]
                for source, target in ((here, there), (there, here)):
                    threading.Thread(target=self._pass_on, args=(source, target, source is here), daemon=True).start()

    def _pass_on(self, source, target, from_consumer):
        with contextlib.suppress(OSError), source, target:
            while data := source.recv(65536):
                if not (from_consumer and self.deaf):
                    target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)


def _send_and_leave(address, count):
    with Push(address, ring=Ring()) as push:
        for number in range(count):
            send(push, number, image=np.zeros((100, 100, 3), np.uint8))
        assert push.farewell(EndOfStream(btid=0, sequence=count, address=address))


def test_a_sender_leaves_when_everything_is_delivered(address):
    """Two consumers with full queues, of which one is slow."""
    with Pull([address], queue_size=2) as fast, Pull([address], queue_size=2) as slow:
        sender = multiprocessing.get_context("spawn").Process(target=_send_and_leave, args=(address, 100))
        sender.start()
        received, pulls = [], {"fast": fast, "slow": slow}
        while pulls:
            for name, pull in list(pulls.items()):
                while pull.wait(0 if name == "fast" else 100):
                    message = take(pull)
                    if isinstance(message, EndOfStream):
                        assert pull.ended == {address}
                        del pulls[name]
                        break
                    received.append(message.sequence)
                    if name == "slow":
                        time.sleep(0.02)
                        break
        assert sorted(received) == list(range(100))
        sender.join(10)
        assert sender.exitcode == 0


def test_a_farewell_ends_at_once_where_all_is_delivered_and_else_in_time(address):
    end = EndOfStream(btid=0, sequence=0, address=address)
    with Push(address) as push:
        assert push.farewell(end)
        with Pull([address]) as pull:
            greet(push, pull)
            assert send(push, 0, timeout_ms=1000)
            assert not push.farewell(end, timeout_ms=200)
            assert take(pull).sequence == 0
        assert push.farewell(end, timeout_ms=2000)


def test_only_who_has_the_keys_gets_anything():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    keys, others = Keys.make(), Keys.make()
    stolen = msgspec.structs.replace(others, server_public=keys.server_public)  # knows the server, not the client's secret
    with (
        Push(address, keys=keys) as push,
        Pull([address]) as bare,
        Pull([address], keys=others) as wrong,
        Pull([address], keys=stolen) as thief,
        Pull([address], keys=keys.for_consumers()) as ours,
    ):
        greet(push, ours)
        for number in range(30):
            assert send(push, number, timeout_ms=1000)
            assert take(ours).sequence == number
            assert not any(stranger.wait(5) for stranger in (bare, wrong, thief))
        assert len(push._outbox.consumers) == 1
        assert not push._welcomed


def test_keys_are_not_shown_and_files_of_them_are_private(tmp_path):
    keys = Keys.make()
    keys.save(tmp_path / "keys.json")
    assert (tmp_path / "keys.json").stat().st_mode & 0o777 == 0o600
    assert Keys.load(tmp_path / "keys.json") == keys
    assert keys.server_secret not in f"{keys} {keys!r}"
    (tmp_path / "other.json").write_text('{"server_secret": 1, "x": "SECRET"}')
    with pytest.raises(LaunchError) as caught:
        Keys.load(tmp_path / "other.json")
    assert "SECRET" not in str(caught.value)
    with pytest.raises(LaunchError, match="these keys are for consumers"):
        Push("tcp://127.0.0.1:45679", keys=keys.for_consumers())


def test_an_address_that_others_reach_needs_keys():
    with socket.create_server(("0.0.0.0", 0)) as probe:
        address = f"tcp://0.0.0.0:{probe.getsockname()[1]}"
    with pytest.raises(AddressError, match="can be reached from other machines: give `keys`"):
        Push(address)
    with Push(address, keys=Keys.make()):
        pass


def _hold(address, taken):
    with Pull([address], queue_size=5) as pull:
        for _ in range(2):
            take(pull)
        pull.receive()
        taken.set()
        time.sleep(60)


@pytest.mark.parametrize("kind", ["ring", "no-ring"])
def test_what_a_killed_consumer_held_is_sent_again(address, kind):
    context = multiprocessing.get_context("spawn")
    with Push(address, ring=Ring(8) if kind == "ring" else None) as push:
        taken = context.Event()
        consumer = context.Process(target=_hold, args=(address, taken))
        consumer.start()
        numbers = iter(range(1000))
        while not taken.is_set():
            push.serve()
            if push._outbox.consumers and push._outbox.consumers[0].room:
                assert send(push, next(numbers), 1000, a=np.zeros(5000))
            time.sleep(0.01)
        sent = next(numbers)
        consumer.kill()
        consumer.join()
        with Pull([address]) as pull:
            greet(push, pull)
            begin = time.monotonic()
            assert [take(pull).sequence for _ in range(sent - 2)] == list(range(2, sent))
            assert time.monotonic() - begin < 3
            assert push.drain(1000)
            for number in range(sent, sent + 30):  # all slots of the ring are back
                assert send(push, number, 1000, a=np.zeros(5000))
                take(pull)
        assert push.ring_misses <= 1


def test_who_comes_back_after_it_was_given_up_says_what_it_has_yielded(monkeypatch):
    """An outage longer than the grace, and acknowledgements that are lost with the connection."""
    monkeypatch.setattr(push_module, "_GRACE_S", 0.3)
    with Relay() as relay, Push(relay.target, queue_size=5) as push, Pull([relay.address], queue_size=5) as pull:
        greet(push, pull)
        assert all(send(push, number, 1000) for number in range(5))
        relay.deaf = True
        assert [take(pull).sequence for _ in range(3)] == [0, 1, 2]
        relay.stop()
        deadline = time.monotonic() + 10
        while push._outbox.consumers:
            assert time.monotonic() < deadline
            push.serve()
            time.sleep(0.01)
        relay.deaf = False
        relay.start()
        received = []
        while push._outbox.outstanding() or not push._outbox.consumers:
            assert time.monotonic() < deadline
            push.serve()
            if pull.wait(5):
                received.append(take(pull).sequence)
        assert received == [3, 4]


@pytest.mark.parametrize("end", ["push", "pull"])
def test_closing_does_not_wait_for_events_that_nobody_has_read(end, monkeypatch):
    """libzmq's thread stands still when two thousand are unread, of connections that come and go."""
    monkeypatch.setattr(pull_module, "_RECONNECT_MS", (1, 1))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = listener.getsockname()
        if end == "pull":
            listener.settimeout(3)
            with Pull([f"tcp://127.0.0.1:{place[1]}"]), contextlib.suppress(TimeoutError):
                for _ in range(2500):  # at last it connects no more
                    listener.accept()[0].close()
    if end == "push":
        with Push(f"tcp://127.0.0.1:{place[1]}"), contextlib.suppress(TimeoutError):
            for _ in range(2500):  # at last it accepts nobody
                socket.create_connection(place, timeout=1).close()


@pytest.mark.parametrize(
    ("address", "keys", "error"),
    [
        ("tcp://localhost:5000", Keys(server_public="x", client_public="y"), LaunchError),
        ("tcp://*:5000", None, AddressError),
        ("tcp://no such host:5000", None, AddressError),
    ],
)
def test_what_cannot_be_connected_to_is_said(address, keys, error):
    with pytest.raises(error):
        Pull(["ipc:///tmp/nobody", address], keys=keys)


def test_one_process_may_connect_again_and_again(address):
    """The ring's table has 64 columns: one that is not used any more is for the next connection."""
    with Push(address, ring=Ring(4, 1 << 20)) as push:
        kept = None
        for number in range(80):
            with Pull([address]) as pull:
                greet(push, pull)
                assert push._outbox.consumers[0].ring is not None
                assert send(push, number, 1000, a=np.full(9000, number))
                array = take(pull).data["a"]
                kept = array if kept is None else kept
            greet(push)
        assert push.ring_misses == 0
        assert kept.max() == 0, "a slot that is held is nobody else's"


def test_two_consumers_never_share_a_column(address):
    """One loses its connection after the welcome, and comes back with a column that is another's by then."""

    def connect():
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.PROBE_ROUTER, 1)
        dealer.connect(address)
        while not dealer.poll(5):
            push.serve()
        return dealer, control.decode_from_publisher(dealer.recv())

    def greet(dealer, name, column):
        machine, before = this_machine(), len(push._outbox.consumers)
        fields = {"session": push._session, "consumer": name, "credit": 5, "yielded": []}
        dealer.send(control.encode(control.Hello(machine=machine, pid=os.getpid(), column=column, **fields)))
        while len(push._outbox.consumers) == before:
            push.serve()

    with Push(address, ring=Ring(2, 1 << 20)) as push, zmq.Context() as context:
        first, welcome = connect()
        assert welcome.column == 0
        first.close(0)
        while push._welcomed:
            push._wait(lambda: False, 20)
        second, welcome = connect()
        assert welcome.column == 0
        greet(second, "two", 0)
        again, _ = connect()
        greet(again, "one", 0)
        assert [consumer.ring for consumer in push._outbox.consumers] == [0, None]
        second.close(0)
        again.close(0)


def test_the_memory_of_a_closed_sender_goes_at_once(address):
    gc.disable()
    try:
        ring = Ring(2, 1 << 20)
        gone = weakref.ref(ring)
        push = Push(address, ring=ring)
        del ring
        push.pack(Frame(btid=0, sequence=0, data={"a": np.zeros(9000)}))
        push.close()
        assert gone() is None
    finally:
        gc.enable()
