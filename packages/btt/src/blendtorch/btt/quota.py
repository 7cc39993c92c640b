"""How many items an epoch may still take, over all workers of a DataLoader.

Each worker has a fair share, so that batches fill where it is a multiple of their size. When the stream ends before a share is
used, a worker stops early, or the others get on no more, what is left goes to whoever still has items.
"""

import struct
import time

from blendtorch.btt.shared_file import SharedFile
from blendtorch.btt.workers import loader_number
from torch.utils.data import get_worker_info

_ENTRY = struct.Struct("qqqqq")  # loader and number of the epoch, items taken, whether shares are released, age stamp
_ENTRIES = 64  # epochs that may run at the same time
_PATIENCE_S = 1.0
_PATIENCE_ITEMS = 4


class SharedCount:
    """A table of counters, one per epoch, that processes share."""

    def __init__(self) -> None:
        self._file = SharedFile(_ENTRY.size * _ENTRIES)

    def take(self, epoch: tuple[int, int], limit: int) -> bool:
        """Count one item of an epoch; False, and nothing is counted, where that would pass the limit."""
        with self._file.locked():
            number, (*_, taken, released, stamp) = self._find(epoch)
            if taken < limit:
                self._write(number, epoch, taken + 1, released, stamp)
            return taken < limit

    def give_back(self, epoch: tuple[int, int]) -> None:
        """Count one item of an epoch less."""
        with self._file.locked():
            number, (*_, taken, released, stamp) = self._find(epoch)
            self._write(number, epoch, taken - 1, released, stamp)

    def release(self, epoch: tuple[int, int]) -> None:
        """Let every worker take more than its share of an epoch."""
        with self._file.locked():
            number, (*_, taken, _, stamp) = self._find(epoch)
            self._write(number, epoch, taken, 1, stamp)

    def number(self, epoch: tuple[int, int]) -> int:
        """Count the epochs that began before this one, in whatever process."""
        with self._file.locked():
            *_, stamp = self._find(epoch)[1]
            return stamp - 1

    def look(self, epoch: tuple[int, int]) -> tuple[int, bool]:
        """Return how many items an epoch has taken so far, and whether its shares are released."""
        with self._file.locked():
            *_, taken, released, _ = self._find(epoch)[1]
            return taken, bool(released)

    def _find(self, epoch: tuple[int, int]) -> tuple[int, tuple[int, int, int, int, int]]:
        entries = list(_ENTRY.iter_unpack(self._file.read(self._file.size)))
        for number, entry in enumerate(entries):
            if entry[-1] and entry[:2] == epoch:
                return number, entry
        stamps = [entry[-1] for entry in entries]
        oldest, stamp = stamps.index(min(stamps)), max(stamps) + 1
        self._write(oldest, epoch, 0, 0, stamp)
        return oldest, (*epoch, 0, 0, stamp)

    def _write(self, number: int, epoch: tuple[int, int], taken: int, released: int, stamp: int) -> None:
        self._file.write(_ENTRY.pack(*epoch, taken, released, stamp), number * _ENTRY.size)


class Quota:
    """What one iteration in one process may take.

    Parameters
    ----------
    max_items : int
        Of the epoch, over all workers.
    shared : SharedCount
    iteration : int
        How many iterations this process has begun before: workers that live on count their epochs alike.

    Attributes
    ----------
    number : int
        Of the epoch, from 0, the same in all workers of one iterator.
    """

    def __init__(self, max_items: int, shared: SharedCount, iteration: int) -> None:
        info = get_worker_info()
        workers, worker = (1, 0) if info is None else (info.num_workers, info.id)
        self._shared = None if info is None else shared
        self._epoch = (loader_number(), iteration)
        self.number = shared.number(self._epoch)
        self._max_items = max_items
        self._share = max_items // workers + (worker < max_items % workers)
        self._own = 0
        self._begin = self._progress = time.monotonic()
        self._taken = 0

    def exhausted(self) -> bool:
        """Whether the epoch has all its items."""
        taken = self._own if self._shared is None else self._shared.look(self._epoch)[0]
        if taken != self._taken:
            self._taken, self._progress = taken, time.monotonic()
        return taken >= self._max_items

    def may_take(self) -> bool:
        """Whether this process may take an item though the stream goes on and others could have it."""
        if self._shared is None or self._own < self._share:
            return True
        # Others get items as often as this process did. When for long enough nobody got one, they have none.
        pace = (self._progress - self._begin) / max(self._own, 1)
        stalled = time.monotonic() - self._progress > _PATIENCE_S + _PATIENCE_ITEMS * pace
        return stalled or self._shared.look(self._epoch)[1]

    def take(self) -> bool:
        """Take one item; False where the epoch has all its items."""
        if self._own >= self._max_items or (self._shared and not self._shared.take(self._epoch, self._max_items)):
            return False
        self._own += 1
        return True

    def give_back(self) -> None:
        """Take back the last `take`: there was no item after all."""
        self._own -= 1
        if self._shared is not None:
            self._shared.give_back(self._epoch)

    def release(self) -> None:
        """Leave the rest of this process's share to the others: it stops early."""
        if self._shared is not None and self._own < self._share:
            self._shared.release(self._epoch)
