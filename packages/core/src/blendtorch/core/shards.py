"""Files of many samples: those of one range of indexes and one part of the split share a file, a shard.

In which shard a sample is depends on its index and its part alone. So shards are the same whatever wrote the samples, in
whatever order, and however often it was killed; and samples that are added later change no shard of other ranges.

Until it is put into its shard a sample has a document of its own, in a hidden folder, where several processes write at the same
time. When the shards of a range are written, a mark says which samples they have, and the documents go. One process at a time
does that.
"""

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec
from blendtorch.core.atomic import LOCK, locked, remove_drafts, whole, write_atomically
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.selection import check_part
from blendtorch.core.staging import Stage

Tally = dict[str, dict[str, int]]  # what was counted, by name and by what it is counted by


def add(total: Tally, more: Mapping[str, Mapping[str, int]]) -> None:
    """Add counts to others.

    Examples
    --------
    >>> total = {"objects": {"1": 2}}
    >>> add(total, {"objects": {"1": 1, "2": 5}, "seed": {"0": 1}})
    >>> total
    {'objects': {'1': 3, '2': 5}, 'seed': {'0': 1}}
    """
    for name, counts in more.items():
        total[name] = dict(Counter(total.get(name, {})) + Counter(counts))


class _Mark(msgspec.Struct):
    """What the shards of a range have.

    Attributes
    ----------
    indexes : dict of str to list of int
        Of samples, by their part.
    tally : dict
    """

    indexes: dict[str, list[int]] = {}
    tally: Tally = {}


class Layout(msgspec.Struct, frozen=True):
    """How the samples of a folder lie in shards: see the parameters of `Shards`.

    Attributes
    ----------
    samples_per_shard : int
    split : dict of str to float
    """

    samples_per_shard: Annotated[int, msgspec.Meta(ge=1)]
    split: dict[str, float]

    def __post_init__(self) -> None:
        """Refuse parts that would name files elsewhere."""
        for part in self.split:
            check_part(part)


class Shards:
    """The shards of a folder, and the samples that are to be put into them.

    Parameters
    ----------
    folder : Path
        Of the shards, `train-000000.tar`; made where it is not there.
    hidden : Path
        Where samples wait.
    waiting, suffix : str
        Of the names of their documents, and of shards; with the dot.
    samples_per_shard : int
        How many indexes a shard stands for; shard 2 of 1000 has the samples 2000 to 2999 that are of its part.
    split : mapping of str to float
        The parts.
    """

    def __init__(
        self, folder: Path, hidden: Path, waiting: str, suffix: str, samples_per_shard: int, split: Mapping[str, float]
    ) -> None:
        self._folder, self._hidden = folder, hidden
        self._waiting, self._suffix = waiting, suffix
        self._size, self._split = samples_per_shard, dict(split)
        self._agreed: dict[str, dict[str, Any]] = {}
        self._make()

    def _make(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._full, self._partial = Stage(self._hidden, ".full"), Stage(self._hidden, ".json")
        self._staged = {part: Stage(self._hidden / part, self._waiting) for part in self._split}

    def agree(self, name: str, value: Mapping[str, Any], note: bool = True) -> None:
        """Hold what is the same for all samples of the folder; the first one says it.

        Parameters
        ----------
        name : str
        value : mapping
            Values of JSON.
        note : bool
            Write it down, where nobody has said it.

        Raises
        ------
        ConfigurationError
            If it is something else; names the difference.
        """
        there = self.agreed(name)
        if there is None and note:
            write_atomically(self._hidden / f"{name}.json", msgspec.json.encode(value))
            self._agreed[name] = dict(value)
        elif there not in (None, value):
            keys = [key for key in {**there, **value} if there.get(key) != value.get(key)]
            told = ", ".join(f"{key} {there.get(key, 'none')} and not {value.get(key, 'none')}" for key in keys)
            raise ConfigurationError(
                f"{self._folder} has samples with {told}: go on with what is there, name another folder, or replace it"
            )

    def agreed(self, name: str) -> dict[str, Any] | None:
        """Return what the first sample has said; None where there was none."""
        path = self._hidden / f"{name}.json"
        if name not in self._agreed and path.is_file():
            self._agreed[name] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        return self._agreed.get(name)

    def layout(self) -> Layout | None:
        """Return how the samples that are there lie; None where there are none.

        Raises
        ------
        ConfigurationError
            If the file says what no run wrote, such as a part that names files elsewhere.
        """
        there = self.agreed("layout")
        try:
            return None if there is None else msgspec.convert(there, Layout)
        except msgspec.ValidationError as error:
            raise ConfigurationError(
                f"{self._hidden / 'layout.json'} is damaged: {error}. Name another folder, or remove this one by hand"
            ) from None

    def written(self) -> frozenset[int]:
        """List the samples that are there, in shards or in documents of their own.

        Raises
        ------
        ConfigurationError
            If those of a run before lie in other shards than these.
        """
        self._agree_on_layout(note=False)
        # In the order in which samples go from one to the next: another process may be gathering them.
        staged = [stage.indexes() for stage in self._staged.values()]
        partial = [each for number in self._partial.indexes() for each in self._mark(number).indexes.values()]
        full = [range(number * self._size, (number + 1) * self._size) for number in self._full.indexes()]
        return frozenset().union(*staged, *partial, *full)

    def _mark(self, number: int) -> _Mark:
        for stage in (self._full, self._partial):
            with suppress(FileNotFoundError):
                return msgspec.json.decode(stage.get(number), type=_Mark)
        return _Mark()

    def _agree_on_layout(self, note: bool) -> None:
        self.agree("layout", {"samples_per_shard": self._size, "split": self._split}, note)

    def put(self, index: int, part: str, content: bytes) -> None:
        """Add a sample, as a whole, if its range is not full."""
        self._agree_on_layout(note=True)
        if not self._full.path(index // self._size).is_file():
            self._staged[part].put(index, content)

    def path(self, part: str, number: int) -> Path:
        """Return where a shard is, or would be."""
        return self._folder / f"{part}-{number:06}{self._suffix}"

    def waiting(self, index: int) -> dict[str, Path]:
        """Find the document of a sample, by its part; ask before `holding`, for another process may be gathering."""
        paths = {part: stage.path(index) for part, stage in self._staged.items()}
        return {part: path for part, path in paths.items() if path.is_file()}

    def holding(self, index: int) -> dict[str, Path]:
        """List the shards that may hold a sample, by part."""
        paths = {part: self.path(part, index // self._size) for part in self._split}
        return {part: path for part, path in paths.items() if path.is_file()}

    def shards(self) -> dict[str, list[Path]]:
        """List the shards, by part and in order; parts without a sample have none."""
        paths = {part: [self.path(part, number) for number in self._numbers()] for part in self._split}
        return {part: [path for path in each if path.is_file()] for part, each in paths.items()}

    @contextmanager
    def gathered(self, write: Callable[[Path, Path | None, Mapping[int, Path]], Tally]) -> Iterator[Tally]:
        """Put the samples into shards, one shard after the other; no other process does so until the context is left.

        Others wait for it, and may put samples meanwhile. It may be killed, and called again.

        Parameters
        ----------
        write : callable
            `write(shard, before, documents)` writes a file of the samples of the shard `before`, which may be None, and of
            documents, in the order of their indexes; a sample that is in both is taken from its document. It returns
            what it counted in the documents.

        Yields
        ------
        dict
            The counts of all shards together.
        """
        with locked(self._hidden):
            yield self._gather(write)

    def _gather(self, write: Callable[[Path, Path | None, Mapping[int, Path]], Tally]) -> Tally:
        self._agree_on_layout(note=False)
        remove_drafts(self._folder, self._shard_name(), all_of_them=True)
        total: Tally = {}
        staged = {part: self._by_range(stage.indexes()) for part, stage in self._staged.items()}
        for number in self._numbers():
            mark = self._mark(number)
            waiting = {part: each.get(number, []) for part, each in staged.items()}
            if self._write_range(number, mark, waiting, write):
                full = sum(map(len, mark.indexes.values())) == self._size
                (self._full if full else self._partial).put(number, msgspec.json.encode(mark, order="deterministic"))
            if self._full.path(number).is_file():
                self._partial.path(number).unlink(missing_ok=True)
            self._forget(number, {part: map(self._staged[part].path, each) for part, each in waiting.items()})
            add(total, mark.tally)
        return total

    def _write_range(
        self,
        number: int,
        mark: _Mark,
        waiting: Mapping[str, Iterable[int]],
        write: Callable[[Path, Path | None, Mapping[int, Path]], Tally],
    ) -> bool:
        """Write the shards of a range of which samples wait; whether there were any."""
        changed = False
        for part, indexes in waiting.items():
            there, path = mark.indexes.get(part, []), self.path(part, number)
            documents = {index: self._staged[part].path(index) for index in indexes if index not in set(there)}
            if documents:
                before = path if there else None
                add(mark.tally, whole(path, functools.partial(_write, write, before, documents)))
                mark.indexes[part] = sorted([*there, *documents])
                changed = True
        return changed

    def _by_range(self, indexes: Iterable[int]) -> dict[int, list[int]]:
        ranges: dict[int, list[int]] = {}
        for index in sorted(indexes):
            ranges.setdefault(index // self._size, []).append(index)
        return ranges

    def _numbers(self) -> Sequence[int]:
        """List the ranges of which there are samples."""
        staged = (index // self._size for stage in self._staged.values() for index in stage.indexes())
        return sorted(self._full.indexes().union(self._partial.indexes(), staged))

    def _forget(self, number: int, documents: Mapping[str, Iterable[Path]]) -> None:
        """Remove documents of samples that are in shards, and what processes left that were killed as they wrote them."""
        for part, paths in documents.items():
            for path in paths:
                path.unlink(missing_ok=True)
            drafts = re.compile(rf"(\d{{6,}}){re.escape(self._waiting)}")
            remove_drafts(self._staged[part].folder, drafts, lambda found: int(found[1]) // self._size == number)

    def _shard_name(self) -> re.Pattern[str]:
        return re.compile(rf"({'|'.join(map(re.escape, self._split))})-\d{{6,}}{re.escape(self._suffix)}")

    def clear(self) -> None:
        """Remove the shards that were made of its samples, the samples, and the folders, if nothing else is in them."""
        there = self.layout()
        if there is not None:  # what is there may have been made with other options
            other = (self._folder, self._hidden, self._waiting, self._suffix, there.samples_per_shard, there.split)
            Shards(*other)._remove()
            self._make()
        self._remove()
        for folder in (self._hidden, self._folder):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        self._agreed = {}
        self._make()

    def _remove(self) -> None:
        """Remove shards before what tells of them, and the layout last: it may be killed, and called again."""
        for paths in self.shards().values():
            for path in paths:
                path.unlink(missing_ok=True)
        remove_drafts(self._folder, self._shard_name(), all_of_them=True)
        for stage in self._staged.values():
            stage.clear()
        remove_drafts(self._hidden, re.compile(r"[a-z0-9]+\.(json|full)"), all_of_them=True)
        (self._hidden / LOCK).unlink(missing_ok=True)
        marks = [*self._hidden.glob("*.full"), *self._hidden.glob("*.json")]
        for path in sorted(marks, key=lambda path: path.name == "layout.json"):
            path.unlink()


def _write(
    write: Callable[[Path, Path | None, Mapping[int, Path]], Tally],
    before: Path | None,
    documents: Mapping[int, Path],
    path: Path,
) -> Tally:
    return write(path, before, documents)
