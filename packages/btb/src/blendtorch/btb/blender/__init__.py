"""The public facade for plug-ins: Blender's versions, its GPU, cameras, evaluated geometry.

What differs between Blender versions, and what it takes to work without a window, is known here and nowhere else.
"""

from blendtorch.btb.blender.cameras import check_frame, lens, scene_camera, showing, view, world_matrix
from blendtorch.btb.blender.drawing import Viewport, draw_instances, find_view3d, gpu_device, start_gpu
from blendtorch.btb.blender.images import free_image, load_image, read_picture
from blendtorch.btb.blender.importing import import_mesh, import_objects
from blendtorch.btb.blender.instances import GeometryChanges, Instance, Triangles, instances, triangles
from blendtorch.btb.blender.meshes import Mesh, depsgraph, mesh
from blendtorch.btb.blender.physics import rigid_body, rigid_body_world
from blendtorch.btb.blender.scene import (
    check_scene,
    matching,
    objects_matching,
    open_scene,
    overwritten,
    picture_shape,
    scripts_not_run,
    set_render_threads,
)
from blendtorch.btb.blender.shading import materials_of, node_tree, principled, surface_input
from blendtorch.btb.blender.transforms import rotation, rotation_path, set_rotation
from blendtorch.btb.blender.versions import VERSION, eevee, film_arguments

__all__ = [
    "VERSION",
    "GeometryChanges",
    "Instance",
    "Mesh",
    "Triangles",
    "Viewport",
    "check_frame",
    "check_scene",
    "depsgraph",
    "draw_instances",
    "eevee",
    "film_arguments",
    "find_view3d",
    "free_image",
    "gpu_device",
    "import_mesh",
    "import_objects",
    "instances",
    "lens",
    "load_image",
    "matching",
    "materials_of",
    "mesh",
    "node_tree",
    "objects_matching",
    "open_scene",
    "overwritten",
    "picture_shape",
    "principled",
    "read_picture",
    "rigid_body",
    "rigid_body_world",
    "rotation",
    "rotation_path",
    "scene_camera",
    "scripts_not_run",
    "set_render_threads",
    "set_rotation",
    "showing",
    "start_gpu",
    "surface_input",
    "triangles",
    "view",
    "world_matrix",
]
