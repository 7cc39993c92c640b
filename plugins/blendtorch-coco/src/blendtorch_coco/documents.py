"""The parts of COCO's JSON, typed: what is written of a picture, and what is read of it."""

from pathlib import Path

import msgspec
from blendtorch.core.errors import DecodeError
from blendtorch.core.selection import check_part
from msgspec import UNSET, UnsetType


class Rle(msgspec.Struct):
    """A mask as pycocotools packs it.

    Attributes
    ----------
    size : tuple of int
        Height and width.
    counts : str
        The lengths of runs down the columns, packed into ASCII.
    """

    size: tuple[int, int]
    counts: str


class Image(msgspec.Struct):
    """A picture.

    Attributes
    ----------
    id : int
        From 1; 0 until all samples are there.
    file_name : str
        In the folder `images`.
    width, height : int
    camera : str
        Of the sample; empty for its first. COCO does not know it.
    sample : int
        Its index. COCO does not know it.
    """

    id: int
    file_name: str
    width: int
    height: int
    camera: str
    sample: int

    def __post_init__(self) -> None:
        """Refuse a file that is elsewhere."""
        if Path(self.file_name).name != self.file_name:
            raise ValueError(f"file_name is {self.file_name[:80]!r}: expected one in the folder images")


class Annotation(msgspec.Struct):
    """An object in a picture. The last four are not COCO's.

    Attributes
    ----------
    id, image_id : int
        From 1; 0 until all samples are there.
    category_id : int
    bbox : tuple of float, px
        x, y, width, height, from the corner of the picture.
    area : float, px^2
        Of the mask; of the box where there is none.
    iscrowd : int
        1 for an object that is ignored.
    segmentation : Rle
    keypoints : list of float, v as int
        x, y, v of each, counted from the centre of the first pixel.
    num_keypoints : int
        Those with a v above 0.
    ignored : str
        Why.
    instance_id : int
    visibility : float
    truncated : bool
    """

    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float
    iscrowd: int
    segmentation: Rle | UnsetType = UNSET
    keypoints: list[int | float] | UnsetType = UNSET
    num_keypoints: int | UnsetType = UNSET
    ignored: str | UnsetType = UNSET
    instance_id: int | UnsetType = UNSET
    visibility: float | UnsetType = UNSET
    truncated: bool | UnsetType = UNSET


class Category(msgspec.Struct):
    """A category.

    Attributes
    ----------
    id : int
        From 1.
    name, supercategory : str
    keypoints : list of str
        Their names.
    skeleton : list of pairs of int
        Keypoints that a bone joins, counted from 1.
    """

    id: int
    name: str
    supercategory: str = "object"
    keypoints: list[str] | UnsetType = UNSET
    skeleton: list[tuple[int, int]] | UnsetType = UNSET


class Picture(msgspec.Struct):
    """A picture with its objects, and how many others there were, by the reason why they are left out."""

    image: Image
    annotations: list[Annotation]
    left_out: dict[str, int]


class Document(msgspec.Struct, kw_only=True):
    """What is kept of a sample until all are there.

    Attributes
    ----------
    part : str
        Of the data set: `train`.
    pictures : list of Picture
        One for each camera.
    keypoints : list of str
        Their names; None without keypoints.
    skeleton : list of pairs of int
        Keypoints that a bone joins, counted from 1.
    """

    part: str
    pictures: list[Picture]
    keypoints: list[str] | None = None
    skeleton: list[tuple[int, int]] = []

    def __post_init__(self) -> None:
        """Refuse a part that is elsewhere."""
        check_part(self.part)


def read_document(content: bytes, index: int) -> Document:
    """Read what is kept of a sample.

    Raises
    ------
    DecodeError
    """
    try:
        return msgspec.json.decode(content, type=Document)
    except msgspec.MsgspecError as error:
        raise DecodeError(f"the document of sample {index} cannot be read: {error}") from None
