from typing import Annotated, Any

import msgspec
import numpy as np
import pytest
from blendtorch.core import ArraySpec, Payload
from blendtorch.core.errors import PayloadError


class Sample(msgspec.Struct):
    image: Annotated[np.ndarray, ArraySpec("uint8", ("height", "width", 3))]
    depth: Annotated[np.ndarray, ArraySpec("float32", ("height", "width"), unit="m")]
    frameid: int
    note: str = ""


GOOD = {"image": np.zeros((4, 6, 3), np.uint8), "depth": np.zeros((4, 6), np.float32), "frameid": 1}


def test_what_fits_passes():
    Payload(Sample).check(GOOD)
    Payload(Sample).check({**GOOD, "note": "x"})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"image": np.zeros((4, 6, 4), np.uint8)}, r"Sample.image: expected uint8 \(height, width, 3\), got uint8 \(4, 6, 4\)"),
        ({"depth": np.zeros((4, 6))}, r"Sample.depth: expected float32 \(height, width\) in m, got float64 \(4, 6\)"),
        ({"depth": np.zeros((5, 6), np.float32)}, r"Sample.depth: .* in m with height 4, got float32 \(5, 6\)"),
        ({"image": [1]}, "got list"),
        ({"frameid": "1"}, "Sample.frameid: Expected `int`, got `str`"),
        ({"extra": 1}, "unknown field 'extra'; it has image, depth, frameid, note"),
    ],
)
def test_what_does_not_fit_is_named(change, text):
    with pytest.raises(PayloadError, match=text):
        Payload(Sample).check({**GOOD, **change})


def test_missing_fields_are_named():
    with pytest.raises(PayloadError, match="Sample.image: missing"):
        Payload(Sample).check({"frameid": 1})


def test_arrays_must_be_declared():
    class Loose(msgspec.Struct):
        image: np.ndarray

    with pytest.raises(PayloadError, match="Loose.image: say what the array holds"):
        Payload(Loose)
    with pytest.raises(PayloadError, match="payload type"):
        Payload(dict)


XY = Annotated[np.ndarray, ArraySpec("float64", ("points", 2), unit="px")]


class Camera(msgspec.Struct):
    K: Annotated[np.ndarray, ArraySpec("float64", (3, 3), unit="px")]
    name: str = "camera"


class Part(msgspec.Struct):
    xy: XY
    depth: Annotated[np.ndarray, ArraySpec("float64", ("points",), unit="m")] | None = None


class Scene(msgspec.Struct):
    camera: Camera
    parts: list[Part]
    masks: dict[str, Annotated[np.ndarray, ArraySpec("bool", (None, None))]] = {}
    normals: Annotated[np.ndarray | None, ArraySpec("float32", (None, 3))] = None
    light: Camera | None = None
    tags: tuple[str, ...] = ()


FULL = {
    "camera": {"K": np.eye(3), "name": "left"},
    "parts": [{"xy": np.zeros((4, 2)), "depth": np.zeros(4)}, {"xy": np.ones((4, 2)), "depth": None}],
    "masks": {"cube": np.zeros((2, 5), bool)},
    "normals": np.zeros((7, 3), np.float32),
    "light": {"K": np.eye(3)},
    "tags": ("a",),
}


@pytest.mark.parametrize("left_out", [(), ("masks",), ("normals", "light", "tags")])
def test_structs_lists_dicts_and_options_pass(left_out):
    Payload(Scene).check({name: value for name, value in FULL.items() if name not in left_out})
    Payload(Scene).check({**FULL, "normals": None, "light": None})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"camera": {"K": np.eye(4)}}, r"Scene.camera.K: expected float64 \(3, 3\) in px, got float64 \(4, 4\)$"),
        ({"camera": {"name": "x"}}, r"Scene.camera.K: missing; got the fields \['name'\]"),
        ({"camera": {"K": np.eye(3), "f": 1}}, "Scene.camera: unknown field 'f'; it has K, name"),
        ({"camera": Camera(np.eye(3))}, r"Scene.camera: expected a dict with the fields \['K', 'name'\], got Camera"),
        ({"camera": None}, "Scene.camera: expected a dict .* got NoneType"),
        ({"camera": {"K": np.eye(3), "name": 3}}, "Scene.camera.name: Expected `str`, got `int`"),
        (
            {"parts": [{"xy": np.zeros((4, 2))}, {"xy": np.zeros((5, 2))}]},
            r"Scene.parts\[1\].xy: .* with points 4, got float64 \(5, 2\)",
        ),
        ({"parts": [{"xy": np.zeros((4, 2)), "depth": np.zeros(3)}]}, r"Scene.parts\[0\].depth: .* with points 4, got"),
        ({"parts": ({"xy": np.zeros((4, 2))},)}, "Scene.parts: expected a list, got tuple"),
        ({"masks": {"a": np.zeros((1, 1))}}, r"Scene.masks\['a'\]: expected bool \(any, any\), got float64 \(1, 1\)"),
        ({"masks": []}, "Scene.masks: expected a dict, got list"),
        ({"normals": np.zeros((7, 2), np.float32)}, "Scene.normals: expected"),
        ({"tags": (1,)}, "Scene.tags: Expected `str`, got `int`"),
    ],
)
def test_what_does_not_fit_inside_is_named(change, text):
    with pytest.raises(PayloadError, match=text):
        Payload(Scene).check({**FULL, **change})


@pytest.mark.parametrize(
    ("hint", "text"),
    [
        (Annotated[np.ndarray, ArraySpec("unit8", (1,))], "Wrong.field: 'unit8' is no dtype"),
        (list[np.ndarray], "Wrong.field: say what the array holds"),
        (tuple[XY, int], "Wrong.field: .* is not understood"),
        (XY | str, "Wrong.field: .* is not understood"),
        (dict[int, Camera], "Wrong.field: .* is not understood"),
        (list[int] | list[str], "Wrong.field: Type unions may not contain more than one"),
        ("Wrong | None", "Wrong.field: Wrong contains itself"),
    ],
)
def test_types_that_cannot_be_checked_are_refused_at_once(hint, text, monkeypatch):
    Wrong = msgspec.defstruct("Wrong", [("field", hint)], module=__name__)
    monkeypatch.setitem(globals(), "Wrong", Wrong)
    with pytest.raises(PayloadError, match=text):
        Payload(Wrong)


def test_anything_goes_where_anything_is_declared():
    class Loose(msgspec.Struct):
        value: Any

    Payload(Loose).check({"value": object()})
