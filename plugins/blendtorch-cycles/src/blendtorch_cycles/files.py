"""What Blender can only save: saved into memory where the system can, and read back."""

import os
import struct
import tempfile
from contextlib import suppress

import numpy as np
import numpy.typing as npt
from blendtorch.core.errors import SceneError


class MemoryFile:
    """A file without a name in any folder; where the system has none such, a temporary one.

    Attributes
    ----------
    path : str
        For Blender to write to.
    """

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):  # Linux
            self._descriptor = os.memfd_create("blendtorch-cycles")
            self.path = f"/proc/self/fd/{self._descriptor}"
        else:
            self._descriptor, self.path = tempfile.mkstemp(prefix="blendtorch-cycles")

    def read(self) -> bytes:
        """Return what was written."""
        with open(self.path, "rb") as file:  # noqa: PTH123 - anew: a writer may have replaced the file
            return file.read()

    def close(self) -> None:
        """Give the memory back."""
        os.close(self._descriptor)
        if not hasattr(os, "memfd_create"):
            with suppress(OSError):
                os.remove(self.path)  # noqa: PTH107


def read_targa(content: bytes) -> npt.NDArray[np.uint8]:
    """Decode an uncompressed Targa picture.

    Returns
    -------
    ndarray, shape (height, width, 3 or 4), uint8
        RGB or RGBA, row 0 on top.

    Raises
    ------
    SceneError
        If it is compressed, or something else.
    """
    id_length, _, kind, width, height, bits, flags = struct.unpack_from("<3B9x2H2B", content)
    if kind != 2 or bits not in (24, 32):
        raise SceneError(f"expected an uncompressed Targa picture with 24 or 32 bits per pixel, got type {kind} with {bits}")
    channels = bits // 8
    stored = np.frombuffer(content, np.uint8, height * width * channels, 18 + id_length).reshape(height, width, channels)
    rows = stored if flags & 0x20 else stored[::-1]
    return np.ascontiguousarray(rows[..., [2, 1, 0, 3][:channels]])


def read_openexr(content: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """Decode an OpenEXR picture of one part with uncompressed 32-bit channels.

    The format is described at https://openexr.com/en/latest/OpenEXRFileLayout.html.

    Returns
    -------
    dict of str to ndarray, shape (height, width), float32
        By the names of the channels; row 0 on top.

    Raises
    ------
    SceneError
        If it is something else.
    """
    magic, version = struct.unpack_from("<2I", content)
    if magic != 20000630 or version & 0x1A00:  # tiles, deep data, several parts
        raise SceneError("expected an OpenEXR picture of one part with scan lines")
    header, position = _openexr_header(content)
    names, types = _openexr_channels(header["channels"])
    if header["compression"] != b"\0" or header["lineOrder"] != b"\0" or set(types) != {2}:
        raise SceneError("expected an OpenEXR picture without compression, rows from the top, channels of 32-bit floats")
    left, top, right, bottom = struct.unpack("<4i", header["dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    rows = np.dtype([("y", "<i4"), ("size", "<i4"), ("channels", "<f4", (len(names), width))])
    lines = np.frombuffer(content, rows, height, position + 8 * height)  # after the table of where each line begins
    if not np.array_equal(lines["y"], np.arange(top, bottom + 1)):
        raise SceneError("expected an OpenEXR picture whose lines follow each other")
    return {name: lines["channels"][:, number] for number, name in enumerate(names)}


def _openexr_header(content: bytes) -> tuple[dict[str, bytes], int]:
    """Read the attributes of a header; returns where it ends, too."""
    attributes = {}
    position = 8
    while content[position]:
        name_end = content.index(b"\0", position)
        type_end = content.index(b"\0", name_end + 1)
        (size,) = struct.unpack_from("<i", content, type_end + 1)
        begin = type_end + 5
        attributes[content[position:name_end].decode()] = content[begin : begin + size]
        position = begin + size
    return attributes, position + 1


def _openexr_channels(attribute: bytes) -> tuple[list[str], list[int]]:
    names, types = [], []
    position = 0
    while attribute[position]:
        end = attribute.index(b"\0", position)
        names.append(attribute[position:end].decode())
        types.append(struct.unpack_from("<i", attribute, end + 1)[0])
        position = end + 17  # type, linearity, two samplings
    return names, types
