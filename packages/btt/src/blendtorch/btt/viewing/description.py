"""What the page is told of a sample."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

import msgspec
import numpy as np
from blendtorch.btt.drawing import IDS
from blendtorch.btt.viewing.pictures import hex_color
from blendtorch.btt.viewing.shapes import Drawn, shapes_of
from blendtorch.btt.viewing.views import View, fields_of, views_of

_MOST_FIELDS, _MOST_OBJECTS = 400, 500
_META = ("seed", "episode", "frame", "index", "btid", "frameid")
_EXACT = 2**53  # a browser rounds larger numbers
_BOXES = ("boxes2d_tight", "boxes2d_loose", "boxes2d_amodal")


class MapView(msgspec.Struct, frozen=True, kw_only=True):
    """A map that can be laid over the picture; `over`: most of the picture can be seen through it."""

    name: str
    over: bool


class ObjectView(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the table of objects."""

    row: int
    id: int
    category: str
    color: str
    visibility: float | None
    box: list[float] | None


class CameraView(msgspec.Struct, frozen=True, kw_only=True):
    """A picture with its labels."""

    name: str
    width: int
    height: int
    maps: list[MapView]
    drawn: list[Drawn]
    objects: list[ObjectView]


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """A sample, without its pixels.

    Attributes
    ----------
    number : int
        By which its pictures are asked for.
    meta : dict of str to str
        Seed, episode, frame, index and btid, as far as it has them; as text, for numbers of a browser have 53 bits.
    drawn, versions : object
        What randomizers drew, and by which software, as trees.
    views : list of CameraView
    fields : list of tuple of str
        Place, type and short value of all that it has.
    """

    number: int
    meta: dict[str, str]
    drawn: Any
    versions: Any
    views: list[CameraView]
    fields: list[tuple[str, str, str]]


def describe(number: int, sample: Mapping[str, Any], categories: Mapping[int, str]) -> Description:
    """Describe a sample; what it says itself of its categories goes before `categories`."""
    given = sample.get("meta")
    meta = given if isinstance(given, Mapping) else {key: sample[key] for key in ("btid", "frameid") if key in sample}
    legend = _tree(meta.get("legend"))
    own = legend.get("categories") if isinstance(legend, dict) else None
    if isinstance(own, dict):
        categories = {**categories, **{int(number): str(name) for number, name in own.items() if number.isdecimal()}}
    return Description(
        number=number,
        meta={key: str(meta[key]) for key in _META if isinstance(meta.get(key), (int, float, np.number))},
        drawn=_tree(meta.get("drawn")),
        versions=_tree(meta.get("versions")),
        views=[_describe_view(view, sample, categories) for view in views_of(sample)],
        fields=list(islice(fields_of(sample), _MOST_FIELDS)),
    )


def _describe_view(view: View, sample: Mapping[str, Any], categories: Mapping[int, str]) -> CameraView:
    height, width = view.size
    return CameraView(
        name=view.name,
        width=width,
        height=height,
        maps=[MapView(name=name, over=kind in (*IDS, "masks")) for name, (kind, _) in view.maps.items()],
        drawn=shapes_of(view),
        objects=_objects(view, view.values.get("objects", sample.get("objects")), categories),
    )


def _objects(view: View, rows: Any, categories: Mapping[int, str]) -> list[ObjectView]:
    ids, numbers = (_column(rows, name) for name in ("instance_id", "category_id"))
    fractions = _column(view.values.get("visibility"), "fraction")
    boxes = next((box for box in map(view.values.get, _BOXES) if isinstance(box, Mapping)), {})
    corners = boxes.get("xyxy", boxes.get("clipped"))
    fits = isinstance(corners, np.ndarray) and corners.ndim == 2 and corners.shape[1] == 4
    count = len(ids) or (len(corners) if isinstance(corners, np.ndarray) and fits else 0)
    found = []
    for row in range(min(count, _MOST_OBJECTS)):
        number = int(numbers[row]) if row < len(numbers) else 0
        box = corners[row] if isinstance(corners, np.ndarray) and fits and row < len(corners) else None
        found.append(
            ObjectView(
                row=row,
                id=int(ids[row]) if row < len(ids) else row + 1,
                category=categories.get(number, str(number) if number else ""),
                color=hex_color(row + 1),
                visibility=float(fractions[row]) if row < len(fractions) and np.isfinite(fractions[row]) else None,
                box=np.round(box, 1).tolist() if box is not None and np.isfinite(box).all() else None,
            )
        )
    return found


def _column(label: Any, name: str) -> Any:
    """Give a column of numbers, empty where there is none."""
    values = label.get(name) if isinstance(label, Mapping) else None
    return values if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "iuf" else np.empty(0)


def _tree(value: Any) -> Any:
    """Read JSON that a sample has as text; what is none stays text."""
    try:
        return _exact(msgspec.json.decode(value)) if isinstance(value, str) else None
    except msgspec.DecodeError:
        return value


def _exact(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _exact(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_exact(each) for each in value]
    return str(value) if isinstance(value, int) and abs(value) > _EXACT else value
