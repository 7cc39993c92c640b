"""Pixels as BOP has them: PNG files, depths of 16 bits, boxes, run lengths of masks.

Pillow is imported inside functions: a Blender that is lent the plug-ins has none.
"""

import math
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from blendtorch.core.errors import DecodeError

Mask = npt.NDArray[np.bool_]
NOTHING = [-1, -1, -1, -1]  # a box around no pixel
_STEPS = 2**16 - 1
_FINEST_MM = 0.1  # what BOP data sets have: half of it is what a depth may be off


def encode_png(pixels: npt.NDArray[Any], level: int) -> bytes:
    """Make a PNG file of uint8 or uint16."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", compress_level=level)
    return file.getvalue()


def decode_png(content: bytes, mode: str, size: tuple[int, int] | None = None) -> npt.NDArray[Any]:
    """Read a PNG file of one of Pillow's modes, and of a width and height where they are known.

    Raises
    ------
    DecodeError
        If it is something else.
    """
    from PIL import Image

    try:
        with Image.open(BytesIO(content), formats=["PNG"]) as image:
            if image.mode == mode and size in (None, image.size):
                return np.array(image)
            found = f"{image.mode} {image.size}"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        found = str(error)
    raise DecodeError(f"expected a PNG of mode {mode}{f' {size}' if size else ''}, got {found}")


def depth_scale_for(depth_mm: npt.NDArray[Any]) -> float:
    """Choose a scale that reaches the farthest surface of a map: 0.1, 1, 10, ...; few, so that most data sets have one.

    Examples
    --------
    >>> [depth_scale_for(np.array([far, np.inf])) for far in (0, 6553.5, 6553.6, 65536)]
    [0.1, 0.1, 1.0, 10.0]
    """
    finite = depth_mm[np.isfinite(depth_mm)]
    needed = max(float(finite.max(initial=0)) / _STEPS, _FINEST_MM)
    return float(f"1e{math.ceil(math.log10(needed) - 1e-12)}")


def to_steps(depth_mm: npt.NDArray[Any], scale: float) -> tuple[npt.NDArray[np.uint16], int]:
    """Write a map of depths in steps of `scale`.

    Returns
    -------
    steps : ndarray, shape (height, width), uint16
        The nearest ones; 0 where nothing is, or what is farther than 65535 steps.
    too_far : int
        How many pixels are 0 because they are too far.
    """
    hit = np.isfinite(depth_mm) & (depth_mm > 0)
    steps = np.round(np.divide(depth_mm, scale, out=np.zeros(depth_mm.shape), where=hit))
    beyond = steps > _STEPS
    steps[hit & (steps < 1)] = 1  # 0 would say that nothing is there
    steps[beyond] = 0
    return steps.astype(np.uint16), int(np.count_nonzero(beyond))


def last_pixel_box(mask: Mask) -> list[int]:
    """Return the box of BOP's scene_gt_info: first column and row, and how many steps from there to the last.

    Examples
    --------
    >>> last_pixel_box(np.array([[0, 1, 1], [0, 0, 0]], bool))
    [1, 0, 1, 0]
    """
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return NOTHING
    return [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0]), int(rows[-1] - rows[0])]


def run_lengths(mask: Mask) -> list[int]:
    """Count how many pixels in turn are outside and inside, column after column, as COCO does.

    Examples
    --------
    >>> run_lengths(np.array([[0, 1], [1, 1]], bool)), run_lengths(np.array([[1, 0]], bool))
    ([1, 3], [0, 1, 1])
    """
    pixels = np.concatenate([[False], mask.ravel(order="F")])
    changes = np.flatnonzero(pixels[1:] != pixels[:-1])
    return [int(each) for each in np.diff(changes, prepend=0, append=mask.size)]
