"""A recording as a map-style dataset."""

import bisect
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from blendtorch.btt.recording import files
from blendtorch.btt.recording.reader import FileReader, NothingRecordedError
from blendtorch.core.errors import RecordingError
from torch.utils.data import Dataset

CATEGORIES = "categories.json"  # beside the files, where they are known at the end only
_MAX_OPEN = 256  # of the 1024 files that a process may have open


class FileDataset(Dataset[Any]):
    """What was recorded, as items: any one of them, in any order, with any number of workers.

    Items are what the dataset gave that recorded them, bit for bit, before its `item_transform`. They come by the index of
    their samples where each has one, whichever worker has recorded which; else by file, as they came.

    Parameters
    ----------
    record_path_prefix : path
        What was given to `enable_recording`; or a folder, for all that is in it; or one file.
    item_transform : callable, optional
        Called with each item; what it returns is given.
    allow_pickle : bool
        Load the pickles in it. Whoever wrote the files can then execute anything here.
    warn : bool
        Whether to warn of files that are cut or damaged.

    Attributes
    ----------
    files : list of FileReader

    Raises
    ------
    RecordingError
        If there is no recording; says what is near. If a file is none.
    VersionError
        If it was recorded by a newer version.

    Warns
    -----
    UserWarning
        For each file that is cut: who recorded was killed. What is whole is there.

    Examples
    --------
    >>> import tempfile
    >>> from blendtorch import btt
    >>> prefix = tempfile.mkdtemp() + "/record"
    >>> with btt.FileRecorder(btt.FileRecorder.filename(prefix, 0)) as recorder:
    ...     for number in range(8):
    ...         recorder.save({"image": np.full((48, 64, 3), number, np.uint8)})
    >>> from torch.utils.data import DataLoader
    >>> loader = DataLoader(btt.FileDataset(prefix), batch_size=4, shuffle=True, num_workers=2)
    >>> [tuple(batch["image"].shape) for batch in loader]
    [(4, 48, 64, 3), (4, 48, 64, 3)]
    """

    def __init__(
        self,
        record_path_prefix: str | os.PathLike[str],
        item_transform: Callable[[dict[str, Any]], Any] | None = None,
        allow_pickle: bool = False,
        warn: bool = True,
    ) -> None:
        self.item_transform = item_transform
        self._place = Path(record_path_prefix)
        self._allow_pickle = allow_pickle
        self._warn = warn
        self.files: list[FileReader] = []
        self._add_files()

    def refresh(self) -> int:
        """Look for what was recorded since.

        Returns
        -------
        int
            How many items there are now. Where they come by index, an item may have another number than before.
        """
        for reader in self.files:
            reader.refresh()
            self._make_room()
        self._add_files()
        return len(self)

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._order)

    def __getitem__(self, number: int) -> Any:
        """Read an item; see `FileReader` for the errors."""
        count = len(self._order)
        if not -count <= number < count:
            raise IndexError(f"this recording has {count} items, there is no number {number}")
        place = int(self._order[number])
        file = bisect.bisect_right(self._begins, place) - 1
        reader = self.files[file]
        if not reader.is_open:
            self._make_room()
        return self._item(reader[place - self._begins[file]])

    def _item(self, item: dict[str, Any]) -> Any:
        """Transform an item; subclasses may override it, as in 0.4."""
        return item if self.item_transform is None else self.item_transform(item)

    @property
    def indexes(self) -> npt.NDArray[np.int64]:
        """The index of the sample that each item is; -1 where it has none."""
        return self._indexes[self._order]

    @property
    def file_numbers(self) -> npt.NDArray[np.int64]:
        """Which of `files` each item is in."""
        return np.searchsorted(self._begins, self._order, side="right") - 1

    @property
    def categories(self) -> dict[int, str] | None:
        """The names of the categories by their ids; None where the recorder did not know them.

        Raises
        ------
        RecordingError
            If they are damaged.
        """
        damaged: RecordingError | None = None
        for reader in self.files:
            try:
                if (categories := reader.categories) is not None:
                    return categories
            except RecordingError as error:  # another file may say the same
                damaged = error
        if damaged is not None:
            raise damaged
        path = self.files[0].path.with_name(CATEGORIES)
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[int, str], strict=False)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise RecordingError(f"{path} is damaged: {error}") from None

    def close(self) -> None:
        """Close the files in this process; reading opens them again."""
        for reader in self.files:
            reader.close()

    def _make_room(self) -> None:
        """Close all files where too many are open."""
        if sum(reader.is_open for reader in self.files) >= _MAX_OPEN:
            self.close()

    def _open(self, path: Path) -> FileReader | None:
        try:
            reader = FileReader(path, self._allow_pickle, self._warn)
        except NothingRecordedError:  # its recorder was killed right then, or is about to begin
            return None
        reader.close()  # until somebody reads in it: a prefix may have thousands
        return reader

    def _add_files(self) -> None:
        known = {reader.path: reader for reader in self.files}
        opened = [known.get(path) or self._open(path) for path in files.find(self._place)]
        self.files = [reader for reader in opened if reader is not None]
        if not self.files:
            raise NothingRecordedError(f"nothing was recorded to {self._place} yet: its files end before their first message")
        self._begins = list(itertools.accumulate(map(len, self.files), initial=0))
        self._indexes = np.concatenate([reader.indexes for reader in self.files])
        if all(reader.has_indexes for reader in self.files):
            self._order = np.argsort(self._indexes, kind="stable")
        else:
            self._order = np.arange(len(self._indexes))
