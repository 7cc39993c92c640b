"""Cameras of Blender, as the projection formulas want them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import bpy
import numpy as np
import numpy.typing as npt
from blendtorch.btb.blender.meshes import depsgraph
from blendtorch.btb.blender.scene import overwritten, picture_shape
from blendtorch.core import geometry
from blendtorch.core.errors import CameraError, SceneError
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


_FRAME_TOLERANCE_PX = 0.01  # Blender keeps its settings as float32
_FRAME = ("sensor_fit", "sensor_width", "shift_x", "shift_y")  # what `showing` sets of a camera


def check_frame(camera: Any) -> None:
    """Refuse a camera that `showing` cannot set, for Blender would set it back in a render.

    Raises
    ------
    SceneError
        Names what overwrites it.
    """
    for path in _FRAME:
        if reason := overwritten(camera.data, path, "frame"):
            raise SceneError(
                f"`distortion` needs a camera whose sensor and shift can be set for each picture, and {reason} sets {path} of "
                f"{camera.data.name!r}: remove it, or animate the focal length instead"
            )


@contextmanager
def showing(view: CameraView) -> Iterator[None]:
    """Give a camera of Blender the lens of a view, and the scene's pictures its size, and give both back.

    The camera's place and focal length stay, so does what its depth of field and its motion blur go by.

    Parameters
    ----------
    view : CameraView
        Of its own lens, but for the sensor and the shift, and of a horizontal sensor fit.

    Raises
    ------
    SceneError
        If the camera does not take them.
    """
    data, render = view.obj.data, bpy.context.scene.render
    settings: list[tuple[Any, str, Any]] = [
        (data, "sensor_fit", view.lens.sensor_fit),
        (data, "sensor_width", view.lens.sensor_width_mm),
        (data, "shift_x", view.lens.shift_x),
        (data, "shift_y", view.lens.shift_y),
        (render, "resolution_x", view.lens.width),
        (render, "resolution_y", view.lens.height),
        (render, "resolution_percentage", 100),
    ]
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in settings]
    try:
        for owner, name, value in settings:
            setattr(owner, name, value)
        expected, taken = geometry.intrinsics(view.lens), geometry.intrinsics(lens(view.obj, view.shape))
        if np.abs(taken - expected).max() > _FRAME_TOLERANCE_PX:
            raise SceneError(
                f"camera {view.name!r} does not take the lens that a picture with distortion is made of: expected K "
                f"{expected.tolist()}, it has {taken.tolist()}"
            )
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
