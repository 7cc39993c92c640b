"""How a sample lies in a folder: the names of its files, and the document that says what they hold.

Of sample 7 there are `000007.json`, written last, by which it counts, and beside it the files of its large arrays. The document
has the sample as it is, arrays as lists, with `{"file": NAME}` for an array in a file; and the dtype and the shape
of each array, by its JSON pointer (RFC 6901).
"""

import itertools
import os
import re
from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

CATEGORIES = "categories.json"
_DIGITS = 6
_LONGEST = 150  # characters of a name, without its suffix: file systems take 255
_DOCUMENT = re.compile(r"([0-9]{6,})\.json")
_FILE = re.compile(r"([0-9]{6,})\.([A-Za-z0-9_-]+\.)*(json|png|exr|npz)")
_BEGIN = b'{"format":"blendtorch-images/1"'
_NEAR = 1000  # workers are so far ahead of each other at most
_DRAFT = re.compile(r"([0-9]{6,})\..*\.part")


class StoredArray(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an array was.

    Attributes
    ----------
    dtype : str
        As numpy has it; "float" for a number of Python that JSON does not have.
    shape : tuple of int
    """

    dtype: str
    shape: tuple[int, ...] = ()


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A sample as JSON.

    Attributes
    ----------
    format : str
    sample : dict
    arrays : dict of str to StoredArray
        By JSON pointers into `sample`.
    """

    format: Literal["blendtorch-images/1"] = "blendtorch-images/1"
    sample: dict[str, Any]
    arrays: dict[str, StoredArray]


def stem(index: int) -> str:
    """Name a sample: six digits, or more where it takes more."""
    return f"{index:0{_DIGITS}d}"


def document_of(folder: Path, index: int) -> Path:
    """Name the document of a sample."""
    return folder / f"{stem(index)}.json"


def indexes(folder: str | os.PathLike[str]) -> frozenset[int]:
    """List the samples that are whole in a folder."""
    matches = map(_DOCUMENT.fullmatch, os.listdir(folder))  # noqa: PTH208 - there may be a million
    return frozenset(int(match[1]) for match in matches if match and match[1] == stem(int(match[1])))


def drafts(folder: Path) -> dict[int, list[Path]]:
    """List what killed processes left half-written, by the samples that it belongs to."""
    found: dict[int, list[Path]] = {}
    for name in os.listdir(folder):  # noqa: PTH208 - there may be a million
        if match := _DRAFT.fullmatch(name):
            found.setdefault(int(match[1]), []).append(folder / name)
    return found


def written_files(folder: Path) -> list[Path]:
    """List the files of samples, drafts too, and what a killed process left without its document; documents first.

    Other people's files may be called as ours are, by a date for example: it is ours where the document of its sample says so.
    One that has no document is ours where its number is hardly above those of samples.
    """
    documents = {number: document_of(folder, number) for number in indexes(folder)}
    own = {number for number, path in documents.items() if _is_document(path)}
    most = max(own, default=-_NEAR) + _NEAR
    found = [documents[number] for number in sorted(own)]
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - there may be a million
        match = _FILE.fullmatch(name) or _DRAFT.fullmatch(name)
        if match and match[1] == stem(int(match[1])) and not _DOCUMENT.fullmatch(name):
            number = int(match[1])
            if number in own or (number not in documents and number < most):
                found.append(folder / name)
    return found


def _is_document(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_BEGIN)) == _BEGIN


def file_name(index: int, path: tuple[str, ...], suffix: str, taken: Container[str]) -> str:
    """Name the file of an array by where in the sample it is: `000007.left.depth.exr`.

    The picture itself is called as its camera is, or as the sample; a label that is called as its annotator is named once.

    Parameters
    ----------
    index : int
    path : tuple of str
        Keys, from the top of the sample.
    suffix : str
    taken : container of str
        Names of other files of the sample, in small letters: file systems may not tell them apart.
    """
    return next(name for name in _candidates(index, path, suffix) if name.lower() not in taken)


def _candidates(index: int, path: tuple[str, ...], suffix: str) -> Iterator[str]:
    short = [key for key, before in zip(path, (None, *path), strict=False) if key != before]
    if short[-1] == "image":
        short.pop()
    for keys in (short, path):
        name = ".".join([stem(index), *map(_plain, keys)])[:_LONGEST]
        yield name + suffix
    for number in itertools.count(2):
        yield f"{name}.{number}{suffix}"


def _plain(key: str) -> str:
    """Keep what every file system takes."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", key) or "_"


def pointer(path: Iterable[str | int]) -> str:
    """Write a place in a sample as a JSON pointer."""
    return "".join("/" + str(key).replace("~", "~0").replace("/", "~1") for key in path)


def keys_of(pointer: str) -> list[str]:
    """Take a JSON pointer apart."""
    return [key.replace("~1", "/").replace("~0", "~") for key in pointer.split("/")[1:]]
