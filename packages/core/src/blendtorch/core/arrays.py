"""How an array travels: its description in the header, its elements in a buffer of their own.

The description is a dtype string and a shape; elements are in C order and little-endian.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from blendtorch.core.errors import DecodeError

_KINDS = "biufcSUMm"  # not O (pickles) and not V (fields that no tensor has)

Buffer = bytes | bytearray | memoryview


def refusal(dtype: np.dtype[Any]) -> str | None:
    """Say why arrays of `dtype` cannot travel, or None where they can."""
    if dtype.kind == "O":
        return "its elements are Python objects: give it a numeric dtype"
    if dtype.kind not in _KINDS:
        return "structured dtypes do not travel: publish each field as an array of its own"
    return None


def snapshot(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Copy an array once, into C order, aligned and native-endian: what the sender keeps of it."""
    dtype = array.dtype.newbyteorder("=")
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
        The elements. Writable memory gives a writable array over it; read-only or unaligned memory is copied.

    Returns
    -------
    ndarray
        Writable, aligned, C-contiguous, native-endian.

    Raises
    ------
    DecodeError
        If the dtype is not one that travels, or the buffer is not as long as the description says.
    """
    try:
        dtype = np.dtype(dtype_name)
    except (TypeError, ValueError, SyntaxError) as error:
        raise DecodeError(f"{dtype_name!r} is no dtype: {error}") from None
    reason = refusal(dtype)
    if reason:
        raise DecodeError(f"dtype {dtype_name!r} is refused: {reason}")
    if dtype.itemsize == 0:
        raise DecodeError(f"dtype {dtype_name!r} is refused: its elements have no size")
    if any(size < 0 for size in shape) or len(shape) > 32:
        raise DecodeError(f"shape {shape} is refused: at most 32 sizes, none negative")
    expected, got = math.prod(shape) * dtype.itemsize, memoryview(buffer).nbytes
    if expected != got:
        raise DecodeError(f"an array {dtype_name} {shape} has {expected} bytes, got {got}")
    if expected == 0:
        return np.zeros(shape, dtype.newbyteorder("="))
    array = np.frombuffer(buffer, dtype).reshape(shape)
    if not (array.flags.writeable and array.flags.aligned and dtype.isnative):
        return snapshot(array)
    return array
