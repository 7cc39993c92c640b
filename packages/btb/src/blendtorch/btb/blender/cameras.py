"""Cameras of Blender, as the projection formulas want them."""

from typing import Any

import bpy
import numpy as np
import numpy.typing as npt
from blendtorch.btb.blender.meshes import depsgraph
from blendtorch.btb.blender.scene import picture_shape
from blendtorch.core import geometry
from blendtorch.core.errors import CameraError
from blendtorch.core.interfaces import CameraView


def scene_camera(camera: Any = None) -> Any:
    """Return `camera`, or the current scene's, as a camera object.

    Raises
    ------
    CameraError
        If there is none, or the object is no camera.
    """
    camera = bpy.context.scene.camera if camera is None else camera
    if camera is None:
        raise CameraError("the scene has no active camera: set scene.camera, or pass one")
    if getattr(camera, "type", None) != "CAMERA":
        raise CameraError(f"{getattr(camera, 'name', camera)!r} is no camera object")
    return camera


def lens(camera: Any, shape: tuple[int, int], scene: Any = None) -> geometry.Lens:
    """Read what shapes the projection of a camera.

    Parameters
    ----------
    camera : bpy.types.Object
        A camera object; its animation is evaluated.
    shape : tuple of int
        Height and width of the picture in pixels.
    scene : bpy.types.Scene, optional
        Whose pixel aspect counts. Default: the current one.

    Returns
    -------
    geometry.Lens

    Raises
    ------
    CameraError
        If the camera is panoramic or custom: straight lines are no lines in its pictures.
    """
    return _lens(camera.evaluated_get(depsgraph()).data, camera.name, shape, (scene or bpy.context.scene).render)


def _lens(data: Any, name: str, shape: tuple[int, int], render: Any) -> geometry.Lens:
    if data.type not in ("PERSP", "ORTHO"):
        raise CameraError(f"camera {name!r} is of type {data.type}: only perspective and orthographic cameras can be projected")
    return geometry.Lens(
        width=shape[1],
        height=shape[0],
        projection="perspective" if data.type == "PERSP" else "orthographic",
        focal_length_mm=data.lens,
        sensor_width_mm=data.sensor_width,
        sensor_height_mm=data.sensor_height,
        sensor_fit=data.sensor_fit,
        orthographic_scale=data.ortho_scale,
        shift_x=data.shift_x,
        shift_y=data.shift_y,
        pixel_aspect_x=render.pixel_aspect_x,
        pixel_aspect_y=render.pixel_aspect_y,
    )


def world_matrix(obj: Any) -> npt.NDArray[np.float64]:
    """Read the evaluated world matrix of an object.

    Returns
    -------
    ndarray, shape (4, 4), float64
        `world_from_object`, with animation, parents and constraints.
    """
    return np.array(obj.evaluated_get(depsgraph()).matrix_world, np.float64)


def view(camera: Any, shape: tuple[int, int] | None = None) -> CameraView:
    """Look through a camera at this moment.

    Parameters
    ----------
    camera : bpy.types.Object
    shape : tuple of int, optional
        Height and width of the picture in pixels. Default: the scene's render settings.

    Returns
    -------
    CameraView

    Raises
    ------
    CameraError
        If the camera is panoramic, or has a scale of zero.
    """
    evaluated = camera.evaluated_get(depsgraph())
    data = evaluated.data
    return CameraView(
        name=camera.name,
        obj=camera,
        lens=_lens(data, camera.name, shape or picture_shape(), bpy.context.scene.render),
        camera_from_world=geometry.camera_from_world(evaluated.matrix_world),
        clip_range=(data.clip_start, data.clip_end),
    )
