"""The transport over real sockets, in any order of events, against a model of it: a queue in memory."""

import functools
import shutil
import socket
import sys
import tempfile
import time

import numpy as np
from blendtorch.core import EndOfStream, Frame
from blendtorch.core.ring import Ring
from blendtorch.core.transport import Pull, Push
from hypothesis import Phase, settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

SLOTS, SLOT_BYTES = 3, 8192
WORTH_A_SLOT = 4096  # bytes of an array
MOST_CONSUMERS = 4
QUEUE_SIZE = 3  # of the publisher: a consumer may ask for more, and does not get it
ENOUGH = 5  # consumers, before a farewell: most examples would say it at once
DEADLINE_S = 3.0
A_MOMENT_S = 0.003  # for the kernel and libzmq's threads

any_consumer = strategies.integers(0, MOST_CONSUMERS - 1)
queue_sizes = strategies.integers(1, 4)
moments = strategies.sampled_from(["_ping", "_dispatch"])  # what `Push.serve` does when it has read, in this order
some_sizes = strategies.lists(strategies.sampled_from([0, 100, 4095, 4096, 6000, 20_000]), max_size=3)
fates = strategies.sampled_from(["used", "used", "used", "kept", "left", "left, kept"])
# A message is sent, then a consumer takes one: what becomes of that.
traffic = strategies.lists(strategies.tuples(some_sizes, any_consumer | strategies.none(), fates), max_size=4)


def event(**arguments):
    """Make a rule that some traffic comes before: each example goes without most rules, and is to have something to lose."""

    def decorate(method):
        @functools.wraps(method)
        def run(self, messages, **drawn):
            for sizes, which, fate in messages:
                if not self.ending:
                    self.hand_in(sizes)
                if self.consumers and which is not None:
                    self.take(self.greeted(which), acknowledges="left" not in fate, keeps="kept" in fate)
            method(self, **drawn)

        del run.__wrapped__  # its signature
        return rule(messages=traffic, **arguments)(run)

    return decorate


def contents(number, sizes):
    return [(np.arange(size) * (place + 1) + 31 * number).astype(np.uint8) for place, size in enumerate(sizes)]


def unheard(what):
    """Stands in for what a consumer says."""


def in_slot(sizes):
    """Whether a message takes a slot, and whether an array of it lies there: one that is too large leaves it empty."""
    takes, lies, end = False, False, 0
    for size in sizes:
        takes = takes or size >= WORTH_A_SLOT
        if takes and size and end + size <= SLOT_BYTES:
            lies, end = True, -(-(end + size) // 64) * 64
    return takes, lies


class Consumer:
    """A real consumer, and what the model knows of it."""

    def __init__(self, address, queue_size):
        self.pull = Pull([address], queue_size)
        self.name = self.pull._links[0]._name
        self.may_hold = min(queue_size, QUEUE_SIZE)
        self.is_greeted = self.ended = self.killed = False
        self.seen, self.acknowledged = [], set()
        self.latest = {}  # origin: the number that came from there last

    def vanish(self):
        """Say nothing from now on, as one that is killed: acknowledgements do not leave, nor does a goodbye."""
        self.killed = True
        for link in self.pull._links:
            link._say = unheard
            link.connected = False


class Kept:
    """Arrays that somebody who received them holds."""

    def __init__(self, number, consumer, arrays):
        self.number, self.consumer, self.arrays, self.is_changed = number, consumer, arrays, False


class TransportAgainstModel(RuleBasedStateMachine):
    """One publisher and its consumers, which come, go and are killed.

    The model is `outstanding`: the messages that were sent and that nobody has acknowledged. Which consumer holds which of
    them is read from the publisher's books, for the choice among equals is its own.

    - Who acknowledges a message is the only one who does, and until then only one living consumer at a time has it. The
      exception: the acknowledgements that a killed consumer had not got rid of.
    - Numbers rise at each consumer. Only what somebody has left may come later than its successors, and what one consumer
      has left rises, too.
    - Nobody holds more than its queue, and the next message goes to who holds least.
    - `send` succeeds where less is outstanding than all queues hold together.
    - A message misses the ring where each slot has a message that is outstanding, or arrays that somebody keeps.
    - Arrays are as they were sent until whoever has acknowledged them changes them. Nobody sees that, but for who had the
      message before and has left.
    - At the end everything is delivered, everybody is told so, and `farewell` returns True: not before.
    """

    def __init__(self):
        super().__init__()
        self.outer_error = sys.exception()
        self.folder = tempfile.mkdtemp(prefix="bt", dir="/tmp")
        self.address = f"ipc://{self.folder}/socket"
        self.push = Push(self.address, QUEUE_SIZE, Ring(SLOTS, SLOT_BYTES))
        self.books = self.push._outbox
        self.remove, self.books._remove = self.books._remove, self.note_leaving
        self.hand, self.push._hand = self.push._hand, self.note_sending
        self.by_name, self.consumers = {}, []
        self.sizes = []  # of the arrays of each message
        self.with_slot = set()
        self.pending = None  # what `send` gave back
        self.outstanding, self.delivered, self.origin = set(), {}, {}
        self.kept = []
        self.ending = self.is_over = False

    # What both ends do in passing.

    def tend(self):
        """Let the publisher act: it does so in its methods only."""
        if self.ending:
            end = EndOfStream(btid=0, sequence=len(self.sizes), address=self.address)
            self.is_over = self.push.farewell(end, timeout_ms=0)
        else:
            self.push.serve()

    def note_leaving(self, entry):
        """Be told by the books that a consumer has left, with what it holds: that is for others."""
        consumer = self.by_name[entry.name]
        lost = consumer.acknowledged & set(entry.held)
        assert consumer.killed or not lost, f"said, and not heard: {lost}"
        for number in lost:
            assert self.delivered.pop(number) is consumer
            self.outstanding.add(number)
        self.origin.update(dict.fromkeys(entry.held, consumer.name))
        self.remove(entry)

    def note_sending(self, entry, parcel):
        """Be told what is sent to whom: not the end, while something waits that this consumer could have had."""
        waiting = [one.sequence for one in self.books.waiting]
        if parcel.sequence not in waiting:
            for other in self.books.consumers:
                if other.route in self.push._gone:  # known to be gone: what it holds waits in a moment
                    waiting += other.held
            assert not waiting, f"is told of the end, and gets nothing of {waiting}"
        return self.hand(entry, parcel)

    def entry(self, consumer):
        return next((entry for entry in self.books.consumers if entry.name == consumer.name), None)

    def is_quiet(self):
        entries = {entry.name: entry for entry in self.books.consumers}
        present = {consumer.name: consumer for consumer in self.consumers if not consumer.pull.ended}
        return entries.keys() == present.keys() and all(
            consumer.acknowledged.isdisjoint(entries[name].held) for name, consumer in present.items()
        )

    def settle(self):
        """Let everybody hear what was said; then the books and the model agree."""
        deadline = time.monotonic() + DEADLINE_S
        self.tend()
        while not self.is_quiet():
            assert time.monotonic() < deadline, "somebody has not come, has not left, or was not heard"
            for consumer in self.consumers:
                consumer.pull.wait(0)
                if self.entry(consumer) is None and not consumer.pull.ended:
                    break  # in order, or else whose turn it is would be the kernel's choice
            time.sleep(0.0002)
            self.tend()
        for consumer in self.consumers:
            consumer.is_greeted = True
        entries, waiting = self.books.consumers, [parcel.sequence for parcel in self.books.waiting]
        assert sorted([*waiting, *(number for entry in entries for number in entry.held)]) == sorted(self.outstanding)
        assert all(len(entry.held) <= self.by_name[entry.name].may_hold for entry in entries)
        assert waiting == sorted(waiting)
        assert not waiting or not any(entry.room for entry in entries)
        if self.ending:
            assert self.is_over == (not self.outstanding and not entries)

    def occupied(self):
        """The messages that have a slot."""
        used = {kept.number for kept in self.kept if in_slot(self.sizes[kept.number])[1]} | self.outstanding
        if self.pending is not None:
            used.add(self.pending.sequence)
        return used & self.with_slot

    # The rules. What may be done next depends on what the rules did, not on what the kernel made of it: an example has to be
    # the same when it is tried again.

    @initialize(sizes=strategies.lists(queue_sizes, min_size=1, max_size=3))
    def begin(self, sizes):
        for size in sizes:
            self.add(size)

    @precondition(lambda self: len(self.consumers) < MOST_CONSUMERS)
    @event(queue_size=queue_sizes)
    def join(self, queue_size):
        self.add(queue_size)

    def add(self, queue_size):
        consumer = Consumer(self.address, queue_size)
        self.by_name[consumer.name] = consumer
        self.consumers.append(consumer)

    @precondition(lambda self: not self.ending)
    @event(sizes=some_sizes, timeout_ms=strategies.sampled_from([0, 2]))
    def send(self, sizes, timeout_ms):
        while self.hand_in(sizes, timeout_ms):
            pass

    def hand_in(self, sizes, timeout_ms=0):
        """Send a new message, or first the one that did not go; return whether it went."""
        self.settle()
        if self.pending is None:
            self.pack(sizes)
        number = self.pending.sequence
        has_room = len(self.outstanding) < sum(consumer.may_hold for consumer in self.consumers)
        before = {entry.name: len(entry.held) for entry in self.books.consumers if entry.room}
        assert self.push.send(self.pending, timeout_ms) == has_room
        if has_room:
            [holder] = [entry.name for entry in self.books.consumers if number in entry.held]
            assert before[holder] == min(before.values())
            self.outstanding.add(number)
            self.pending = None
        return has_room

    def pack(self, sizes):
        number, misses, full = len(self.sizes), self.push.ring_misses, len(self.occupied()) == SLOTS
        arrays = contents(number, sizes)
        data = {str(place): array for place, array in enumerate(arrays)}
        self.pending = self.push.pack(Frame(btid=0, sequence=number, data=data))
        for array in arrays:
            array[:] = 0
        self.sizes.append(sizes)
        takes_slot = in_slot(sizes)[0]
        assert self.push.ring_misses - misses == (takes_slot and full)
        if takes_slot and not full:
            self.with_slot.add(number)

    @precondition(lambda self: self.consumers)
    @event(which=any_consumer, count=strategies.integers(1, 4), keeps=strategies.booleans())
    def receive(self, which, count, keeps):
        consumer = self.greeted(which)
        while count and self.take(consumer, keeps=keeps):
            count -= 1

    @event()
    def receive_everything(self):
        self.settle()
        for consumer in self.consumers:
            while self.take(consumer):
                pass

    def greeted(self, which):
        consumer = self.consumers[which % len(self.consumers)]
        if not consumer.is_greeted:
            self.settle()
        return consumer

    def take(self, consumer, acknowledges=True, keeps=False):
        """Receive what is due at a consumer; return whether anything was."""
        entry = self.entry(consumer)
        due = [] if entry is None else [number for number in entry.held if number not in consumer.seen]
        if not due and (consumer.ended or not (entry is None or entry.told)):
            assert not consumer.pull.wait(0)
            return False
        assert consumer.pull.wait(round(1000 * DEADLINE_S)), f"{due} have not arrived"
        message = consumer.pull.receive()
        if not due:
            assert message == EndOfStream(btid=0, sequence=len(self.sizes), address=self.address)
            assert self.ending
            assert consumer.pull.ended == {self.address}
            consumer.pull.acknowledge()
            consumer.ended = True
            return True
        number = message.sequence
        assert number == due[0]
        assert number in self.outstanding
        assert not any(number in other.seen for other in self.consumers if not other.pull.ended), "two have it"
        origin = self.origin.get(number)
        assert number > (max(consumer.seen, default=-1) if origin is None else consumer.latest.get(origin, -1))
        consumer.seen.append(number)
        consumer.latest[origin] = number
        kept = Kept(number, consumer, list(message.data.values()))
        self.check_contents(kept)
        if keeps:
            self.kept.append(kept)
        if acknowledges:
            consumer.pull.acknowledge()
            consumer.acknowledged.add(number)
            self.outstanding.remove(number)
            self.delivered[number] = consumer
        return True

    @precondition(lambda self: self.consumers)
    @event(
        which=any_consumer,
        count=strategies.integers(0, 2),
        is_killed=strategies.booleans(),
        moment=strategies.none() | moments,
        successor=strategies.none() | queue_sizes,
    )
    def leave(self, which, count, is_killed, moment, successor):
        consumer = self.consumers[which % len(self.consumers)]
        if moment is None:
            self.take_and_close(consumer, count, is_killed)
        else:
            self.tend_while(moment, lambda: self.take_and_close(consumer, count, is_killed))
        if successor is not None:
            self.add(successor)

    def take_and_close(self, consumer, count, is_killed):
        if is_killed:
            consumer.vanish()
        for _ in range(count if consumer.is_greeted else 0):
            self.take(consumer)
        self.consumers.remove(consumer)
        consumer.pull.close()

    def tend_while(self, moment, happen):
        """Let the publisher look who is there, and something happen meanwhile: it has read by then, and goes on to send."""
        goes_on = getattr(self.push, moment)

        def run():
            delattr(self.push, moment)
            happen()
            time.sleep(A_MOMENT_S)
            goes_on()

        setattr(self.push, moment, run)
        with socket.socket(socket.AF_UNIX) as visitor:  # whenever somebody leaves, it looks for everybody
            visitor.connect(self.address.removeprefix("ipc://"))
        time.sleep(A_MOMENT_S)
        self.tend()

    @event()
    def serve(self):
        self.tend()

    @event(which=strategies.integers(0, 9))
    def let_go(self, which):
        if self.kept:
            del self.kept[which % len(self.kept)]

    @event(which=strategies.integers(0, 9))
    def change(self, which):
        """Write into arrays that are the caller's own by now."""
        self.settle()
        own = [kept for kept in self.kept if self.delivered.get(kept.number) is kept.consumer]
        if own:
            kept = own[which % len(own)]
            for array in kept.arrays:
                array[:] = 255
            kept.is_changed = True
            # Somebody may have left without acknowledging it, and hold the same memory still.
            self.kept = [other for other in self.kept if other is kept or other.number != kept.number]

    @precondition(lambda self: not self.ending and len(self.by_name) >= ENOUGH)
    @event(victim=strategies.none() | any_consumer)
    def say_farewell(self, victim):
        self.ending = True
        if victim is None or not self.consumers:
            self.tend()
        else:
            consumer = self.consumers[victim % len(self.consumers)]
            self.tend_while("_dispatch", lambda: self.take_and_close(consumer, 0, is_killed=True))

    # What is true after each of them.

    def check_contents(self, kept):
        for array, sent in zip(kept.arrays, contents(kept.number, self.sizes[kept.number]), strict=True):
            np.testing.assert_array_equal(array, np.full_like(sent, 255) if kept.is_changed else sent)

    @invariant()
    def kept_arrays_do_not_change(self):
        for kept in self.kept:
            self.check_contents(kept)

    @invariant()
    def nobody_has_more_than_its_queue(self):
        for consumer in self.consumers:
            assert len(consumer.seen) - len(consumer.acknowledged) <= consumer.may_hold

    # The end.

    def end(self):
        self.ending = True
        sent = set(range(len(self.sizes))) - ({self.pending.sequence} if self.pending is not None else set())
        for _ in range(20):
            self.settle()
            if self.is_over and all(consumer.ended for consumer in self.consumers):
                break
            taken = [self.take(consumer) for consumer in self.consumers]
            if not any(taken):
                self.add(4)  # for what was received and never acknowledged
        assert self.is_over
        assert self.delivered.keys() == sent
        self.kept_arrays_do_not_change()

    def teardown(self):
        try:
            if sys.exception() is self.outer_error:  # else a rule has failed, and says why
                self.end()
        finally:
            self.kept.clear()
            for consumer in self.consumers:
                consumer.pull.close()
            self.push.close()
            shutil.rmtree(self.folder)


TransportAgainstModel.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=30,
    deadline=None,
    phases=[phase for phase in Phase if phase is not Phase.explain],
    report_multiple_bugs=False,  # more of them, or an explanation, would take longer than a test may
)
TestTransportAgainstModel = TransportAgainstModel.TestCase
