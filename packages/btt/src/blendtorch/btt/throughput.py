"""How fast a stream is, and who waits for whom."""

import contextlib
import struct
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
from blendtorch.btt.shared_file import SharedFile
from blendtorch.core.errors import BlendtorchError
from blendtorch.core.launch import InstanceFiles
from blendtorch.core.status import PublisherStatus

_ROW = struct.Struct("qqq")  # frames, bytes, nanoseconds that were waited for them
_FIRST = struct.Struct("q")  # when the first frame was taken, by CLOCK_MONOTONIC; 0 before
_WINDOW_S = 10.0  # rates are of so long
_MUCH = 0.1  # of the time: who waits so much is not the bottleneck


class InstanceStats(msgspec.Struct, frozen=True, kw_only=True):
    """What one instance has done.

    Attributes
    ----------
    address : str
    frames, bytes : int
        That were delivered, over all workers.
    frames_per_s, bytes_per_s : float
        Over the last 10 s.
    waited_s : float or None
        Time that Blender waited for the trainer. None, like what follows, where the instance is on another machine.
    ring_misses : int or None
        Frames that found no slot in the shared memory and travelled through the socket.
    restarts : int or None
        How often it was started again after it had failed, died or hung.
    recycled : int or None
        How often it was exchanged for a fresh process.
    """

    address: str
    frames: int
    bytes: int
    frames_per_s: float
    bytes_per_s: float
    waited_s: float | None = None
    ring_misses: int | None = None
    restarts: int | None = None
    recycled: int | None = None


class StreamStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream has done; as text, one line for a progress bar.

    Attributes
    ----------
    instances : tuple of InstanceStats
    frames, bytes : int
        That were delivered, over all workers.
    frames_per_s, bytes_per_s : float
        Over the last 10 s.
    waited_s : float
        Time that this process and its workers waited for Blender, added up.
    bottleneck : {'Blender', 'trainer'} or None
        Who keeps the other waiting, over the last 10 s. None before the first frames.

    Examples
    --------
    >>> stats = StreamStats(
    ...     instances=(), frames=90, bytes=10**8, frames_per_s=30, bytes_per_s=36e6, waited_s=2.5, bottleneck="Blender"
    ... )
    >>> print(stats)
    30.0 frames/s, 36.0 MB/s, bottleneck: Blender
    """

    instances: tuple[InstanceStats, ...]
    frames: int
    bytes: int
    frames_per_s: float
    bytes_per_s: float
    waited_s: float
    bottleneck: Literal["Blender", "trainer"] | None

    def __str__(self) -> str:
        text = f"{self.frames_per_s:.1f} frames/s, {self.bytes_per_s / 1e6:.1f} MB/s"
        if self.bottleneck:
            text += f", bottleneck: {self.bottleneck}"
        if restarts := sum(each.restarts or 0 for each in self.instances):
            text += f", restarts: {restarts}"
        if misses := sum(each.ring_misses or 0 for each in self.instances):
            text += f", not through shared memory: {misses}"
        return text


class Tally:
    """Counts what the processes of one training run take, by number of the instance.

    Parameters
    ----------
    instances : int
    """

    def __init__(self, instances: int) -> None:
        self._file = SharedFile(_FIRST.size + instances * _ROW.size)

    def add(self, number: int, nbytes: int, waited_s: float) -> None:
        """Count a frame."""
        place = _FIRST.size + number * _ROW.size
        with self._file.locked():
            frames, size, waited = _ROW.unpack(self._file.read(_ROW.size, place))
            self._file.write(_ROW.pack(frames + 1, size + nbytes, waited + round(waited_s * 1e9)), place)
            if _FIRST.unpack(self._file.read(_FIRST.size)) == (0,):
                self._file.write(_FIRST.pack(time.monotonic_ns()))

    def read(self) -> tuple[float | None, list[tuple[int, int, float]]]:
        """Return when the first frame was taken (None: never), and frames, bytes and seconds waited, for each instance."""
        content = self._file.read(self._file.size)
        first = _FIRST.unpack_from(content)[0] / 1e9
        rows = [(frames, size, waited / 1e9) for frames, size, waited in _ROW.iter_unpack(content[_FIRST.size :])]
        return first or None, rows


class _Look(msgspec.Struct):
    """What was seen at a moment."""

    at: float
    rows: list[tuple[int, int, float]]
    blender_waited: list[float | None]  # None where nobody knows, or the instance has ended


class Meter:
    """Reads the numbers of a stream, and compares them with those of 10 s ago.

    Parameters
    ----------
    addresses : sequence of str
    launch_folder : Path or None
        None where the instances are on another machine.
    tally : Tally
    """

    def __init__(self, addresses: Sequence[str], launch_folder: Path | None, tally: Tally) -> None:
        self._addresses = addresses
        self._files = [None if launch_folder is None else InstanceFiles(launch_folder, n) for n in range(len(addresses))]
        self._tally = tally
        self._looks: deque[_Look] = deque()

    def stats(self) -> StreamStats:
        """Look."""
        now = time.monotonic()
        first, rows = self._tally.read()
        if not self._looks:
            self._looks.append(_Look(first or now, [(0, 0, 0.0)] * len(rows), [0.0] * len(rows)))
        instances: list[InstanceStats] = []
        look = _Look(now, rows, [])
        while len(self._looks) > 1 and self._looks[1].at <= now - _WINDOW_S:
            self._looks.popleft()
        before = self._looks[0]
        seconds = max(now - max(before.at, first or now), 1e-9)
        for number, (address, files) in enumerate(zip(self._addresses, self._files, strict=True)):
            (frames, size, _), (frames_before, size_before, _) = rows[number], before.rows[number]
            known = InstanceStats(
                address=address,
                frames=frames,
                bytes=size,
                frames_per_s=(frames - frames_before) / seconds,
                bytes_per_s=(size - size_before) / seconds,
            )
            if files is not None:
                known = _with_launch(known, files, address)
            instances.append(known)
            look.blender_waited.append(None if files is None or files.read_exit_code() is not None else known.waited_s)
        bottleneck = _bottleneck(before, look, seconds) if first else None
        self._looks.append(look)
        return StreamStats(
            instances=tuple(instances),
            frames=sum(each.frames for each in instances),
            bytes=sum(each.bytes for each in instances),
            frames_per_s=sum(each.frames_per_s for each in instances),
            bytes_per_s=sum(each.bytes_per_s for each in instances),
            waited_s=sum(waited for *_, waited in rows),
            bottleneck=bottleneck,
        )


def _with_launch(stats: InstanceStats, files: InstanceFiles, address: str) -> InstanceStats:
    """Add what the launch folder knows."""
    restarts = files.read_restarts()
    waited_s, misses = 0.0, 0
    with contextlib.suppress(BlendtorchError):  # it has not made its publisher yet
        status = PublisherStatus.open(files.status(address)).read()
        waited_s, misses = status.waited_ns / 1e9, status.ring_misses
        if status.frames and status.waiting_since_ns and files.read_exit_code() is None:
            waited_s += (time.monotonic_ns() - status.waiting_since_ns) / 1e9
    return msgspec.structs.replace(
        stats, waited_s=waited_s, ring_misses=misses, restarts=restarts.failures, recycled=restarts.recycled
    )


def _bottleneck(before: _Look, now: _Look, seconds: float) -> Literal["Blender", "trainer"] | None:
    pairs = zip(before.blender_waited, now.blender_waited, strict=True)
    waited = [after - (earlier or 0.0) for earlier, after in pairs if after is not None]
    if waited:
        return "trainer" if sum(waited) > _MUCH * seconds * len(waited) else "Blender"
    trainer_waited = sum(row[2] for row in now.rows) - sum(row[2] for row in before.rows)
    return "Blender" if trainer_waited > _MUCH * seconds else "trainer"
