"""Coordinates of objects as they are drawn: modifiers, animation and parents applied."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from blendtorch.btb import blender
from blendtorch.core import geometry

Array = npt.NDArray[np.float64]


def object_coordinates(*objs: Any, depsgraph: Any = None) -> Array:
    """Collect the vertices of objects, each in its object frame.

    Parameters
    ----------
    *objs : bpy.types.Object
        Meshes, and what Blender can turn into one: curves, texts, surfaces, metaballs.
    depsgraph : bpy.types.Depsgraph, optional
        Default: the current one, brought up to date.

    Returns
    -------
    ndarray, shape (N, 3), float64
        In scene units, in the order of the objects.

    Raises
    ------
    SceneError
        If an object has no geometry.
    """
    graph = depsgraph or blender.depsgraph()
    return _stack([blender.mesh(obj, graph).vertices for obj in objs])


def world_coordinates(*objs: Any, depsgraph: Any = None) -> Array:
    """Collect the vertices of objects in the world frame; parameters and errors as `object_coordinates`."""
    graph = depsgraph or blender.depsgraph()
    return _stack(
        [geometry.transform(obj.evaluated_get(graph).matrix_world, blender.mesh(obj, graph).vertices) for obj in objs]
    )


def bbox_world_coordinates(*objs: Any, depsgraph: Any = None) -> Array:
    """Collect the corners of the bounding boxes of objects in the world frame.

    Parameters
    ----------
    *objs : bpy.types.Object
    depsgraph : bpy.types.Depsgraph, optional
        Default: the current one, brought up to date.

    Returns
    -------
    ndarray, shape (8 * len(objs), 3), float64
        Each box is along its object's axes; corners in Blender's order.
    """
    graph = depsgraph or blender.depsgraph()
    evaluated = [obj.evaluated_get(graph) for obj in objs]
    return _stack([geometry.transform(obj.matrix_world, [tuple(corner) for corner in obj.bound_box]) for obj in evaluated])


def _stack(points: Sequence[Array]) -> Array:
    return np.concatenate(points) if points else np.empty((0, 3))
