"""What of a sample is a picture, which maps lie over it, and of which camera."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from blendtorch.btt.drawing import MAPS
from blendtorch.core.labels import legend_of

Array = npt.NDArray[Any]

_DEEPEST = 6


class View:
    """The arrays of one camera, or of a second renderer.

    Parameters
    ----------
    name : str
        Empty for the first.
    values : mapping
        The part of the sample.
    orthographic : bool
        Whether its camera projects along parallel lines.

    Attributes
    ----------
    picture : ndarray or None
        What is drawn over, shape (height, width) or (height, width, 1, 3 or 4); of a script the first array that looks so.
    maps : dict of str to tuple of str and ndarray
        What can be laid over it, by name: what it means (see `drawing.colored`, and 'masks'), and its values.
    """

    def __init__(self, name: str, values: Mapping[str, Any], orthographic: bool = False) -> None:
        self.name = name
        self.orthographic = orthographic
        self.values = values = {str(key): each for key, each in values.items()}
        arrays = {key: each for key, each in values.items() if is_picture(each)}
        self.picture: Array | None = arrays.get("image", next(iter(arrays.values()), None))
        self.maps = {key: (kind, each) for key, kind, each in _maps(values)}
        if self.picture is not None:
            self.maps = {key: each for key, each in self.maps.items() if _size(*each) == self.picture.shape[:2]}

    @property
    def size(self) -> tuple[int, int]:
        """Height and width; of a map where there is no picture, and 0 where there is none either."""
        if self.picture is not None:
            return self.picture.shape[0], self.picture.shape[1]
        return next((_size(*each) for each in self.maps.values()), (0, 0))


def views_of(sample: Mapping[str, Any]) -> list[View]:
    """Take a sample apart by cameras and renderers: what has an image is one."""
    named = {name: each for name, each in sample.items() if isinstance(each, Mapping) and is_picture(each.get("image"))}
    parallel = _orthographic(sample)
    first = View("", sample, bool(parallel - named.keys()))  # its own name is none of those
    others = [View(name, each, name in parallel) for name, each in named.items()]
    return [first, *others] if first.size != (0, 0) or not others else others


def _orthographic(sample: Mapping[str, Any]) -> set[str]:
    """Read the names of the cameras that project along parallel lines, which the legend of the label `camera` has."""
    try:
        legends = legend_of(sample).values()
    except (AttributeError, msgspec.DecodeError, TypeError):  # of a script, which may call anything meta
        return set()
    lists = [each.get("orthographic") for each in legends if isinstance(each, dict)]
    return {str(name) for names in lists if isinstance(names, list) for name in names}


def is_picture(value: object) -> bool:
    """Whether it can be shown as it is."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "uf" or min(value.shape, default=0) == 0:
        return False
    if value.ndim == 3 and value.shape[2] in (1, 3, 4):
        return value.dtype == np.uint8 or value.shape[0] > 4
    return value.ndim == 2 and value.dtype == np.uint8 and min(value.shape) > 4


def fields_of(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, str, str]]:
    """List all that a sample has: the place, what it is, and its value where that is short."""
    if isinstance(value, Mapping) and depth < _DEEPEST:
        for name, each in value.items():
            yield from fields_of(each, f"{path}.{name}" if path else str(name), depth + 1)
    elif isinstance(value, np.ndarray):
        text = np.array2string(value, precision=4, separator=", ", threshold=12) if 0 < value.size <= 12 else ""
        yield path, f"{value.dtype} {value.shape}", " ".join(text.split())
    else:
        text = str(value)
        yield path, type(value).__name__, text if len(text) <= 200 else f"{text[:200]} ..."


def _maps(values: Mapping[str, Any]) -> Iterator[tuple[str, str, Array]]:
    for name, each in values.items():
        if isinstance(each, np.ndarray):
            if name in MAPS and each.ndim in (2, 3):
                yield name, name, each
        elif isinstance(each, Mapping):
            for kind, array in each.items():
                if not isinstance(array, np.ndarray):
                    continue
                if kind in {"backward", "forward"} and array.ndim == 3 and array.shape[2] == 2:
                    yield name if kind == "backward" else f"{name} {kind}", "flow", array
                elif kind == "masks" and array.ndim == 3:
                    yield name, "masks", array
                elif kind in MAPS and array.ndim in (2, 3):
                    yield name, kind, array


def _size(kind: str, values: Array) -> tuple[int, int]:
    height, width = values.shape[1:] if kind == "masks" else values.shape[:2]
    return height, width
