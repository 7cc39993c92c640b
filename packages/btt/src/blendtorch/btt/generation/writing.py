"""Samples on their way to disk, in the workers of a DataLoader."""

import functools
import multiprocessing.util
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from blendtorch.core.errors import BlendtorchError, ConfigurationError, PluginError
from blendtorch.core.interfaces import Writer
from torch.utils.data import DataLoader, Dataset, get_worker_info

R = TypeVar("R")
_AHEAD = 16  # records that each worker may be ahead; they are small


class Record(msgspec.Struct, frozen=True):
    """What the main process hears of a sample that was written.

    Attributes
    ----------
    index : int
    versions, legend : str
        As in the sample's `meta`, where they are not those of the sample that this process wrote before; else empty.
    error : str
        Why it could not be written; empty where it was.
    left_out : str
        Why it was not to be written; empty where it was.
    """

    index: int
    versions: str = ""
    legend: str = ""
    error: str = ""
    left_out: str = ""


class WriterInFolder:
    """A writer that each process opens for itself.

    Parameters
    ----------
    cls : type
        Derived from `Writer`.
    options : Options
        Its options.
    folder : Path
    """

    def __init__(self, cls: type[Writer], options: Any, folder: Path) -> None:
        self._cls = cls
        self._options = options
        self._folder = folder
        self._writers: dict[int, Writer] = {}
        self._told = ("", "")  # versions and legend, by this process

    def open(self) -> Writer:
        """Return the writer of this process, opened.

        Raises
        ------
        ConfigurationError
            If what is in the folder cannot be gone on with.
        PluginError
            If it raises something else; with its name.
        """
        pid = os.getpid()  # a forked worker inherits its parent's
        if pid not in self._writers:
            self._writers[pid] = writer = self._cls(self._options)
            with named(writer, "open"):
                writer.open(self._folder)
            if get_worker_info() is not None:  # workers end without Python's own exit
                multiprocessing.util.Finalize(None, functools.partial(self.close, pid), exitpriority=1)
        return self._writers[pid]

    def close(self, pid: int | None = None) -> None:
        """Close the writer of this process."""
        writer = self._writers.pop(os.getpid(), None) if pid in (None, os.getpid()) else None
        if writer is not None:
            with named(writer, "close"):
                writer.close()

    def __call__(self, sample: dict[str, Any]) -> Record:
        """Write a sample: the `item_transform` of the dataset.

        It tells of an error, and does not raise: what a worker raises travels with a traceback of PyTorch around it.
        """
        meta = sample["meta"]
        try:
            writer = self.open()
            with named(writer, f"write sample {meta['index']}"):
                writer.write(sample)
        except BlendtorchError as error:
            return Record(meta["index"], error=str(error))
        before, self._told = self._told, (str(meta.get("versions", "{}")), str(meta.get("legend", "{}")))
        return Record(meta["index"]) if self._told == before else Record(meta["index"], *self._told)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_writers": {}, "_told": ("", "")}


@contextmanager
def named(writer: Writer, what: str) -> Iterator[None]:
    """Say which writer raised, and what it was to do."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"writer {writer.name!r}: {error}") from error
    except OSError as error:
        raise PluginError(
            f"writer {writer.name!r} cannot {what}: {error}. What was written before is whole: mend it, and run the same "
            "command again to go on"
        ) from error
    except Exception as error:
        raise PluginError(f"writer {writer.name!r} cannot {what}: {type(error).__name__}: {error}") from error


def in_workers(dataset: Dataset[R], workers: int, places: Sequence[int] | None = None) -> Iterator[R]:
    """Let workers do what a dataset does with each sample; its items are what they tell of it.

    They start at once, and end with the iterator.

    Parameters
    ----------
    dataset : Dataset
        One that is iterated over, or one with places.
    workers : int
        Processes; 0 for none beside this one.
    places : sequence of int, optional
        Which items of a dataset with places, in this order.

    Returns
    -------
    iterator
        Of the items, `Record` where samples are written, once it is done.
    """
    ahead = {"prefetch_factor": _AHEAD, "worker_init_fn": _leave_signals_to_the_main_process} if workers else {}
    return iter(DataLoader(dataset, batch_size=None, sampler=places, num_workers=workers, **ahead))  # type: ignore[arg-type]


def end_workers(records: Iterator[Any]) -> None:
    """End the workers of `in_workers`, which leave signals to the main process: they are to be gone before it goes.

    Python waits at its exit for what it has sent SIGTERM, and that they ignore.
    """
    shut_down = getattr(records, "_shutdown_workers", None)  # without workers there is none
    if shut_down is not None:
        shut_down()
        for worker in records._workers:  # type: ignore[attr-defined]
            if worker.is_alive():
                worker.kill()
                worker.join()


def _leave_signals_to_the_main_process(number: int) -> None:  # noqa: ARG001 - as DataLoader calls it
    """Ctrl-C, and the end of a cluster's job, reach every process: a worker writes its sample to the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
