"""What samples have, and what they will take on disk, before the first is written."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from blendtorch.core.composition import Composition
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.interfaces import Writer
from blendtorch.core.payload import ArraySpec

Shapes = dict[str, tuple[tuple[int, ...], str]]

_ANY = 32  # stands for a size that nobody knows before the first frame
_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def arrays_of(composition: Composition, cameras: Sequence[str]) -> dict[str, ArraySpec]:
    """List the arrays of a sample, as the plug-ins of a run declare them.

    Parameters
    ----------
    composition : Composition
    cameras : sequence of str
        Of the run.

    Returns
    -------
    dict of str to ArraySpec
        By the names that writers use: `image`, `boxes2d_tight.xyxy`.
    """
    first, *others = composition.renderers
    groups: list[tuple[str, Mapping[str, ArraySpec]]] = [("", first.plugin.emits)]
    groups += [(f"{part.label}.", part.plugin.emits) for part in others]
    groups += [(f"{part.label}.", part.plugin.emits) for part in composition.annotators if part.asked]
    views = ["", *(f"{camera}." for camera in cameras[1:])]
    return {f"{view}{group}{name}": spec for view in views for group, emits in groups for name, spec in emits.items()}


def shapes_of(arrays: Mapping[str, ArraySpec], resolution: tuple[int, int], objects: int) -> Shapes:
    """Give arrays that are declared their sizes.

    Parameters
    ----------
    arrays : mapping of str to ArraySpec
    resolution : tuple of int
        Width and height of pictures.
    objects : int
        Of interest, at most; what is known of it before the scene is opened.

    Returns
    -------
    dict of str to tuple
        Shape and dtype by names.
    """
    width, height = resolution
    sizes = {"width": width, "height": height, "objects": objects}
    return {name: (tuple(_size(size, sizes) for size in spec.shape), spec.dtype) for name, spec in arrays.items()}


def shapes_in(sample: Mapping[str, Any]) -> Shapes:
    """List the arrays of a sample that is there, but for `objects` and `meta`.

    Examples
    --------
    >>> shapes_in({"image": np.zeros((4, 6, 3), np.uint8), "depth": {"depth": np.ones((4, 6))}, "meta": {"index": 3}})
    {'image': ((4, 6, 3), 'uint8'), 'depth.depth': ((4, 6), 'float64')}
    """
    found: Shapes = {}
    for name, value in sample.items():
        if isinstance(value, Mapping) and name not in ("objects", "meta"):
            found |= {f"{name}.{field}": shape for field, shape in shapes_in(value).items()}
        elif hasattr(value, "__array__"):
            array = np.asarray(value)
            found[name] = (array.shape, array.dtype.name if array.dtype.kind in "biufc" else array.dtype.str)
    return found


def check_space(folder: Path, writer: Writer, shapes: Shapes, samples: int) -> int:
    """Refuse what does not fit on the disk.

    Parameters
    ----------
    folder : Path
        There already.
    writer : Writer
    shapes : Shapes
    samples : int
        That are to be written.

    Returns
    -------
    int
        Bytes that they are expected to take.

    Raises
    ------
    ConfigurationError
        With both numbers.
    """
    each = writer.bytes_per_sample(shapes)
    needed, free = each * samples, shutil.disk_usage(folder).free
    if needed > free:
        raise ConfigurationError(
            f"{samples} samples take about {in_units(needed)}, {in_units(each)} each, and the disk of {folder} has "
            f"{in_units(free)} left: free some, name a folder on another disk with -o, or ask for fewer or smaller samples"
        )
    return needed


def in_units(size: float) -> str:
    """Write a number of bytes for people.

    Examples
    --------
    >>> in_units(3_210_000_000), in_units(12)
    ('3.2 GB', '12 B')
    """
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size:.0f} B"


def _size(size: int | str | None, sizes: Mapping[str, int]) -> int:
    return size if isinstance(size, int) else sizes.get(size or "", _ANY)
