"""Pictures as the bytes of PNG files, and back.

Pillow is imported inside functions: a Blender that is lent the plug-ins has none.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
import numpy.typing as npt
from blendtorch.core.errors import DecodeError


def encode(image: npt.NDArray[np.uint8], level: int) -> bytes:
    """Make the content of a PNG file."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(image)).save(file, "PNG", compress_level=level)
    return file.getvalue()


def read(path: Path, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Read a picture of this size.

    Raises
    ------
    DecodeError
        If it is damaged, or has another size. No memory was taken for it then.
    FileNotFoundError
        If it is not there.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.size != (width, height) or image.mode not in ("RGB", "RGBA"):
                raise DecodeError(f"{path}: expected {width} x {height} RGB or RGBA, got {image.size} {image.mode}")
            return np.array(image)
    except (DecodeError, FileNotFoundError):
        raise
    except Exception as error:  # what damaged bytes make the library raise
        raise DecodeError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
