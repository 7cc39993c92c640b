"""Instances as the evaluated scene has them: what of them is shown, where it is, the frame and the box that are their own.

What is read of a frame is read once, and shared between annotators and cameras.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from blendtorch.core import CameraView, Moment, ObjectOfInterest, geometry
from blendtorch.core.errors import CameraError, SceneError
from blendtorch.core.geometry import Array
from blendtorch.core.solids import decompose


@dataclass(frozen=True)
class Wireframe:
    """The evaluated geometry of all shown parts of an instance.

    Attributes
    ----------
    points : ndarray, shape (V, 3), float64
        In the world frame, scene units; at least one.
    edges : ndarray, shape (E, 2), int32
        Numbers of points.
    """

    points: Array
    edges: npt.NDArray[np.int32]


@dataclass(frozen=True)
class OwnBox:
    """The frame of an instance, and the box along its axes around all shown parts.

    Attributes
    ----------
    world_from_object : ndarray, shape (4, 4), float64
        Rigid: the frame of the root without its scale.
    scale : ndarray, shape (3,), float64
        Of the root; all negative where it is mirrored.
    low, high : ndarray, shape (3,), float64
        The ends of the box in that frame, in scene units.
    """

    world_from_object: Array
    scale: Array
    low: Array
    high: Array


def shown(obj: Any) -> bool:
    """Whether pictures show an object: neither renders nor the viewport hide it."""
    return not obj.hide_render and obj.visible_get()


def wireframes(moment: Moment) -> Sequence[Wireframe | None]:
    """Read the geometry of all instances; None for one of which nothing is shown."""
    found: Sequence[Wireframe | None] = moment.once(
        (__name__, "wireframes"),
        lambda: [wireframe([part for part in each.parts if shown(part)]) for each in moment.objects],
    )
    return found


def own_boxes(moment: Moment) -> Sequence[OwnBox | None]:
    """Compute the boxes of all instances in their own frames; None for one of which nothing is shown.

    Raises
    ------
    SceneError
        If the root of one is sheared, or has a scale of zero.
    """
    found: Sequence[OwnBox | None] = moment.once(
        (__name__, "own_boxes"),
        lambda: [
            None if seen is None else own_box(each, seen) for each, seen in zip(moment.objects, wireframes(moment), strict=True)
        ],
    )
    return found


def rigid_camera(camera: CameraView) -> Array:
    """Return `camera_from_world`, shape (4, 4), as a rigid motion.

    Raises
    ------
    CameraError
        If the camera is sheared or mirrored.
    """
    way_out = "remove the uneven or negative scale of it and of its parents"
    try:
        rigid, scale = decompose(camera.camera_from_world)
    except SceneError as error:
        raise CameraError(f"nothing has a pose relative to camera {camera.name!r}: {error}; {way_out}") from None
    if scale[0] < 0:
        raise CameraError(f"nothing has a pose relative to camera {camera.name!r}: it is mirrored; {way_out}")
    return rigid


def wireframe(parts: Sequence[Any]) -> Wireframe | None:
    """Read the geometry of some parts of an instance; None where there is none."""
    from blendtorch.btb import blender

    points, edges, count = [], [], 0
    for part in parts:
        mesh = blender.mesh(part)
        points.append(geometry.transform(blender.world_matrix(part), mesh.vertices))
        edges.append(mesh.edges + np.int32(count))
        count += len(mesh.vertices)
    return Wireframe(np.concatenate(points), np.concatenate(edges)) if count else None


def own_box(instance: ObjectOfInterest, seen: Wireframe) -> OwnBox:
    """Compute the box of one instance around what is seen of it.

    Raises
    ------
    SceneError
        If its root is sheared, or has a scale of zero.
    """
    from blendtorch.btb import blender

    try:
        rigid, scale = decompose(blender.world_matrix(instance.root))
    except SceneError as error:
        raise SceneError(
            f"object {instance.root.name!r} has no pose: {error}. Apply the scale of its parents (Ctrl+A), or its own, "
            "so that no uneven scale stands above a rotation"
        ) from None
    points = geometry.transform(np.linalg.inv(rigid), seen.points)
    return OwnBox(rigid, scale, points.min(axis=0), points.max(axis=0))
