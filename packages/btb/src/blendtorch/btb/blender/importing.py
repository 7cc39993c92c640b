"""Reading models from files of other programs, by whichever importer this Blender has."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bpy
import mathutils
import numpy as np
from blendtorch.btb.blender import versions
from blendtorch.btb.blender.instances import instances
from blendtorch.btb.blender.shading import node_tree
from blendtorch.core.errors import SceneError

_GREY = 0.5  # linear; of what has no material


def import_objects(path: str) -> list[Any]:
    """Import a file into the current scene; cameras, lamps and what else it has come with it.

    Parameters
    ----------
    path : str
        It ends with one of `blendtorch.core.assets.MESH_SUFFIXES`.

    Returns
    -------
    list of bpy.types.Object
        What came, with z up, in the order of names. A mesh without material has a neutral one.

    Raises
    ------
    SceneError
        If Blender cannot read it, or there is no surface in it.
    """
    before = set(bpy.data.objects)
    try:
        with _kept_settings():
            versions.importer(Path(path).suffix.lower())(filepath=path)
    except Exception as error:  # noqa: BLE001 - importers are add-ons, and raise whatever comes up in them
        lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("Location:")]
        reason = lines[-1] if lines else type(error).__name__  # above it stands the traceback of an add-on
        raise SceneError(f"Blender {bpy.app.version_string} cannot read {path}: {reason.removeprefix('Error: ')}") from None
    came = sorted(set(bpy.data.objects) - before, key=lambda obj: str(obj.name))
    meshes = [obj for obj in came if obj.type == "MESH"]
    if not any(len(obj.data.polygons) for obj in meshes):
        what = "has no faces" if meshes else "has no mesh"
        raise SceneError(f"{path} {what} that Blender {bpy.app.version_string} can read: nothing of it could be seen")
    for data in {obj.data.name: obj.data for obj in meshes}.values():
        _give_material(data)
    return came


def import_mesh(path: str) -> Any:
    """Import all that a file shows as one mesh: modifiers, poses and instances applied.

    Returns
    -------
    bpy.types.Mesh
        In the frame of the file, with z up. Nothing else of it stays, but for materials and images.

    Raises
    ------
    SceneError
        As `import_objects`.
    """
    collections = set(bpy.data.collections)
    came = import_objects(path)
    names = {obj.name for obj in came}
    merged = []
    for each in instances():
        if each.obj.name in names and len(each.data.polygons):
            data = bpy.data.meshes.new_from_object(each.obj.evaluated_get(bpy.context.evaluated_depsgraph_get()))
            data.transform(mathutils.Matrix(each.world_from_object.tolist()))
            if np.linalg.det(each.world_from_object[:3, :3]) < 0:
                data.flip_normals()
            merged.append(data)
    for obj in came:
        bpy.data.objects.remove(obj)
    for collection in set(bpy.data.collections) - collections:
        bpy.data.collections.remove(collection)
    if not merged:
        raise SceneError(f"{path} hides all of its meshes: nothing of it could be seen")
    return _joined(merged)


def _joined(meshes: list[Any]) -> Any:
    """Make one mesh of several; materials, UV maps and colours stay with their faces."""
    first, *others = meshes
    if others:
        objects = [bpy.data.objects.new(data.name, data) for data in meshes]
        for obj in objects:
            bpy.context.scene.collection.objects.link(obj)
        with bpy.context.temp_override(active_object=objects[0], object=objects[0], selected_editable_objects=objects):
            bpy.ops.object.join()
        bpy.data.objects.remove(objects[0])
        for data in others:
            bpy.data.meshes.remove(data)
    return first


@contextmanager
def _kept_settings() -> Iterator[None]:
    """Keep what importers set in the scene for a file with animation: its frames are the scene's to say.

    What comes goes into the scene's own collection: that in which the user has worked last may be hidden.
    """
    scene, layer = bpy.context.scene, bpy.context.view_layer
    active = layer.active_layer_collection
    layer.active_layer_collection = layer.layer_collection
    owners = [(scene, ("frame_start", "frame_end", "camera")), (scene.render, ("fps", "fps_base"))]
    before = [(owner, name, getattr(owner, name)) for owner, names in owners for name in names]
    frame = scene.frame_current
    try:
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
        layer.active_layer_collection = active
        scene.frame_set(frame)


def _give_material(data: Any) -> None:
    """Give a mesh without material a neutral one, that shows its colours where it has such."""
    if any(material is not None for material in data.materials):
        return
    material = bpy.data.materials.new(data.name)
    tree = node_tree(material)
    shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
    shader.inputs["Base Color"].default_value = (_GREY, _GREY, _GREY, 1)
    material.diffuse_color = (_GREY, _GREY, _GREY, 1)
    if len(data.color_attributes):
        colors = tree.nodes.new("ShaderNodeVertexColor")
        colors.layer_name = data.color_attributes[0].name
        tree.links.new(colors.outputs["Color"], shader.inputs["Base Color"])
    data.materials.clear()
    data.materials.append(material)
