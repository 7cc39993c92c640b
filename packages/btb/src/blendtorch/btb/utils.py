"""The helpers of blendtorch 0.4 under the name they had there. New code finds the first three in `btb` itself."""

from typing import Any

import bpy
import numpy as np
import numpy.typing as npt
from blendtorch.btb import blender
from blendtorch.btb.blender import find_view3d as find_first_view3d
from blendtorch.btb.coordinates import (
    bbox_world_coordinates,
    object_coordinates,
    world_coordinates,
)
from mathutils import Vector

__all__ = [
    "bbox_world_coordinates",
    "compute_object_visibility",
    "dehom",
    "find_first_view3d",
    "hom",
    "object_coordinates",
    "random_spherical_loc",
    "world_coordinates",
]

Array = npt.NDArray[np.float64]


def hom(x: npt.ArrayLike, v: float = 1.0) -> Array:
    """Append a column of `v` to points, shape (N, D): homogeneous coordinates, shape (N, D + 1)."""
    points = np.asarray(x, np.float64)
    return np.column_stack([points, np.full(len(points), v)])


def dehom(x: npt.ArrayLike) -> Array:
    """Divide homogeneous coordinates, shape (..., D + 1), by their last one: shape (..., D)."""
    points = np.asarray(x, np.float64)
    return np.asarray(points[..., :-1] / points[..., -1:], np.float64)


def random_spherical_loc(
    radius_range: tuple[float, float] = (1.0, 1.0),
    theta_range: tuple[float, float] = (0.0, np.pi),
    phi_range: tuple[float, float] = (0.0, 2 * np.pi),
    rng: np.random.Generator | None = None,
) -> Array:
    """Draw a point in spherical coordinates, uniform in each of them (and so not on the sphere).

    Parameters
    ----------
    radius_range, theta_range, phi_range : tuple of float
        Radius in scene units, inclination and azimuth in radians.
    rng : numpy.random.Generator, optional
        Default: numpy's global one, which the instance's seed has set, as 0.4 does.

    Returns
    -------
    ndarray, shape (3,), float64
    """
    uniform = np.random.uniform if rng is None else rng.uniform
    radius, theta, phi = (float(uniform(*limits)) for limits in (radius_range, theta_range, phi_range))
    return radius * np.array([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])


def compute_object_visibility(
    obj: Any,
    cam: Any,
    N: int = 25,
    scene: Any = None,
    view_layer: Any = None,  # noqa: ARG001 - 0.4 has it
    dist: float = 1.7e38,
) -> float:
    """Estimate the visible fraction of an object by casting rays at `N` of its vertices, drawn with numpy's global state.

    Parameters
    ----------
    obj : bpy.types.Object
    cam : btb.Camera
    N : int
        Number of rays.
    scene, view_layer : optional
        Default: the current scene. The view layer is the current one.
    dist : float
        Length of the rays in scene units.

    Returns
    -------
    float
        0 to 1. A vertex counts that lies in front of the camera and is the first thing hit of `obj`.
    """
    points = world_coordinates(obj)
    points = points[np.random.choice(len(points), size=N)]
    depth = cam.world_to_pixel(points)[1]
    eye = Vector(blender.world_matrix(cam.bpy_camera)[:3, 3])
    seen = 0
    for point, z in zip(points, depth, strict=True):
        direction = (Vector(point) - eye).normalized()
        if z > 0:
            hit, _, _, _, hit_obj, _ = (scene or bpy.context.scene).ray_cast(blender.depsgraph(), eye, direction, distance=dist)
            seen += bool(hit and hit_obj.original == obj.original)
    return seen / N
