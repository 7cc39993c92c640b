"""The writer `webdataset`."""

import heapq
import tarfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec
import numpy as np
from blendtorch.core.atomic import write_atomically
from blendtorch.core.errors import DecodeError, PluginError
from blendtorch.core.interfaces import Writer
from blendtorch.core.labels import LabelledPicture
from blendtorch.core.selection import BOXES, LabelOptions, require_labels, split_of, tell
from blendtorch.core.shards import Shards, Tally, add

from blendtorch_webdataset.members import LIMIT_BYTES, decode, encode, key_of, pictures

CATEGORIES, _INDEX = "categories.json", "{}-shards.json"
HIDDEN = ".samples"


class WebdatasetOptions(LabelOptions, frozen=True, kw_only=True):
    """Options of `webdataset`.

    Attributes
    ----------
    samples_per_shard : int
        How many indexes a shard stands for. With several parts each has fewer samples.
    png_level : int
        How hard PNG files are compressed, from 0 to 9.
    """

    samples_per_shard: Annotated[int, msgspec.Meta(ge=1)] = 1000
    png_level: Annotated[int, msgspec.Meta(ge=0, le=9)] = 1


class Webdataset(Writer):
    """Tar files that webdataset streams: pictures, labels as JSON, all arrays."""

    name = "webdataset"
    interface = 1
    Options = WebdatasetOptions

    def check(self, names: Collection[str]) -> None:
        """Take all samples; of those with boxes, that they have what is asked of their objects."""
        if BOXES & {name.partition(".")[0] for name in names}:
            require_labels(names, self.options, masks=False)

    def open(self, folder: Path) -> None:
        """Make the folders where samples wait."""
        self._folder = folder
        options = self.options
        self._shards = Shards(folder, folder / HIDDEN, ".tar", ".tar", options.samples_per_shard, options.split)

    def written(self) -> frozenset[int]:
        """List the samples that are in a shard or wait for one."""
        return self._shards.written()

    def write(self, sample: Mapping[str, Any]) -> None:
        """Write a sample to a tar file of its own.

        Raises
        ------
        PluginError
            If it holds what cannot be kept; names the place.
        """
        if (index := int(sample["meta"]["index"])) < 0:
            raise PluginError(f"/meta/index: {index} is no index of a sample: expected 0 or more")
        file = BytesIO()
        members = encode(sample, self.options, self.options.png_level)
        with _tar_writer(file) as tar:
            tar.write({"__key__": key_of(index), **members})
        part = split_of(sample["meta"], self.options.split)
        self._shards.put(index, part, file.getvalue())

    def finish(self, categories: Mapping[int, str]) -> Sequence[str]:
        """Put the samples into shards, and write the names of the categories and an index of each part."""
        named = {str(number): categories[number] for number in sorted(categories)}
        with self._shards.gathered(_gather) as tally:
            for part, paths in self._shards.shards().items():
                if paths:
                    write_atomically(self._folder / _INDEX.format(part), _index(part, paths, tally["samples"]))
            write_atomically(self._folder / CATEGORIES, msgspec.json.format(msgspec.json.encode(named)) + b"\n")
        told = {"ignored": "objects are ignored", "left_out": "objects are left out"}
        return [tell(tally[name], what) for name, what in told.items() if tally.get(name)]

    def read(self, index: int) -> Sequence[LabelledPicture]:
        """Read the pictures of a sample."""
        part, members = self._find(index)
        return [replace(picture, split=part) for picture in pictures(members)]

    def read_sample(self, index: int) -> Mapping[str, Any]:
        """Read a sample: see `decode`."""
        return decode(self._find(index)[1])

    def _find(self, index: int) -> tuple[str, Mapping[str, Any]]:
        """Read the members of a sample, and which part it is of."""
        for find in (self._shards.waiting, self._shards.holding):
            for part, path in find(index).items():
                with suppress(FileNotFoundError):  # it has been put into a shard meanwhile
                    for members in samples_of(path, index=index):
                        return part, members
        raise FileNotFoundError(f"sample {index} is not in {self._folder}")

    def clear(self) -> None:
        """Remove the shards, the samples that wait, the indexes, and the names of the categories."""
        there = self._shards.layout()  # of a run before, which may have had other parts
        self._shards.clear()
        for name in (CATEGORIES, *map(_INDEX.format, {**self.options.split, **(there.split if there else {})})):
            (self._folder / name).unlink(missing_ok=True)

    def bytes_per_sample(self, arrays: Mapping[str, tuple[tuple[int, ...], str]]) -> int:
        """Estimate: half of pictures, all of floats, a sixteenth of other maps, and 20 kB for names and labels."""
        kinds = [(prod(shape), shape[2:], np.dtype(dtype)) for shape, dtype in arrays.values()]
        shares = [
            size * dtype.itemsize // (1 if dtype.kind == "f" else 2 if dtype == np.uint8 and last in ((3,), (4,)) else 16)
            for size, last, dtype in kinds
        ]
        return 20_000 + sum(shares)


def samples_of(path: Path, limit_bytes: int = LIMIT_BYTES, index: int | None = None) -> Iterator[dict[str, Any]]:
    """Go through the samples of a shard, as `webdataset.WebDataset` does, or to one of them.

    Raises
    ------
    DecodeError
        If it is damaged, or a sample takes more than allowed.
    """
    members: dict[str, Any] = {}
    taken = 0
    try:
        with tarfile.open(path, "r:") as tar:
            for entry in tar:
                if not entry.isreg():  # links have no size, and lead to what is read again and again
                    continue
                key, _, end = entry.name.partition(".")
                if members and key != members["__key__"]:
                    yield members
                    members, taken = {}, 0
                if index is not None and key != key_of(index):
                    continue
                if (taken := taken + entry.size) > limit_bytes:
                    raise DecodeError(f"{path}: sample {key} has more than the {limit_bytes} bytes that are allowed")
                content = tar.extractfile(entry)
                if content is not None:
                    members |= {"__key__": key, end: content.read()}
    except tarfile.TarError as error:
        raise DecodeError(f"{path} cannot be read: {error}") from None
    if members:
        yield members


def _tar_writer(file: BinaryIO) -> Any:
    # Inside: it imports torch. No times and no users: the same samples have the same bytes.
    import webdataset

    return webdataset.TarWriter(file, encoder=False, mtime=0.0, user="blendtorch", group="blendtorch")


def _gather(shard: Path, before: Path | None, documents: Mapping[int, Path]) -> Tally:
    tally: Tally = {}
    known = (each for each in (samples_of(before) if before else ()) if int(each["__key__"]) not in documents)
    fresh = (members for path in documents.values() for members in samples_of(path))
    with shard.open("wb") as file, _tar_writer(file) as tar:
        for members in heapq.merge(known, fresh, key=lambda members: int(members["__key__"])):
            tar.write(members)
            if int(members["__key__"]) in documents:
                add(tally, {"samples": {_named(shard): 1}, **_counted(members["json"])})
    return tally


def _named(draft: Path) -> str:
    """Name the shard that a draft of it becomes."""
    return draft.name.partition(".")[0]


def _counted(content: bytes) -> Tally:
    said = msgspec.json.decode(content)
    counted: Tally = {}
    for view in (said, *said.get("cameras", {}).values()):
        reasons = [each["ignored"] for each in view.get("objects", ()) if each["ignored"]]
        add(counted, {"ignored": {reason: reasons.count(reason) for reason in reasons}, "left_out": view.get("left_out", {})})
    return counted


def _index(part: str, paths: Sequence[Path], counts: Mapping[str, int]) -> bytes:
    """Write the index of a part, of the kind that `wids` reads."""
    shards = [{"url": path.name, "nsamples": counts[path.stem], "filesize": path.stat().st_size} for path in paths]
    index = {"__kind__": "wids-shard-index-v1", "wids_version": 1, "name": part, "shardlist": shards}
    return msgspec.json.format(msgspec.json.encode(index)) + b"\n"
