"""Make cube.blend and falling_cubes.blend, beside this file.

Run it with the oldest Blender that blendtorch supports, so that every newer one opens them:

    blender --background --factory-startup --python make_scenes.py
"""

from math import radians
from pathlib import Path

import bpy

FOLDER = Path(__file__).resolve().parent


def start_scene():
    """Begin with the factory scene, drawn by Workbench: fast without a GPU."""
    bpy.ops.wm.read_factory_settings(use_empty=False)
    scene = bpy.context.scene
    scene.render.engine = "BLENDER_WORKBENCH"
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 640, 480, 100
    scene.view_settings.view_transform = "Standard"
    scene.display.viewport_aa = "OFF"  # 8x costs 200 ms a picture in software
    scene.display.shading.light = "STUDIO"
    scene.display.shading.color_type = "MATERIAL"
    return scene


def save(name):
    bpy.context.preferences.filepaths.save_version = 0
    bpy.ops.wm.save_as_mainfile(filepath=str(FOLDER / name), compress=True)


def make_cube():
    scene = start_scene()
    scene.world.color = (0.05, 0.05, 0.05)
    bpy.data.objects["Cube"].active_material.diffuse_color = (0.8, 0.3, 0.05, 1.0)
    save("cube.blend")


def make_falling_cubes(count=8):
    scene = start_scene()
    scene.world.color = (0.6, 0.7, 0.8)
    bpy.data.objects.remove(bpy.data.objects["Cube"])
    bpy.ops.rigidbody.world_add()
    scene.rigidbody_world.collection = bpy.data.collections.new("RigidBodyWorld")

    bpy.ops.mesh.primitive_plane_add(size=40)
    plane = bpy.context.object
    plane.name = "Plane"
    bpy.ops.rigidbody.object_add(type="PASSIVE")
    plane.data.materials.append(bpy.data.materials.new("Plane"))
    plane.active_material.diffuse_color = (0.35, 0.35, 0.35, 1.0)

    cubes = bpy.data.collections.new("Cubes")
    scene.collection.children.link(cubes)
    for number in range(count):
        bpy.ops.mesh.primitive_cube_add(size=1.6, location=(3 * (number % 4) - 4.5, 3 * (number // 4) - 1.5, 6))
        cube = bpy.context.object
        cube.name = f"Cube.{number:03d}"
        bpy.ops.rigidbody.object_add(type="ACTIVE")
        cube.rigid_body.restitution = 0.2
        for collection in list(cube.users_collection):
            if collection != scene.rigidbody_world.collection:
                collection.objects.unlink(cube)
        cubes.objects.link(cube)

    camera = scene.camera
    camera.location, camera.rotation_euler = (14.0, -14.0, 8.0), (radians(76), 0.0, radians(45))
    camera.data.lens = 42
    save("falling_cubes.blend")


make_cube()
make_falling_cubes()
