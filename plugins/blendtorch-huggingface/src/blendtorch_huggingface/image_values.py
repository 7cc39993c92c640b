"""Pictures and maps as values of the feature `Image`, which are files in memory, and back.

PNG holds pictures, bits and whole numbers from 0 to 65535; TIFF holds float32 as it is. These are the kinds that `datasets`
itself makes of arrays, and that Pillow gives back as arrays of the same numbers.
"""

from io import BytesIO
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_CHANNELS = {"1": (), "L": (), "I;16": (), "F": (), "RGB": (3,), "RGBA": (4,)}  # by modes of Pillow
_BYTES = {"I;16": 2, "F": 4}  # of an element, where it is not one


def is_picture(array: Array) -> bool:
    """Whether one image holds it: a picture, or a map of one channel that is float32, bool or whole numbers."""
    if array.dtype == np.uint8 and array.ndim == 3:
        return array.shape[2] in (3, 4)
    return array.ndim == 2 and (array.dtype == np.float32 or array.dtype.kind in "biu")


def to_image(array: Array, name: str, png_level: int) -> dict[str, Any]:
    """Write an image.

    Parameters
    ----------
    array : ndarray
        For which `is_picture` holds.
    name : str
        Of the file that it would be, without its suffix.
    png_level : int

    Returns
    -------
    dict
        `bytes` and `path`, as `datasets` keeps an image.

    Raises
    ------
    ValueError
        If it has numbers that are not in 0 to 65535.
    """
    from PIL import Image

    file = BytesIO()
    if array.dtype == np.float32:
        Image.fromarray(np.ascontiguousarray(array)).save(file, "TIFF", compression="tiff_adobe_deflate")
        return {"bytes": file.getvalue(), "path": f"{name}.tiff"}
    if array.dtype.kind in "iu" and array.dtype != np.uint8:
        if array.size and not 0 <= array.min() <= array.max() < 2**16:
            raise ValueError(f"{name} has numbers from {array.min()} to {array.max()}: an image holds 0 to 65535")
        array = array.astype(np.uint16)
    Image.fromarray(np.ascontiguousarray(array)).save(file, "PNG", compress_level=png_level)
    return {"bytes": file.getvalue(), "path": f"{name}.png"}


def from_image(value: dict[str, Any], limit_bytes: int) -> Array:
    """Read an image.

    Raises
    ------
    ValueError, OSError
        If it is damaged, of another kind, or larger than allowed.
    """
    from PIL import Image

    with Image.open(BytesIO(value["bytes"]), formats=["PNG", "TIFF"]) as image:
        if image.mode not in _CHANNELS:
            raise ValueError(f"expected an image of mode {', '.join(_CHANNELS)}, got {image.mode}")
        size = prod((*image.size, *_CHANNELS[image.mode])) * _BYTES.get(image.mode, 1)
        if size > limit_bytes:
            raise ValueError(f"an image of {size} bytes, and {limit_bytes} are allowed")
        return np.array(image)
