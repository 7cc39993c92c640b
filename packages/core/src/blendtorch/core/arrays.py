"""How an array travels: its description in the header, its elements in a buffer of their own.

The description is a dtype string and a shape; elements are in C order and little-endian.
"""

import functools
import math
import re
from typing import Any

import numpy as np
import numpy.typing as npt
from blendtorch.core.errors import DecodeError

_KINDS = "biufcSUMm"  # not O (pickles) and not V (fields that no tensor has)
# What numpy.dtype.str gives, and no more: numpy's own parser compiles the numbers in texts such as "(2,)f8".
_DTYPE = re.compile(r"[<>|][biufcSUMmOV]\d{0,10}(\[([1-9]\d{0,9})?[A-Za-z]{1,2}\])?", re.ASCII)
_MAX_DIMENSIONS = 32  # numpy 1 has no more
_MAX_CODE_POINT = 0x10FFFF

Buffer = bytes | bytearray | memoryview | npt.NDArray[np.uint8]


def refusal(dtype: np.dtype[Any]) -> str | None:
    """Say why arrays of `dtype` cannot travel, or None where they can."""
    if dtype.kind == "O":
        return "its elements are Python objects: give it a numeric dtype"
    if dtype.kind not in _KINDS:
        return "structured dtypes do not travel: publish each field as an array of its own"
    return None


def snapshot(array: npt.NDArray[Any], into: memoryview | None = None) -> npt.NDArray[Any]:
    """Copy an array once, into C order, aligned and native-endian: what the sender keeps of it.

    Parameters
    ----------
    array : ndarray
    into : memoryview, optional
        Where the copy goes: writable and aligned memory of exactly `array.nbytes` bytes, which must be more than 0.
        Default: memory of its own.
    """
    dtype = array.dtype.newbyteorder("=")
    if into is not None:
        copy: npt.NDArray[Any] = np.ndarray(array.shape, dtype, buffer=into)
        copy[...] = array  # not np.copyto, which subclasses of ndarray may override
        return copy
    if dtype.itemsize == 0:  # the type of an empty text
        dtype = np.dtype(f"{dtype.kind}1")
    return np.array(array, dtype=dtype, order="C", copy=True, subok=False)


def restore(dtype_name: str, shape: tuple[int, ...], buffer: Buffer) -> npt.NDArray[Any]:
    """Lay an array over received memory.

    Parameters
    ----------
    dtype_name : str
        As `numpy.dtype.str` gives it.
    shape : tuple of int
    buffer : bytes-like
        The elements. Writable memory gives a writable array over it, which keeps the buffer alive; read-only or unaligned
        memory is copied.

    Returns
    -------
    ndarray
        Writable, aligned, C-contiguous, native-endian.

    Raises
    ------
    DecodeError
        If the dtype is not one that travels, or the buffer is not as long as the description says.
    """
    dtype = _dtype(dtype_name)
    if len(shape) > _MAX_DIMENSIONS or any(size < 0 for size in shape):
        raise DecodeError(f"shape {shape[: _MAX_DIMENSIONS + 1]} is refused: at most {_MAX_DIMENSIONS} sizes, none negative")
    raw = np.frombuffer(buffer, np.uint8)
    expected = math.prod(shape) * dtype.itemsize
    if expected != raw.size:
        raise DecodeError(f"an array {dtype_name} {shape} has {expected} bytes, got {raw.size}")
    if expected == 0:
        return np.zeros(shape, dtype.newbyteorder("="))
    if dtype.kind == "U" and np.any(raw.view(f"{dtype.byteorder}u4") > _MAX_CODE_POINT):
        raise DecodeError(f"an array {dtype_name} {shape} holds what is no text")  # reading an element is a SystemError
    array = raw.view(dtype).reshape(shape)
    if not (array.flags.writeable and array.flags.aligned and dtype.isnative):
        return snapshot(array)
    return array


@functools.lru_cache(maxsize=256)
def _dtype(name: str) -> np.dtype[Any]:
    """Read a dtype as `numpy.dtype.str` writes it; texts that are longer are not even kept here."""
    if not _DTYPE.fullmatch(name):
        raise DecodeError(f"{name[:50]!r} is no dtype")
    try:
        dtype = np.dtype(name)
    except (TypeError, ValueError, OverflowError) as error:
        raise DecodeError(f"{name!r} is no dtype: {error}") from None
    if reason := refusal(dtype):
        raise DecodeError(f"dtype {name!r} is refused: {reason}")
    if dtype.itemsize <= 0:
        raise DecodeError(f"dtype {name!r} is refused: its elements have no size")
    if dtype.str != name:  # numpy 1 takes |S9999999999 for |S1410065407
        raise DecodeError(f"{name!r} is no dtype: numpy reads it as {dtype.str}")
    return dtype
