"""Labelled objects as COCO's annotations, and back.

Boxes and masks count from the corner of the picture. COCO's keypoints are pixels, counted from 0: a keypoint at 3 lies in the
middle of the fourth pixel, 3.5 from the corner. So half a pixel is taken off here, as Detectron2 for one adds it when it reads.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from blendtorch.core.errors import DecodeError
from blendtorch.core.labels import LabelledObject
from msgspec import UNSET

from blendtorch_coco.documents import Annotation, Rle

NO_CATEGORY = "no category: its category_id is 0"
_CENTER = 0.5  # px, of the first pixel from the corner
_DIGITS = 4  # of keypoints, px


def annotation_of(labelled: LabelledObject) -> Annotation:
    """Write an object of one picture."""
    box = labelled.xyxy
    bbox = (float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1]))
    made = Annotation(0, 0, labelled.category_id, bbox, bbox[2] * bbox[3], int(bool(labelled.ignored)))
    if labelled.mask is not None:
        _add_mask(made, labelled.mask)
    if labelled.keypoints is not None and labelled.states is not None:
        _add_keypoints(made, labelled.keypoints, labelled.states)
    made.ignored = labelled.ignored or UNSET
    made.instance_id = labelled.instance_id or UNSET
    made.visibility = UNSET if np.isnan(labelled.visibility) else round(labelled.visibility, 6)
    made.truncated = labelled.truncated
    return made


def object_of(annotation: Annotation, height: int, width: int) -> LabelledObject:
    """Read it back.

    Raises
    ------
    DecodeError
        If its mask is damaged or has another size than the picture; no memory was taken for it then.
    """
    x, y, across, down = annotation.bbox
    mask = None
    if annotation.segmentation is not UNSET:
        mask = _mask(annotation.segmentation, height, width)
    points = states = None
    if annotation.keypoints is not UNSET:
        if len(annotation.keypoints) % 3:
            raise DecodeError(f"annotation {annotation.id}: expected x, y, v of each keypoint, got {annotation.keypoints}")
        rows = np.array(annotation.keypoints).reshape(-1, 3)
        states = rows[:, 2].astype(np.int8)
        points = np.where(states[:, None] > 0, rows[:, :2] + _CENTER, np.nan)
    return LabelledObject(
        category_id=annotation.category_id,
        instance_id=annotation.instance_id or 0,
        xyxy=np.array([x, y, x + across, y + down]),
        mask=mask,
        visibility=np.nan if annotation.visibility is UNSET else annotation.visibility,
        truncated=bool(annotation.truncated),
        ignored=annotation.ignored or ("iscrowd" if annotation.iscrowd else ""),
        keypoints=points,
        states=states,
    )


def _add_mask(made: Annotation, mask: npt.NDArray[np.bool_]) -> None:
    packed: Any = _pycocotools().encode(np.asfortranarray(mask, np.uint8))
    made.segmentation = Rle((mask.shape[0], mask.shape[1]), packed["counts"].decode("ascii"))
    made.area = float(_pycocotools().area(packed))
    made.bbox = tuple(_pycocotools().toBbox(packed).tolist())


def _add_keypoints(made: Annotation, points: npt.NDArray[np.float64], states: npt.NDArray[np.int8]) -> None:
    made.keypoints = []
    for (x, y), state in zip(points.tolist(), states.tolist(), strict=True):
        made.keypoints += [round(x - _CENTER, _DIGITS), round(y - _CENTER, _DIGITS), state] if state > 0 else [0, 0, 0]
    made.num_keypoints = int((states > 0).sum())


def _mask(rle: Rle, height: int, width: int) -> npt.NDArray[np.bool_]:
    if rle.size != (height, width):
        raise DecodeError(f"expected a mask of {height} x {width}, got {rle.size}")
    counts = rle.counts.encode()
    try:
        mask: npt.NDArray[np.uint8] = _pycocotools().decode({"size": list(rle.size), "counts": counts})
    except Exception as error:  # what damaged text makes the library raise
        raise DecodeError(f"a mask cannot be read: {type(error).__name__}: {error}") from error
    if _pycocotools().encode(mask)["counts"] != counts:  # of runs that end too early it makes a mask too
        raise DecodeError(f"a mask cannot be read: its runs are not those of {height} x {width} pixels")
    return mask.astype(np.bool_)


def _pycocotools() -> Any:
    """Import it where it is needed: a Blender that is lent the plug-ins has none."""
    from pycocotools import mask

    return mask
