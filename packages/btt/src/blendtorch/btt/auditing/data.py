"""A data set that is there already: what made it, and its samples as others read them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from blendtorch.btt.auditing.facts import SampleFacts, facts_of
from blendtorch.btt.configuration import load_configuration
from blendtorch.btt.generation.arguments import check_arguments
from blendtorch.btt.generation.folder import VERSIONS, DataFolder, checksum
from blendtorch.btt.generation.looking import as_arguments, format_of, not_given
from blendtorch.btt.generation.writing import WriterInFolder, named
from blendtorch.core.errors import BlendtorchError, ConfigurationError
from blendtorch.core.interfaces import Writer
from blendtorch.core.labels import LabelledPicture
from torch.utils.data import DataLoader, Dataset


class DataSet:
    """What is in a folder of `blendtorch generate` or `blendtorch export`. May be sent to other processes.

    Parameters
    ----------
    folder : path
    plugins : sequence of path
        Python files with plug-ins. Those that the configuration names are run only if they are among them.
    enable_autoexec : bool
        Scripts inside the .blend may run where the configuration says so, too.

    Attributes
    ----------
    folder : DataFolder
    configuration : dict
        The arguments of `btt.stream`, in their normal form; empty where nothing says how the samples were made.
    versions : list of Versions
        What made the samples; the last is what wrote last.
    categories : dict of int to str

    Raises
    ------
    BlendtorchError
        If the folder does not say what is in it, or the writer is not installed here.
    """

    def __init__(self, folder: str | os.PathLike[str], plugins: Sequence[str] = (), enable_autoexec: bool = False) -> None:
        self.folder = DataFolder(folder)
        if not self.folder.path.is_dir():
            raise ConfigurationError(f"{self.folder.path} is no folder: name one that blendtorch generate or export has made")
        self.versions = self.folder.read_versions()
        if not self.versions:
            raise ConfigurationError(
                f"{self.folder.path} has no {VERSIONS}, which says what wrote its samples: name a folder that "
                "blendtorch generate or export has made"
            )
        self.configuration: dict[str, Any] = {}
        if self.folder.configuration.is_file():
            self.configuration = load_configuration(self.folder.configuration)
        self.categories = self.folder.categories
        self._plugins, self._enable_autoexec = tuple(plugins), enable_autoexec
        self._format = format_of(self.folder, self._plugins)
        self._writer = self._format.into(self.folder.path)

    def require_configuration(self) -> None:
        """Refuse to render what nothing says how to make, or what runs Python that the user has not allowed.

        Raises
        ------
        ConfigurationError
        """
        if not self.configuration:
            raise ConfigurationError(
                f"{self.folder.path} has no {self.folder.configuration.name}, which says how its samples were made, so they "
                "cannot be rendered again: look at what is there, with --samples 0"
            )
        check_arguments(self.configuration, str(self.folder.configuration))
        if self.configuration.get("enable_autoexec") and not self._enable_autoexec:
            raise ConfigurationError(
                f"{self.folder.path} was made with the scripts inside {self.configuration.get('scene')}, and rendering again "
                "runs them: if you trust them, say --enable-autoexec; or look at what is there, with --samples 0"
            )
        if left := not_given(self.configuration, self._plugins):
            raise ConfigurationError(
                f"{self.folder.path} was made with plug-ins of files, and rendering again runs them: if you trust them, say "
                f"{as_arguments(left)}; or look at what is there, with --samples 0"
            )

    @property
    def writer(self) -> Writer:
        """The writer of the folder, opened, of this process."""
        return self._writer.open()

    def writer_in(self, folder: Path) -> WriterInFolder:
        """Make the same writer for another folder."""
        return self._format.into(folder)

    def close(self) -> None:
        """Close the writer of this process."""
        self._writer.close()

    @property
    def indexes(self) -> list[int]:
        """The samples that are there, in order.

        Raises
        ------
        ConfigurationError
            If there is none.
        """
        with named(self.writer, "list what is there"):
            indexes = sorted(self.writer.written())
        if not indexes:
            raise ConfigurationError(f"{self.folder.path} has no whole sample: make some with blendtorch generate")
        return indexes

    def read(self, index: int) -> Sequence[LabelledPicture]:
        """Read a sample.

        Raises
        ------
        ConfigurationError, PluginError
            If the writer cannot; with its name.
        """
        with named(self.writer, f"read sample {index}"):
            return self.writer.read(index)

    @property
    def frames_per_episode(self) -> int | None:
        """How many samples an episode has; None where nothing says how the samples were made."""
        return int(self.configuration.get("frames_per_episode", 1)) if self.configuration else None

    def look(self, index: int) -> SampleFacts:
        """Read a sample and say what is to be known of it; an error is told, and not raised."""
        try:
            return SampleFacts(index, tuple(facts_of(index, picture) for picture in self.read(index)))
        except BlendtorchError as error:
            return SampleFacts(index, error=str(error))

    def look_at_all(self, indexes: Sequence[int], workers: int) -> Iterator[SampleFacts]:
        """Look at samples, in order, in processes of their own; 0 for none beside this one."""
        self.close()  # each process opens its own
        # A tensor of indexes: workers are forked, and reference counts of a list would copy it.
        return iter(DataLoader(_Looked(self, torch.tensor(indexes)), batch_size=None, num_workers=workers))

    @cached_property
    def changed_files(self) -> list[str]:
        """Name the files that the samples were made of and that are others now, or not there any more."""
        made_of = {path: digest for each in self.versions for path, digest in each.files.items()}
        changed = []
        for path, digest in made_of.items():
            if not Path(path).is_file():
                changed.append(f"{path} is not there any more")
            elif checksum(path) != digest:
                changed.append(f"{path} has changed since")
        return changed


class _Looked(Dataset[SampleFacts]):
    def __init__(self, data: DataSet, indexes: torch.Tensor) -> None:
        self._data, self._indexes = data, indexes

    def __len__(self) -> int:
        return len(self._indexes)

    def __getitem__(self, place: int) -> SampleFacts:
        return self._data.look(int(self._indexes[place]))


def all_but(indexes: Sequence[int], start: int, count: int) -> list[range]:
    """Name the samples of a run beside some, for `exclude`.

    Examples
    --------
    >>> all_but([3, 6], 2, 6)
    [range(2, 3), range(4, 6), range(7, 8)]
    """
    gaps = (range(before + 1, after) for before, after in pairwise([start - 1, *sorted(indexes), start + count]))
    return [gap for gap in gaps if gap]


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Say which versions differ.

    Examples
    --------
    >>> differences({"blender": "4.5.1"}, {"blender": "5.0.0", "python": "3.11"})
    ['blender 4.5.1 then, 5.0.0 now', 'python none then, 3.11 now']
    """
    return [
        f"{name} {then.get(name, 'none')} then, {now.get(name, 'none')} now"
        for name in dict.fromkeys([*then, *now])
        if then.get(name) != now.get(name)
    ]
