"""Counting samples as they are written, until all are there or something ends it."""

from collections.abc import Callable, Collection, Iterator
from typing import Any

from blendtorch.btt.generation.folder import DataFolder
from blendtorch.btt.generation.progress import Counter
from blendtorch.btt.generation.writing import Record, WriterInFolder, end_workers, named
from blendtorch.core.errors import BlendtorchError, PluginError

FAILED, INTERRUPTED = 1, 130  # exit codes


def count_records(records: Iterator[Record], counter: Counter[Any], note: Callable[[Record], None]) -> tuple[int, int]:
    """Count samples as they are written, until there is no more or somebody ends it, and end the workers.

    Parameters
    ----------
    records : iterator of Record
        Of `in_workers`.
    counter : Counter
    note : callable
        Called with the records that say something of versions and categories, or why they were left out.

    Returns
    -------
    made : int
    code : int
        0, or the exit code for what has ended it.

    Raises
    ------
    PluginError
        If a sample could not be written, or a worker has died.
    """
    made = code = 0
    try:
        for record in records:
            if record.error:
                raise PluginError(record.error)
            if record.versions or record.left_out:
                note(record)
            made += not record.left_out
            counter.count()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except SystemExit as end:  # SIGTERM
        code = end.code if isinstance(end.code, int) else FAILED
    except RuntimeError as error:
        if isinstance(error, BlendtorchError):
            raise
        raise PluginError(f"a process that writes samples has died: {error}. Run the same command again to go on") from error
    finally:
        end_workers(records)  # while the instances that they talk to are there
    return made, code


def finish(writer: WriterInFolder, folder: DataFolder, indexes: Collection[int]) -> tuple[int, tuple[str, ...]]:
    """Write what belongs to the whole.

    Parameters
    ----------
    writer : WriterInFolder
    folder : DataFolder
    indexes : collection of int
        The samples of this run.

    Returns
    -------
    written : int
        How many of them there are.
    notices : tuple of str
        What the user should know.
    """
    opened = writer.open()
    with named(opened, "finish"):
        said = opened.finish(folder.categories) if folder.read_versions() else None
        written = len(opened.written().intersection(indexes))  # at last: what finishing has lost is missing
    return written, tuple(said or ())
