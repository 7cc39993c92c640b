"""What is in a folder that `blendtorch generate` or `blendtorch export` has written, and whether it can be read back."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from blendtorch.btt.configuration import load_configuration
from blendtorch.btt.cpus import allowed_cpus
from blendtorch.btt.generation.folder import DataFolder
from blendtorch.btt.generation.looking import format_of
from blendtorch.btt.generation.versions import ExportedRecording, Versions
from blendtorch.btt.generation.writing import WriterInFolder, end_workers, in_workers, named
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.interfaces import Writer
from torch.utils.data import Dataset

_MOST_WORKERS = 8


class FolderInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A folder of samples.

    Attributes
    ----------
    folder : str
    format : dict
        Name and options of the writer.
    written : int
        Samples that are whole.
    first_index, last_index : int or None
        The lowest and the highest of them.
    wanted, missing : int or None
        By its configuration; None where it has none.
    recording : ExportedRecording or None
        What it was exported from.
    categories : dict of int to str
    versions : list of Versions
        Of what has made the samples.
    """

    folder: str
    format: dict[str, Any]
    written: int
    first_index: int | None
    last_index: int | None
    wanted: int | None
    missing: int | None
    recording: ExportedRecording | None
    categories: dict[int, str]
    versions: list[Versions]


class Unreadable(msgspec.Struct, frozen=True):
    """A sample that cannot be read back.

    Attributes
    ----------
    index : int
    reason : str
    """

    index: int
    reason: str


def data_folder(path: str | os.PathLike[str]) -> DataFolder | None:
    """Return the folder of samples that is there; None where there is none."""
    folder = DataFolder(path)
    return folder if folder.versions.is_file() else None


def describe_folder(folder: DataFolder, plugins: Sequence[str] = ()) -> FolderInfo:
    """Say what is in a folder of samples.

    Parameters
    ----------
    folder : DataFolder
    plugins : sequence of path
        Python files with plug-ins: its writer may be in one.

    Raises
    ------
    PluginError
        If its writer is not installed.
    ConfigurationError
        If what blendtorch has written into it is damaged.
    """
    written_as = format_of(folder, plugins)
    written = _written(written_as.into(folder.path))
    wanted: range | None = None
    if folder.configuration.is_file():
        configuration = load_configuration(folder.configuration)
        try:
            wanted = range(configuration["start"], configuration["start"] + configuration["count"])
        except (KeyError, TypeError):
            raise ConfigurationError(f"{folder.configuration} is not what blendtorch has written: no start or count") from None
    versions = folder.read_versions()
    return FolderInfo(
        folder=str(folder.path),
        format=versions[-1].writer,
        written=len(written),
        first_index=min(written, default=None),
        last_index=max(written, default=None),
        wanted=None if wanted is None else len(wanted),
        missing=None if wanted is None else len(wanted) - sum(index in wanted for index in written),
        recording=folder.read_recording(),
        categories=folder.categories,
        versions=versions,
    )


class Reading(Dataset[Unreadable | None]):
    """Reads samples back, in the process that asks for them by their indexes.

    Parameters
    ----------
    writer : WriterInFolder
    """

    def __init__(self, writer: WriterInFolder) -> None:
        self._writer = writer

    def __getitem__(self, index: int) -> Unreadable | None:
        """Read a sample; None where that is all right."""
        try:
            pictures = self._writer.open().read(index)
        except Exception as error:  # noqa: BLE001 - whatever a damaged file makes a library raise
            return Unreadable(index, f"sample {index} cannot be read: {type(error).__name__}: {error}")
        if not pictures:
            return Unreadable(index, f"sample {index} has no pictures")
        return None


def verify_folder(
    folder: DataFolder,
    plugins: Sequence[str] = (),
    workers: int | None = None,
    begin: Callable[[int], Callable[[], Any]] | None = None,
) -> tuple[int, list[Unreadable]]:
    """Read every sample of a folder back.

    Parameters
    ----------
    folder : DataFolder
    plugins : sequence of path
    workers : int, optional
        Processes that read. Default: one for each CPU, eight at most.
    begin : callable, optional
        Called with the number of samples; what it returns is called after each.

    Returns
    -------
    checked : int
    problems : list of Unreadable

    Raises
    ------
    ConfigurationError
        If its writer cannot read.
    """
    written_as = format_of(folder, plugins)
    if written_as.cls.read is Writer.read:
        raise ConfigurationError(
            f"{folder.path} is of the format {written_as.cls.name!r}, whose writer does not read what it wrote: verify it "
            "with the tools of that format"
        )
    writer = written_as.into(folder.path)
    indexes = sorted(_written(writer))
    count = min(_MOST_WORKERS, allowed_cpus()) if workers is None else workers
    problems = []
    results = in_workers(Reading(writer), min(count, len(indexes)), indexes)  # before there is a thread that prints
    try:
        advance = begin(len(indexes)) if begin is not None else lambda: None
        for result in results:
            if result is not None:
                problems.append(result)
            advance()
    finally:
        end_workers(results)
        writer.close()
    return len(indexes), problems


def _written(writer: WriterInFolder) -> frozenset[int]:
    with named(writer.open(), "list what is there"):
        return writer.open().written()


def near(path: str | os.PathLike[str]) -> str:
    """Name folders of samples near a path where there is none, for an error; empty where there are none."""
    place = Path(path).expanduser()
    folder = place if place.is_dir() else place.parent
    try:
        found = sorted(each.name for each in folder.iterdir() if each.is_dir() and data_folder(each) is not None)
    except OSError:
        return ""
    return f"; {folder} has the folders of samples {', '.join(found[:5])}" if found else ""
