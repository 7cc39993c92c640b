"""The scene for models that come without one: a ground, lamps, and a camera that has them in view."""

from pathlib import Path
from typing import Any

import bpy
import mathutils
import numpy as np
import numpy.typing as npt
from blendtorch.btb import blender
from blendtorch.core import geometry
from blendtorch.core.assets import METRES, Unit, size_notice

_MARK = "blendtorch_studio"
_GROUND_GREY = 0.25  # linear
_RESOLUTION = (640, 480)
_DISTANCE = 4.2  # of the camera, in radii of what it looks at: the sphere fills its 30 degrees of view
_ELEVATION, _AZIMUTH = np.radians(30), np.radians(-60)
_POWER = 130.0  # watts per square metre of radius, of the key light; what is grey looks grey then


def build() -> Any:
    """Empty the current scene, and put a ground, lamps and a camera into it.

    The view transform is Standard: colours of materials come out as they are. It fits what is 1 m large; `fit` changes that.

    Returns
    -------
    bpy.types.Scene
    """
    scene = bpy.context.scene
    for obj in list(bpy.data.objects):
        bpy.data.objects.remove(obj)
    scene[_MARK] = True
    scene.view_settings.view_transform = "Standard"
    scene.view_settings.look = "None"
    scene.render.resolution_x, scene.render.resolution_y = _RESOLUTION
    scene.render.resolution_percentage = 100
    scene.display.shading.color_type = "MATERIAL"
    camera = _add(scene, "Camera", bpy.data.cameras.new("Camera"))
    scene.camera = camera
    for name in ("Key", "Fill"):
        _add(scene, name, bpy.data.lights.new(name, "AREA"))
    ground = bpy.data.meshes.new("Ground")
    corners = [(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)]
    ground.from_pydata(corners, [], [(0, 1, 2, 3)])
    layer = ground.uv_layers.new(name="UVMap")
    for corner, (x, y, _) in zip(layer.data, corners, strict=True):
        corner.uv = ((x + 1) / 2, (y + 1) / 2)
    material = bpy.data.materials.new("Ground")
    for node in blender.principled(material):
        node.inputs["Base Color"].default_value = (_GROUND_GREY, _GROUND_GREY, _GROUND_GREY, 1)
        node.inputs["Roughness"].default_value = 0.8
    material.diffuse_color = (_GROUND_GREY, _GROUND_GREY, _GROUND_GREY, 1)
    ground.materials.append(material)
    _add(scene, "Ground", ground)
    if scene.world is None:
        scene.world = bpy.data.worlds.new("World")
    scene.world.color = (0.4, 0.4, 0.4)
    for node in blender.node_tree(scene.world).nodes:
        if node.type == "BACKGROUND":
            node.inputs["Color"].default_value = (0.4, 0.4, 0.4, 1)
    fit(scene, 1.0)
    return scene


def is_studio(scene: Any) -> bool:
    """Whether a scene was built here."""
    return _MARK in scene


def fit(scene: Any, radius: float, height: float = 0.0) -> None:
    """Set camera, lamps and ground up for what lies within a distance from the origin.

    Parameters
    ----------
    scene : bpy.types.Scene
        That `build` has made; what it put there and the file replaced is left out.
    radius : float
        In metres.
    height : float
        Of what the camera looks at, in metres.
    """
    target = mathutils.Vector((0, 0, height))
    if (camera := scene.objects.get("Camera")) is not None:
        away = (np.cos(_ELEVATION) * np.cos(_AZIMUTH), np.cos(_ELEVATION) * np.sin(_AZIMUTH), np.sin(_ELEVATION))
        _aim(camera, target, mathutils.Vector(away) * radius * _DISTANCE)
        camera.data.clip_start, camera.data.clip_end = radius / 20, radius * 200
    for name, place, power, size in (("Key", (-3, -2, 4), 1.0, 3.0), ("Fill", (4, 1, 2), 0.3, 4.0)):
        if (lamp := scene.objects.get(name)) is not None:
            _aim(lamp, target, mathutils.Vector(place) * radius)
            lamp.data.energy, lamp.data.size = _POWER * power * radius**2, size * radius
    if (ground := scene.objects.get("Ground")) is not None:
        ground.scale = (40 * radius, 40 * radius, 1)


def open_model(path: str, unit: Unit) -> tuple[str, str]:
    """Make a studio of the current scene, with what is in a file standing on its ground.

    Objects of the file keep their names and their hierarchy; the file is one object of interest, under its name. Cameras and
    lamps that it brings take the place of the studio's.

    Parameters
    ----------
    path : str
        Of a mesh; see `blendtorch.core.assets.MESH_SUFFIXES`.
    unit : {'m', 'cm', 'mm', 'in'}

    Returns
    -------
    size, notice : str
        For people: how large it is; why that is hardly so, or "".

    Raises
    ------
    SceneError
        If the file cannot be read.
    """
    scene = build()
    came = blender.import_objects(path)
    root = _root(scene, Path(path).stem, came, METRES[unit])
    root["category_name"] = Path(path).stem
    low, high = _box(came)
    if (camera := next((obj for obj in came if obj.type == "CAMERA"), None)) is not None:
        bpy.data.objects.remove(scene.objects["Camera"])
        scene.camera = camera
    else:
        root.location = (-(low[0] + high[0]) / 2, -(low[1] + high[1]) / 2, -low[2])
    if any(obj.type == "LIGHT" for obj in came):
        for name in ("Key", "Fill"):
            bpy.data.objects.remove(scene.objects[name])
    size = high - low
    fit(scene, float(np.linalg.norm(size)) / 2, float(size[2]) / 2)
    return described(path, size), size_notice(Path(path).name, size.tolist(), unit)


def described(path: str, size: npt.ArrayLike) -> str:
    """Say how large a model is."""
    x, y, z = (f"{each:.3g}" for each in np.asarray(size, float))
    return f"{Path(path).name}: {x} x {y} x {z} m"


def _root(scene: Any, name: str, came: list[Any], scale: float) -> Any:
    """Return what all objects of a file hang on: the only one, or an empty."""
    if len(came) == 1 and came[0].animation_data is None and scale == 1:
        return came[0]
    root = _add(scene, name, None)
    for obj in came:
        if obj.parent is None:
            obj.parent = root
    root.scale = (scale, scale, scale)
    return root


def _box(objects: list[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Compute the box around the meshes of a file, in the world."""
    names = {obj.name for obj in objects}
    points = np.concatenate(
        [
            geometry.transform(each.world_from_object, blender.triangles(each.data).vertices)
            for each in blender.instances()
            if each.obj.name in names
        ]
    )
    return points.min(axis=0), points.max(axis=0)


def _add(scene: Any, name: str, data: Any) -> Any:
    obj = bpy.data.objects.new(name, data)
    scene.collection.objects.link(obj)
    return obj


def _aim(obj: Any, target: Any, offset: Any) -> None:
    obj.location = target + offset
    obj.rotation_euler = (-offset).to_track_quat("-Z", "Y").to_euler()
