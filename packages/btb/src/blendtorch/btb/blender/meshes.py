"""The evaluated scene: its dependency graph, and geometry as it is drawn."""

from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
import numpy.typing as npt
from blendtorch.btb.blender import versions
from blendtorch.core.errors import SceneError


def depsgraph() -> Any:
    """Evaluate the scene where it changed, and return its dependency graph (that of the viewport)."""
    return bpy.context.evaluated_depsgraph_get()


@dataclass(frozen=True)
class Mesh:
    """The geometry of an object in its own frame, modifiers and animation applied.

    Attributes
    ----------
    vertices : ndarray, shape (V, 3), float64
        In scene units.
    edges : ndarray, shape (E, 2), int32
        Numbers of vertices. Vertices without an edge are possible.
    """

    vertices: npt.NDArray[np.float64]
    edges: npt.NDArray[np.int32]


def mesh(obj: Any, graph: Any = None) -> Mesh:
    """Read the evaluated geometry of an object.

    Parameters
    ----------
    obj : bpy.types.Object
        A mesh, or what Blender can turn into one: curve, text, surface, metaball.
    graph : bpy.types.Depsgraph, optional
        Default: the current one, brought up to date.

    Raises
    ------
    SceneError
        If the object has no geometry.
    """
    evaluated = obj.evaluated_get(graph or depsgraph())
    try:
        data = evaluated.to_mesh()
    except RuntimeError:
        data = None
    if data is None:
        raise SceneError(f"object {obj.name!r} of type {obj.type} has no vertices; its place is matrix_world")
    points, edges = versions.vertices(data), versions.edges(data)
    evaluated.to_mesh_clear()
    return Mesh(points.astype(np.float64), edges)
