"""The writer `recording`: samples of `blendtorch generate` as a recording."""

import functools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from blendtorch.btt.recording import files, index
from blendtorch.btt.recording.dataset import CATEGORIES
from blendtorch.btt.recording.locks import lock, unlock_and_close
from blendtorch.btt.recording.reader import FileReader, NothingRecordedError
from blendtorch.btt.recording.recorder import Recorder, frame_of, new_identity
from blendtorch.core.atomic import write_atomically
from blendtorch.core.errors import ConfigurationError, PluginError, RecordingError, VersionError
from blendtorch.core.hooks import hookimpl
from blendtorch.core.interfaces import Writer
from blendtorch.core.labels import LabelledPicture
from blendtorch.core.messages import Frame
from blendtorch.core.selection import LabelOptions, pictures_of
from torch.utils.data import get_worker_info

PREFIX = "recording"
_OWN = re.compile(rf"{PREFIX}_\d{{2,}}(-\d{{3,}})?\.arrows(\.index(\.\d+\.part)?)?", re.ASCII)


class RecordingWriter(Writer):
    """Exact samples, which `btt.FileDataset` replays: one file for each process that writes.

    A sample is whole with its message, which one write appends: what a killed process leaves is skipped, and the process
    after it begins a file of its own.
    """

    name = "recording"
    interface = 1
    # Those that some format needs beside the usual ones: whoever records decides later what for.
    annotators = ("boxes2d_loose", "masks_amodal", {"name": "visibility", "beyond": True})
    gathers = True

    def open(self, folder: Path) -> None:
        """Make the folder, if it is not there, and look at what is in it.

        Raises
        ------
        ConfigurationError
            If a newer version has recorded here, or a file of ours is none.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._readers: dict[Path, FileReader] = {}
        self._written: set[int] = set()
        self._recorder: Recorder | None = None
        self._count = 0
        self.written()

    def written(self) -> frozenset[int]:
        """Read the indexes of the samples out of the side indexes."""
        for path in files.files_of(self._folder / PREFIX):
            try:
                if path in self._readers:
                    self._readers[path].refresh()
                else:
                    self._readers[path] = FileReader(path, warn=False)
            except NothingRecordedError:  # its process was killed, or is about to begin
                continue
            except (RecordingError, VersionError) as error:
                raise ConfigurationError(str(error)) from None
            self._written.update(self._readers[path].indexes.tolist())
        return frozenset(self._written - {-1})

    def write(self, sample: Mapping[str, Any]) -> None:
        """Append a sample, unless it is there.

        Raises
        ------
        PluginError
            If its index is none.
        """
        frame = frame_of(sample, self._count)
        if frame.index is None or frame.index < 0:
            raise PluginError(f"/meta/index: {sample['meta'].get('index')!r} is no index of a sample: expected 0 or more")
        if frame.index in self._written:
            return
        if self._recorder is None:
            self._begin(frame)
        else:
            self._recorder.record(frame)
        self._written.add(frame.index)
        self._count += 1

    def finish(self, categories: Mapping[int, str]) -> Sequence[str]:
        """Write the names of the categories beside the recording, `{"1": "bracket"}`."""
        named = {str(number): categories[number] for number in sorted(categories)}
        write_atomically(self._folder / CATEGORIES, msgspec.json.format(msgspec.json.encode(named)) + b"\n")
        return ()

    def read(self, index: int) -> Sequence[LabelledPicture]:
        """Read a sample back, with all its objects.

        Raises
        ------
        FileNotFoundError
            If it is not there.
        """
        self.written()
        for reader in self._readers.values():
            if len(found := (reader.indexes == index).nonzero()[0]):
                return pictures_of(reader[int(found[0])], LabelOptions(loose=True))
        raise FileNotFoundError(f"{self._folder} has no sample {index}")

    def clear(self) -> None:
        """Remove the files of the recording and the names of the categories."""
        self.close()
        for name in os.listdir(self._folder):  # noqa: PTH208 - names are what is compared
            if _OWN.fullmatch(name):
                (self._folder / name).unlink(missing_ok=True)
        (self._folder / CATEGORIES).unlink(missing_ok=True)
        self.open(self._folder)

    def close(self) -> None:
        """Close the files of this process."""
        if (recorder := getattr(self, "_recorder", None)) is not None:
            recorder.close()
        for reader in getattr(self, "_readers", {}).values():
            reader.close()

    def bytes_per_sample(self, arrays: Mapping[str, tuple[tuple[int, ...], str]]) -> int:
        """Add up the arrays, which are kept as they are, and what describes them."""
        return super().bytes_per_sample(arrays) + 2_000 + index.RECORD.itemsize

    def _begin(self, frame: Frame) -> None:
        """Write the first message of this process: one after the other, so that all find who has named the recording."""
        info = get_worker_info()
        worker = 0 if info is None else info.id
        create = functools.partial(files.create, self._folder / PREFIX, worker)
        folder = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            lock(folder, wait=True)
            self.written()
            identity = next((reader.id for reader in self._readers.values() if reader.id), None) or new_identity()
            recorder = Recorder(create, identity, worker)
            recorder.record(frame)  # the file says whose it is from now on
            self._recorder = recorder
        finally:
            unlock_and_close(folder, os.getpid())


@hookimpl
def blendtorch_register_writers() -> type[RecordingWriter]:
    """Return the writer."""
    return RecordingWriter
