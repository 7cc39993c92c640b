"""Arrays as the bytes of files, and back: PNG, EXR and NPZ.

What is read is checked against what is expected before memory is taken for it. Pillow and OpenEXR are imported inside
functions: a Blender that is lent the plug-ins has neither.
"""

import zipfile
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # of Pillow, by the number of channels
# By the number of channels: the names that viewers show. A map of two, as flow, has the first two of a picture.
_CHANNELS = {1: ("Y",), 2: ("R", "G"), 3: ("R", "G", "B"), 4: ("R", "G", "B", "A")}
_NPY_HEADER_BYTES = 20_000  # numpy itself reads no longer ones
_MEMBER = "array.npy"
_npy: Any = np.lib.format  # its functions have no types


def suffix_for(array: Array) -> str:
    """Choose the kind of file for an array that is not empty: `.png`, `.exr` or `.npz`."""
    kind, last = array.dtype.kind, array.shape[2:]
    if array.ndim == 2 or (array.ndim == 3 and last[0] <= 4):
        if array.dtype == np.uint8 and last in ((), (3,), (4,)):
            return ".png"
        if array.dtype == np.float32 and array.dtype.isnative:
            return ".exr"
        if kind in "iu" and array.ndim == 2 and array.min() >= 0 and array.max() < 2**16:
            return ".png"
    return ".npz"


def encode(array: Array, suffix: str, png_level: int) -> bytes:
    """Make the content of a file of the kind that `suffix_for` chose."""
    file = BytesIO()
    match suffix:
        case ".png":
            from PIL import Image

            wide = array.dtype.itemsize > 1 or array.dtype.kind == "i"
            pixels = np.ascontiguousarray(array, np.uint16 if wide else np.uint8)
            Image.fromarray(pixels).save(file, "PNG", compress_level=png_level)
        case ".exr":
            import OpenEXR

            planes = array[..., None] if array.ndim == 2 else array
            names = _CHANNELS[planes.shape[2]]
            channels = {name: np.ascontiguousarray(planes[..., number]) for number, name in enumerate(names)}
            header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
            # No threads: theirs would be missing in a forked process.
            OpenEXR.File(header, channels, num_threads=0).write(file)
        case _:
            np.savez_compressed(file, array=array)
    return file.getvalue()


def decode(content: bytes, suffix: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Make the array again.

    Raises
    ------
    ValueError
        If the file holds something else than an array of this dtype and shape. Nothing of its size was allocated then.
    """
    readers: dict[str, Callable[[bytes, np.dtype[Any], tuple[int, ...]], Array]] = {
        ".png": _from_png,
        ".exr": _from_exr,
        ".npz": _from_npz,
    }
    if suffix not in readers:
        raise ValueError(f"expected a file of {', '.join(readers)}, got {suffix!r}")
    return readers[suffix](content, dtype, shape)


def _from_png(content: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    from PIL import Image

    if dtype.kind not in "iu" or not 2 <= len(shape) <= 3:
        raise ValueError(f"a PNG holds no {dtype} {shape}")
    with Image.open(BytesIO(content), formats=["PNG"]) as image:
        wide = dtype.itemsize > 1 or dtype.kind == "i"
        mode = "I;16" if wide else _MODES.get(shape[2] if len(shape) == 3 else 1)
        if image.size != (shape[1], shape[0]) or image.mode != mode:
            raise ValueError(f"expected a PNG of mode {mode}, {shape[1]} x {shape[0]}, got {image.mode}, {image.size}")
        return np.array(image).astype(dtype, copy=False)


def _from_exr(content: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    import OpenEXR

    names = _CHANNELS.get(shape[2] if len(shape) == 3 else 1)
    if dtype != np.float32 or len(shape) not in (2, 3) or names is None:
        raise ValueError(f"an EXR holds no {dtype} {shape}")
    header = OpenEXR.File(BytesIO(content), header_only=True, num_threads=0).header()
    low, high = header["dataWindow"]
    size = tuple(int(high[axis]) - int(low[axis]) + 1 for axis in (1, 0))
    there = {(each.name, each.xSampling, each.ySampling) for each in header["channels"]}
    if size != shape[:2] or there != {(name, 1, 1) for name in names}:
        raise ValueError(f"expected an EXR of {shape[:2]} with channels {names}, got {size} with {sorted(there)}")
    channels = OpenEXR.File(BytesIO(content), separate_channels=True, num_threads=0).channels()
    planes = [np.asarray(channels[name].pixels) for name in names]
    if any(plane.dtype != np.float32 for plane in planes):
        raise ValueError("expected channels of float32")
    return planes[0].copy() if len(shape) == 2 else np.stack(planes, axis=-1)


def _from_npz(content: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    try:
        archive = zipfile.ZipFile(BytesIO(content))
    except zipfile.BadZipFile as error:
        raise ValueError(str(error)) from None
    with archive:
        if archive.namelist() != [_MEMBER]:
            raise ValueError(f"expected {_MEMBER} in it, got {archive.namelist()}")
        with archive.open(_MEMBER) as member:
            header = _npy_header(member)
        if header != (shape, dtype):
            raise ValueError(f"expected {dtype} {shape}, got {header[1]} {header[0]}")
        with archive.open(_MEMBER) as member:
            array: Array = _npy.read_array(member, allow_pickle=False)
        return array


def _npy_header(member: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = _npy.read_magic(member)
    if version == (1, 0):
        shape, _, dtype = _npy.read_array_header_1_0(member, max_header_size=_NPY_HEADER_BYTES)
    elif version == (2, 0):
        shape, _, dtype = _npy.read_array_header_2_0(member, max_header_size=_NPY_HEADER_BYTES)
    else:
        raise ValueError(f"expected version 1.0 or 2.0 of NPY, got {version}")
    return shape, dtype
