"""Real sockets between real threads and processes."""

import multiprocessing
import threading
import time

import numpy as np
import pytest
from blendtorch.core import EndOfStream, Frame, wire
from blendtorch.core.errors import AddressError, DecodeError
from blendtorch.core.transport import Pull, Push


def encoded(number, **data):
    return wire.encode(Frame(btid=0, sequence=number, data=data))


@pytest.fixture(params=["ipc", "tcp"])
def address(request, short_tmp):
    if request.param == "ipc":
        return f"ipc://{short_tmp}/socket"
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def test_messages_arrive_in_order(address):
    with Push(address) as push, Pull([address]) as pull:
        sender = threading.Thread(target=lambda: [push.send(encoded(number)) for number in range(200)])
        sender.start()
        assert [pull.receive().sequence for _ in range(200)] == list(range(200))
        sender.join()


def test_the_consumer_may_come_first(address):
    with Pull([address]) as pull:
        assert not pull.wait(50)
        with Push(address) as push:
            push.send(encoded(1, a=np.arange(1e5)))
            assert pull.wait(2000)
            np.testing.assert_array_equal(pull.receive().data["a"], np.arange(1e5))


@pytest.mark.parametrize("size", [1, 10, 100, 500, 3000, 100_000])
def test_received_arrays_are_the_callers_own(address, size):
    """At every size: libzmq hands small parts over unaligned, and shares memory among some of them."""
    with Push(address) as push, Pull([address]) as pull:
        for number in range(3):
            push.send(encoded(number, x=np.full(size, number, np.uint8), y=np.full(size, float(number))))
        frames = [pull.receive() for _ in range(3)]
        for frame in frames:
            for array in frame.data.values():
                assert array.flags.writeable
                assert array.flags.aligned
                array += 100
        for number, frame in enumerate(frames):
            assert all((array == number + 100).all() for array in frame.data.values())


def test_arrays_may_change_after_send(address):
    array = np.zeros(100_000)
    with Push(address) as push, Pull([address]) as pull:
        for number in range(6):
            array[:] = number
            push.send(encoded(number, a=array))
        assert [pull.receive().data["a"][-1] for _ in range(6)] == [0, 1, 2, 3, 4, 5]


def test_a_full_queue_stalls_the_sender(address):
    image = np.zeros((480, 640, 3), np.uint8)
    with Push(address, queue_size=2, linger_ms=0) as push, Pull([address], queue_size=2) as pull:
        sent = 0
        while push.send(encoded(sent, image=image), timeout_ms=500):
            sent += 1
            assert sent < 50, "nothing holds the sender back"
        received = 0
        while pull.wait(500):
            assert pull.receive().sequence == received
            received += 1
        assert received == sent


def test_without_a_consumer_send_waits(address):
    with Push(address, linger_ms=0) as push:
        assert not push.send(encoded(0), timeout_ms=100)


def test_an_address_in_use_is_named(address):
    with Push(address), pytest.raises(AddressError, match="in use"):
        Push(address)


def test_thousands_of_connections_do_not_stop_a_sender(address):
    """libzmq's thread waits when 1000 events of its monitor are not read: each connection makes two."""
    import socket

    family, where = (
        (socket.AF_UNIX, address[6:]) if address.startswith("ipc") else (socket.AF_INET, ("127.0.0.1", int(address[16:])))
    )
    with Push(address, linger_ms=0) as push:
        for number in range(1500):
            with socket.socket(family) as visitor:
                visitor.connect(where)
            if number % 100 == 0:
                assert not push.send(encoded(0), timeout_ms=0)
                time.sleep(0.01)
        with Pull([address]) as pull:
            assert push.send(encoded(1), timeout_ms=5000)
            assert pull.wait(5000)


@pytest.mark.parametrize(
    "address", ["", "tcp://", "nonsense", "tcp://localhost", "http://x:1", "ipc://" + "/x" * 80, "tcp://nohost.invalid:80"]
)
def test_malformed_addresses_are_refused(address):
    with pytest.raises(AddressError):
        Push(address).close()


def test_noise_on_the_socket_is_an_error_and_not_the_end(address):
    import zmq

    with zmq.Context() as context, context.socket(zmq.PUSH) as raw, Pull([address]) as pull:
        raw.bind(address)
        raw.send(b"noise")
        raw.send_multipart(encoded(5))
        with pytest.raises(DecodeError):
            pull.receive()
        assert pull.receive().sequence == 5


def _send_and_leave(address, count):
    with Push(address) as push:
        for number in range(count):
            push.send(encoded(number, image=np.zeros((100, 100, 3), np.uint8)))
        assert push.farewell(wire.encode(EndOfStream(btid=0, sequence=count, address=address)))


def test_a_sender_leaves_when_its_consumers_have_everything(address):
    """Two consumers with full queues, of which one is slow: what they have not read when a sender closes can be lost."""
    with Pull([address], queue_size=2) as fast, Pull([address], queue_size=2) as slow:
        sender = multiprocessing.get_context("spawn").Process(target=_send_and_leave, args=(address, 100))
        sender.start()
        received, pulls = [], {"fast": fast, "slow": slow}
        while pulls:
            for name, pull in list(pulls.items()):
                while pull.wait(0 if name == "fast" else 100):
                    message = pull.receive()
                    if isinstance(message, EndOfStream):
                        assert pull.disconnect(message.address) == address
                        del pulls[name]
                        break
                    received.append(message.sequence)
                    if name == "slow":
                        time.sleep(0.02)
                        break
        assert sorted(received) == list(range(100))
        sender.join(10)
        assert sender.exitcode == 0


def test_a_farewell_without_consumers_ends_at_once_and_else_in_time(address):
    end = wire.encode(EndOfStream(btid=0, sequence=0, address=address))
    with Push(address, linger_ms=0) as push:
        assert push.farewell(end)
        with Pull([address]) as pull:
            push.send(encoded(0))
            assert not push.farewell(end, timeout_ms=200)
            assert pull.wait(1000)


def test_senders_that_listen_on_all_interfaces_are_found_by_their_port():
    with Pull(["tcp://127.0.0.1:45671", "tcp://127.0.0.1:45672", "tcp://127.0.0.1:45673"]) as pull:
        assert pull.disconnect("tcp://*:45672") == "tcp://127.0.0.1:45672"
        assert pull.disconnect("tcp://*:45672") is None
        assert pull.disconnect("ipc:///nowhere") is None
        assert pull.disconnect("tcp://127.0.0.1:45671") == "tcp://127.0.0.1:45671"
        assert pull.disconnect("tcp://10.0.0.1:9") == "tcp://127.0.0.1:45673", "the only one left, behind a forwarded port"
