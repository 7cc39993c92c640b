"""What a run will take on disk, before it starts."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from blendtorch.core.composition import Composition
from blendtorch.core.configuration import RunConfiguration
from blendtorch.core.errors import ConfigurationError
from blendtorch.core.interfaces import Writer
from blendtorch.core.payload import ArraySpec

Shapes = dict[str, tuple[tuple[int, ...], str]]

_ANY = 32  # stands for a size that nobody knows before the first frame
_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def shapes_of(composition: Composition, configuration: RunConfiguration, objects: int) -> Shapes | None:
    """List the arrays of a sample.

    Parameters
    ----------
    composition : Composition
    configuration : RunConfiguration
    objects : int
        Of interest, at most; what is known of it before the scene is opened.

    Returns
    -------
    dict of str to tuple, or None
        Shape and dtype by the names that writers use: `image`, `boxes2d_tight.xyxy`. None where the size of the pictures is the
        scene's, and unknown.
    """
    if configuration.resolution is None:
        return None
    width, height = configuration.resolution
    sizes = {"width": width, "height": height, "objects": objects}
    first, *others = composition.renderers
    groups: list[tuple[str, Mapping[str, ArraySpec]]] = [("", first.plugin.emits)]
    groups += [(f"{part.label}.", part.plugin.emits) for part in others]
    groups += [(f"{part.label}.", part.plugin.emits) for part in composition.annotators if part.asked]
    views = ["", *(f"{camera}." for camera in configuration.cameras[1:])]
    return {
        f"{view}{group}{name}": (tuple(_size(size, sizes) for size in spec.shape), spec.dtype)
        for view in views
        for group, emits in groups
        for name, spec in emits.items()
    }


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
            f"{in_units(free)} left: free some, name a folder on another disk with -o, or ask for a smaller count or "
            "resolution, or for fewer annotators"
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
