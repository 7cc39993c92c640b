"""Samples of a recording, also of one that still grows."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from blendtorch.btt.recording import FileDataset, FileReader
from blendtorch.btt.recording.reader import NothingRecordedError
from blendtorch.btt.viewing.source import InstanceStatus, Source, Status
from blendtorch.core.assets import CAD_SUFFIXES, MESH_SUFFIXES
from blendtorch.core.errors import RecordingError

_LOOK_S = 0.4  # between two looks, however many pages ask
_GROWS_S = 5.0  # it is live for so long after the last message came
_NO_PREFIX = (*MESH_SUFFIXES, *CAD_SUFFIXES, ".blend", ".json", ".yaml", ".yml")  # of what is not there: it is misspelt
_WINDOW_NS = 10_000_000_000  # rates are of so long, up to the newest message


class RecordedSource(Source):
    """The samples of all files of a recording, in the order in which they came.

    It opens what `FileDataset` opens, and waits where nothing is recorded yet. What comes while it is looked at gets the
    numbers behind, so that a number stays what it is.

    Parameters
    ----------
    place : path
        A prefix, a folder or a file.

    Raises
    ------
    RecordingError
        If there is none.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self.title = os.fspath(place)
        self._place = place
        self._lock = threading.Lock()
        self._dataset: FileDataset | None = None
        self._readers: list[FileReader] = []  # as they came, where the data set sorts them by name
        self._seen: list[int] = []  # of each file: messages that have a number
        self._rows = np.zeros((0, 4), np.int64)  # of each number: file, message, time, btid
        self._looked = self._grown = 0.0
        self._refresh()
        self._grown = 0.0  # what was there is no growth
        self.notice = ". ".join(damage for reader in self._readers for damage in reader.damages())

    @property
    def categories(self) -> dict[int, str]:
        """As they were recorded; empty where they are damaged, for the samples can be looked at without."""
        with self._lock:
            try:
                return (self._dataset and self._dataset.categories) or {}
            except RecordingError:
                return {}

    def status(self) -> Status:
        """Look for what was recorded since."""
        with self._lock:
            if time.monotonic() > self._looked + _LOOK_S:
                self._refresh()
            grows = bool(self._grown) and time.monotonic() < self._grown + _GROWS_S
            rows, end = self._rows, len(self._rows)
        newest = rows[:, 2].max() if end else 0
        latest = rows[rows[:, 2] > newest - _WINDOW_NS]
        instances = [
            InstanceStatus(
                number=int(btid),
                state="running" if grows else "recorded",
                samples=int(np.sum(rows[:, 3] == btid)),
                per_s=_rate(latest[latest[:, 3] == btid, 2]),
            )
            for btid in np.unique(rows[:, 3])
        ]
        return Status(
            state="live" if grows else "recorded" if end else "waiting",
            first=0,
            end=end,
            total=end,
            per_s=_rate(latest[:, 2]),
            instances=tuple(instances),
        )

    def sample(self, number: int) -> dict[str, Any]:
        """Read one."""
        with self._lock:
            if not 0 <= number < len(self._rows):
                raise LookupError(f"there is no sample {number}: the recording has {len(self._rows)}")
            file, message = self._rows[number, :2].tolist()
            sample: dict[str, Any] = self._readers[file][message]
        return sample

    def _refresh(self) -> None:
        self._looked = time.monotonic()
        try:
            if self._dataset is None:
                self._dataset = FileDataset(self._place, warn=False)
            else:
                self._dataset.refresh()
        except NothingRecordedError:  # who records is about to begin
            return
        known = set(self._readers)
        begun = [reader for reader in self._dataset.files if reader not in known]
        self._readers += begun
        self._seen += [0] * len(begun)
        came = []
        for file, reader in enumerate(self._readers):
            first, end = self._seen[file], len(reader)
            if end > first:
                messages = np.arange(first, end)
                columns = (np.full_like(messages, file), messages, reader.times[first:], reader.btids[first:])
                came.append(np.stack(columns, axis=1).astype(np.int64))
                self._seen[file] = end
        if came:
            rows = np.concatenate(came)
            self._rows = np.concatenate([self._rows, rows[np.argsort(rows[:, 2], kind="stable")]])
            self._grown = time.monotonic()


def is_recording(place: str) -> bool:
    """Whether somebody who names a place means a recording: a file, a folder with some, or a prefix."""
    path = Path(place)
    if path.is_file():
        return path.suffix in (".arrows", ".btr")
    if path.is_dir():
        return any(path.glob("*.arrows"))
    return not path.exists() and path.suffix.lower() not in _NO_PREFIX


def _rate(times: Any) -> float:
    """Compute how many came per second, from the first to the last."""
    span = float(times.max() - times.min()) / 1e9 if len(times) > 1 else 0.0
    return (len(times) - 1) / span if span > 0 else 0.0
