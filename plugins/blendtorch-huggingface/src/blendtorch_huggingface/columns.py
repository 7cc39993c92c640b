"""Rows of a table, one for each picture, and the features of its columns, as `datasets.Features.to_dict` writes them."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
from blendtorch.core.errors import PluginError
from blendtorch.core.labels import LabelledPicture
from blendtorch.core.selection import BOXES, LabelOptions, pictures_of, views

from blendtorch_huggingface.image_values import Array, is_picture, to_image

Feature = dict[str, Any]
IMAGE: Feature = {"_type": "Image"}
_KINDS = "biufUSM"
# What `objects` says otherwise: in `bbox`, in `ignored`, and by listing an object.
_SAID = {
    "boxes2d_tight_xyxy",
    *(f"{name}_{field}" for name in ("boxes2d_tight", "instance_ids") for field in ("valid", "exact")),
}
_SHARED = {"skeleton", "flip"}  # of keypoints: they are the same for all objects, however many there are
_META = {"index": "int64", "seed": "int64", "episode": "int64", "frame": "int64", "drawn": "string"}


def value(dtype: str, axes: int = 0) -> Feature:
    """Describe numbers or text, in as many lists as there are axes."""
    feature: Feature = {"dtype": dtype, "_type": "Value"}
    for _ in range(axes):
        feature = {"feature": feature, "_type": "List"}
    return feature


class Rows:
    """The rows of a sample.

    Parameters
    ----------
    sample : mapping
        As a dataset yields it.
    options : LabelOptions
    png_level : int

    Attributes
    ----------
    features : dict
        Of all columns, by their names; those of the objects in `objects`.
    rows : list of dict
        One for each camera. Columns that a camera does not have are missing.
    left_out : list of dict
        For each row, how many objects are not listed, by reason.

    Raises
    ------
    PluginError
        If it holds what cannot be kept; names the place.
    """

    def __init__(self, sample: Mapping[str, Any], options: LabelOptions, png_level: int) -> None:
        self._png_level = png_level
        self._name = f"{int(sample['meta']['index']):06}"
        self.features: dict[str, Any] = {"image": IMAGE, "camera": value("string")}
        by_name, pictures = views(sample), pictures_of(sample, options)
        self.rows = [self._row(sample, picture, by_name[picture.camera]) for picture in pictures]
        self.left_out = [dict(picture.left_out) for picture in pictures]

    def _row(self, sample: Mapping[str, Any], picture: LabelledPicture, view: Mapping[str, Any]) -> dict[str, Any]:
        name = ".".join(filter(None, [self._name, picture.camera]))
        row: dict[str, Any] = {"image": to_image(picture.image, name, self._png_level), "camera": picture.camera}
        for column, dtype in _META.items():
            if column in sample["meta"]:
                self._add(row, column, value(dtype), sample["meta"][column])
        listed = BOXES & set(view)
        instances = np.asarray(sample["objects"]["instance_id"]).tolist() if listed else []
        numbers = [instances.index(each.instance_id) for each in picture.objects]
        if listed:
            row["objects"] = self._objects(picture)
        cameras = set(views(view)) - {""}
        others = {key: each for key, each in view.items() if key not in ({"image", "objects", "meta"} | cameras)}
        for column, each, labels in _flat(others, (), False):
            if isinstance(each, np.ndarray):
                own = (
                    labels
                    and listed
                    and each.ndim
                    and len(each) == len(instances)
                    and each.shape[:2] != picture.image.shape[:2]
                )
                if own and column not in _SAID:
                    self._per_object(row, column, each[numbers], picture)
                elif not own:
                    self._add(row, column, *self._value(column, each, picture, name))
            else:
                self._add(row, column, value("string"), each)
        return row

    def _add(
        self, row: dict[str, Any], column: str, feature: Feature, content: Any, features: dict[str, Any] | None = None
    ) -> None:
        features = self.features if features is None else features
        if column in row:
            raise PluginError(f"two values of the sample are called {column}: rename an annotator with `as`")
        if features.setdefault(column, feature) != feature:
            raise PluginError(f"column {column} is {features[column]} for one camera, and {feature} for another")
        row[column] = content

    def _objects(self, picture: LabelledPicture) -> dict[str, Any]:
        objects: dict[str, Any] = {}
        features = self.features.setdefault("objects", {})
        boxes = [each.xyxy.tolist() for each in picture.objects]
        areas = [
            (right - left) * (bottom - top) if each.mask is None else float(np.count_nonzero(each.mask))
            for (left, top, right, bottom), each in zip(boxes, picture.objects, strict=True)
        ]
        for column, feature, content in (
            ("id", value("int64", 1), [each.instance_id for each in picture.objects]),
            ("category_id", value("int64", 1), [each.category_id for each in picture.objects]),
            ("bbox", value("float64", 2), [[left, top, right - left, bottom - top] for left, top, right, bottom in boxes]),
            ("area", value("float64", 1), areas),
            ("iscrowd", value("int64", 1), [int(bool(each.ignored)) for each in picture.objects]),
            ("ignored", value("string", 1), [each.ignored for each in picture.objects]),
        ):
            self._add(objects, column, feature, content, features)
        return objects

    def _per_object(self, row: dict[str, Any], column: str, listed: Array, picture: LabelledPicture) -> None:
        if listed.shape[1:] == picture.image.shape[:2]:
            # Beside the objects: with images in it, their lists of lists have no numpy or torch format (datasets 5.2).
            images = [self._image(each, f"{self._name}.{column}.{number}") for number, each in enumerate(listed)]
            self._add(row, column, {"feature": IMAGE, "_type": "List"}, images)
        else:
            feature = value(_dtype(listed, column), listed.ndim)
            self._add(row["objects"], column, feature, listed.tolist(), self.features["objects"])

    def _value(self, column: str, array: Array, picture: LabelledPicture, name: str) -> tuple[Feature, Any]:
        if array.ndim >= 2 and array.shape[:2] == picture.image.shape[:2]:
            if is_picture(array):
                return IMAGE, self._image(array, f"{name}.{column}")
            if array.dtype == np.float32 and array.ndim == 3:
                channels = [self._image(array[..., number], f"{name}.{column}.{number}") for number in range(array.shape[2])]
                return {"feature": IMAGE, "_type": "List"}, channels
        return value(_dtype(array, column), array.ndim), array.tolist()

    def _image(self, array: Array, name: str) -> dict[str, Any]:
        try:
            return to_image(array, name, self._png_level)
        except ValueError as error:
            raise PluginError(str(error)) from None


def _dtype(array: Array, column: str) -> str:
    if array.dtype.kind not in _KINDS:
        raise PluginError(f"{column}: an array of {array.dtype} cannot be kept")
    return "string" if array.dtype.kind == "U" else str(array.dtype.newbyteorder("="))


def _flat(values: Mapping[str, Any], place: tuple[str, ...], labels: bool) -> Iterator[tuple[str, Any, bool]]:
    """Go through what is in a mapping: the name of its column, an array or text, and whether it is a label of objects.

    Those are beside `valid`. A field that is called as its annotator is named once.
    """
    for key, each in values.items():
        names = place if place[-1:] == (key,) else (*place, key)
        if isinstance(each, Mapping):
            yield from _flat(each, names, "valid" in each)
        elif hasattr(each, "__array__") or isinstance(each, (bool, int, float)):
            yield "_".join(names), np.asarray(each), labels and key not in _SHARED
        else:
            yield "_".join(names), each if isinstance(each, str) else _text(each, "_".join(names)), labels


def _text(each: Any, column: str) -> str:
    def plain(inner: Any) -> Any:
        if hasattr(inner, "__array__"):
            return np.asarray(inner).tolist()
        raise PluginError(f"{column}: a {type(inner).__name__} cannot be kept")

    return msgspec.json.encode(each, enc_hook=plain).decode()
