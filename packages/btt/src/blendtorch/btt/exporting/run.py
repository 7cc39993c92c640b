"""The export itself: samples are read, written and counted until all are there."""

import time
from contextlib import closing
from typing import Any

import msgspec
from blendtorch.btt.exporting.plan import ExportPlan, note_origin
from blendtorch.btt.exporting.source import Source
from blendtorch.btt.generation.counting import FAILED, count_records, finish
from blendtorch.btt.generation.progress import Count, progress
from blendtorch.btt.generation.versions import Versions, categories_in, versions_in
from blendtorch.btt.generation.writing import Record, WriterInFolder, in_workers
from blendtorch.core.errors import BlendtorchError, RecordingError
from torch.utils.data import Dataset


class ExportSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an export, as `--json` prints it.

    Attributes
    ----------
    recording, folder : str
    wanted : int
        Samples of the recording.
    written, missing : int
        Of them, now.
    made : int
        By this run; the others were there before.
    damaged : int
        Left out, as they cannot be read.
    seconds : float
    samples_per_s : float
    notices : tuple of str
        What the writer says in the end: how many objects it left out, and why.
    exit_code : int
    """

    recording: str
    folder: str
    wanted: int
    written: int
    missing: int
    made: int
    damaged: int
    seconds: float
    samples_per_s: float
    notices: tuple[str, ...]
    exit_code: int


class Exporter(Dataset[Record]):
    """Writes samples of a recording, in the process that asks for them by their indexes.

    Parameters
    ----------
    source : Source
    writer : WriterInFolder
    skip_damaged : bool
    """

    def __init__(self, source: Source, writer: WriterInFolder, skip_damaged: bool) -> None:
        self._source = source
        self._writer = writer
        self._skip_damaged = skip_damaged

    def __getitem__(self, index: int) -> Record:
        """Write a sample; it tells of an error, and does not raise."""
        try:
            sample = self._source.read(index)
        except RecordingError as error:
            if self._skip_damaged:
                return Record(index, left_out=str(error))
            return Record(index, error=f"{error}\nTo leave out what is damaged, say --skip-damaged")
        except BlendtorchError as error:
            return Record(index, error=str(error))
        return self._writer(sample)


def export(plan: ExportPlan) -> ExportSummary:
    """Write the samples that are missing.

    What was written stays, whatever ends this; Ctrl-C and SIGTERM end it in an orderly way, and the summary says so.

    Parameters
    ----------
    plan : ExportPlan

    Raises
    ------
    BlendtorchError
        If a sample cannot be read, or the writer fails.
    """
    with closing(plan.source), closing(plan.writer):
        return _export(plan)


def _export(plan: ExportPlan) -> ExportSummary:
    begin = time.monotonic()
    wanted = len(plan.source.places)
    missing = [index for index in plan.source.places if index not in plan.written]
    damaged: list[str] = []
    made, code, rate = 0, 0, 0.0
    note_origin(plan)
    if missing:
        exporter = Exporter(plan.source, plan.writer, plan.skip_damaged)
        workers = min(plan.workers, len(missing))
        records = in_workers(exporter, workers, missing)  # starts processes, before there is a thread that prints
        counter = Count(wanted, wanted - len(missing), "samples")

        def note(record: Record) -> None:
            if record.left_out:
                damaged.append(record.left_out)
            else:
                _note(plan, record)

        with progress(counter) as shown:
            made, code = count_records(records, counter, note)
        rate = shown.last.per_s
    written, notices = finish(plan.writer, plan.folder, plan.source.places.keys())
    if damaged:
        notices = (*notices, f"{len(damaged)} samples are damaged and left out: {'; '.join(damaged[:3])}")
    left = wanted - written - len(damaged)
    return ExportSummary(
        recording=plan.source.path,
        folder=str(plan.folder.path),
        wanted=wanted,
        written=written,
        missing=wanted - written,
        made=made,
        damaged=len(damaged),
        seconds=round(time.monotonic() - begin, 3),
        samples_per_s=round(rate, 3),
        notices=notices,
        exit_code=code or (FAILED if left else 0),
    )


def _note(plan: ExportPlan, record: Record) -> None:
    """Write down what a sample says of what has made it, as far as the folder of the recording does not."""
    categories = categories_in(record.legend)
    for versions in plan.made_by:
        known: dict[str, Any] = {"categories": {**versions.categories, **categories}}
        if not versions.blender:
            known["blender"] = versions_in(record.versions)
        noted: Versions = msgspec.structs.replace(versions, **known)
        plan.folder.note_versions(noted)
