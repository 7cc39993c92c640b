"""Pictures and maps as PNG and JPEG files, for the browser."""

from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from blendtorch.btt.drawing import IDS, colored, id_colors
from blendtorch.btt.viewing.views import Array, View
from PIL import Image

PICTURE, THUMBNAIL = "picture", "thumbnail"  # beside the names of maps

_LOSSLESS_PIXELS = 2_000_000  # beyond, a PNG takes 0.1 s and 10 MB
_LARGEST = 1920  # edge of a map: it is a layer over the picture
_THUMBNAIL = 160


def encode(view: View, name: str) -> tuple[bytes, str]:
    """Make a file of a picture or of a map.

    Parameters
    ----------
    view : View
    name : str
        PICTURE, THUMBNAIL or that of a map.

    Returns
    -------
    content : bytes
    media_type : str

    Raises
    ------
    LookupError
        If the view has it not.
    """
    if name in (PICTURE, THUMBNAIL):
        if view.picture is not None:
            pixels = _bytes(view.picture)
        elif view.maps:
            pixels = _map(*next(iter(view.maps.values())))
        else:
            raise LookupError("the sample has no picture")
        if name == THUMBNAIL:
            step = max(1, max(pixels.shape[:2]) // (2 * _THUMBNAIL))
            image = Image.fromarray(pixels[::step, ::step]).convert("RGB")
            image.thumbnail((_THUMBNAIL, _THUMBNAIL))
            return _file(image, "JPEG", quality=80)
        if pixels.shape[0] * pixels.shape[1] > _LOSSLESS_PIXELS:
            return _file(Image.fromarray(pixels).convert("RGB"), "JPEG", quality=92)
        return _file(Image.fromarray(pixels), "PNG", compress_level=1)
    if name not in view.maps:
        raise LookupError(f"the sample has no map {name!r}")
    return _file(Image.fromarray(_map(*view.maps[name])), "PNG", compress_level=1)


def _file(image: Image.Image, kind: str, **options: Any) -> tuple[bytes, str]:
    content = BytesIO()
    image.save(content, kind, **options)
    return content.getvalue(), f"image/{kind.lower()}"


def _bytes(picture: Array) -> npt.NDArray[np.uint8]:
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[..., 0]
    if picture.dtype.kind == "f":
        picture = np.nan_to_num(np.clip(picture, 0, 1)) * 255 + 0.5
    elif picture.dtype != np.uint8:
        picture = picture >> 8 * (picture.dtype.itemsize - 1)
    return np.ascontiguousarray(picture, np.uint8)


def _map(kind: str, values: Array) -> npt.NDArray[np.uint8]:
    """Color a map; what belongs to nothing is transparent where it is about objects."""
    height, width = values.shape[-2:] if kind == "masks" else values.shape[:2]
    step = -(-max(height, width) // _LARGEST)
    if kind == "masks":
        values = _outlines(values.astype(bool))
        values, kind = values[::step, ::step], "instance_ids"
    else:
        values = values[::step, ::step]
    field = "backward" if kind == "flow" else kind
    colors = colored({kind: {field: values}}, kind)
    if kind in IDS:
        colors = np.concatenate([colors, (values > 0)[..., None]], axis=-1)
    return np.ascontiguousarray(colors * 255 + 0.5, np.uint8)


def _outlines(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Number the pixels at the edge of each mask, which may lie on each other."""
    ids = np.zeros(masks.shape[1:], np.int64)
    for number, mask in enumerate(masks, 1):
        padded = np.pad(mask, 1)
        inside = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        ids[mask & ~inside] = number
    return ids


@lru_cache(1000)
def hex_color(number: int) -> str:
    """Name the color of an id as browsers do.

    Examples
    --------
    >>> hex_color(1)
    '#1f77b4'
    """
    red, green, blue = np.round(id_colors(np.array([number]))[0] * 255).astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"
