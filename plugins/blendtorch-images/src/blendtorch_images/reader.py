"""Samples out of a folder of the writer `images`."""

import os
from math import prod
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from blendtorch.core.errors import DecodeError

from blendtorch_images import array_files, array_lists, layout
from blendtorch_images.layout import Document, StoredArray

_LIMIT_BYTES = 2**31
_KINDS = "biufcUSmM"


def read(folder: str | os.PathLike[str], index: int, limit_bytes: int = _LIMIT_BYTES) -> dict[str, Any]:
    """Read a sample.

    Parameters
    ----------
    folder : path
    index : int
    limit_bytes : int
        What its arrays may take in memory: nothing is read of a sample that says that it takes more.

    Returns
    -------
    dict
        The sample as it was written: arrays with their dtypes and shapes, bit for bit (a NaN that is not in a file is numpy's).
        Tensors come back as arrays, tuples as lists.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    DecodeError
        If its files are damaged, or are not what its JSON says.
    """
    path = layout.document_of(Path(folder), index)
    try:
        document = _decode(path, limit_bytes)
        sample = document.sample
        for pointer, stored in document.arrays.items():
            _restore(sample, pointer, stored, path)
    except (DecodeError, FileNotFoundError):
        raise
    except Exception as error:  # what damaged bytes make libraries raise
        raise DecodeError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    return sample


def read_categories(folder: str | os.PathLike[str]) -> dict[int, str]:
    """Read the names of the categories, by their ids; they are there when the run is complete.

    Raises
    ------
    FileNotFoundError
        If they are not there.
    DecodeError
        If they are damaged.
    """
    path = Path(folder) / layout.CATEGORIES
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[int, str], strict=False)
    except msgspec.DecodeError as error:
        raise DecodeError(f"{path} cannot be read: {error}") from None


def _decode(path: Path, limit_bytes: int) -> Document:
    if (size := path.stat().st_size) > limit_bytes:
        raise DecodeError(f"{path} has {size} bytes, and {limit_bytes} are allowed: raise limit_bytes")
    document = msgspec.json.decode(path.read_bytes(), type=Document)
    taken = 0
    for pointer, stored in document.arrays.items():
        if stored.dtype == "float":
            continue
        dtype = np.dtype(stored.dtype)
        if dtype.kind not in _KINDS or min(stored.shape, default=0) < 0:
            raise DecodeError(f"{path}: {pointer} is said to be a {stored.dtype} {stored.shape}, which is never written")
        taken += prod(stored.shape) * dtype.itemsize
    if taken > limit_bytes:
        raise DecodeError(f"{path}: its arrays take {taken} bytes, and {limit_bytes} are allowed: raise limit_bytes")
    return document


def _restore(sample: dict[str, Any], pointer: str, stored: StoredArray, document: Path) -> None:
    """Put an array where its pointer leads."""
    *way, last = layout.keys_of(pointer)
    holder: Any = sample
    for key in way:
        holder = holder[int(key) if isinstance(holder, list) else key]
    place = int(last) if isinstance(holder, list) else last
    value = holder[place]
    if stored.dtype == "float":
        holder[place] = float(array_lists.from_lists(value, np.dtype(np.float64), ()))
    elif isinstance(value, dict):
        holder[place] = _load(value["file"], stored, document)
    else:
        holder[place] = array_lists.from_lists(value, np.dtype(stored.dtype), stored.shape)


def _load(name: str, stored: StoredArray, document: Path) -> array_lists.Array:
    if Path(name).name != name or not name.startswith(f"{document.stem}."):
        raise DecodeError(f"{document} names the file {name!r}: expected one beside it, of the same sample")
    path = document.with_name(name)
    try:
        return array_files.decode(path.read_bytes(), path.suffix, np.dtype(stored.dtype), stored.shape)
    except FileNotFoundError:
        raise DecodeError(f"{document} names the file {name}, which is not there") from None
    except Exception as error:  # what damaged bytes make libraries raise
        raise DecodeError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
