"""Labels as lines and points in the picture, recognized by their fields: a run may call an annotator as it likes."""

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from blendtorch.btt.viewing.pictures import hex_color
from blendtorch.btt.viewing.views import View
from blendtorch.core.distortion import Distortion
from blendtorch.core.geometry import project

Floats = npt.NDArray[np.float64]

_MOST = 500  # objects that are drawn
_MOST_POINTS = 20_000
_PIECES = 16  # of an edge that a lens bends, or that begins behind the camera
_FAR = 1e5  # px outside of the picture
_EDGES = [(a, a | axis) for axis in (1, 2, 4) for a in range(8) if not a & axis]
_AXES = ("#ff3030", "#30d030", "#4080ff")
_POINTS = ("xy", "keypoints", "points")  # arrays of scripts


class Shape(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is drawn for one object.

    Attributes
    ----------
    row : int
        Of the object; -1 for none.
    color : str
    paths : list of list of float
        x0, y0, x1, y1 ...: lines in pixels, from the corner of the picture.
    points : list of tuple
        x, y and the state: 1 hidden, 2 visible.
    """

    row: int = -1
    color: str = "#ffffff"
    paths: list[list[float]] = []
    points: list[tuple[float, float, int]] = []


class Drawn(msgspec.Struct, frozen=True, kw_only=True):
    """A label that can be drawn.

    Attributes
    ----------
    name : str
    dash : list of int
        As a canvas has it: lengths of strokes and gaps.
    shapes : list of Shape
    missing : str
        What else it needs to be drawn; empty for nothing.
    """

    name: str
    dash: list[int] = []
    shapes: list[Shape] = []
    missing: str = ""


def shapes_of(view: View) -> list[Drawn]:
    """Make what can be drawn of a view. What has our names and another shape is no label of ours, and is left out."""
    found = []
    for name, value in view.values.items():
        if isinstance(value, np.ndarray):
            if name in _POINTS and value.ndim == 2 and value.shape[1] == 2 and value.dtype.kind in "iuf":
                points = [(x, y, 2) for x, y in _finite(value.astype(np.float64)[:_MOST_POINTS])]
                found.append(Drawn(name=name, shapes=[Shape(color="#ffff00", points=points)]))
        elif isinstance(value, Mapping):
            label = {key: np.asarray(each) for key, each in value.items() if isinstance(each, np.ndarray)}
            for fits, draw in _KINDS:
                if fits(label):
                    found.append(draw(name, label, view))
                    break
    return found


def _has(field: str, *shape: int) -> Callable[[Mapping[str, Any]], bool]:
    def fits(label: Mapping[str, Any]) -> bool:
        array = label.get(field)
        if array is None or array.dtype.kind not in "iuf" or array.ndim != len(shape) + 1:
            return False
        return all(size in (-1, given) for size, given in zip(shape, array.shape[1:], strict=True))

    return fits


def _boxes(field: str) -> Callable[[str, Mapping[str, Any], View], Drawn]:
    def draw(name: str, label: Mapping[str, Any], view: View) -> Drawn:  # noqa: ARG001 - as the others
        dash = [6, 4] if "amodal" in name else [2, 3] if "loose" in name else []
        shapes = [
            Shape(row=row, color=hex_color(row + 1), paths=[[x0, y0, x1, y0, x1, y1, x0, y1, x0, y0]])
            for row, (x0, y0, x1, y1) in _rows(label, field)
        ]
        return Drawn(name=name, dash=dash, shapes=shapes)

    return draw


def _boxes3d(name: str, label: Mapping[str, Any], view: View) -> Drawn:
    camera = _Camera.of(view)
    if camera is None:
        return Drawn(name=name, missing="needs the label camera")
    shapes = [
        Shape(row=row, color=hex_color(row + 1), paths=list(camera.lines([(corners[a], corners[b]) for a, b in _EDGES])))
        for row, corners in _rows(label, "corners")
    ]
    return Drawn(name=name, shapes=shapes)


def _poses(name: str, label: Mapping[str, Any], view: View) -> Drawn:
    camera = _Camera.of(view)
    if camera is None:
        return Drawn(name=name, missing="needs the label camera")
    sizes = label.get("size")
    shapes = []
    for row, pose in _rows(label, "camera_from_object"):
        known = sizes is not None and sizes.shape == (len(label["camera_from_object"]), 3)
        length = float(np.max(sizes[row])) / 2 if sizes is not None and known else abs(float(pose[2, 3])) / 10
        for axis, color in enumerate(_AXES):
            tip = pose[:3, 3] + pose[:3, axis] * length
            shapes.append(Shape(row=row, color=color, paths=list(camera.lines([(pose[:3, 3], tip)]))))
    return Drawn(name=name, shapes=shapes)


def _keypoints(name: str, label: Mapping[str, Any], view: View) -> Drawn:  # noqa: ARG001 - as the others
    xy, state, skeleton = label["xy"], label.get("state"), label.get("skeleton")
    if state is None or state.shape != xy.shape[:2]:
        state = np.full(xy.shape[:2], 2)
    shown = (state > 0) & np.isfinite(xy).all(axis=-1)
    bones = skeleton.tolist() if skeleton is not None and skeleton.ndim == 2 and skeleton.shape[1] == 2 else []
    shapes, left = [], _MOST_POINTS
    for row in range(min(len(xy), _MOST)):
        places = np.flatnonzero(shown[row])[:left]
        left -= len(places)
        points = [(x, y, int(state[row, place])) for place in places for x, y in [_clipped(xy[row, place])]]
        ends = [(a, b) for a, b in bones if min(a, b) >= 0 and max(a, b) < xy.shape[1] and shown[row, a] and shown[row, b]]
        paths = [[*_clipped(xy[row, a]), *_clipped(xy[row, b])] for a, b in ends]
        shapes.append(Shape(row=row, paths=paths, points=points))
    return Drawn(name=name, shapes=shapes)


# The first that fits draws a label.
_KINDS: list[tuple[Callable[[Mapping[str, Any]], bool], Callable[[str, Mapping[str, Any], View], Drawn]]] = [
    (_has("xyxy", 4), _boxes("xyxy")),
    (_has("clipped", 4), _boxes("clipped")),
    (_has("corners", 8, 3), _boxes3d),
    (_has("camera_from_object", 4, 4), _poses),
    (_has("xy", -1, 2), _keypoints),
]


class _Camera(msgspec.Struct, frozen=True):
    """Projects what is in the camera frame."""

    K: Any
    distortion: Distortion | None = None
    orthographic: bool = False

    @classmethod
    def of(cls, view: View) -> "_Camera | None":
        label = view.values.get("camera")
        matrix = label.get("K") if isinstance(label, Mapping) else None
        if not isinstance(matrix, np.ndarray) or matrix.shape != (3, 3) or not isinstance(label, Mapping):
            return None
        values = label.get("distortion")
        if not isinstance(values, np.ndarray) or values.shape != (5,) or not np.any(values):
            return cls(matrix, orthographic=view.orthographic)
        k1, k2, p1, p2, k3 = values.tolist()
        return cls(matrix, Distortion(k1=k1, k2=k2, p1=p1, p2=p2, k3=k3))

    def lines(self, segments: list[tuple[Floats, Floats]]) -> Iterator[list[float]]:
        """Project segments; what is behind the camera is left out."""
        for begin, end in segments:
            straight = self.distortion is None and (self.orthographic or min(begin[2], end[2]) > 0)
            places = np.linspace(0, 1, 2 if straight else _PIECES + 1)[:, None]
            xy, _ = project(begin + places * (end - begin), self.K, self.orthographic, self.distortion)
            if np.isfinite(xy).all():
                yield [each for point in xy for each in _clipped(point)]
            else:
                yield from ([*_clipped(a), *_clipped(b)] for a, b in pairwise(xy) if np.isfinite([a, b]).all())


def _rows(label: Mapping[str, Any], field: str) -> Iterator[tuple[int, Any]]:
    """Give the first rows that are valid, and finite."""
    values, valid = label[field].astype(np.float64), label.get("valid")
    if valid is None or valid.shape != values.shape[:1]:
        valid = np.ones(len(values), bool)
    finite = np.isfinite(values.reshape(len(values), -1)).all(axis=1) & valid.astype(bool)
    for row in np.flatnonzero(finite)[:_MOST].tolist():
        yield row, values[row] if values.ndim > 2 else _clipped(values[row])


def _clipped(values: Floats) -> list[float]:
    """Keep numbers short, and near enough for a canvas."""
    rounded: list[float] = np.round(np.clip(values, -_FAR, _FAR), 2).tolist()
    return rounded


def _finite(xy: Floats) -> list[list[float]]:
    return [_clipped(each) for each in xy[np.isfinite(xy).all(axis=1)]]
