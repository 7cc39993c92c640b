"""Labelled objects as lines of YOLO's label files, and back.

All coordinates are parts of the picture's width and height, from its corner: 0.5 0.5 is the middle. So they count from
the corner of the picture, as boxes do here.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from blendtorch.core.errors import ConfigurationError, DecodeError
from blendtorch.core.labels import Floats, LabelledObject

from blendtorch_yolo.polygons import filled, polygon_of

Task = Literal["detect", "segment", "pose"]
MOST_CLASSES = 10_000
_DIGITS = 8  # of a picture 10 000 pixels wide, 0.0001 px
_COLUMNS = {
    "detect": "class x y width height",
    "segment": "class x y x y x y ...",
    "pose": "class x y width height, and x y v of each keypoint",
}


def row_of(labelled: LabelledObject, task: Task, shape: tuple[int, int]) -> str:
    """Write an object of a picture of this height and width.

    Raises
    ------
    ConfigurationError
        If its category is too large a number, or it has no mask where one is needed.
    """
    if labelled.category_id > MOST_CLASSES:
        raise ConfigurationError(
            f"object {labelled.instance_id} has the category id {labelled.category_id}. YOLO's class is that less 1, and all "
            f"numbers below are classes too: use category ids up to {MOST_CLASSES}"
        )
    size = np.array(shape[::-1], np.float64)
    box = labelled.xyxy.reshape(2, 2) / size
    numbers = [box.mean(axis=0), box[1] - box[0]]
    if task == "segment":
        if labelled.mask is None:
            raise ConfigurationError("task segment needs the annotator instance_ids, for polygons around masks")
        numbers = [polygon_of(labelled.mask) / size]
    text = [str(labelled.category_id - 1), *(_text(each) for each in np.concatenate(numbers, axis=None).tolist())]
    if task == "pose":
        if labelled.keypoints is None or labelled.states is None:
            raise ConfigurationError("task pose needs the annotator keypoints")
        for (x, y), state in zip((labelled.keypoints / size).tolist(), labelled.states.tolist(), strict=True):
            text += [_text(x), _text(y), str(state)] if state > 0 else ["0", "0", "0"]
    return " ".join(text)


def objects_of(lines: Iterable[str], task: Task, shape: tuple[int, int], path: Path) -> list[LabelledObject]:
    """Read the lines of a file back.

    Raises
    ------
    DecodeError
        If a line is not of this task.
    """
    found = []
    for number, line in enumerate(lines, 1):
        try:
            category, values = int(line.split(maxsplit=1)[0]) + 1, np.array(line.split()[1:], np.float64)
            if category < 1 or not np.isfinite(values).all():
                raise ValueError
            found.append(_object(category, values, task, shape))
        except (ValueError, IndexError):
            raise DecodeError(f"{path}, line {number}: expected {_COLUMNS[task]}, got {line[:80]!r}") from None
    return found


def _object(category: int, values: Floats, task: Task, shape: tuple[int, int]) -> LabelledObject:
    size = np.array(shape[::-1], np.float64)
    if task == "segment":
        polygon = values.reshape(-1, 2) * size
        if len(polygon) < 3:
            raise ValueError
        box = np.concatenate([polygon.min(axis=0), polygon.max(axis=0)])
        return LabelledObject(category_id=category, xyxy=box, mask=filled(polygon, shape))
    if len(values) != 4 and (task == "detect" or len(values) < 4):
        raise ValueError
    center, half = values[:2] * size, values[2:4] * size / 2
    box = np.concatenate([center - half, center + half])
    if task == "detect":
        return LabelledObject(category_id=category, xyxy=box)
    points = values[4:].reshape(-1, 3)
    states = points[:, 2].astype(np.int8)
    xy = np.where(states[:, None] > 0, points[:, :2] * size, np.nan)
    return LabelledObject(category_id=category, xyxy=box, keypoints=xy, states=states)


def _text(value: float) -> str:
    return f"{value:.{_DIGITS}f}".rstrip("0").rstrip(".")
