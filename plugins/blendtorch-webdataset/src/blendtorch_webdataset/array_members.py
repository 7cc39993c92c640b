"""Arrays as members of a tar file, and back: PNG and NPZ.

What is read is checked before memory is taken for it, and nothing of it is executed.
"""

import zipfile
from collections.abc import Mapping
from io import BytesIO
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_CHANNELS = {"L": (), "RGB": (3,), "RGBA": (4,)}  # by modes of Pillow
_NPY_HEADER_BYTES = 20_000  # numpy itself reads no longer ones
_LEVEL = 1  # of deflate: 6, which is usual, takes several times as long for a few per cent
_npy: Any = np.lib.format  # its functions have no types


def is_picture(array: Array) -> bool:
    """Whether a PNG holds it as it is."""
    return array.dtype == np.uint8 and array.ndim in (2, 3) and array.shape[2:] in _CHANNELS.values() and array.size > 0


def to_png(array: Array, level: int) -> bytes:
    """Write a picture."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(file, "PNG", compress_level=level)
    return file.getvalue()


def from_png(content: bytes, limit_bytes: int) -> Array:
    """Read a picture.

    Raises
    ------
    ValueError
        If it is another kind of picture, or larger than allowed.
    """
    from PIL import Image

    with Image.open(BytesIO(content), formats=["PNG"]) as image:
        if image.mode not in _CHANNELS:
            raise ValueError(f"expected a PNG of mode {', '.join(_CHANNELS)}, got {image.mode}")
        if (size := prod((*image.size, *_CHANNELS[image.mode]))) > limit_bytes:
            raise ValueError(f"a picture of {size} bytes, and {limit_bytes} are allowed")
        return np.array(image)


def to_npz(arrays: Mapping[str, Array]) -> bytes:
    """Write arrays under their names; the same arrays give the same bytes."""
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        for name in sorted(arrays):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                _npy.write_array(member, np.asanyarray(arrays[name]), allow_pickle=False)
    return file.getvalue()


def from_npz(content: bytes, limit_bytes: int) -> dict[str, Array]:
    """Read arrays.

    Raises
    ------
    ValueError, zipfile.BadZipFile
        If they take more than allowed, or the file is damaged.
    """
    with zipfile.ZipFile(BytesIO(content)) as archive:
        if (size := sum(info.file_size for info in archive.infolist())) > limit_bytes:
            raise ValueError(f"arrays of {size} bytes, and {limit_bytes} are allowed")
        return {info.filename.removesuffix(".npy"): _from_npy(archive, info) for info in archive.infolist()}


def _from_npy(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    with archive.open(info) as member:
        version = _npy.read_magic(member)
        read = {(1, 0): _npy.read_array_header_1_0, (2, 0): _npy.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"expected version 1.0 or 2.0 of NPY, got {version}")
        shape, _, dtype = read(member, max_header_size=_NPY_HEADER_BYTES)
    if prod(shape) * dtype.itemsize > info.file_size:
        raise ValueError(f"{info.filename} says that it is {dtype} {shape}, and has {info.file_size} bytes")
    with archive.open(info) as member:
        array: Array = _npy.read_array(member, allow_pickle=False)
    return array
