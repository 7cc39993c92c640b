"""What differs between Blender versions: known here and nowhere else. Versions: 3.4, 4.2, 4.5, 5.0, 5.2."""

from collections.abc import Callable
from typing import Any

import bpy
import numpy as np
import numpy.typing as npt
from blendtorch.core.errors import SceneError

VERSION: tuple[int, int, int] = tuple(bpy.app.version)


def eevee() -> str:
    """Name EEVEE as `scene.render.engine` wants it in this Blender."""
    return "BLENDER_EEVEE_NEXT" if (4, 2, 0) <= VERSION < (5, 0, 0) else "BLENDER_EEVEE"


def opengl() -> tuple[int, int]:
    """Name the version of OpenGL that this Blender needs."""
    return (4, 3) if VERSION >= (4, 0, 0) else (3, 3)


def film_arguments(scene: Any, alpha: bool) -> dict[str, bool]:
    """Choose the arguments of `GPUOffScreen.draw_view3d` that give a picture the scene's film.

    Parameters
    ----------
    scene : bpy.types.Scene
    alpha : bool
        Whether the picture has an alpha channel; without one the film makes no difference.

    Raises
    ------
    SceneError
        If the film is transparent, and this Blender draws it opaque: 3.4 does, 4.2 and later do not.
    """
    if not (alpha and scene.render.film_transparent):
        return {}
    if VERSION < (4, 0, 0):
        raise SceneError(
            f"Blender {bpy.app.version_string} draws a transparent film opaque in the viewport: "
            "render with Cycles or a newer Blender, switch off scene.render.film_transparent, or use mode='rgb'"
        )
    return {"draw_background": False}


def fcurves(animation: Any) -> list[Any]:
    """List the F-curves that animate a datablock, from its `animation_data`: those of its action, and of its NLA strips.

    From 4.4 on actions have slots, and from 5.0 on they have no `fcurves` of their own any more.
    """
    found = _of_action(animation.action, getattr(animation, "action_slot", None))
    for track in animation.nla_tracks:
        for strip in track.strips:
            if not (track.mute or strip.mute):
                found += _of_action(strip.action, getattr(strip, "action_slot", None))
    return found


def _of_action(action: Any, slot: Any) -> list[Any]:
    if action is None:
        return []
    if not hasattr(action, "layers"):
        return list(action.fcurves)
    if slot is None:
        return []
    bags = [strip.channelbag(slot) for layer in action.layers for strip in layer.strips if strip.type == "KEYFRAME"]
    return [curve for bag in bags if bag for curve in bag.fcurves]


def importer(suffix: str) -> Callable[..., Any]:
    """Return what imports files of a format, called with `filepath`.

    The importers of PLY and STL were add-ons up to 3.6. That of glTF in 3.4 says `np.bool`, which numpy 1.24 took away.
    """
    if suffix in (".glb", ".gltf"):
        if VERSION < (4, 0, 0) and not hasattr(np, "bool"):
            np.bool = bool  # type: ignore[attr-defined]
        return bpy.ops.import_scene.gltf  # type: ignore[no-any-return]
    if suffix == ".fbx":
        return bpy.ops.import_scene.fbx  # type: ignore[no-any-return]
    if suffix.startswith(".usd"):
        if "usd_import" not in dir(bpy.ops.wm):
            raise SceneError("it was built without USD: convert the file to .glb, or use another Blender")
        return bpy.ops.wm.usd_import  # type: ignore[no-any-return]
    kind = suffix.removeprefix(".")
    if kind != "obj" and VERSION < (4, 2, 0):
        return getattr(bpy.ops.import_mesh, kind)  # type: ignore[no-any-return]
    return getattr(bpy.ops.wm, f"{kind}_import")  # type: ignore[no-any-return]


def vertices(data: Any) -> npt.NDArray[np.float32]:
    """Read the vertices of an evaluated mesh, shape (V, 3)."""
    return _read((len(data.vertices), 3), np.float32, data, "position", "vector", (data.vertices, "co"))


def edges(data: Any) -> npt.NDArray[np.int32]:
    """Read the numbers of the vertices of each edge of an evaluated mesh, shape (E, 2)."""
    return _read((len(data.edges), 2), np.int32, data, ".edge_verts", "value", (data.edges, "vertices"))


def corner_vertices(data: Any) -> npt.NDArray[np.int32]:
    """Read the number of the vertex of each corner of an evaluated mesh, shape (L,)."""
    return _read((len(data.loops),), np.int32, data, ".corner_vert", "value", (data.loops, "vertex_index"))


def corner_uv(data: Any) -> npt.NDArray[np.float32]:
    """Read the UV map of an evaluated mesh that renders use, shape (L, 2); 0 where there is none."""
    layer = next((layer for layer in data.uv_layers if layer.active_render), None)
    if layer is None:
        return np.zeros((len(data.loops), 2), np.float32)
    return _read((len(data.loops), 2), np.float32, data, layer.name, "vector", (layer.data, "uv"))


def _read(shape: tuple[int, ...], dtype: Any, data: Any, attribute: str, field: str, old: tuple[Any, str]) -> npt.NDArray[Any]:
    """Read what 3.4 has no attribute for, as an attribute where there is one: 65 to 500 times as fast on 4.5."""
    array = np.empty(shape, dtype)
    if attribute in data.attributes and hasattr(data.attributes[attribute].data[0] if shape[0] else None, field):
        data.attributes[attribute].data.foreach_get(field, array.ravel())
    elif shape[0]:
        old[0].foreach_get(old[1], array.ravel())
    return array


def corner_normals(data: Any) -> npt.NDArray[np.float32]:
    """Read the normals of the corners of an evaluated mesh, as they are shaded; shape (L, 3).

    From 4.1 on they are there; before they are computed on demand.
    """
    normals = np.empty((len(data.loops), 3), np.float32)
    if hasattr(data, "corner_normals"):
        data.corner_normals.foreach_get("vector", normals.ravel())
        return normals
    data.calc_normals_split()
    data.loops.foreach_get("normal", normals.ravel())
    data.free_normals_split()
    return normals
