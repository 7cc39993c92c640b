"""Rigid bodies, made without operators: those need a window's selection."""

from typing import Any

import bpy
from blendtorch.core.errors import SceneError


def rigid_body_world(scene: Any) -> Any:
    """Return the rigid body world of a scene, with a collection; made where there is none, and switched on."""
    if scene.rigidbody_world is None:
        with bpy.context.temp_override(scene=scene):
            bpy.ops.rigidbody.world_add()
    world = scene.rigidbody_world
    if world.collection is None:
        world.collection = bpy.data.collections.new("RigidBodyWorld")
    world.enabled = True
    return world


def rigid_body(scene: Any, obj: Any, kind: str, margin: float | None = None) -> Any:
    """Give an object a rigid body, or change the one it has.

    Parameters
    ----------
    scene : bpy.types.Scene
    obj : bpy.types.Object
        A mesh.
    kind : {'ACTIVE', 'PASSIVE'}
        A body that is made gets the shape of its convex hull, or of its mesh where it is passive.
    margin : float, optional
        How far around a body that is made others stop, in scene units. Default: Blender's, 0.04, which would let a part of a
        few centimetres float over the ground.

    Returns
    -------
    bpy.types.RigidBodyObject

    Raises
    ------
    SceneError
        If the object is no mesh.
    """
    if obj.type != "MESH":
        raise SceneError(f"object {obj.name!r} of type {obj.type} cannot be a rigid body: expected a mesh")
    made = obj.rigid_body is None
    members = rigid_body_world(scene).collection.objects
    if obj.name not in members:
        members.link(obj)
    if obj.rigid_body is None:  # Blender adds the body where it links the object; 3.4 where it evaluates the collection
        bpy.context.view_layer.update()
    body = obj.rigid_body
    if made or kind != body.type:
        body.collision_shape = "MESH" if kind == "PASSIVE" else "CONVEX_HULL"
    if made and margin is not None:
        body.use_margin, body.collision_margin = True, margin
    body.type = kind
    if kind == "ACTIVE":
        body.enabled, body.kinematic = True, False
    return body
