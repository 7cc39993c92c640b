"""How far a run is: on a terminal a bar and what each instance does, elsewhere a line now and then."""

import re
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec
from blendtorch.btt.dataset import RemoteIterableDataset
from blendtorch.core.launch import InstanceFiles
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

State = Literal["starting", "running", "starting again", "ended", "failed"]

_LOOK_S = 0.5  # between two looks
_IN_LINES_S = 30.0  # between two lines
_WINDOW_S = 60.0  # rates are of so long: a picture may take ten seconds
_DEVICE = re.compile(r"Renderer (\S+) renders on: (.*)")
_BOTTLENECK = {"Blender": "Blender renders as fast as it can", "trainer": "writing is slower than rendering: more --workers"}


class InstanceView(msgspec.Struct, frozen=True, kw_only=True):
    """What one Blender does.

    Attributes
    ----------
    number : int
    state : str
    device : str
        What it renders on, as its renderer says; empty before the first picture.
    images : int
        That came from it.
    restarts : int
        After it had failed, died or hung.
    """

    number: int
    state: State
    device: str
    images: int
    restarts: int


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is.

    Attributes
    ----------
    done, total : int
        Samples, with those of runs before.
    images_per_s : float
        Over the last minute.
    left_s : float or None
        None before the first sample.
    bottleneck : str
        Who keeps the other waiting, in words; empty where nobody knows.
    instances : tuple of InstanceView
    """

    done: int
    total: int
    images_per_s: float
    left_s: float | None
    bottleneck: str
    instances: tuple[InstanceView, ...]

    def __str__(self) -> str:
        text = f"{self.done} of {self.total} images"
        if self.left_s is not None:
            text += f", {self.images_per_s:.3g} images/s, {duration(self.left_s)} left"
        for each in self.instances:
            device = f" on {each.device}" if each.device else ""
            text += f"; instance {each.number} {each.state}{device}" + (f", {each.restarts} restarts" if each.restarts else "")
        return text + (f"; {self.bottleneck}" if self.bottleneck else "")


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


class Observer:
    """Makes snapshots of a run. `count` is for one thread, `look` for one, perhaps another.

    Parameters
    ----------
    dataset : RemoteIterableDataset
    launch_folder : Path
    total, before : int
        Samples of the run, and those of them that were there before it.
    """

    def __init__(self, dataset: RemoteIterableDataset, launch_folder: Path, total: int, before: int) -> None:
        self._dataset = dataset
        self._files = [InstanceFiles(launch_folder, number) for number in range(len(dataset.addresses))]
        self._total = total
        self._done = before
        self._counts: deque[tuple[float, int]] = deque()  # when there were how many, within the window
        self._bottleneck = ""
        self._restarts = [0] * len(self._files)
        self._images_before = [0] * len(self._files)  # when it was started last

    def count(self) -> None:
        """Count a sample that was written."""
        now = time.monotonic()
        self._done += 1
        self._counts.append((now, self._done))
        while len(self._counts) > 2 and self._counts[1][0] < now - _WINDOW_S:
            self._counts.popleft()

    def look(self) -> Snapshot:
        """Look."""
        done, counts, rate = self._done, list(self._counts), 0.0
        if len(counts) > 1:  # from one sample to another: the start of Blender does not count
            (since, before), (until, after) = counts[0], counts[-1]
            waiting = time.monotonic() - until if done < self._total else 0.0
            usual = (until - since) / (after - before)
            rate = (after - before) / (until - since + max(0.0, waiting - usual))
        stats = self._dataset.stats()
        if done < self._total:  # in the end Blender waits until all has arrived
            self._bottleneck = _BOTTLENECK.get(stats.bottleneck or "", "")
        pairs = zip(self._files, stats.instances, strict=True)
        return Snapshot(
            done=done,
            total=self._total,
            images_per_s=rate,
            left_s=(self._total - done) / rate if rate > 0 else None,
            bottleneck=self._bottleneck,
            instances=tuple(self._view(number, files, each.frames) for number, (files, each) in enumerate(pairs)),
        )

    def _view(self, number: int, files: InstanceFiles, images: int) -> InstanceView:
        report, restarts, code = files.read_report(), files.read_restarts(), files.read_exit_code()
        if (again := restarts.failures + restarts.recycled) != self._restarts[number]:
            self._restarts[number], self._images_before[number] = again, images
        state: State = "running"
        if code is not None:
            state = "failed" if code else "ended"
        elif images == self._images_before[number]:
            state = "starting again" if again else "starting"
        devices = [match[2] for match in map(_DEVICE.match, report.summary) if match]
        return InstanceView(
            number=number,
            state=state,
            device=", ".join(dict.fromkeys(devices)),
            images=images,
            restarts=restarts.failures,
        )


class Progress(ABC):
    """Shows, from a thread of its own, what an observer sees; inside a `with` block.

    Parameters
    ----------
    observer : Observer
    every_s : float

    Attributes
    ----------
    last : Snapshot
        What was shown last.
    """

    def __init__(self, observer: Observer, every_s: float) -> None:
        self._observer = observer
        self._every_s = every_s
        self.last = observer.look()
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
        self.last = self._observer.look()
        self.show(self.last)

    def _watch(self) -> None:
        due = 0.0
        while True:
            self.last = self._observer.look()  # often: who waits for whom is a matter of seconds
            if time.monotonic() >= due:
                self.show(self.last)
                due = time.monotonic() + self._every_s
            if self._over.wait(_LOOK_S):
                return

    @abstractmethod
    def show(self, snapshot: Snapshot) -> None:
        """Show how far it is."""


class Lines(Progress):
    """One line on stderr now and then: for logs."""

    def __init__(self, observer: Observer, every_s: float = _IN_LINES_S) -> None:
        super().__init__(observer, every_s)

    def show(self, snapshot: Snapshot) -> None:
        """Print it."""
        print(snapshot, file=sys.stderr, flush=True)


class OnTerminal(Progress):
    """A bar, and a row for each instance, at the bottom of the terminal."""

    def __init__(self, observer: Observer, console: Console, every_s: float = _LOOK_S) -> None:
        super().__init__(observer, every_s)
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
        left = "" if snapshot.left_s is None else f"{snapshot.images_per_s:.3g} images/s, {duration(snapshot.left_s)} left"
        head = Table.grid(padding=(0, 2))
        head.add_row(ProgressBar(snapshot.total, snapshot.done, width=40), f"{snapshot.done} of {snapshot.total} images", left)
        rows = Table.grid(padding=(0, 2))
        for each in snapshot.instances:
            restarts = f"{each.restarts} restarts" if each.restarts else ""
            rows.add_row(f"  instance {each.number}", each.state, f"{each.images} images", each.device, restarts)
        self._live.update(Group(head, rows, Text(f"  {snapshot.bottleneck}")), refresh=True)


def progress(observer: Observer) -> Progress:
    """Choose what fits where stderr goes."""
    console = Console(stderr=True)
    return OnTerminal(observer, console) if console.is_terminal and not console.is_dumb_terminal else Lines(observer)
