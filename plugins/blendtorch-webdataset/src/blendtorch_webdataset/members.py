"""A sample as members of a tar file, and back: pictures, labels, maps and all else, by the ends of their names."""

import itertools
import re
from collections.abc import Mapping
from typing import Any, Literal, cast

import msgspec
from blendtorch.core.errors import DecodeError
from blendtorch.core.labels import LabelledPicture, legend_of
from blendtorch.core.selection import LabelOptions, pictures_of, views

from blendtorch_webdataset import array_members, parts
from blendtorch_webdataset.array_members import Array
from blendtorch_webdataset.descriptions import describe, labelled

LIMIT_BYTES = 2**31
_LONGEST = 60  # characters of a name: a tar file has room for 100 with the sample's number


class Document(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The JSON of a sample: what is described for the first camera, the others by their names, and the rest of the sample.

    Attributes
    ----------
    format : str
    height, width : int
    K : list of list of float, or None
    objects : list of dict
    left_out : dict of str to int
    cameras : dict of str to dict
    pictures : dict of str to str
        Where in the sample the members are that are pictures.
    sample : dict
        What of it is no array.
    """

    format: Literal["blendtorch-webdataset/1"] = "blendtorch-webdataset/1"
    height: int = 0
    width: int = 0
    K: list[list[float | None]] | None = None
    objects: list[dict[str, Any]] = []
    left_out: dict[str, int] = {}
    cameras: dict[str, dict[str, Any]] = {}
    pictures: dict[str, str] = {}
    sample: dict[str, Any] = {}


def key_of(index: int) -> str:
    """Name a sample: six digits, or more where it takes more."""
    return f"{index:06}"


def encode(sample: Mapping[str, Any], options: LabelOptions, png_level: int) -> dict[str, bytes]:
    """Make the members of a sample.

    Parameters
    ----------
    sample : mapping
        As a dataset yields it.
    options : LabelOptions
    png_level : int

    Returns
    -------
    dict of str to bytes
        By the ends of their names: `png`, `json`, `depth.npz`, `npz`.

    Raises
    ------
    PluginError
        If it holds what cannot be kept; names the place.
    """
    arrays: dict[parts.Place, Array] = {}
    kept = parts.take_apart(sample, arrays)
    pictures, members, archives = {}, {}, dict[str, dict[str, Array]]()
    names = _Names()
    for place, array in arrays.items():
        height_width, camera = _picture_of(place, sample)
        if place[-1] == "image" and array_members.is_picture(array):
            name = names.of((*place[:-1], "png"))
            pictures[name], members[name] = parts.pointer(place), array_members.to_png(array, png_level)
        else:
            is_map = array.ndim >= 2 and height_width in (array.shape[:2], array.shape[-2:])
            name = names.of((*place[: camera + 1], "npz") if is_map else ("npz",))
            archives.setdefault(name, {})[parts.pointer(place)] = array
    members |= {name: array_members.to_npz(each) for name, each in archives.items()}
    categories = legend_of(sample).get("categories", {})
    described = {each.camera: describe(each, categories) for each in pictures_of(sample, options)}
    first = described.pop("", {})
    document = Document(**first, cameras=described, pictures=pictures, sample=kept)
    members["json"] = msgspec.json.encode(document, order="deterministic")
    return members


def _picture_of(place: parts.Place, sample: Mapping[str, Any]) -> tuple[tuple[int, ...], int]:
    """Find the size of the picture that an array belongs to, and how deep in the sample that lies."""
    size: tuple[int, ...] = ()
    found, holder = 0, cast("Any", sample)
    for depth, key in enumerate(place):
        if isinstance(holder, Mapping) and "image" in holder:
            size, found = tuple(getattr(holder["image"], "shape", ()))[:2], depth
        holder = holder[key]
    return size, found


class _Names:
    """Ends of names, each for one place: in small letters, as webdataset reads them."""

    def __init__(self) -> None:
        self._taken: dict[str, parts.Place] = {}

    def of(self, place: parts.Place) -> str:
        *way, suffix = (re.sub(r"[^a-z0-9_-]", "_", str(key).lower()) or "_" for key in place)
        name = ".".join(way)[:_LONGEST]
        for number in itertools.count(1):
            end = ".".join(filter(None, [name, "" if number == 1 else str(number), suffix]))
            if self._taken.setdefault(end, place) == place:
                return end
        raise AssertionError  # it counts for ever


def decode(members: Mapping[str, Any], limit_bytes: int = LIMIT_BYTES) -> dict[str, Any]:
    """Make a sample again, as the dataset gave it.

    Parameters
    ----------
    members : mapping
        By the ends of their names, bytes: what `webdataset.WebDataset` yields without `decode`.
    limit_bytes : int
        What all its arrays together may take in memory.

    Returns
    -------
    dict
        Arrays with their dtypes and shapes, bit for bit. Tensors come back as arrays, tuples as lists, a NaN or an infinity
        that was a number of Python as an array without axes.

    Raises
    ------
    DecodeError
        If they are no sample, or damaged.
    """
    return _decode(members, limit_bytes)[0]


def pictures(members: Mapping[str, Any], limit_bytes: int = LIMIT_BYTES) -> list[LabelledPicture]:
    """List the pictures of a sample with their objects, as its JSON says; parameters and errors are those of `decode`."""
    sample, document = _decode(members, limit_bytes)
    try:
        first = {"": msgspec.structs.asdict(document)} if document.height else {}
        described = {**first, **document.cameras}
        return [labelled(camera, views(sample)[camera], each) for camera, each in described.items()]
    except (LookupError, TypeError, ValueError) as error:
        raise _damaged(members, error) from error


def _decode(members: Mapping[str, Any], limit_bytes: int) -> tuple[dict[str, Any], Document]:
    try:
        document = msgspec.json.decode(members["json"], type=Document)
        sample, left_bytes = document.sample, limit_bytes
        for name, content in members.items():
            if name in document.pictures:
                arrays = {document.pictures[name]: array_members.from_png(content, left_bytes)}
            elif name == "npz" or name.endswith(".npz"):
                arrays = array_members.from_npz(content, left_bytes)
            else:
                continue
            left_bytes -= sum(array.nbytes for array in arrays.values())
            for place, array in arrays.items():
                parts.put_back(sample, place, array)
    except Exception as error:  # what damaged bytes make libraries raise
        raise _damaged(members, error) from error
    return sample, document


def _damaged(members: Mapping[str, Any], error: Exception) -> DecodeError:
    key = members.get("__key__", "")
    return DecodeError(f"sample {key} with the members {sorted(members)} cannot be read: {type(error).__name__}: {error}")
