"""The writer `huggingface`."""

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from blendtorch.core.atomic import whole, write_atomically
from blendtorch.core.errors import DecodeError, PluginError
from blendtorch.core.interfaces import Writer
from blendtorch.core.labels import LabelledPicture, legend_of
from blendtorch.core.selection import LabelOptions, require_labels, split_of, tell
from blendtorch.core.shards import Shards, Tally, add

from blendtorch_huggingface import card, tables
from blendtorch_huggingface.columns import Rows
from blendtorch_huggingface.reader import LIMIT_BYTES, labelled

DATA, HIDDEN = "data", ".samples"


class HuggingfaceOptions(LabelOptions, frozen=True, kw_only=True):
    """Options of `huggingface`.

    Attributes
    ----------
    samples_per_shard : int
        How many indexes a file stands for. With several parts each has fewer samples.
    png_level : int
        How hard PNG files are compressed, from 0 to 9.
    """

    samples_per_shard: Annotated[int, msgspec.Meta(ge=1)] = 1000
    png_level: Annotated[int, msgspec.Meta(ge=0, le=9)] = 1

    def __post_init__(self) -> None:
        """Refuse parts that `datasets` has no name for."""
        super().__post_init__()
        for name in self.split:
            if "-" in name:
                raise ValueError(f"split: datasets takes no {name!r}: use letters, digits and _")


class Huggingface(Writer):
    """Parquet files with the features of Hugging Face `datasets`, and a card."""

    name = "huggingface"
    interface = 1
    Options = HuggingfaceOptions

    def check(self, names: Collection[str]) -> None:
        """Refuse samples without a picture, and those that label objects and lack what is asked of these."""
        labels = any(name.endswith(".valid") for name in names)
        options = self.options
        if labels or "image" not in names:
            require_labels(names, options, masks=False)

    def open(self, folder: Path) -> None:
        """Make the folders for files, and where samples wait."""
        self._folder = folder
        options = self.options
        self._shards = Shards(folder / DATA, folder / HIDDEN, ".msgpack", ".parquet", options.samples_per_shard, options.split)

    def written(self) -> frozenset[int]:
        """List the samples that are in a file of many, or wait for one."""
        return self._shards.written()

    def write(self, sample: Mapping[str, Any]) -> None:
        """Write the rows of a sample.

        Raises
        ------
        PluginError
            If it holds what cannot be kept; names the place.
        ConfigurationError
            If its columns are not those of the others, or are called otherwise.
        """
        if (index := int(sample["meta"]["index"])) < 0:
            raise PluginError(f"/meta/index: {index} is no index of a sample: expected 0 or more")
        made = Rows(sample, self.options, self.options.png_level)
        for row, left_out in zip(made.rows, made.left_out, strict=True):
            row["_tally"] = {**_counted(sample, row), "left_out": left_out}
        self._shards.agree("features", made.features)
        self._shards.agree("names", _names(sample))
        self._shards.put(index, split_of(sample["meta"], self.options.split), msgspec.msgpack.encode(made.rows))

    def finish(self, categories: Mapping[int, str]) -> Sequence[str]:
        """Put the samples into files, and write the card."""
        described = self._shards.agreed("features")
        if described is None:
            return ()
        features = tables.features_of(described, categories)

        def gather(path: Path, before: Path | None, documents: Mapping[int, Path]) -> Tally:
            tally: Tally = {}
            known = (row for row in (tables.read_table(before, LIMIT_BYTES) if before else ()) if row["index"] not in documents)
            fresh = _tallied(documents.values(), path.name.rpartition("-")[0], tally)
            rows = heapq.merge(known, fresh, key=lambda row: row["index"])
            tables.write_table(path, rows, features, categories)
            return tally

        with self._shards.gathered(gather) as tally:
            files = {part: paths for part, paths in self._shards.shards().items() if paths}
            expected = features.arrow_schema.metadata[b"huggingface"]
            for path in (path for paths in files.values() for path in paths):
                if tables.described(path) != expected:  # other categories are known now
                    rows = tables.read_table(path, LIMIT_BYTES)
                    whole(path, lambda draft, rows=rows: tables.write_table(draft, rows, features, categories))  # type: ignore[misc]
            notes = self._write_card(features, files, tally, categories)
        told = {"ignored": "objects are ignored", "left_out": "objects are left out"}
        said = [tell(tally[name], what) for name, what in told.items() if tally.get(name)]
        return [*said, *notes]

    def _write_card(
        self, features: Any, files: dict[str, list[Path]], tally: Tally, categories: Mapping[int, str]
    ) -> list[str]:
        path = self._folder / card.NAME
        if path.exists() and not card.is_own(path):
            return [
                f"{card.NAME} is not its own and stays as it is: load_dataset finds parts called train, val and test without it"
            ]
        before = path.read_text(encoding="utf-8") if path.exists() else None
        places = {str(number): place for place, number in enumerate(sorted(categories))}
        objects = {str(places[number]): count for number, count in tally.get("objects", {}).items() if number in places}
        title = self._folder.resolve().name
        points = (self._shards.agreed("names") or {}).get("keypoints", ())
        names = card.Names(tables.class_names(categories), points)
        text = card.card(before, title, features, files, {**tally, "objects": objects}, names)
        write_atomically(path, text.encode())
        return []

    def read(self, index: int) -> Sequence[LabelledPicture]:
        """Read the pictures of a sample from their file."""
        for part, path in self._shards.holding(index).items():
            try:
                rows = tables.read_table(path, LIMIT_BYTES, index)
                found = [replace(labelled(row, LIMIT_BYTES), split=part) for row in rows]
            except Exception as error:  # what damaged bytes make libraries raise
                raise DecodeError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
            if found:
                return found
        raise FileNotFoundError(f"sample {index} is in no file of {self._folder / DATA}")

    def clear(self) -> None:
        """Remove the files, the samples that wait, and the card, if it was written here."""
        self._shards.clear()
        if card.is_own(self._folder / card.NAME):
            (self._folder / card.NAME).unlink()

    def bytes_per_sample(self, arrays: Mapping[str, tuple[tuple[int, ...], str]]) -> int:
        """Estimate: half of pictures, all of floats, a sixteenth of other maps, and 4 kB for labels."""
        kinds = [(prod(shape), shape[2:], np.dtype(dtype)) for shape, dtype in arrays.values()]
        shares = [
            size * dtype.itemsize // (1 if dtype.kind == "f" else 2 if dtype == np.uint8 and last in ((3,), (4,)) else 16)
            for size, last, dtype in kinds
        ]
        return 4_000 + sum(shares)


def _names(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Read what annotators call the columns of their arrays, and nothing that is measured: that differs between processors."""
    legend = legend_of(sample)
    return {label: said["names"] for label, said in legend.items() if label != "categories" and "names" in said}


def _counted(sample: Mapping[str, Any], row: Mapping[str, Any]) -> Tally:
    objects = row.get("objects", {})
    reasons = [each for each in objects.get("ignored", ()) if each]
    ids = list(map(str, objects.get("category_id", ())))
    return {
        "ignored": {reason: reasons.count(reason) for reason in reasons},
        "objects": {number: ids.count(number) for number in ids},
        "seed": {str(sample["meta"].get("seed", "?")): 1},
        "versions": {sample["meta"].get("versions", "{}"): 1},
    }


def _tallied(documents: Iterable[Path], part: str, tally: Tally) -> Iterator[tables.Row]:
    for path in documents:
        for row in tables.rows_in(path):
            add(tally, {"rows": {part: 1}, **row.pop("_tally")})
            yield row
