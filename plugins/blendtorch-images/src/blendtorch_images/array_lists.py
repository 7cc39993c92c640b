"""Small arrays as lists in JSON, and back: NaN is `null`, infinity is `"inf"` or `"-inf"`."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def fits(array: Array) -> bool:
    """Whether JSON can hold its elements: booleans, whole numbers, floats of 64 bits at most, text."""
    return array.dtype.kind in "biuU" or (array.dtype.kind == "f" and array.dtype.itemsize <= 8)


def to_lists(array: Array) -> Any:
    """Write an array as nested lists; one without axes as its element."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        elements = array.astype(object)
        elements[np.isnan(array)] = None
        elements[np.isposinf(array)] = "inf"
        elements[np.isneginf(array)] = "-inf"
        return elements.tolist()
    return array.tolist()


def from_lists(lists: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Make the array again.

    Raises
    ------
    ValueError, TypeError, OverflowError
        If the lists are not of this shape and type.
    """
    array = np.array(lists, dtype)
    if array.size == 0 and 0 in shape:  # lists do not tell what lies behind an axis of length 0
        return array.reshape(shape)
    if array.shape != shape:
        raise ValueError(f"expected the shape {shape}, got {array.shape}")
    return array
