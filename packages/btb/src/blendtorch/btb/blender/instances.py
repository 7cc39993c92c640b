"""What a frame draws: the instances of the evaluated scene, their geometry as triangles, and when that changes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
import numpy.typing as npt
from blendtorch.btb.blender import versions
from blendtorch.btb.blender.meshes import depsgraph

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Instance:
    """A mesh at a place: an object's own, or a copy that a collection instance, particles or geometry nodes make.

    Curves, texts, surfaces and metaballs come as the meshes that Blender draws for them.

    Attributes
    ----------
    key : tuple
        The same for the same instance in each frame.
    obj : bpy.types.Object
        Whose geometry it is; original, not evaluated.
    instancer : bpy.types.Object or None
        Who makes the copy, original too; None for an object's own geometry.
    data : bpy.types.Mesh
        Evaluated; valid until the scene changes. Instances with the same geometry share it.
    world_from_object : ndarray, shape (4, 4), float64
    holdout : bool
        It cuts a hole into the picture.
    """

    key: tuple[int, ...]
    obj: Any
    instancer: Any
    data: Any
    world_from_object: npt.NDArray[np.float64]
    holdout: bool


def instances() -> list[Instance]:
    """List what pictures show of the evaluated scene: neither renders nor the viewport hide it."""
    found = []
    graph = depsgraph()
    unrendered = _unrendered(graph.scene.original)
    holdouts = _holdouts(graph.view_layer)
    for each in graph.object_instances:
        evaluated = each.object
        if evaluated.type != "MESH" or not each.show_self:
            continue
        obj, instancer = evaluated.original, each.parent.original if each.is_instance else None
        if obj.hide_render or obj.name in unrendered:
            continue
        # The mesh that a curve is drawn as has the curve for its parent.
        if instancer == obj and obj.type != "MESH":
            instancer = None
        if instancer is not None and (instancer.hide_render or instancer.name in unrendered):
            continue
        found.append(
            Instance(
                key=(obj.as_pointer(), instancer.as_pointer() if instancer else 0, *each.persistent_id),
                obj=obj,
                instancer=instancer,
                data=evaluated.data,
                world_from_object=np.array(each.matrix_world, np.float64),
                holdout=obj.is_holdout or obj.name in holdouts,
            )
        )
    return found


def _unrendered(scene: Any) -> frozenset[str]:
    """Name the objects that all of their collections keep from renders."""
    if not any(collection.hide_render for collection in scene.collection.children_recursive):
        return frozenset()
    shown: set[str] = set()

    def walk(collection: Any) -> None:
        if not collection.hide_render:
            shown.update(obj.name for obj in collection.objects)
            for child in collection.children:
                walk(child)

    walk(scene.collection)
    return frozenset(obj.name for obj in scene.objects if obj.name not in shown)


def _holdouts(layer: Any) -> frozenset[str]:
    """Name the objects of collections that are holdouts."""

    def found(each: Any) -> Iterator[str]:
        if each.holdout:
            yield from (obj.name for obj in each.collection.all_objects)
        else:
            for child in each.children:
                yield from found(child)

    return frozenset(found(layer.layer_collection))


@dataclass(frozen=True)
class Triangles:
    """The surface of a mesh, corner by corner.

    Attributes
    ----------
    vertices : ndarray, shape (V, 3), float32
        Those that belong to a face, in the frame of the object.
    positions : ndarray, shape (L, 3), float32
        Of the corners, in the frame of the object.
    normals : ndarray, shape (L, 3), float32
        As they are shaded: smooth, flat or custom.
    uv : ndarray, shape (L, 2), float32
        Of the UV map that renders use; 0 where there is none.
    materials : ndarray, shape (L,), int32
        Numbers of material slots.
    indices : ndarray, shape (T, 3), int32
        Numbers of corners.
    """

    vertices: Floats
    positions: Floats
    normals: Floats
    uv: Floats
    materials: npt.NDArray[np.int32]
    indices: npt.NDArray[np.int32]


def triangles(data: Any) -> Triangles:
    """Read the surface of an evaluated mesh.

    Parameters
    ----------
    data : bpy.types.Mesh
    """
    data.calc_loop_triangles()
    corners, count = len(data.loops), len(data.loop_triangles)
    vertices, numbers = versions.vertices(data), versions.corner_vertices(data)
    if count == len(data.polygons) == corners // 3:
        indices = np.arange(corners, dtype=np.int32).reshape(-1, 3)  # all triangles already; to read them takes longest
    else:
        indices = np.empty((count, 3), np.int32)
        data.loop_triangles.foreach_get("loops", indices.ravel())
    materials = np.zeros(corners, np.int32)
    if len(data.materials) > 1:
        of_triangles = np.empty(count, np.int32)
        data.loop_triangles.foreach_get("material_index", of_triangles)
        materials[indices] = of_triangles[:, None]
    of_faces = np.zeros(len(vertices), bool)
    of_faces[numbers] = True
    used = vertices if of_faces.all() else vertices[of_faces]
    return Triangles(used, vertices[numbers], versions.corner_normals(data), versions.corner_uv(data), materials, indices)


class GeometryChanges:
    """Notes of which objects the dependency graph says that their geometry has changed."""

    def __init__(self) -> None:
        self._changed: set[int] = set()
        self._handlers = [bpy.app.handlers.depsgraph_update_post, bpy.app.handlers.frame_change_post]
        for handlers in self._handlers:
            handlers.append(self._note)

    def take(self) -> set[int]:
        """Return the pointers of the original objects that have changed since the last call."""
        depsgraph()
        changed, self._changed = self._changed, set()
        return changed

    def close(self) -> None:
        """Note no more. Closing twice does nothing."""
        for handlers in self._handlers:
            if self._note in handlers:
                handlers.remove(self._note)

    def _note(self, _scene: Any, graph: Any = None) -> None:
        if graph is not None and graph.mode == "VIEWPORT":
            self._changed.update(each.id.original.as_pointer() for each in graph.updates if each.is_updated_geometry)
