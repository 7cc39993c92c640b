"""Who holds what: the books of a publisher. Knows nothing of sockets.

A message is *waiting* until a consumer has room for it, then *held* by that consumer until it is acknowledged. What a
consumer holds when it leaves waits again, before everything else.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from blendtorch.core.ring import Slot
from blendtorch.core.wire import Part

_REMEMBERED = 64  # consumers that were given up


@dataclass(eq=False)
class Parcel:
    """An encoded message.

    Attributes
    ----------
    sequence : int
    parts : list of bytes-like
        From `wire.encode`.
    spans : list of (tuple of int, or None)
        Where each buffer lies in the slot; None for one of its own.
    slot : Slot or None
        Of the ring.
    nbytes : int
        Of all parts.
    """

    sequence: int
    parts: list[Part]
    spans: list[tuple[int, int] | None]
    slot: Slot | None = None
    nbytes: int = 0


@dataclass(eq=False)
class Consumer:
    """A consumer that has said hello.

    Attributes
    ----------
    name : str
    route : bytes
        Its connection.
    credit : int
        How many messages it may hold.
    ring : int or None
        Its column in the ring, None where it does not reach it.
    pid : int or None
        Its process, where that is on this machine.
    held : dict of int to Parcel
        By sequence number, in the order in which they were sent.
    number : int
        How many messages it was sent.
    told : bool
        It was sent the last message, and gets nothing any more.
    pings : int
        How often it was asked whether it is there since it last said something.
    lost_at : float or None
        When its connection was lost, on the clock of `time.monotonic`.
    """

    name: str
    route: bytes
    credit: int
    ring: int | None = None
    pid: int | None = None
    held: dict[int, Parcel] = field(default_factory=dict)
    number: int = 0
    told: bool = False
    pings: int = 0
    lost_at: float | None = None

    @property
    def room(self) -> int:
        """How many messages it may be sent at present."""
        return 0 if self.told or self.lost_at is not None else self.credit - len(self.held)


class Outbox:
    """Messages that are not delivered yet, and the consumers.

    Parameters
    ----------
    release : callable
        Told of each message that was delivered.
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        release: Callable[[Parcel], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.waiting: deque[Parcel] = deque()
        self._release = release
        self._clock = clock
        self._by_name: dict[str, Consumer] = {}
        self._by_route: dict[bytes, Consumer] = {}
        self._given_up: dict[str, set[int]] = {}
        self._turn = 0

    @property
    def consumers(self) -> list[Consumer]:
        """Those who have not left for good."""
        return list(self._by_name.values())

    @property
    def routes(self) -> list[bytes]:
        """The connections of the consumers."""
        return list(self._by_route)

    def outstanding(self) -> bool:
        """Whether a message is not delivered yet."""
        return bool(self.waiting) or any(consumer.held for consumer in self._by_name.values())

    def put(self, parcel: Parcel) -> None:
        """Add a message; it waits."""
        self.waiting.append(parcel)

    def withdraw(self, parcel: Parcel) -> None:
        """Take back a message that waits."""
        self.waiting.remove(parcel)

    def join(self, consumer: Consumer, yielded: Iterable[int], goes_on: bool = False) -> None:
        """Add a consumer, or one that is back on another connection.

        Parameters
        ----------
        consumer : Consumer
        yielded : iterable of int
            What it has yielded lately. It counts where this consumer held it. What else it held waits again.
        goes_on : bool
            The numbers began in another process: it may have yielded what came from there.
        """
        had = self._given_up.pop(consumer.name, set())
        if (old := self._by_name.get(consumer.name)) is not None:
            had = set(old.held)
            self._remove(old)
        self._by_name[consumer.name] = self._by_route[consumer.route] = consumer
        delivered = {sequence for sequence in yielded if goes_on or sequence in had}
        for parcel in [parcel for parcel in self.waiting if parcel.sequence in delivered]:
            self.waiting.remove(parcel)
            self._release(parcel)

    def leave(self, route: bytes) -> None:
        """A consumer says that it closes, or its process is dead."""
        if (consumer := self._by_route.get(route)) is not None:
            self._remove(consumer)

    def lose(self, route: bytes) -> None:
        """The connection of a consumer is gone; it may come back on another one."""
        if (consumer := self._by_route.pop(route, None)) is not None:
            consumer.lost_at = self._clock()

    def expire(self, grace_s: float, alive: Callable[[int], bool]) -> None:
        """Give up consumers that have not come back in time, or whose process has ended."""
        for consumer in self.consumers:
            if consumer.lost_at is None:
                continue
            if consumer.pid is not None and not alive(consumer.pid):
                self._remove(consumer)
            elif self._clock() - consumer.lost_at >= grace_s:
                self._give_up(consumer)

    def limit_lost(self, most: int) -> None:
        """Give up those that were lost first, where there are more."""
        lost = [consumer for consumer in self.consumers if consumer.lost_at is not None]
        for consumer in sorted(lost, key=_lost_at)[: max(0, len(lost) - most)]:
            self._give_up(consumer)

    def acknowledge(self, route: bytes, sequences: Iterable[int]) -> None:
        """A consumer has yielded messages."""
        if (consumer := self._by_route.get(route)) is None:
            return
        for sequence in sequences:
            parcel = consumer.held.pop(sequence, None)
            if parcel is not None:  # else it is said twice
                self._release(parcel)

    def choose(self, blocked: set[bytes]) -> Consumer | None:
        """Find the consumer for the next message: the one that holds least, in turn; None where nobody has room."""
        best: Consumer | None = None
        consumers = self.consumers
        for offset in range(len(consumers)):
            consumer = consumers[(self._turn + offset) % len(consumers)]
            if consumer.room > 0 and consumer.route not in blocked and (best is None or len(consumer.held) < len(best.held)):
                best = consumer
        return best

    def hand_over(self, consumer: Consumer) -> None:
        """The next message was sent to a consumer."""
        parcel = self.waiting.popleft()
        consumer.held[parcel.sequence] = parcel
        consumer.number += 1
        self._turn += 1

    def find(self, route: bytes) -> Consumer | None:
        """Return the consumer on a connection."""
        return self._by_route.get(route)

    def _give_up(self, consumer: Consumer) -> None:
        """Remove one that may be back yet, and remember for a while what it may have yielded."""
        self._given_up[consumer.name] = set(consumer.held)
        while len(self._given_up) > _REMEMBERED:
            del self._given_up[next(iter(self._given_up))]
        self._remove(consumer)

    def _remove(self, consumer: Consumer) -> None:
        del self._by_name[consumer.name]
        self._by_route.pop(consumer.route, None)
        self.waiting.extendleft(reversed(consumer.held.values()))
        if len(self.waiting) > 1:
            self.waiting = deque(sorted(self.waiting, key=_sequence))  # several may have left: each sees them in order
        consumer.held = {}


def _sequence(parcel: Parcel) -> int:
    return parcel.sequence


def _lost_at(consumer: Consumer) -> float:
    return consumer.lost_at or 0.0
