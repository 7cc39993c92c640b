"""Where things are in the picture of a Blender camera.

Pixel coordinates are `(x, y)`, x right, y down, `(0, 0)` the top-left corner of the image: the centre of the first pixel
is `(0.5, 0.5)`. With `origin='lower-left'` y points up from the bottom-left corner.
"""

from typing import Any

import bpy
import mathutils
import numpy as np
import numpy.typing as npt
from blendtorch.btb import blender, coordinates
from blendtorch.core import geometry
from blendtorch.core.errors import CameraError

Array = npt.NDArray[np.float64]


class Camera:
    """A Blender camera together with the shape of its picture.

    Everything is read from Blender when it is asked for: a camera that moves, zooms or is animated needs no update.
    Its scale is ignored, as Blender's renderers do.

    Parameters
    ----------
    bpy_camera : bpy.types.Object, optional
        Default: the scene's active camera.
    shape : tuple of int, optional
        Height and width of the picture in pixels. Default: the scene's render settings.

    Raises
    ------
    CameraError
        If there is no camera, or its type is neither perspective nor orthographic.
    """

    def __init__(self, bpy_camera: Any = None, shape: tuple[int, int] | None = None) -> None:
        self.bpy_camera = blender.scene_camera(bpy_camera)
        self._shape = shape
        self.intrinsics()  # a panoramic camera is refused here, not at the first frame

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the picture in pixels."""
        return self._shape or blender.picture_shape()

    @property
    def type(self) -> str:
        """Blender's type of the camera, PERSP or ORTHO."""
        return str(self.bpy_camera.data.type)

    @property
    def clip_range(self) -> tuple[float, float]:
        """Distances of the near and far clipping planes, in scene units."""
        return self.bpy_camera.data.clip_start, self.bpy_camera.data.clip_end

    @property
    def view_matrix(self) -> mathutils.Matrix:
        """Blender camera (y up, looking along -z) from world, 4x4."""
        return mathutils.Matrix(geometry.CAMERA_FROM_BLENDER_CAMERA @ self.camera_from_world())

    @property
    def proj_matrix(self) -> mathutils.Matrix:
        """Clip space from Blender camera, 4x4, as OpenGL has it."""
        render, (height, width) = bpy.context.scene.render, self.shape
        return self.bpy_camera.evaluated_get(blender.depsgraph()).calc_matrix_camera(
            blender.depsgraph(), x=width, y=height, scale_x=render.pixel_aspect_x, scale_y=render.pixel_aspect_y
        )

    def update_view_matrix(self) -> None:
        """Do nothing: matrices are read when they are needed. Scripts for 0.4 call it."""

    def update_proj_matrix(self) -> None:
        """Do nothing: matrices are read when they are needed. Scripts for 0.4 call it."""

    @staticmethod
    def shape_from_bpy(bpy_render: Any = None) -> tuple[int, int]:
        """Compute the picture's height and width from render settings. Default: the current scene's."""
        return blender.picture_shape(bpy_render.id_data if bpy_render else None)

    @staticmethod
    def view_from_bpy(bpy_camera: Any) -> mathutils.Matrix:
        """Compute `view_matrix` of a camera object."""
        return Camera(bpy_camera).view_matrix

    @staticmethod
    def proj_from_bpy(bpy_camera: Any, shape: tuple[int, int] | None = None) -> mathutils.Matrix:
        """Compute `proj_matrix` of a camera object."""
        return Camera(bpy_camera, shape).proj_matrix

    def intrinsics(self) -> Array:
        """Compute K, shape (3, 3), float64: see `blendtorch.core.geometry.intrinsics`."""
        return geometry.intrinsics(blender.lens(self.bpy_camera, self.shape))

    def camera_from_world(self) -> Array:
        """Compute the extrinsics, shape (4, 4), float64, into the camera frame x right, y down, z forward."""
        return geometry.camera_from_world(blender.world_matrix(self.bpy_camera))

    def world_to_pixel(self, xyz_world: npt.ArrayLike, origin: str = "upper-left") -> tuple[Array, Array]:
        """Project points of the world.

        Parameters
        ----------
        xyz_world : array_like, shape (N, 3)
            In scene units.
        origin : {'upper-left', 'lower-left'}

        Returns
        -------
        xy : ndarray, shape (N, 2), float64
            In pixels; NaN for points at or behind the centre of a perspective camera.
        depth : ndarray, shape (N,), float64
            Planar z in scene units.
        """
        points = geometry.transform(self.camera_from_world(), xyz_world)
        xy, depth = geometry.project(points, self.intrinsics(), self.type == "ORTHO")
        return _with_origin(xy, self.shape, origin), depth

    def object_to_pixel(self, *objs: Any, return_depth: bool = False) -> Any:
        """Project the vertices of objects, modifiers applied.

        Parameters
        ----------
        *objs : bpy.types.Object
        return_depth : bool

        Returns
        -------
        xy : ndarray, shape (N, 2), float64
            In pixels, see `world_to_pixel`.
        depth : ndarray, shape (N,), float64
            Only with `return_depth`.
        """
        return self._project(coordinates.world_coordinates(*objs), return_depth)

    def bbox_object_to_pixel(self, *objs: Any, return_depth: bool = False) -> Any:
        """Project the 8 corners of each object's bounding box; see `object_to_pixel`."""
        return self._project(coordinates.bbox_world_coordinates(*objs), return_depth)

    def world_to_ndc(self, xyz_world: npt.ArrayLike, return_depth: bool = False) -> Any:
        """Compute normalised device coordinates: x right, y up, z away, the picture spans -1 to 1.

        Parameters
        ----------
        xyz_world : array_like, shape (N, 3)
        return_depth : bool

        Returns
        -------
        ndc : ndarray, shape (N, 3), float64
            z is -1 on the near and 1 on the far clipping plane. NaN at or behind a perspective camera's centre.
        depth : ndarray, shape (N,), float64
            Only with `return_depth`: planar z in scene units.
        """
        xy, depth = self.world_to_pixel(xyz_world)
        height, width = self.shape
        near, far = self.clip_range
        if self.type == "ORTHO":
            z = (2 * depth - (far + near)) / (far - near)
        else:  # glFrustum's third row over its fourth, with depth = -z
            with np.errstate(divide="ignore", invalid="ignore"):
                z = np.where(depth > 0, (far + near) / (far - near) - 2 * far * near / ((far - near) * depth), np.nan)
        ndc = np.column_stack([2 * xy[:, 0] / width - 1, 1 - 2 * xy[:, 1] / height, z])
        return (ndc, depth) if return_depth else ndc

    def ndc_to_pixel(self, ndc: npt.ArrayLike, origin: str = "upper-left") -> Array:
        """Turn normalised device coordinates, shape (N, 2) or (N, 3), into pixels, shape (N, 2)."""
        array = np.atleast_2d(np.asarray(ndc, np.float64))
        height, width = self.shape
        xy = np.column_stack([(array[:, 0] + 1) * width / 2, (1 - array[:, 1]) * height / 2])
        return _with_origin(xy, self.shape, origin)

    def look_at(self, look_at: npt.ArrayLike | None = None, look_from: npt.ArrayLike | None = None) -> None:
        """Turn the camera to a point, and move it first if asked to.

        Parameters
        ----------
        look_at : array_like, shape (3,), optional
            World point to look at. Default: the origin.
        look_from : array_like, shape (3,), optional
            World point to stand at. Default: where it is.

        Raises
        ------
        CameraError
            If both points are the same.
        """
        eye = blender.world_matrix(self.bpy_camera)[:3, 3] if look_from is None else look_from
        pose = geometry.look_at(eye, (0.0, 0.0, 0.0) if look_at is None else look_at)
        self.bpy_camera.matrix_world = mathutils.Matrix(pose)

    def _project(self, xyz_world: Array, return_depth: bool) -> Any:
        xy, depth = self.world_to_pixel(xyz_world)
        return (xy, depth) if return_depth else xy


def project_points(*objects: Any, camera: Any = None) -> Array:
    """Project the vertices of objects, modifiers applied, into the picture.

    Parameters
    ----------
    *objects : bpy.types.Object
    camera : bpy.types.Object or Camera, optional
        Default: the scene's active camera. Its matrices are read in each call.

    Returns
    -------
    ndarray, shape (N, 2), float64
        In pixels; NaN for points at or behind the centre of a perspective camera.

    Raises
    ------
    CameraError
        If there is no camera, or it is panoramic.
    SceneError
        If an object has no vertices.
    """
    view = camera if isinstance(camera, Camera) else Camera(camera)
    return view.world_to_pixel(coordinates.world_coordinates(*objects))[0]


def _with_origin(xy: Array, shape: tuple[int, int], origin: str) -> Array:
    if origin == "upper-left":
        return xy
    if origin == "lower-left":
        return np.column_stack([xy[:, 0], shape[0] - xy[:, 1]])
    raise CameraError(f"origin {origin!r}: expected 'upper-left' or 'lower-left'")
