"""A recording as samples to export: each once, by its index."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from blendtorch.btt.recording import FileDataset
from blendtorch.core.errors import BlendtorchError, ConfigurationError, RecordingError


@dataclass(frozen=True)
class Source:
    """The samples of a recording.

    Attributes
    ----------
    path : str
        A prefix, a folder or a file, as the user has named it.
    dataset : FileDataset
    places : dict of int to int
        Where each sample lies in the dataset, by its index.
    first : dict
        The first sample that can be read.
    notices : tuple of str
        What the user should know.
    """

    path: str
    dataset: FileDataset
    places: Mapping[int, int]
    first: Mapping[str, Any]
    notices: tuple[str, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the recordings that the files belong to, sorted."""
        return tuple(sorted({reader.id for reader in self.dataset.files}))

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.dataset.files[0].path.absolute().parent

    def read(self, index: int) -> dict[str, Any]:
        """Read a sample; its `meta` has the index.

        Raises
        ------
        RecordingError
            If it is damaged.
        """
        return _numbered(self.dataset[self.places[index]], index)

    def close(self) -> None:
        """Close the files in this process."""
        self.dataset.close()


def open_source(path: str | os.PathLike[str]) -> Source:
    """Open a recording, and number its samples.

    Parameters
    ----------
    path : path
        A prefix, a folder or a file.

    Raises
    ------
    RecordingError
        If there is none, or nothing in it can be read.
    ConfigurationError
        If two of its samples would be one.
    """
    dataset = FileDataset(Path(path).expanduser(), warn=False)
    notices = [damage for reader in dataset.files for damage in reader.damages()]
    indexes = dataset.indexes
    if not len(indexes):
        raise RecordingError(f"the recording {path} has no samples yet")
    absent = int(np.count_nonzero(indexes < 0))
    if absent == len(indexes):
        notices.append("The samples have no index, and are numbered as they came")
        indexes = np.arange(len(indexes))
    elif absent:
        raise ConfigurationError(
            f"{absent} of the {len(indexes)} samples of {path} have no index, and the others have: these are recordings of "
            "different kinds: name the files of one, by their prefix"
        )
    unique, places = np.unique(indexes, return_index=True)
    if repeated := len(indexes) - len(unique):
        _refuse_other_seeds(dataset, indexes)
        notices.append(f"{repeated} samples were recorded again, as a repeated epoch is: each is written once")
    numbered = dict(zip(unique.tolist(), places.tolist(), strict=True))
    return Source(str(path), dataset, numbered, _first(dataset, numbered), tuple(notices))


def _numbered(item: dict[str, Any], index: int) -> dict[str, Any]:
    meta = item.get("meta", {})
    if not isinstance(meta, Mapping):
        raise ConfigurationError(f"sample {index} has {type(meta).__name__} for `meta`, expected a mapping: call it otherwise")
    known = meta.get("index")
    return item if type(known) is int and known == index else {**item, "meta": {**meta, "index": index}}


def _first(dataset: FileDataset, places: Mapping[int, int]) -> dict[str, Any]:
    reason = ""
    for index, place in places.items():
        try:
            return _numbered(dataset[place], index)
        except RecordingError as error:
            reason = reason or str(error)
    raise RecordingError(f"none of its samples can be read: {reason}")


def _refuse_other_seeds(dataset: FileDataset, indexes: npt.NDArray[np.int64]) -> None:
    """Compare the seeds of two samples of one index, for each two files that have one: what a file has is of one run."""
    order = np.argsort(indexes, kind="stable")
    again = np.flatnonzero(indexes[order][1:] == indexes[order][:-1])
    files = dataset.file_numbers
    compared = set()
    for one, other in zip(order[again].tolist(), order[again + 1].tolist(), strict=True):
        if (pair := frozenset((files[one], files[other]))) in compared:
            continue
        try:
            seeds = [_seed(dataset[one]), _seed(dataset[other])]
        except BlendtorchError:  # damaged: another index will tell
            continue
        compared.add(pair)
        if seeds[0] != seeds[1]:
            raise ConfigurationError(
                f"sample {indexes[one]} is there several times, with the seeds {seeds[0]} and {seeds[1]}: these are recordings "
                "of different runs. Name the files of one, by their prefix, and export each into a folder of its own"
            )


def _seed(item: Mapping[str, Any]) -> object:
    meta = item.get("meta")
    return meta.get("seed") if isinstance(meta, Mapping) else None
