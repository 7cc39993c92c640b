"""What a data set says of a picture: its objects, in one form for every format.

`blendtorch.core.selection` makes them of samples, and writers that can be read back make them of their files: so the two can be
compared, whatever the format.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def _nothing() -> Floats:
    return np.full(4, np.nan)


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledObject:
    """One object of one picture.

    Attributes
    ----------
    category_id : int
        From 1; 0 where it has none.
    instance_id : int
        From 1, as in the sample; 0 where the format does not keep it.
    xyxy : ndarray, shape (4,), float64, px
        Box around what is seen of it, from the corner of the picture; NaN where the format has no boxes.
    mask : ndarray, shape (height, width), bool, or None
        The pixels that show it. None where nobody knows them.
    visibility : float
        The part of its pixels that nothing hides, 0 to 1; NaN where nobody knows.
    truncated : bool
        The border of the picture cuts it; False where nobody knows.
    ignored : str
        Why it is no label to learn from or to be judged by; empty where it is one.
    keypoints : ndarray, shape (K, 2), float64, px, or None
        From the corner of the picture; NaN for those that it does not have.
    states : ndarray, shape (K,), int8, or None
        COCO's v. 0: not labelled; 1: hidden; 2: visible.
    camera_from_object : ndarray, shape (4, 4), float64, or None
        Its pose: a rigid motion, translation in scene units.
    """

    category_id: int
    instance_id: int = 0
    xyxy: Floats = field(default_factory=_nothing)
    mask: npt.NDArray[np.bool_] | None = None
    visibility: float = np.nan
    truncated: bool = False
    ignored: str = ""
    keypoints: Floats | None = None
    states: npt.NDArray[np.int8] | None = None
    camera_from_object: Floats | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledPicture:
    """One picture with its objects.

    Attributes
    ----------
    camera : str
        Its name; empty for the first camera of a sample.
    image : ndarray, shape (height, width, 3 or 4), uint8
    objects : tuple of LabelledObject
        Those that the data set lists, the ignored ones too.
    left_out : mapping of str to int
        How many others there were, by the reason why they are not listed.
    K : ndarray, shape (3, 3), float64, px, or None
        The camera matrix, counting from the corner of the picture.
    split : str
        The part of the data set whose files it is in; empty where that has no parts.
    """

    camera: str
    image: npt.NDArray[np.uint8]
    objects: tuple[LabelledObject, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    K: Floats | None = None
    split: str = ""


def legend_of(sample: Mapping[str, Any]) -> dict[str, Any]:
    """Read what the labels of a sample are called.

    Parameters
    ----------
    sample : mapping
        As a dataset yields it.

    Returns
    -------
    dict
        `categories`, names by their ids as text, and for each annotator that says something what it says: of `keypoints`,
        `{"names": [...]}`. Empty for samples that do not say.

    Examples
    --------
    >>> legend_of({"meta": {"legend": '{"categories": {"1": "cube"}}'}})
    {'categories': {'1': 'cube'}}
    """
    text = sample.get("meta", {}).get("legend", "{}")
    legend: dict[str, Any] = msgspec.json.decode(text, type=dict[str, Any])
    return legend
