"""How far something is that takes long: on a terminal a bar, elsewhere a line now and then."""

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from types import TracebackType
from typing import Generic, Self, TypeVar

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_LOOK_S = 0.5  # between two looks
_IN_LINES_S = 30.0  # between two lines
_WINDOW_S = 60.0  # rates are of so long: a picture may take ten seconds


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """How far it is.

    Attributes
    ----------
    done, total : int
        With what was done before.
    what : str
        Of which there are so many.
    per_s : float
        Over the last minute.
    left_s : float or None
        None before the first one.
    bottleneck : str
        Who keeps the other waiting, in words; empty where nobody knows.
    """

    done: int
    total: int
    what: str
    per_s: float
    left_s: float | None
    bottleneck: str = ""

    def __str__(self) -> str:
        return self.head() + (f"; {self.bottleneck}" if self.bottleneck else "")

    def head(self) -> str:
        """Say how far it is, and how fast."""
        return f"{self.done} of {self.total} {self.what}" + (f", {rate}" if (rate := self.rate()) else "")

    def rate(self) -> str:
        """Say how fast it is; nothing before the first one."""
        return "" if self.left_s is None else f"{self.per_s:.3g} {self.what}/s, {duration(self.left_s)} left"

    def rows(self) -> list[tuple[str, ...]]:
        """Describe who takes part, for the lines below the bar."""
        return []


S_co = TypeVar("S_co", bound=Snapshot, covariant=True)


def duration(seconds: float) -> str:
    """Write a duration as hours, minutes and seconds.

    Examples
    --------
    >>> duration(75.2), duration(7384)
    ('1:15', '2:03:04')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Counter(ABC, Generic[S_co]):
    """Counts. `count` is for one thread, `look` for one, perhaps another.

    Parameters
    ----------
    total, before : int
        How many there will be, and those of them that were there before.
    what : str
        Of what.
    """

    def __init__(self, total: int, before: int, what: str) -> None:
        self._total = total
        self._done = before
        self._what = what
        self._counts: deque[tuple[float, int]] = deque()  # when there were how many, within the window

    def count(self, number: int = 1) -> None:
        """Count some that are done."""
        now = time.monotonic()
        self._done += number
        self._counts.append((now, self._done))
        while len(self._counts) > 2 and self._counts[1][0] < now - _WINDOW_S:
            self._counts.popleft()

    def counted(self) -> Snapshot:
        """Say how far it is."""
        done, counts, rate = self._done, list(self._counts), 0.0
        if len(counts) > 1:  # from one to another: the start, of Blender for example, does not count
            (since, before), (until, after) = counts[0], counts[-1]
            waiting = time.monotonic() - until if done < self._total else 0.0
            usual = (until - since) / (after - before)
            rate = (after - before) / max(1e-9, until - since + max(0.0, waiting - usual))
        return Snapshot(
            done=done,
            total=self._total,
            what=self._what,
            per_s=rate,
            left_s=(self._total - done) / rate if rate > 0 else None,
        )

    @abstractmethod
    def look(self) -> S_co:
        """Look."""


class Count(Counter[Snapshot]):
    """Counts, and nothing else."""

    def look(self) -> Snapshot:
        """Look."""
        return self.counted()


class Progress(ABC, Generic[S_co]):
    """Shows, from a thread of its own, what a counter sees; inside a `with` block.

    Parameters
    ----------
    counter : Counter
    every_s : float

    Attributes
    ----------
    last : Snapshot
        What was shown last.
    """

    def __init__(self, counter: Counter[S_co], every_s: float) -> None:
        self._counter = counter
        self._every_s = every_s
        self.last = counter.look()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="blendtorch-progress", daemon=True)

    def __enter__(self) -> Self:
        """Begin to show."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Show a last time."""
        self._over.set()
        self._thread.join()
        self.last = self._counter.look()
        self.show(self.last)

    def _watch(self) -> None:
        due = 0.0
        while True:
            self.last = self._counter.look()  # often: who waits for whom is a matter of seconds
            if time.monotonic() >= due:
                self.show(self.last)
                due = time.monotonic() + self._every_s
            if self._over.wait(_LOOK_S):
                return

    @abstractmethod
    def show(self, snapshot: Snapshot) -> None:
        """Show how far it is."""


class Lines(Progress[S_co]):
    """One line on stderr now and then: for logs."""

    def __init__(self, counter: Counter[S_co], every_s: float = _IN_LINES_S) -> None:
        super().__init__(counter, every_s)

    def show(self, snapshot: Snapshot) -> None:
        """Print it."""
        print(snapshot, file=sys.stderr, flush=True)


class OnTerminal(Progress[S_co]):
    """A bar, and a row for each who takes part, at the bottom of the terminal."""

    def __init__(self, counter: Counter[S_co], console: Console, every_s: float = _LOOK_S) -> None:
        super().__init__(counter, every_s)
        # What others print to stderr meanwhile (Blender's notices) appears above.
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=False)

    def __enter__(self) -> Self:
        """Begin to show."""
        self._live.start()
        return super().__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Leave the last picture where it is."""
        try:
            super().__exit__(kind, error, trace)
        finally:
            self._live.stop()

    def show(self, snapshot: Snapshot) -> None:
        """Draw it anew."""
        head = Table.grid(padding=(0, 2))
        bar = ProgressBar(snapshot.total, snapshot.done, width=40)
        head.add_row(bar, f"{snapshot.done} of {snapshot.total} {snapshot.what}", snapshot.rate())
        rows = Table.grid(padding=(0, 2))
        for cells in snapshot.rows():
            rows.add_row(*cells)
        self._live.update(Group(head, rows, Text(f"  {snapshot.bottleneck}")), refresh=True)


def progress(counter: Counter[S_co]) -> Progress[S_co]:
    """Choose what fits where stderr goes."""
    console = Console(stderr=True)
    return OnTerminal(counter, console) if console.is_terminal and not console.is_dumb_terminal else Lines(counter)
