"""What is to be known of each picture of a data set, once it is read: few bytes, whatever its size."""

import hashlib
from collections.abc import Iterator

import msgspec
import numpy as np
import numpy.typing as npt
from blendtorch.core.labels import LabelledObject, LabelledPicture

GRID = 16  # cells of a thumbnail, across and down
_OUTSIDE_PX = 0.01  # what digits of a text file make of a box at the border
_OFF_MASK_PX = 1.5  # what polygons make of masks
_DARK, _BRIGHT = 8, 254  # levels
_BURNT_OUT = 0.5  # of the pixels
_FLAT = 2  # levels

BLACK, ONE_COLOR, BURNT_OUT = "black", "of one colour", "burnt out: half of it is white"
OUTSIDE, NO_AREA, OFF_MASK = "boxes outside of the picture", "boxes without area", "boxes that are not those of their masks"


class ObjectFacts(msgspec.Struct, frozen=True):
    """What is to be known of an object.

    Attributes
    ----------
    name : str
        For people: its instance id, or its place.
    category_id : int
    area : float
        Pixels of its mask, or of its box where it has none; NaN where it has neither.
    share : float
        The same, of the picture.
    visibility : float
        NaN where nobody knows.
    truncated : bool
        The border of the picture cuts it, as the data say, or its box touches the border.
    ignored : str
    wrong : dict of str to str
        What cannot be right, by its kind: in words.
    """

    name: str
    category_id: int
    area: float
    share: float
    visibility: float
    truncated: bool
    ignored: str
    wrong: dict[str, str]


class PictureFacts(msgspec.Struct, frozen=True):
    """What is to be known of a picture.

    Attributes
    ----------
    index : int
        Of the sample.
    camera, split : str
    digest : bytes
        A hash of its pixels.
    thumbnail : bytes
        `GRID` x `GRID` means of brightness, float32.
    bad : str
        What it shows nothing by; empty for most.
    objects : tuple of ObjectFacts
    left_out : dict of str to int
    """

    index: int
    camera: str
    split: str
    digest: bytes
    thumbnail: bytes
    bad: str
    objects: tuple[ObjectFacts, ...]
    left_out: dict[str, int]

    @property
    def name(self) -> str:
        """For people."""
        return f"sample {self.index}, {self.camera}" if self.camera else f"sample {self.index}"


class SampleFacts(msgspec.Struct, frozen=True):
    """What is to be known of a sample.

    Attributes
    ----------
    index : int
    pictures : tuple of PictureFacts
    error : str
        Why it could not be read; empty where it was.
    """

    index: int
    pictures: tuple[PictureFacts, ...] = ()
    error: str = ""


def facts_of(index: int, picture: LabelledPicture) -> PictureFacts:
    """Look at a picture.

    Parameters
    ----------
    index : int
        Of its sample.
    picture : LabelledPicture

    Examples
    --------
    >>> picture = LabelledPicture(camera="", image=np.zeros((48, 64, 3), np.uint8))
    >>> facts_of(7, picture).name, facts_of(7, picture).bad
    ('sample 7', 'black')
    """
    image = np.ascontiguousarray(picture.image)
    small = thumbnail(image)
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(image.data)
    return PictureFacts(
        index=index,
        camera=picture.camera,
        split=picture.split,
        digest=digest.digest()[:16],
        thumbnail=small.tobytes(),
        bad=_bad(image, small),
        objects=tuple(_object_facts(each, image.shape[0], image.shape[1]) for each in picture.objects),
        left_out=dict(picture.left_out),
    )


def thumbnail(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Reduce a picture to the mean brightness of each cell of a grid.

    Parameters
    ----------
    image : ndarray, shape (height, width, 3 or 4), uint8

    Returns
    -------
    ndarray, shape (GRID * GRID,), float32
        0 to 255.

    Examples
    --------
    >>> halves = np.repeat(np.uint8([[[0] * 3], [[100] * 3]]), 24, axis=0).repeat(64, axis=1)
    >>> thumbnail(halves).reshape(GRID, GRID)[[0, 7, 8], 0].tolist()
    [0.0, 0.0, 100.0]
    """
    red, green, blue = (image[..., channel].astype(np.float32) for channel in range(3))  # a sum over the last axis is slow
    sums: npt.NDArray[np.float32] = (red + green + blue) / 3
    for axis, size in enumerate(sums.shape):
        begins = np.arange(GRID) * size // GRID
        lengths = np.maximum(np.diff(begins, append=size), 1).astype(np.float32)
        sums = np.add.reduceat(sums, begins, axis=axis) / (lengths[:, None] if axis == 0 else lengths)
    return sums.ravel()


def name_of(labelled: LabelledObject) -> str:
    """Name an object for people, by its instance id where the format keeps it, else by its place."""
    if labelled.instance_id:
        return f"object {labelled.instance_id}"
    if not np.isfinite(labelled.xyxy).all():
        return "an object"
    x, y = (labelled.xyxy[:2] + labelled.xyxy[2:]) / 2
    return f"the object at ({x:.0f}, {y:.0f})"


def area_of(labelled: LabelledObject) -> float:
    """Count the pixels of its mask, or of its box where it has none: in pixels, NaN where it has neither."""
    if labelled.mask is not None:
        return float(np.count_nonzero(labelled.mask))
    return float(np.prod(labelled.xyxy[2:] - labelled.xyxy[:2]))


def box_of(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Draw the tight box around a mask, shape (4,), float64, px; NaN for an empty one."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return np.full(4, np.nan)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)


def _object_facts(labelled: LabelledObject, height: int, width: int) -> ObjectFacts:
    area = area_of(labelled)
    border = np.array([0, 0, -width, -height])
    known = np.isfinite(labelled.xyxy).all()
    touches = bool(known and (np.array([1, 1, -1, -1]) * (labelled.xyxy + border) <= _OUTSIDE_PX).any())
    return ObjectFacts(
        name=name_of(labelled),
        category_id=labelled.category_id,
        area=area,
        share=area / (height * width),
        visibility=float(labelled.visibility),
        truncated=labelled.truncated or touches,
        ignored=labelled.ignored,
        wrong=dict(_wrong(labelled, width, height)) if known else {},
    )


def _wrong(labelled: LabelledObject, width: int, height: int) -> Iterator[tuple[str, str]]:
    x0, y0, x1, y1 = labelled.xyxy.tolist()
    if x1 <= x0 or y1 <= y0:
        yield NO_AREA, f"its box is {written(labelled.xyxy)}"
    elif min(x0, y0) < -_OUTSIDE_PX or x1 > width + _OUTSIDE_PX or y1 > height + _OUTSIDE_PX:
        yield OUTSIDE, f"its box is {written(labelled.xyxy)}, the picture {width} x {height}"
    if labelled.mask is None:
        return
    if labelled.mask.shape != (height, width):
        yield OFF_MASK, f"its mask is {labelled.mask.shape[1]} x {labelled.mask.shape[0]}, the picture {width} x {height}"
        return
    tight = box_of(labelled.mask)
    if not np.abs(tight - labelled.xyxy).max() <= _OFF_MASK_PX:  # also where the mask is empty, and this NaN
        around = written(tight) if np.isfinite(tight).all() else "empty"
        yield OFF_MASK, f"its box is {written(labelled.xyxy)}, its mask {around}"


def written(box: npt.NDArray[np.float64]) -> str:
    """Write a box for people."""
    return "[" + " ".join(f"{value:.4g}" for value in box) + "]"


def _bad(image: npt.NDArray[np.uint8], small: npt.NDArray[np.float32]) -> str:
    """Look at the thumbnail first: most pictures need no second look."""
    colors = image[..., :3]
    if small.max() <= _DARK and colors.max() <= _DARK:
        return BLACK
    if np.ptp(small) <= _FLAT and (colors.max(axis=(0, 1)) - colors.min(axis=(0, 1))).max() <= _FLAT:
        return ONE_COLOR
    if small.mean() >= _BURNT_OUT * _BRIGHT and float((colors >= _BRIGHT).all(axis=-1).mean()) >= _BURNT_OUT:
        return BURNT_OUT
    return ""
