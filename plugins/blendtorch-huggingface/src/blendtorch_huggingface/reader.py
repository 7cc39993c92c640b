"""Rows as pictures with their objects."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from blendtorch.core.labels import LabelledObject, LabelledPicture

from blendtorch_huggingface.image_values import Array, from_image

LIMIT_BYTES = 2**31


def labelled(row: Mapping[str, Any], limit_bytes: int) -> LabelledPicture:
    """Make a picture of a row of a file.

    Raises
    ------
    ValueError, LookupError, TypeError, OSError
        If it is damaged, or an image is larger than allowed.
    """
    objects = row.get("objects") or {}
    ids = from_image(row["instance_ids"], limit_bytes) if row.get("instance_ids") else None
    K = row.get("camera_K")
    return LabelledPicture(
        camera=row["camera"],
        image=from_image(row["image"], limit_bytes),
        objects=tuple(_labelled(objects, number, ids) for number in range(len(objects.get("id", ())))),
        K=None if K is None else np.array(K, np.float64),
    )


def _labelled(objects: Mapping[str, Any], number: int, ids: Array | None) -> LabelledObject:
    def known(column: str) -> Any:
        values = objects.get(column)
        return None if values is None else values[number]

    left, top, width, height = known("bbox")
    visibility = known("visibility_fraction")
    arrays = {
        "keypoints": ("keypoints_xy", np.float64),
        "states": ("keypoints_state", np.int8),
        "camera_from_object": ("poses_camera_from_object", np.float64),
    }
    return LabelledObject(
        category_id=known("category_id"),
        instance_id=known("id"),
        xyxy=np.array([left, top, left + width, top + height], np.float64),
        mask=None if ids is None else ids == known("id"),
        visibility=np.nan if visibility is None else visibility,
        truncated=bool(known("visibility_truncated") or known("boxes2d_amodal_truncated") or known("boxes2d_loose_truncated")),
        ignored=known("ignored"),
        **{name: None if known(column) is None else np.array(known(column), dtype) for name, (column, dtype) in arrays.items()},
    )
