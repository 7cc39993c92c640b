"""The rotation of an object, in whichever of Blender's four ways it is stored."""

from typing import Any

import mathutils
import numpy as np
import numpy.typing as npt


def rotation_path(obj: Any) -> str:
    """Name the property that holds the rotation of an object: it depends on its rotation mode."""
    return {"QUATERNION": "rotation_quaternion", "AXIS_ANGLE": "rotation_axis_angle"}.get(obj.rotation_mode, "rotation_euler")


def rotation(obj: Any) -> npt.NDArray[np.float64]:
    """Read the rotation of an object in the frame of its parent, shape (3, 3), float64; delta transforms do not count."""
    if obj.rotation_mode == "QUATERNION":
        matrix = obj.rotation_quaternion.normalized().to_matrix()
    elif obj.rotation_mode == "AXIS_ANGLE":
        angle, *axis = obj.rotation_axis_angle
        matrix = mathutils.Matrix.Rotation(angle, 3, mathutils.Vector(axis))
    else:
        matrix = obj.rotation_euler.to_matrix()
    return np.array(matrix, np.float64)


def set_rotation(obj: Any, matrix: npt.ArrayLike) -> None:
    """Rotate an object in the frame of its parent, and leave its rotation mode as it is.

    Parameters
    ----------
    obj : bpy.types.Object
    matrix : array_like, shape (3, 3)
        Orthonormal, with determinant 1.
    """
    quaternion = mathutils.Matrix(np.asarray(matrix, np.float64).tolist()).to_quaternion()
    if obj.rotation_mode == "QUATERNION":
        obj.rotation_quaternion = quaternion
    elif obj.rotation_mode == "AXIS_ANGLE":
        axis, angle = quaternion.to_axis_angle()
        obj.rotation_axis_angle = (angle, *axis)
    else:
        obj.rotation_euler = quaternion.to_euler(obj.rotation_mode)
