"""Whether something stands between the camera and a point: asked of the scene by rays, or of a map of depths."""

from typing import Any

import numpy as np
import numpy.typing as npt
from blendtorch.core import CameraView, geometry
from blendtorch.core.geometry import Array

# Blender casts rays in float32: how far off a hit may be, relative to the numbers that it was computed from.
ROUNDING = 1e-5


def occluded_by_rays(scene: Any, camera: CameraView, xyz: Array, tolerance: Array) -> npt.NDArray[np.bool_]:
    """Cast a ray to each point, from the near plane of the camera on.

    Objects that renders hide do not count, nor what `scene.ray_cast` does not know: what the viewport hides, volumes, hair,
    holdouts. Transparent materials hide what is behind them.

    Parameters
    ----------
    scene : bpy.types.Scene
    camera : CameraView
    xyz : ndarray, shape (M, 3), float64
        In the camera frame, scene units, behind the near plane.
    tolerance : ndarray, shape (M,), float64
        What is less than this in front of a point does not hide it, in scene units.

    Returns
    -------
    ndarray, shape (M,), bool
    """
    from blendtorch.btb import blender

    starts = xyz.copy()
    if not camera.orthographic:
        starts *= camera.clip_range[0] / xyz[:, 2:]
    starts[:, 2] = camera.clip_range[0]
    world_from_camera = np.linalg.inv(camera.camera_from_world)
    starts, ends = (geometry.transform(world_from_camera, each) for each in (starts, xyz))
    rays = ends - starts
    lengths = np.linalg.norm(rays, axis=1)
    steps = ROUNDING * (lengths + np.abs(ends).max(axis=1, initial=0) + np.abs(starts).max(axis=1, initial=0))
    reach = lengths - np.maximum(tolerance, steps)
    graph = blender.depsgraph()
    occluded = np.zeros(len(xyz), bool)
    for row in range(len(xyz)):
        start, left, direction = starts[row], reach[row], rays[row] / max(lengths[row], 1e-300)
        while left > 0 and not occluded[row]:
            hit, place, _, _, obj, _ = scene.ray_cast(graph, start, direction, distance=left)
            if not hit:
                break
            occluded[row] = not obj.original.hide_render
            step = np.linalg.norm(np.array(place) - start) + steps[row]  # look behind what a render does not show
            start, left = start + direction * step, left - step
    return occluded


def occluded_by_depth(
    depth_map: npt.NDArray[Any], xy: Array, depth: Array, tolerance: Array, reach: int = 0
) -> npt.NDArray[np.bool_]:
    """Compare points with a map of depths.

    A point is hidden where it lies behind all four pixels whose centres surround it: their depths enclose that of a surface
    through the point. At the outline of what hides it, this is right to within a pixel.

    Parameters
    ----------
    depth_map : ndarray, shape (height, width), float
        Planar z in scene units, inf where there is nothing.
    xy : ndarray, shape (M, 2), float64
        In pixels, inside the picture.
    depth : ndarray, shape (M,), float64
    tolerance : ndarray, shape (M,), float64
        In scene units.
    reach : int
        How many pixels more on each side are asked: for a map whose depths are of places within so many pixels.

    Returns
    -------
    ndarray, shape (M,), bool
    """
    height, width = depth_map.shape
    x, y = np.floor(xy - 0.5).astype(np.int64).T
    steps = np.arange(-reach, reach + 2)[:, None]
    columns, rows = np.clip(x + steps, 0, width - 1), np.clip(y + steps, 0, height - 1)
    farthest = depth_map[rows[:, None], columns[None]].max(axis=(0, 1), initial=0)
    return np.asarray(depth > farthest + np.maximum(tolerance, ROUNDING * depth))
