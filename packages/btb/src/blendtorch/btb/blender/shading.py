"""Materials and worlds: their nodes, found by type, for names are translated and changed by users."""

from typing import Any

import bpy
from blendtorch.btb.blender import versions
from blendtorch.core.errors import SceneError


def node_tree(datablock: Any) -> Any:
    """Return the nodes of a material or world, switched on where they are off; from 5.0 on they always are."""
    if versions.VERSION < (5, 0, 0) and not datablock.use_nodes:
        datablock.use_nodes = True
    return datablock.node_tree


def principled(material: Any) -> list[Any]:
    """Find the Principled BSDF nodes of a material.

    Where its nodes are off, they are switched on, and show what the material showed.

    Raises
    ------
    SceneError
        If there is none.
    """
    off = versions.VERSION < (5, 0, 0) and not material.use_nodes
    found = [node for node in node_tree(material).nodes if node.type == "BSDF_PRINCIPLED"]
    if not found:
        raise SceneError(f"material {material.name!r} has no Principled BSDF node: add one, or choose other materials")
    if off:
        for node in found:
            node.inputs["Base Color"].default_value = material.diffuse_color
            node.inputs["Metallic"].default_value = material.metallic
            node.inputs["Roughness"].default_value = material.roughness
    return found


def materials_of(obj: Any) -> list[Any]:
    """List the materials of an object, each once; one without gets a material of its own.

    Raises
    ------
    SceneError
        If it is of a type that has no materials.
    """
    if not hasattr(obj.data, "materials"):
        raise SceneError(f"object {obj.name!r} of type {obj.type} has no materials: choose others")
    found = [slot.material for slot in obj.material_slots if slot.material is not None]
    if not found:
        material = bpy.data.materials.new(obj.name)
        node_tree(material)
        if obj.material_slots:
            obj.material_slots[0].material = material
        else:
            obj.data.materials.append(material)
        found = [material]
    return list({material.name: material for material in found}.values())


def surface_input(world: Any) -> Any:
    """Return the input of a world's output node that says how it looks.

    Where there is no output node, one is made.
    """
    tree = node_tree(world)
    outputs = [node for node in tree.nodes if node.type == "OUTPUT_WORLD"]
    output = next((node for node in outputs if node.is_active_output), None)
    if output is None:
        output = outputs[0] if outputs else tree.nodes.new("ShaderNodeOutputWorld")
    return output.inputs["Surface"]
