"""What the JSON of a sample says of the objects of a picture, for people and for programs, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from blendtorch.core.labels import LabelledObject, LabelledPicture

from blendtorch_webdataset.array_members import Array


def describe(picture: LabelledPicture, categories: Mapping[str, str]) -> dict[str, Any]:
    """Describe a picture and its objects in values of JSON; what is not known is left out."""
    return {
        "height": picture.image.shape[0],
        "width": picture.image.shape[1],
        "K": None if picture.K is None else _lists(picture.K),
        "objects": [_describe(each, categories) for each in picture.objects],
        "left_out": dict(picture.left_out),
    }


def _describe(each: LabelledObject, categories: Mapping[str, str]) -> dict[str, Any]:
    left, top, right, bottom = each.xyxy.tolist()
    known: dict[str, Any] = {
        "instance_id": each.instance_id,
        "category_id": each.category_id,
        "category": categories.get(str(each.category_id), ""),
        "bbox": [left, top, right - left, bottom - top],
        "area": (right - left) * (bottom - top) if each.mask is None else int(np.count_nonzero(each.mask)),
        "truncated": each.truncated,
        "ignored": each.ignored,
    }
    if not np.isnan(each.visibility):
        known["visibility"] = each.visibility
    if each.keypoints is not None and each.states is not None:
        known["keypoints"] = [[*xy, state] for xy, state in zip(_lists(each.keypoints), each.states.tolist(), strict=True)]
    if each.camera_from_object is not None:
        known["camera_from_object"] = _lists(each.camera_from_object)
    return known


def _lists(array: Array) -> Any:
    """Write null for NaN."""
    values = array.astype(object)
    values[np.isnan(array)] = None
    return values.tolist()


def labelled(camera: str, view: Mapping[str, Any], described: Mapping[str, Any]) -> LabelledPicture:
    """Make a picture again of its description, and of the arrays of its view."""
    ids = view.get("instance_ids", {}).get("instance_ids")
    K = described.get("K")
    return LabelledPicture(
        camera=camera,
        image=view["image"],
        objects=tuple(_labelled(each, ids) for each in described.get("objects", ())),
        left_out=described.get("left_out", {}),
        K=None if K is None else np.array(K, np.float64),
    )


def _labelled(known: Mapping[str, Any], ids: Array | None) -> LabelledObject:
    left, top, width, height = known["bbox"]
    keypoints, pose = known.get("keypoints"), known.get("camera_from_object")
    return LabelledObject(
        category_id=known["category_id"],
        instance_id=known["instance_id"],
        xyxy=np.array([left, top, left + width, top + height], np.float64),
        mask=None if ids is None else ids == known["instance_id"],
        visibility=known.get("visibility", np.nan),
        truncated=known["truncated"],
        ignored=known["ignored"],
        keypoints=None if keypoints is None else np.array([each[:2] for each in keypoints], np.float64).reshape(-1, 2),
        states=None if keypoints is None else np.array([each[2] for each in keypoints], np.int8),
        camera_from_object=None if pose is None else np.array(pose, np.float64),
    )
