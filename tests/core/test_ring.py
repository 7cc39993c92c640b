"""The ring of shared memory, between real processes, and against a model of it in one process."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from blendtorch.core import arrays
from blendtorch.core.errors import RingError
from blendtorch.core.ring import Ring, RingDescriptor, RingView
from hypothesis import settings, strategies
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

spawn = multiprocessing.get_context("spawn")
SMALL = {"slots": 3, "slot_bytes": 1 << 16}


@pytest.fixture
def ring():
    with Ring(**SMALL) as ring:
        yield ring


@pytest.fixture
def start():
    """Start a function in a process of its own; return the process and our end of a pipe, whose other end is its argument."""
    started = []

    def start(target):
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=target, args=(theirs,))
        process.start()
        theirs.close()
        started.append((process, ours))
        return process, ours

    yield start
    for process, pipe in started:
        process.kill()
        process.join()
        process.close()
        pipe.close()


def receive(pipe):
    assert pipe.poll(60), "the other process does not answer"
    return pipe.recv()


def fill(ring, *fields):
    """Copy arrays into a slot; return it and what a consumer has to know."""
    slot = ring.take()
    for array in fields:
        slot.allocate(array.nbytes)[:] = array.reshape(-1).view(np.uint8).data
    return slot, (slot.number, slot.spans())


def take_number(ring):
    """Return the number of the slot that is given out next, if any."""
    slot = ring.take()
    if slot is None:
        return None
    ring.free(slot)
    return slot.number


# What the other processes do.


def consume(pipe):
    """Open what is announced, tell the sums and keep the arrays, until told to let go of them."""
    view = RingView(*pipe.recv())
    kept = []
    while (message := pipe.recv()) is not None:
        if message == "let go":
            kept.clear()
        else:
            kept.append(view.open(*message))
        pipe.send([int(array.sum()) for fields in kept for array in fields])


def own(pipe):
    """Own a ring and fill one slot of it, until killed."""
    ring = Ring(**SMALL)
    slot, announced = fill(ring, np.arange(1000))
    pipe.send((ring.descriptor, announced))
    ring.free(slot)
    signal.pause()


def test_arrays_arrive_in_another_process_and_hold_their_slot(ring, start):
    process, pipe = start(consume)
    pipe.send((ring.descriptor, 5))
    slot, announced = fill(ring, np.full(100, 3, np.uint8), np.full(7, 1, np.uint8))
    pipe.send(announced)
    assert receive(pipe) == [300, 7]
    ring.free(slot)
    assert take_number(ring) == 1, "slot 0 is given out again while a consumer has arrays over it"
    pipe.send("let go")
    assert receive(pipe) == []
    assert take_number(ring) == 0
    pipe.send(None)
    process.join(30)
    assert process.exitcode == 0


def test_a_killed_consumer_holds_its_slots_until_it_is_forgotten(ring, start):
    process, pipe = start(consume)
    pipe.send((ring.descriptor, 63))
    for _ in range(3):
        slot, announced = fill(ring, np.ones(10, np.uint8))
        pipe.send(announced)
        receive(pipe)
        ring.free(slot)
    assert ring.take() is None
    process.kill()
    process.join()
    assert ring.take() is None
    ring.forget(62)
    assert ring.take() is None
    ring.forget(63)
    assert [ring.take().number for _ in range(3)] == [0, 1, 2]


def test_arrays_outlive_their_killed_owner(start):
    process, pipe = start(own)
    descriptor, (slot, spans) = receive(pipe)
    with RingView(descriptor, 0) as view:
        [early] = view.open(slot, spans)
        process.kill()
        process.join()
        assert (early.view(int) == np.arange(1000)).all()
        del early
        [late] = view.open(slot, spans)  # it was announced, and its pages are ours too
        assert (late.view(int) == np.arange(1000)).all()
    with pytest.raises(RingError, match="out of reach"):
        RingView(descriptor, 1)


def test_a_fork_holds_nothing_and_frees_nothing(ring):
    slot, announced = fill(ring, np.ones(10, np.uint8))
    ring.free(slot)
    view = RingView(ring.descriptor, 0)
    fields = view.open(*announced)
    child = os.fork()
    if child == 0:  # no pytest in here: whatever happens, it ends
        code = 1
        try:
            fields.clear()
            view.open(1, [])
        except RingError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert take_number(ring) == 1, "the fork has freed what this process holds"
    fields.clear()
    assert take_number(ring) == 0


def test_whoever_keeps_all_arrays_runs_out_of_slots_and_the_owner_does_not_wait(ring):
    view, kept = RingView(ring.descriptor, 0), []
    for number in range(3):
        slot, announced = fill(ring, np.full(100, number, np.uint8))
        ring.free(slot)
        kept += view.open(*announced)
    assert ring.take() is None
    assert [int(array[99]) for array in kept] == [0, 1, 2]
    kept.pop(1)
    assert take_number(ring) == 1


def test_views_of_an_array_hold_its_slot_and_are_no_copies(ring):
    sent = np.arange(12.0).reshape(3, 4)
    slot, announced = fill(ring, np.zeros(3, np.uint8), sent)
    ring.free(slot)
    with RingView(ring.descriptor, 0) as view:
        first, buffer = view.open(*announced)
        array = arrays.restore("<f8", (3, 4), buffer)
        assert np.shares_memory(array, buffer)
    del first, buffer
    row = array[1:]
    del array
    gc.collect()
    np.testing.assert_array_equal(row, sent[1:])
    row += 1
    assert take_number(ring) == 1
    del row
    assert take_number(ring) == 0


def test_allocations_are_aligned_and_end_with_the_slot(ring):
    slot = ring.take()
    parts = [slot.allocate(size) for size in (1, 64, 65, 0, (1 << 16) - 256)]
    assert [(part.format, part.readonly, len(part)) for part in parts[:3]] == [("B", False, size) for size in (1, 64, 65)]
    assert all(np.frombuffer(part, np.uint8).ctypes.data % 64 == 0 for part in parts[:3])
    assert slot.spans() == [(0, 1), (64, 64), (128, 65), (256, 0), (256, (1 << 16) - 256)]
    assert slot.allocate(1) is None
    assert slot.allocate(1 << 40) is None
    assert ring.take().allocate((1 << 16) + 1) is None


def test_slots_do_not_overlap(ring):
    for number in range(3):
        ring.take().allocate(1 << 16)[:] = bytes([number + 1]) * (1 << 16)
    view = RingView(ring.descriptor, 63)
    assert [view.open(number, [(0, 1 << 16)])[0].tobytes() for number in range(3)] == [
        bytes([number + 1]) * (1 << 16) for number in range(3)
    ]


def test_a_slot_is_freed_once(ring):
    first = ring.take()
    ring.free(first)
    again = ring.take()
    assert again.number == first.number
    ring.free(first)  # late, and not the one that is out now
    assert take_number(ring) == 1


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"token": bytes(16)}, "not the ring"),
        ({"token": b""}, "not the ring"),
        ({"slots": 4}, "not the ring"),
        ({"slot_bytes": 1 << 17}, "not the ring"),
        ({"slots": 1 << 62, "slot_bytes": 1 << 62}, "not the ring"),
        ({"slots": -3, "slot_bytes": -(1 << 16)}, "with -3 of"),
        ({"slots": 0}, "with 0 of"),
        ({"slot_bytes": 0}, "of 0$"),
        ({"fd": 9999}, "out of reach"),
        ({"fd": -1}, "out of reach"),
        ({"pid": 1 << 40}, "out of reach"),
        ({"pid": -1}, "out of reach"),
    ],
)
def test_descriptors_that_lie_are_refused(ring, change, text):
    with pytest.raises(RingError, match=text):
        RingView(msgspec.structs.replace(ring.descriptor, **change), 0)


def test_another_ring_under_the_same_number_is_refused():
    with Ring(**SMALL) as ring:
        descriptor = ring.descriptor
    with Ring(**SMALL) as other:
        assert other.descriptor.fd == descriptor.fd
        with pytest.raises(RingError, match="not the ring"):
            RingView(descriptor, 0)
        RingView(other.descriptor, 0)


def test_files_that_are_no_rings_are_refused(tmp_path):
    def descriptor(fd):
        return RingDescriptor(pid=os.getpid(), fd=fd, token=bytes(16), slots=1, slot_bytes=4096)

    path = tmp_path / "file"
    path.write_bytes(bytes(8192))
    with path.open("rb") as file, pytest.raises(RingError, match="out of reach"):  # it has no seals
        RingView(descriptor(file.fileno()), 0)
    unsealed = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(unsealed, 8192)
        with pytest.raises(RingError, match="not sealed"):
            RingView(descriptor(unsealed), 0)
    finally:
        os.close(unsealed)
    reader, writer = os.pipe()  # to open a pipe that nobody writes to would wait for ever
    try:
        with pytest.raises(RingError, match="not the ring"):
            RingView(descriptor(reader), 0)
    finally:
        os.close(reader)
        os.close(writer)


def test_the_memory_of_a_ring_cannot_be_taken_away(ring):
    for size in (0, 1 << 30):
        with pytest.raises(PermissionError):
            os.ftruncate(ring.descriptor.fd, size)


@pytest.mark.parametrize(
    ("slot", "spans", "text"),
    [
        (3, [(0, 1)], "no slot 3"),
        (-1, [(0, 1)], "no slot -1"),
        (0, [(0, (1 << 16) + 1)], "refused"),
        (0, [(1 << 16, 1)], "refused"),
        (0, [(0, 1 << 63)], "refused"),
        (0, [(-64, 64)], "refused"),
        (0, [(64, -1)], "refused"),
        (0, [(0, 65), (64, 1)], "refused"),
        (0, [(64, 1), (0, 1)], "refused"),
        (0, [(0, 1), (0, 1)], "refused"),
        (0, [(1, 8)], "refused"),
    ],
)
def test_spans_that_lie_are_refused_and_hold_nothing(ring, slot, spans, text):
    view = RingView(ring.descriptor, 0)
    with pytest.raises(RingError, match=text):
        view.open(slot, spans)
    assert [ring.take().number for _ in range(3)] == [0, 1, 2]


def test_a_slot_is_not_opened_twice_at_a_time(ring):
    """Two arrays over one memory would not be the caller's own."""
    view = RingView(ring.descriptor, 0)
    kept = view.open(0, [(0, 8)])
    with pytest.raises(RingError, match="still held"):
        view.open(0, [(0, 8)])
    kept.clear()
    assert len(view.open(0, [(0, 8), (64, 0)])) == 2


def test_columns_that_do_not_exist_are_refused(ring):
    for column in (-1, 64):
        with pytest.raises(RingError, match="no column"):
            RingView(ring.descriptor, column)
        with pytest.raises(RingError, match="no column"):
            ring.forget(column)


def test_what_is_closed_gives_nothing(ring):
    view = RingView(ring.descriptor, 0)
    [array] = view.open(0, [(0, 8)])
    view.close()
    view.close()
    with pytest.raises(RingError, match="closed"):
        view.open(1, [(0, 8)])
    array[:] = 7
    slot = ring.take()
    ring.close()
    ring.close()
    ring.free(slot)
    ring.forget(0)
    assert ring.take() is None
    with pytest.raises(RingError, match=r"out of reach|not the ring"):
        RingView(ring.descriptor, 0)
    assert bytes(array) == b"\x07" * 8


@pytest.mark.parametrize(("slots", "slot_bytes"), [(0, 1), (1, 0), (-1, 1), (1 << 40, 1 << 40), (1 << 16, 1 << 40)])
def test_rings_that_cannot_be_are_refused(slots, slot_bytes):
    before = open_files()
    with pytest.raises(RingError, match="ring"):
        Ring(slots, slot_bytes)
    assert open_files() == before


def test_a_ring_takes_no_memory_before_it_is_written_and_none_of_the_file_system():
    """It is larger than /dev/shm in a container (64 MB), and fills half as much again."""
    before = sorted(Path("/dev/shm").glob("*"))
    with Ring() as ring:
        assert os.fstat(ring.descriptor.fd).st_blocks * 512 <= 4096
        for _ in range(2):
            ring.take().allocate(48 << 20)[:] = bytes(48 << 20)
        status = os.fstat(ring.descriptor.fd)
        assert 96 << 20 <= status.st_blocks * 512 < 97 << 20
        assert status.st_dev != os.stat("/dev/shm").st_dev
        assert sorted(Path("/dev/shm").glob("*")) == before


def test_a_limit_of_address_space_is_said():
    code = (
        "import resource\nfrom blendtorch.core.ring import Ring\nfrom blendtorch.core.errors import RingError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "try:\n    Ring()\nexcept RingError as error:\n    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "cannot make a ring" in result.stdout
    assert "fewer or smaller slots" in result.stdout


def open_files():
    return len(os.listdir("/proc/self/fd"))


def mappings():
    return len(Path("/proc/self/maps").read_text().splitlines())


def test_a_thousand_frames_leave_no_file_and_no_mapping(ring):
    view = RingView(ring.descriptor, 0)
    sent = np.arange(1000)
    for number in range(1100):
        slot, announced = fill(ring, sent)
        assert slot.number == 0
        [buffer] = view.open(*announced)
        ring.free(slot)
        assert arrays.restore("<i8", (1000,), buffer)[-1] == 999
        del buffer
        if number == 100:
            files, maps = open_files(), mappings()
    assert (open_files(), mappings()) == (files, maps)


def test_a_hundred_rings_leave_no_file_and_no_mapping():
    def once():
        with Ring(**SMALL) as ring, RingView(ring.descriptor, 0) as view:
            return view.open(0, [(0, 100)])[0].copy()

    once()
    files, maps = open_files(), mappings()
    for _ in range(100):
        once()
    assert open_files() == files
    assert abs(mappings() - maps) <= 2  # the allocator's own come and go


class RingAgainstModel(RuleBasedStateMachine):
    """An owner and its consumers in any order: what is given out is what nobody holds, and what is held does not change."""

    out, held = Bundle("out"), Bundle("held")

    def __init__(self):
        super().__init__()
        self.ring = Ring(slots=4, slot_bytes=4096)
        self.views = {column: RingView(self.ring.descriptor, column) for column in range(3)}
        self.next_column = 3
        self.taken = {}  # number: slot
        self.cells = set()  # (number, column)
        self.stamp = 0

    def expected(self):
        occupied = set(self.taken) | {number for number, _ in self.cells}
        return min(set(range(4)) - occupied, default=None)

    @rule(target=out, sizes=strategies.lists(strategies.integers(0, 1500), max_size=4))
    def take(self, sizes):
        expected = self.expected()
        slot = self.ring.take()
        assert (slot and slot.number) == expected
        if slot is None:
            return None
        self.stamp = (self.stamp + 1) % 256
        used, stored = 0, []
        for size in sizes:
            part = slot.allocate(size)
            if used + size > 4096:
                assert part is None
            else:
                part[:] = bytes([self.stamp]) * size
                stored.append((used, size))
                used = -(-(used + size) // 64) * 64
        assert slot.spans() == stored
        self.taken[slot.number] = slot
        return slot, self.stamp

    @rule(out=consumes(out))
    def free(self, out):
        if out is not None:
            self.ring.free(out[0])
            self.taken.pop(out[0].number)

    @rule(target=held, out=out, choice=strategies.integers(0, 2))
    def open(self, out, choice):
        if out is None:
            return None
        (slot, stamp), column = out, sorted(self.views)[choice]
        if (slot.number, column) in self.cells:
            with pytest.raises(RingError):
                self.views[column].open(slot.number, slot.spans())
            return None
        fields = self.views[column].open(slot.number, slot.spans())
        if fields:
            self.cells.add((slot.number, column))
        return [slot.number, column, stamp, fields]

    @rule(held=consumes(held))
    def let_go(self, held):
        if held is not None:
            number, column, stamp, fields = held
            if column in self.views:
                assert all((array == stamp).all() for array in fields)
                if fields:
                    self.cells.discard((number, column))
            fields.clear()

    @rule(held=held)
    def let_go_of_one_array(self, held):
        if held is not None and len(held[3]) > 1:
            held[3].pop()

    @precondition(lambda self: self.next_column < 64)
    @rule(choice=strategies.integers(0, 2))
    def end_a_consumer(self, choice):
        column = sorted(self.views)[choice]
        del self.views[column]
        self.ring.forget(column)
        self.cells = {(number, other) for number, other in self.cells if other != column}
        self.views[self.next_column] = RingView(self.ring.descriptor, self.next_column)
        self.next_column += 1

    @invariant()
    def the_lowest_free_slot_is_next(self):
        assert take_number(self.ring) == self.expected()

    def teardown(self):
        self.ring.close()


RingAgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRingAgainstModel = RingAgainstModel.TestCase
