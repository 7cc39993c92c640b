"""The stream of frames as a PyTorch dataset."""

import functools
import multiprocessing.util
import os
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from blendtorch.btt import workers
from blendtorch.btt.launch_info import Addresses
from blendtorch.btt.quota import Quota, SharedCount
from blendtorch.btt.receiver import Receiver
from blendtorch.btt.recording.recorder import Recorder
from blendtorch.btt.recording.recording import Recording
from blendtorch.btt.throughput import Meter, StreamStats, Tally
from blendtorch.core.errors import AddressError, LaunchError, RecordingError
from blendtorch.core.messages import Frame
from blendtorch.core.payload import Payload
from blendtorch.core.transport import DEFAULT_QUEUE_SIZE, Keys
from torch.utils.data import IterableDataset, get_worker_info

DEFAULT_TIMEOUT_MS = 60_000  # EEVEE without a GPU compiles its shaders for up to 28 s before its first frame
_SLICE_MS = 100  # a worker that waits looks up so often


class RemoteIterableDataset(IterableDataset[Any]):
    """What Blender instances publish, as items.

    An item is a dict of the fields that a script published, and `btid`, the number of the instance. Its arrays are
    writable, aligned, C-contiguous and the caller's own. Each message reaches one worker, and one worker sees the
    messages of each instance in order.

    What is left of one epoch comes in the next one, from wherever it is: a message is delivered when the dataset has
    yielded it, and what a worker still had when it ended is sent to another one. When every instance has finished the
    iteration ends; what follows ends at once, with a warning.

    Parameters
    ----------
    addresses : sequence of str
        `launch_info.addresses[name]`, or addresses by hand.
    queue_size : int
        Frames queued per instance and worker before the instance has to wait.
    timeoutms : int
        How long to wait for a sign of life (a frame, an instance that connects), in milliseconds; -1 for ever.
        Until the first instance of a launch on this machine connects it is at least 60 s: Blender may start slowly.
    max_items : int
        Items of an epoch, over all workers.
    item_transform : callable, optional
        Called with each item, in the worker; what it returns is yielded.
    record_path_prefix : path, optional
        Record what is received: see `enable_recording`.
    payload : type, optional
        A Struct that declares the fields; items that do not fit are refused. See `blendtorch.core.payload`.
    allow_pickle : bool
        Accept values that the publisher pickled (`DataPublisher(allow_pickle=True)`). They can do what you can: only
        where you trust the script.
    keys : Keys, optional
        For publishers on tcp that ask for them. Default: those of the launch.

    Raises
    ------
    AddressError
        If there are no addresses, or one is malformed.
    LaunchError
        If an argument is out of range.
    RecordingError
        If there is a recording with this prefix already.

    Notes
    -----
    Iterating raises `InstanceError` when an instance failed or died, `StreamTimeoutError` after silence, `DecodeError`
    and `PayloadError` for what does not fit. They come through DataLoader workers with their own types.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        queue_size: int = DEFAULT_QUEUE_SIZE,
        timeoutms: int = DEFAULT_TIMEOUT_MS,
        max_items: int = 100_000,
        item_transform: Callable[[dict[str, Any]], Any] | None = None,
        record_path_prefix: str | os.PathLike[str] | None = None,
        payload: type[msgspec.Struct] | None = None,
        allow_pickle: bool = False,
        keys: Keys | None = None,
    ) -> None:
        if isinstance(addresses, str) or not addresses:
            raise AddressError(f"addresses: expected a list of addresses, got {addresses!r}")
        if queue_size < 1:
            raise LaunchError(f"queue_size is {queue_size}: expected 1 or more")
        self.addresses = addresses
        self.queue_size = queue_size
        self.timeoutms = timeoutms
        self.item_transform = item_transform
        self.payload = payload
        self.allow_pickle = allow_pickle
        self.keys = keys
        self.stream_length(max_items)
        self._count = SharedCount()
        self._tally = Tally(len(addresses))
        self._meter = Meter(addresses, addresses.launch_folder if isinstance(addresses, Addresses) else None, self._tally)
        self._iteration = 0
        self._receivers: dict[int, Receiver] = {}
        self._recording: Recording | None = None
        self._recorders: dict[int, Recorder] = {}
        self._finalizers: dict[int, list[Callable[[], Any]]] = {}
        if record_path_prefix is not None:
            self.enable_recording(record_path_prefix)

    def enable_recording(self, prefix: str | os.PathLike[str]) -> None:
        """Record what is received from now on, for `FileDataset(prefix)` to replay it.

        Each worker writes the items that it receives, as they are before `item_transform`, into a file of its own:
        `{prefix}_{worker:02d}.arrows`. An item is on disk before it is yielded. Call it before iterating.

        Parameters
        ----------
        prefix : path
            In a folder that is there.

        Raises
        ------
        RecordingError
            If there is a recording with this prefix already, another dataset records to it just now, or this dataset
            records already.
        """
        if self._recording is not None:
            raise RecordingError(f"this dataset records to {self._recording.prefix} already")
        if self._iteration or get_worker_info() is not None:
            raise RecordingError("enable_recording comes before iterating, in the process that makes the DataLoader")
        self._recording = Recording(prefix, self.allow_pickle)

    def stream_length(self, max_items: int) -> None:
        """Set the number of items of an epoch, over all workers, from the next epoch on.

        Workers that live on (`persistent_workers=True`) keep the number that they were started with.

        Raises
        ------
        LaunchError
            If it is negative.
        """
        if max_items < 0:
            raise LaunchError(f"max_items is {max_items}: expected 0 or more")
        self.max_items = max_items

    def stats(self) -> StreamStats:
        """Say how fast the stream is and who waits for whom; over all workers, in the process that made this dataset.

        Returns
        -------
        StreamStats
            As text, one line for a progress bar.
        """
        return self._meter.stats()

    def close(self) -> None:
        """Close this process's receive queue; iterating opens a new one. Workers close theirs when they end.

        Processes forked meanwhile hold its connections open until they end: the instances wait for them when they finish.
        """
        for finalizer in self._finalizers.pop(os.getpid(), ()):
            finalizer()
        self._receivers.pop(os.getpid(), None)
        self._recorders.pop(os.getpid(), None)

    def __iter__(self) -> Iterator[Any]:
        """Begin an epoch."""
        workers.end_with_parent()
        quota = Quota(self.max_items, self._count, self._iteration)
        self._iteration += 1
        self._begin_epoch(quota.number)
        return self._stream(quota, workers.stop_event())

    def _stream(self, quota: Quota, stop: Any) -> Iterator[Any]:
        receiver, recorder = self._receiver(), self._recorder()
        payload = None if self.payload is None else Payload(self.payload)
        receiver.rest()
        self._warn_of_the_end(receiver, quota)
        try:
            while not (quota.exhausted() or self._is_over() or (stop is not None and stop.is_set())):
                ended = receiver.ended()
                if not ended and not quota.may_take():
                    # The rest of the epoch is for the others, unless they do not get it.
                    time.sleep(_SLICE_MS / 1000)
                    receiver.check()
                elif receiver.wait(0 if ended else _SLICE_MS):
                    if not quota.take():
                        return
                    frame = receiver.take()
                    if frame is None:
                        quota.give_back()
                        continue
                    if payload is not None:
                        payload.check(frame.data)
                    content = self._content(frame)
                    if recorder is not None:
                        recorder.record(msgspec.structs.replace(frame, data=content), self._categories_to_record)
                    yield self._item(content)
                    receiver.rest()
                elif ended:
                    return
        finally:
            quota.release()

    def _warn_of_the_end(self, receiver: Receiver, quota: Quota) -> None:
        info = get_worker_info()
        if quota.number > 0 and self.max_items > 0 and (info is None or info.id == 0) and receiver.ended():
            warnings.warn("this stream has ended in an earlier iteration: there is nothing more to iterate over", stacklevel=3)

    def _begin_epoch(self, number: int) -> None:
        """Prepare for an epoch; epochs are counted from 0, over all iterators."""

    def _is_over(self) -> bool:
        """Whether nobody wants the rest of this epoch."""
        return False

    def _content(self, frame: Frame) -> dict[str, Any]:
        return {**frame.data, "btid": frame.btid}

    def _item(self, item: dict[str, Any]) -> Any:
        """Transform an item; subclasses may override it, as in 0.4."""
        return item if self.item_transform is None else self.item_transform(item)

    def _categories_to_record(self) -> dict[int, str] | None:
        """Return the names of the categories, where there are some."""
        return None

    def _receiver(self) -> Receiver:
        pid = os.getpid()  # a forked worker inherits its parent's, which is not for it to use or to close
        if pid not in self._receivers:
            self._receivers[pid] = self._open_receiver()
            self._close_at_exit(self._receivers[pid])
        return self._receivers[pid]

    def _recorder(self) -> Recorder | None:
        pid = os.getpid()
        if self._recording is not None and pid not in self._recorders:
            self._recorders[pid] = self._recording.recorder()
            self._close_at_exit(self._recorders[pid])
        return self._recorders.get(pid)

    def _close_at_exit(self, resource: Receiver | Recorder) -> None:
        close = functools.partial(_close_in, os.getpid(), resource)
        finalizers = self._finalizers.setdefault(os.getpid(), [])
        finalizers.append(weakref.finalize(self, close))
        if get_worker_info() is not None:  # workers end without Python's own exit
            finalizers.append(multiprocessing.util.Finalize(None, close, exitpriority=1))

    def _open_receiver(self) -> Receiver:
        return self._make_receiver(self.addresses)

    def _make_receiver(self, addresses: Sequence[str], epoch: int | None = None) -> Receiver:
        return Receiver(addresses, self.queue_size, self.timeoutms / 1000, epoch, self.keys, self.allow_pickle, self._tally)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_receivers": {}, "_recorders": {}, "_finalizers": {}}


def _close_in(pid: int, resource: Receiver | Recorder) -> None:
    if os.getpid() == pid:
        resource.close()
