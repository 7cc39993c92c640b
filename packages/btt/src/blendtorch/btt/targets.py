"""Labels in the forms that models take."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from blendtorch.core.errors import ConfigurationError

Sample = Mapping[str, Any]


def torchvision(sample: Sample, boxes: str | None = None) -> dict[str, torch.Tensor]:
    """Make the target that torchvision's detection models take.

    Objects without a valid box, or whose box has no area, are left out.

    Parameters
    ----------
    sample : mapping
        One sample of `btt.stream`, not a batch.
    boxes : str, optional
        The annotator whose field `clipped` or `xyxy` has the boxes. Default: 'boxes2d_tight' where the sample has it, else
        'boxes2d_loose'.

    Returns
    -------
    dict of str to Tensor
        `boxes`, shape (M, 4), float32, xyxy in pixels, counting from the corner; `labels`, shape (M,), int64, the
        category ids, 0 is background; `masks`, shape (M, height, width), bool, of what is visible, where the sample has
        `instance_ids`; `keypoints`, shape (M, K, 3), float32, x, y and 1 for those in the picture, where it has `keypoints`.

    Raises
    ------
    ConfigurationError
        If the sample has no such boxes.

    Examples
    --------
    >>> objects = {"instance_id": np.array([1, 2]), "category_id": np.array([5, 6])}
    >>> loose = {"clipped": np.array([[1.0, 2, 3, 4], [np.nan] * 4]), "valid": np.array([True, False])}
    >>> torchvision({"objects": objects, "boxes2d_loose": loose})
    {'boxes': tensor([[1., 2., 3., 4.]]), 'labels': tensor([5])}
    """
    name = boxes or next((each for each in ("boxes2d_tight", "boxes2d_loose") if each in sample), "boxes2d_loose")
    if name not in sample:
        raise ConfigurationError(f"the sample has no boxes {name!r}: add the annotator; it has {', '.join(sample)}")
    fields = sample[name]
    xyxy = _array(fields["clipped" if "clipped" in fields else "xyxy"])
    keep = _array(fields["valid"]).astype(bool) & (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
    target = {
        "boxes": torch.as_tensor(xyxy[keep], dtype=torch.float32),
        "labels": torch.as_tensor(_array(sample["objects"]["category_id"])[keep], dtype=torch.int64),
    }
    if "instance_ids" in sample:
        ids = _array(sample["instance_ids"]["instance_ids"])
        wanted = _array(sample["objects"]["instance_id"])[keep]
        target["masks"] = torch.as_tensor(ids[None] == wanted[:, None, None])
    if "keypoints" in sample:
        xy, state = _array(sample["keypoints"]["xy"])[keep], _array(sample["keypoints"]["state"])[keep]
        inside = state > 0
        columns = [np.where(inside[..., None], xy, 0.0), inside[..., None]]
        target["keypoints"] = torch.as_tensor(np.concatenate(columns, axis=-1), dtype=torch.float32)
    return target


def _array(value: Any) -> Any:
    return value.numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
