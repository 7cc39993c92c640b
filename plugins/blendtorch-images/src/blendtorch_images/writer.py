"""The writer `images`."""

from collections.abc import Container, Mapping, Sequence
from math import isfinite, prod
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from blendtorch.core.atomic import write_atomically
from blendtorch.core.errors import PluginError
from blendtorch.core.interfaces import Options, Writer
from blendtorch.core.labels import LabelledPicture
from blendtorch.core.selection import LabelOptions, pictures_of

from blendtorch_images import array_files, array_lists, layout, reader
from blendtorch_images.layout import StoredArray

_INLINE = 10_000  # elements of an array that may be part of the JSON: 200 kB of text at most
# Kinds of dtypes that can be kept: all but objects, and records of several fields.
_KINDS = "biufcUSmM"


class ImagesOptions(Options, frozen=True, kw_only=True):
    """Options of `images`.

    Attributes
    ----------
    png_level : int
        How hard PNG files are compressed, from 0 to 9.
    """

    png_level: Annotated[int, msgspec.Meta(ge=0, le=9)] = 1


class Images(Writer):
    """PNG pictures, EXR maps and JSON labels, a few files for each sample; `blendtorch_images.read` reads them back."""

    name = "images"
    interface = 1
    Options = ImagesOptions

    def open(self, folder: Path) -> None:
        """Make the folder, if it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._drafts = layout.drafts(folder)

    def written(self) -> frozenset[int]:
        """List the samples that have their JSON."""
        return layout.indexes(self._folder)

    def write(self, sample: Mapping[str, Any]) -> None:
        """Write the files of a sample, its JSON last.

        Raises
        ------
        PluginError
            If it holds what files cannot; names the place.
        """
        if (index := int(sample["meta"]["index"])) < 0:
            raise PluginError(f"/meta/index: {index} is no index of a sample: expected 0 or more")
        parts = _Parts(index, self.options.png_level)
        document = layout.Document(sample=parts.plain_mapping(sample, (), None), arrays=parts.arrays)
        content = msgspec.json.encode(document, order="deterministic")
        path = layout.document_of(self._folder, index)
        path.unlink(missing_ok=True)  # what is replaced is not whole meanwhile
        for name, data in parts.files.items():
            write_atomically(self._folder / name, data)
        write_atomically(path, content + b"\n")
        for draft in self._drafts.pop(index, ()):
            draft.unlink(missing_ok=True)

    def finish(self, categories: Mapping[int, str]) -> Sequence[str]:
        """Write the names of the categories, `{"1": "bracket"}`."""
        named = {str(number): categories[number] for number in sorted(categories)}
        write_atomically(self._folder / layout.CATEGORIES, msgspec.json.format(msgspec.json.encode(named)) + b"\n")
        return ()

    def read_sample(self, index: int) -> Mapping[str, Any]:
        """Read its files: see `blendtorch_images.read`."""
        return reader.read(self._folder, index)

    def read(self, index: int) -> Sequence[LabelledPicture]:
        """Read the pictures of a sample with their objects, by the default rules for which are listed; loose boxes will do."""
        return pictures_of(self.read_sample(index), LabelOptions(loose=True))

    def clear(self) -> None:
        """Remove the files of all samples, and the names of the categories."""
        for path in [*layout.written_files(self._folder), self._folder / layout.CATEGORIES]:
            path.unlink(missing_ok=True)
        self._drafts = {}

    def bytes_per_sample(self, arrays: Mapping[str, tuple[tuple[int, ...], str]]) -> int:
        """Estimate: half of pictures, all of floats, a sixteenth of other maps, 20 bytes for each number in the JSON.

        Renders of falling cubes took a quarter of a picture, 1 to 40 % of a map of floats (a surface that is curved
        everywhere 86 %), and less than 1 % of others.
        """
        pictures = {shape[:2] for name, (shape, _) in arrays.items() if name.rpartition(".")[2] == "image"}
        return 2_000 + sum(_estimate(shape, np.dtype(dtype), pictures) for shape, dtype in arrays.values())


def _estimate(shape: tuple[int, ...], dtype: np.dtype[Any], pictures: Container[tuple[int, ...]]) -> int:
    size = prod(shape)
    if size <= _INLINE and shape[:2] not in pictures and shape[-2:] not in pictures:
        return 20 * size
    if dtype.kind == "f":
        return size * dtype.itemsize
    return size * dtype.itemsize // (2 if dtype == np.uint8 and shape[2:] in ((3,), (4,)) else 16)


class _Parts:
    """Takes a sample apart: what goes into its JSON, and the files of its large arrays."""

    def __init__(self, index: int, png_level: int) -> None:
        self.arrays: dict[str, StoredArray] = {}
        self.files: dict[str, bytes] = {}
        self._index, self._png_level = index, png_level

    def plain_mapping(
        self, values: Mapping[str, Any], path: tuple[str | int, ...], picture: tuple[int, ...] | None
    ) -> dict[str, Any]:
        """Make a mapping plain; `picture` is the height and width of the camera that it belongs to."""
        picture = tuple(getattr(values.get("image"), "shape", ())[:2]) or picture
        for key in values:
            if not isinstance(key, str):
                raise PluginError(f"{layout.pointer(path) or 'the sample'}: its key {key!r} is no text")
        return {key: self._plain(values[key], (*path, key), picture) for key in sorted(values)}

    def _plain(self, value: Any, path: tuple[str | int, ...], picture: tuple[int, ...] | None) -> Any:
        if value is None or isinstance(value, (str, bool)):
            return value
        if type(value) is int:
            if not -(2**63) <= value < 2**64:
                raise PluginError(f"{layout.pointer(path)}: {value} takes more than 64 bits")
            return value
        if type(value) is float:
            if isfinite(value):
                return value
            self.arrays[layout.pointer(path)] = StoredArray("float")
            return array_lists.to_lists(np.array(value))
        if isinstance(value, Mapping):
            return self.plain_mapping(value, path, picture)
        if hasattr(value, "__array__"):
            return self._array(np.asarray(value), path, picture)
        if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
            return [self._plain(each, (*path, number), picture) for number, each in enumerate(value)]
        raise PluginError(f"{layout.pointer(path)}: a {type(value).__name__} cannot be kept")

    def _array(self, array: array_lists.Array, path: tuple[str | int, ...], picture: tuple[int, ...] | None) -> Any:
        if array.dtype.kind not in _KINDS:
            raise PluginError(f"{layout.pointer(path)}: an array of {array.dtype} cannot be kept")
        name = array.dtype.name if array.dtype.isnative and array.dtype.kind in "biufc" else array.dtype.str
        self.arrays[layout.pointer(path)] = StoredArray(name, array.shape)
        is_map = array.ndim >= 2 and picture in (array.shape[:2], array.shape[-2:])
        if array.size == 0 and array_lists.fits(array):
            return []
        if array.size <= _INLINE and not is_map and array_lists.fits(array):
            return array_lists.to_lists(array)
        suffix = array_files.suffix_for(array) if array.size else ".npz"
        file = layout.file_name(self._index, tuple(map(str, path)), suffix, {each.lower() for each in self.files})
        self.files[file] = array_files.encode(array, suffix, self._png_level)
        return {"file": file}
