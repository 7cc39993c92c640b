"""Cameras that look at something: the target is an empty, which Blender itself keeps where it belongs.

What a camera looks at may move after the camera was placed: by a randomizer that comes later, by its animation, by the physics.
So nothing here reads where it is. An empty follows it by constraint, the camera is parented to an empty, and both are
evaluated with the frame.
"""

from typing import Any

import numpy as np
from blendtorch.core import SetupContext
from blendtorch.core.errors import SceneError

from blendtorch_standard.randomizers import targets

Target = str | tuple[float, float, float] | None


class Rig:
    """The empties of a randomizer of cameras.

    Parameters
    ----------
    context : SetupContext
    cameras : str
        A pattern; see `targets.cameras`.
    target : str, tuple of float or None
        What they look at: objects by name, a point of the world, or the objects of interest. Of several it is the mean of their
        origins.

    Raises
    ------
    SceneError
        If there is no such camera or target, or a camera has a parent.
    """

    def __init__(self, context: SetupContext, cameras: str, target: Target) -> None:
        self.cameras = targets.cameras(context, cameras)
        for camera in self.cameras:
            if camera.parent is not None:
                raise SceneError(
                    f"camera {camera.name!r} rides on {camera.parent.name!r}, and would be parented to its target: "
                    "choose others with `cameras`, or clear its parent"
                )
        self._empties: list[Any] = []
        self._followed: list[tuple[Any, Any]] = []
        self._scene = context.scene
        self.target = self._make_target(context, target)

    def empty(self) -> Any:
        """Make an empty that goes with the rig."""
        import bpy

        empty = bpy.data.objects.new("blendtorch-rig", None)
        self._scene.collection.objects.link(empty)
        self._empties.append(empty)
        return empty

    def mount(self, camera: Any, empty: Any) -> None:
        """Let a camera ride on an empty: its location and rotation count from there."""
        import mathutils

        camera.parent = empty
        camera.parent_type = "OBJECT"
        camera.matrix_parent_inverse = mathutils.Matrix()

    def close(self) -> None:
        """Take the empties away; the cameras keep location and rotation, without a parent."""
        import bpy

        for empty in self._empties:
            bpy.data.objects.remove(empty)
        self._empties = []

    def _make_target(self, context: SetupContext, target: Target) -> Any:
        from blendtorch.btb import blender

        if isinstance(target, str):
            followed = blender.objects_matching(context.scene, target)
        elif target is None:
            followed = [obj for each in context.objects for obj in ((each.root,) if each.root is not None else each.parts)]
            if not followed:
                raise SceneError("the run has no objects of interest to look at: give `target`, a name or a point")
        else:
            followed = []
        empty = self.empty()
        empty.location = target if isinstance(target, tuple) else (0, 0, 0)
        for number, obj in enumerate(followed, 1):
            constraint = empty.constraints.new("COPY_LOCATION")
            constraint.target = obj
            constraint.influence = 1 / number  # one after the other they blend to the mean
            self._followed.append((obj, constraint))
        return empty

    def follow(self) -> None:
        """Look at what of the target is there in this episode; where nothing is, at the origin of the world."""
        there = 0
        for obj, constraint in self._followed:
            there += not targets.is_parked(obj)
            constraint.influence = 0 if targets.is_parked(obj) else 1 / there


def looking_inwards(elevation: float, azimuth: float, roll: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Compute where on the unit sphere a camera is, and how it is rotated to look at its centre.

    Parameters
    ----------
    elevation, azimuth, roll : float
        In radians; see `camera_shell`.

    Returns
    -------
    place : ndarray, shape (3,), float64
    rotation : ndarray, shape (3, 3), float64
        Of Blender's camera: x right, y up, looking along -z.
    """
    outwards = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    # The direction in which the elevation grows: defined at the poles too, where "up" is not.
    up = np.array([-np.sin(elevation) * np.cos(azimuth), -np.sin(elevation) * np.sin(azimuth), np.cos(elevation)])
    upright = np.column_stack([np.cross(up, outwards), up, outwards])
    return outwards, upright @ rolled(roll)


def rolled(roll: float) -> np.ndarray[Any, Any]:
    """Rotate about the line of sight, radians, counter-clockwise seen from behind the camera."""
    return np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
