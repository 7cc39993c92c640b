"""Normalised object coordinates: from the frame of each mesh to the unit cube of its object of interest."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from blendtorch.core import ObjectOfInterest, geometry
from blendtorch.core.errors import SceneError
from blendtorch.core.solids import box_corners, decompose

from blendtorch_gbuffer.scene import Drawn


def coordinates_from_objects(what: Drawn, objects: Sequence[ObjectOfInterest]) -> npt.NDArray[np.float64]:
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
    order = np.argsort(what.ids, kind="stable")
    for number in np.unique(what.ids):
        if number == 0:
            continue
        members = order[np.searchsorted(what.ids[order], number) : np.searchsorted(what.ids[order], number, "right")]
        root_from_world = np.linalg.inv(_frame(objects[number - 1]))
        own = [each for each in members if what.instances[each].instancer is None]
        points = np.concatenate([_extremes(root_from_world, what, each) for each in (own or members)])
        low, high = points.min(axis=0), points.max(axis=0)
        diagonal = max(float(np.linalg.norm(high - low)), 1e-12)
        coordinates_from_root = np.eye(4)
        coordinates_from_root[:3] /= diagonal
        coordinates_from_root[:3, 3] = 0.5 - (low + high) / 2 / diagonal
        rows[members] = (coordinates_from_root @ root_from_world @ what.world_from_object[members])[:, :3]
    return rows


def _frame(each: ObjectOfInterest) -> npt.NDArray[np.float64]:
    from blendtorch.btb import blender

    try:
        return decompose(blender.world_matrix(each.root))[0]
    except SceneError as error:
        raise SceneError(f"object {each.root.name!r} has no frame: {error}. Apply the scale of its parents (Ctrl+A)") from None


def _extremes(root_from_world: npt.NDArray[np.float64], what: Drawn, number: int) -> npt.NDArray[np.float64]:
    """Return points in the frame of the root that have the same box as the mesh."""
    root_from_object = root_from_world @ what.world_from_object[number]
    mesh = what.meshes[number]
    linear = np.abs(root_from_object[:3, :3])
    if (linear - np.diag(linear.diagonal())).max() < 1e-6 * linear.max():  # the axes are the same
        return geometry.transform(root_from_object, box_corners(mesh.low, mesh.high))
    return geometry.transform(root_from_object, mesh.surface.vertices)
