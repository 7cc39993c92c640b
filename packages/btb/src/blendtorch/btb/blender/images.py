"""Image files, read by Blender: every format that it knows."""

from pathlib import Path
from typing import Any

import bpy
import numpy as np
import numpy.typing as npt
from blendtorch.core.errors import SceneError


def load_image(path: Path) -> Any:
    """Load and decode an image file.

    Returns
    -------
    bpy.types.Image
        Of its own, also where the scene has this file already.

    Raises
    ------
    SceneError
        If it cannot be decoded.
    """
    try:
        image = bpy.data.images.load(str(path))
    except RuntimeError as error:
        raise SceneError(f"{path} cannot be read: {error}") from None
    if min(image.size) == 0:  # asking for the size decodes it
        bpy.data.images.remove(image)
        raise SceneError(f"{path} is no image that Blender {bpy.app.version_string} can decode: remove it from the folder")
    return image


def free_image(image: Any) -> None:
    """Free the decoded pixels of an image, in memory and on the GPU; they are decoded again where they are needed."""
    image.gl_free()
    image.buffers_free()


def read_picture(path: Path, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Read an image file as a picture of a shape: scaled until it covers it, and cut to its middle.

    Parameters
    ----------
    path : Path
        Floating point images are encoded as sRGB; what lies outside 0 to 1 is clipped.
    shape : tuple of int
        Height and width in pixels.

    Returns
    -------
    ndarray, shape (height, width, 3), uint8
        Rows from the top.

    Raises
    ------
    SceneError
        If it cannot be decoded.
    """
    image = load_image(path)
    height, width = shape
    factor = max(height / image.size[1], width / image.size[0])
    image.scale(max(width, round(image.size[0] * factor)), max(height, round(image.size[1] * factor)))
    scaled_width, scaled_height = image.size
    pixels = np.empty(len(image.pixels), np.float32)
    image.pixels.foreach_get(pixels)
    encoded = not image.is_float
    bpy.data.images.remove(image)
    rows = pixels.reshape(scaled_height, scaled_width, -1)[::-1]  # Blender's rows come from the bottom
    top, left = (scaled_height - height) // 2, (scaled_width - width) // 2
    colors = rows[top : top + height, left : left + width, :3]
    colors = np.clip(np.broadcast_to(colors[..., :1], (*shape, 3)) if colors.shape[2] < 3 else colors, 0.0, 1.0)
    if not encoded:
        colors = np.where(colors <= 0.0031308, 12.92 * colors, 1.055 * colors ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(colors * 255), np.uint8)
