"""Normalised object coordinates: from the frame of each mesh to the unit cube of its object of interest."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from blendtorch.core import ObjectOfInterest, geometry
from blendtorch.core.errors import SceneError
from blendtorch.core.solids import box_corners, decompose

from blendtorch_gbuffer.scene import Drawn

Array = npt.NDArray[np.float64]
_SMALLEST = 1e-12  # diagonal that is divided by
_COSINE = 1e-4  # between axes at right angles, as `solids.decompose` has it


def coordinates_from_objects(what: Drawn, objects: Sequence[ObjectOfInterest]) -> Array:
    """Compute the first three rows of `coordinates_from_object` for each instance.

    Returns
    -------
    ndarray, shape (I, 3, 4), float64
        0 for what belongs to no object of interest.

    Raises
    ------
    SceneError
        If the root of one is sheared, or has a scale of zero.
    """
    rows = np.zeros((len(what.instances), 3, 4))
    members: dict[int, list[int]] = {}
    for number, identity in enumerate(what.ids.tolist()):
        if identity:
            members.setdefault(identity, []).append(number)
    single, right_angled = [], _right_angled(what.world_from_object)
    for identity, numbers in members.items():
        each = objects[identity - 1]
        # Most are one mesh in its own frame: these are computed at once.
        if len(numbers) == 1 and right_angled[numbers[0]] and what.instances[numbers[0]].key[:2] == (each.root.as_pointer(), 0):
            single.append(numbers[0])
        else:
            rows[numbers] = _of_parts(each, what, numbers)
    if single:
        rows[single] = _of_single_meshes(what, single)
    return rows


def _right_angled(matrices: Array) -> npt.NDArray[np.bool_]:
    """Find the matrices whose axes are at right angles, and not of length zero."""
    lengths = np.linalg.norm(matrices[:, :3, :3], axis=1)
    axes = matrices[:, :3, :3] / np.maximum(lengths, 1e-300)[:, None]
    cosines = np.abs(axes.transpose(0, 2, 1) @ axes - np.eye(3)).max(axis=(1, 2))
    return np.asarray((cosines <= _COSINE) & (lengths.min(axis=1) > 1e-6 * lengths.max(axis=1)))


def _of_single_meshes(what: Drawn, numbers: list[int]) -> Array:
    axes = what.world_from_object[numbers, :3, :3]
    scale = np.linalg.norm(axes, axis=1) * np.where(np.linalg.det(axes) < 0, -1, 1)[:, None]
    ends = [np.array([getattr(what.meshes[number], end) for number in numbers]) * scale for end in ("low", "high")]
    diagonal = np.maximum(np.linalg.norm(ends[1] - ends[0], axis=1), _SMALLEST)[:, None]
    rows = np.zeros((len(numbers), 3, 4))
    rows[:, range(3), range(3)] = scale / diagonal
    rows[:, :, 3] = 0.5 - (ends[0] + ends[1]) / 2 / diagonal
    return rows


def _of_parts(each: ObjectOfInterest, what: Drawn, numbers: list[int]) -> Array:
    from blendtorch.btb import blender

    try:
        world_from_root, _ = decompose(blender.world_matrix(each.root))
    except SceneError as error:
        raise SceneError(f"object {each.root.name!r} has no frame: {error}. Apply the scale of its parents (Ctrl+A)") from None
    root_from_object = np.linalg.inv(world_from_root) @ what.world_from_object[numbers]
    # The box is that of its parts: copies that it makes are outside of it, unless there is nothing else.
    own = [row for row, number in enumerate(numbers) if what.instances[number].instancer is None] or list(range(len(numbers)))
    points = np.concatenate([_extremes(root_from_object[row], what.meshes[numbers[row]]) for row in own])
    low, high = points.min(axis=0), points.max(axis=0)
    diagonal = max(float(np.linalg.norm(high - low)), _SMALLEST)
    rows = root_from_object[:, :3] / diagonal
    rows[:, :, 3] += 0.5 - (low + high) / 2 / diagonal
    return np.asarray(rows)


def _extremes(root_from_object: Array, mesh: Any) -> Array:
    """Return points in the frame of the root that have the same box as the mesh."""
    linear = np.abs(root_from_object[:3, :3])
    if (linear - np.diag(linear.diagonal())).max() < 1e-6 * linear.max():  # the axes are the same
        return geometry.transform(root_from_object, box_corners(mesh.low, mesh.high))
    return geometry.transform(root_from_object, mesh.surface.vertices)
