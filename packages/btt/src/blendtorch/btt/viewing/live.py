"""Samples of running instances: the last ones are kept."""

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import numpy as np
from blendtorch.btt.generation.instances import Observer
from blendtorch.btt.launch_info import LaunchInfo
from blendtorch.btt.streaming import ENDLESS, SampleDataset
from blendtorch.btt.viewing.source import InstanceStatus, Source, Status
from blendtorch.core.errors import BlendtorchError, LaunchError
from blendtorch.core.messages import Frame

logger = logging.getLogger("blendtorch")

_KEEP_BYTES, _KEEP = 512_000_000, 500  # of the last samples; the newest always
_KEEP_PER_S = 10.0  # of a faster stream nobody could look at each; so many may come at once
_LOOK_S = 0.4  # between two looks at the instances, however many pages ask
_BOTTLENECK = {"Blender": "Blender renders as fast as it can", "trainer": "Blender waits until its samples are taken"}


class _Tap(SampleDataset):
    """Samples of plug-ins as they are, items of scripts with `btid`; until it is told to stop."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.stop = threading.Event()

    def _is_over(self) -> bool:
        return self.stop.is_set()

    def _content(self, frame: Frame) -> dict[str, Any]:
        return frame.data if "meta" in frame.data else {**frame.data, "btid": frame.btid}


class LiveSource(Source):
    """Takes samples in a thread of its own, while its `with` block runs, and keeps copies of the last ones.

    Parameters
    ----------
    launch_info : LaunchInfo
        Of the instances.
    socket : str
        Name of the socket that they publish on.
    title : str
    notice : str
    every_s : float
        It waits so long between two samples: others get the rest. 0 takes all.
    """

    def __init__(
        self, launch_info: LaunchInfo, title: str, *, socket: str = "DATA", notice: str = "", every_s: float = 0.0
    ) -> None:
        if socket not in launch_info.addresses:
            known = ", ".join(map(repr, launch_info.addresses)) or "none"
            raise LaunchError(f"this launch has no socket {socket!r}: it has {known}; name one with --socket")
        self.title, self.notice = title, notice
        # One message at a time, where others are to get theirs.
        queue = {"queue_size": 1} if every_s else {}
        self._dataset = _Tap(launch_info.addresses[socket], timeoutms=-1, max_items=ENDLESS, **queue)
        folder = launch_info.launch_folder
        self._observer = None if folder is None else Observer(self._dataset, folder, ENDLESS, 0)
        self._every_s = every_s
        self._lock = threading.Lock()
        self._kept: deque[tuple[dict[str, Any], int]] = deque()  # with their sizes in bytes
        self._end = self._bytes = 0
        self._state: str = "live"
        self._problem = ""
        self._looked, self._status = 0.0, self._look()
        self._thread = threading.Thread(target=self._take, name="blendtorch-view", daemon=True)

    def __enter__(self) -> Self:
        """Begin to take."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Take no more."""
        self._dataset.stop.set()
        self._thread.join()

    @property
    def categories(self) -> dict[int, str]:
        """As the instances report them."""
        try:
            return self._dataset.categories
        except LaunchError:
            return {}

    def status(self) -> Status:
        """Look, now and then."""
        with self._lock:
            if time.monotonic() > self._looked + _LOOK_S:
                self._looked, self._status = time.monotonic(), self._look()
            return self._status

    def sample(self, number: int) -> dict[str, Any]:
        """Give one of those that are kept."""
        with self._lock:
            first = self._end - len(self._kept)
            if not first <= number < self._end:
                raise LookupError(f"sample {number} is not kept: there are {first} to {self._end - 1}")
            return self._kept[number - first][0]

    def _take(self) -> None:
        allowed, looked = _KEEP_PER_S, time.monotonic()
        try:
            for sample in self._dataset:
                now = time.monotonic()
                allowed, looked = min(_KEEP_PER_S, allowed + (now - looked) * _KEEP_PER_S), now
                if allowed >= 1:
                    allowed -= 1
                    self._keep(_copied(sample))
                del sample  # its memory goes back to Blender
                if self._dataset.stop.wait(self._every_s):
                    break
            self._state = "ended"
        except BlendtorchError as error:
            if not self._dataset.stop.is_set():
                self._state, self._problem = "failed", str(error)
                logger.error("%s", error)  # noqa: TRY400 - it is what the user reads, and has Blender's traceback where there is one
        except Exception as error:
            self._state, self._problem = "failed", f"no more samples are taken: {type(error).__name__}: {error}"
            logger.exception("no more samples are taken")
        finally:
            self._dataset.close()

    def _keep(self, sample: dict[str, Any]) -> None:
        size = _nbytes(sample)
        with self._lock:
            self._kept.append((sample, size))
            self._end += 1
            self._bytes += size
            while len(self._kept) > _KEEP or (self._bytes > _KEEP_BYTES and len(self._kept) > 1):
                self._bytes -= self._kept.popleft()[1]

    def _look(self) -> Status:
        stats = self._dataset.stats()
        views = () if self._observer is None else self._observer.look().instances
        instances = [
            InstanceStatus(
                number=number,
                state=views[number].state if views else ("running" if each.frames else "starting"),
                samples=each.frames,
                per_s=each.frames_per_s,
                device=views[number].device if views else "",
                restarts=each.restarts or 0,
            )
            for number, each in enumerate(stats.instances)
        ]
        state: Any = "waiting" if self._state == "live" and not stats.frames else self._state
        return Status(
            state=state,
            first=self._end - len(self._kept),
            end=self._end,
            total=stats.frames,
            per_s=stats.frames_per_s,
            bottleneck=_BOTTLENECK.get(stats.bottleneck or "", "") if state == "live" else "",
            problem=self._problem,
            instances=tuple(instances),
        )


def _copied(value: Any) -> Any:
    """Copy arrays: theirs is memory that Blender waits for."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, Mapping):
        return {name: _copied(each) for name, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, (list, tuple)) else value


def _nbytes(value: Any) -> int:
    if isinstance(value, Mapping):
        return sum(map(_nbytes, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(_nbytes, value))
    return int(value.nbytes) if isinstance(value, np.ndarray) else 100
