"""Boxes around objects: in the picture, and in space."""

from collections.abc import Mapping

import numpy as np
from blendtorch.core import Annotator, ArraySpec, CameraView, Moment, SetupContext, geometry
from blendtorch.core.geometry import Array
from blendtorch.core.interfaces import Arrays
from blendtorch.core.solids import box_corners, clip_depth, curved_outline, cut_edges

from blendtorch_standard.annotators.instances import Wireframe, own_boxes, rigid_camera, wireframes


class Boxes2DLoose(Annotator):
    """Boxes in the picture around the projected geometry, whatever stands in front of it.

    All evaluated vertices count, and edges are cut where they cross the near and the far plane of the camera, so a box is right
    where the camera stands inside an object. An instance of several parts gets one box around those that are shown. A lens that
    distorts bends edges: they are followed to within 0.02 px, in and around the picture.

    clipped : ndarray, shape (N, 4), float64, px
        x_min, y_min, x_max, y_max from the corner of the image: the unclipped box cut at its borders. Where the border cuts a
        slanted object it can be larger than what is left of the object.
    unclipped : ndarray, shape (N, 4), float64, px
        The same, as if the image went on; farther out than the model of a distortion reaches, it goes on without.
    truncated : ndarray, shape (N,), bool
        The border of the image, or the near or the far plane cuts the object.
    valid : ndarray, shape (N,), bool
        The object is shown, and its clipped box has an area. Else the boxes are NaN, and `truncated` is False.
    """

    name = "boxes2d_loose"
    interface = 1

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """See the class."""
        return {
            "clipped": ArraySpec("float64", ("objects", 4), unit="px"),
            "unclipped": ArraySpec("float64", ("objects", 4), unit="px"),
            "truncated": ArraySpec("bool", ("objects",)),
            "valid": ArraySpec("bool", ("objects",)),
        }

    def annotate(self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays]) -> Arrays:  # noqa: ARG002
        """Project, and take the extremes."""
        height, width = camera.shape
        count = len(moment.objects)
        unclipped, cut = np.full((count, 4), np.nan), np.zeros(count, bool)
        for row, wireframe in enumerate(wireframes(moment)):
            if wireframe is not None:
                unclipped[row], cut[row] = projected_box(wireframe, camera)
        clipped = np.clip(unclipped, 0, [width, height, width, height])
        valid = (clipped[:, 2:] > clipped[:, :2]).all(axis=1)
        truncated = valid & (cut | (clipped != unclipped).any(axis=1))
        clipped[~valid] = unclipped[~valid] = np.nan
        return {"clipped": clipped, "unclipped": unclipped, "truncated": truncated, "valid": valid}


class Boxes3D(Annotator):
    """Oriented boxes in space, in the camera frame x right, y down, z forward.

    A box is along the axes of the instance's own frame, that of its root object, and encloses all of its parts that are shown.
    Valid says nothing of whether it is in the picture.

    center : ndarray, shape (N, 3), float64
        In scene units.
    size : ndarray, shape (N, 3), float64
        Lengths along the axes of the box, in scene units, scale included.
    rotation : ndarray, shape (N, 3, 3), float64
        `camera_from_box`; orthonormal, determinant +1.
    corners : ndarray, shape (N, 8, 3), float64
        `center + rotation @ (size * s / 2)`, where for corner i the signs s are + for x where `i & 1`, y where `i & 2`, z where
        `i & 4`.
    valid : ndarray, shape (N,), bool
        The object is shown. Else the rest is NaN.

    Refused, with a SceneError: a collection whose objects have no common parent in it, for it has no frame of its own, and a
    root that is sheared or has a scale of zero.
    """

    name = "boxes3d"
    interface = 1

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """See the class."""
        return {
            "center": ArraySpec("float64", ("objects", 3), unit="scene units"),
            "size": ArraySpec("float64", ("objects", 3), unit="scene units"),
            "rotation": ArraySpec("float64", ("objects", 3, 3)),
            "corners": ArraySpec("float64", ("objects", 8, 3), unit="scene units"),
            "valid": ArraySpec("bool", ("objects",)),
        }

    def setup(self, context: SetupContext) -> None:
        """Refuse instances without a frame."""
        for each in context.objects:
            each.require_frame()

    def annotate(self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays]) -> Arrays:  # noqa: ARG002
        """Carry the boxes into the camera frame."""
        camera_from_world, count = rigid_camera(camera), len(moment.objects)
        center, size = np.full((count, 3), np.nan), np.full((count, 3), np.nan)
        rotation, corners, valid = np.full((count, 3, 3), np.nan), np.full((count, 8, 3), np.nan), np.zeros(count, bool)
        for row, box in enumerate(own_boxes(moment)):
            if box is not None:
                camera_from_object = camera_from_world @ box.world_from_object
                rotation[row], size[row], valid[row] = camera_from_object[:3, :3], box.high - box.low, True
                center[row] = geometry.transform(camera_from_object, (box.low + box.high) / 2)
                corners[row] = geometry.transform(camera_from_object, box_corners(box.low, box.high))
        return {"center": center, "size": size, "rotation": rotation, "corners": corners, "valid": valid}


def projected_box(wireframe: Wireframe, camera: CameraView) -> tuple[Array, bool]:
    """Compute the box of a projected wireframe.

    Returns
    -------
    box : ndarray, shape (4,), float64
        In pixels, unclipped; NaN where nothing lies between the near and the far plane.
    cut : bool
        One of these planes cuts the wireframe, or has all of it on its other side.
    """
    points = geometry.transform(camera.camera_from_world, wireframe.points)
    near, far = camera.clip_range
    if camera.lens.distortion is None:
        xy, _ = camera.project_from_camera(clip_depth(points, wireframe.edges, near, far))
    else:
        xy = curved_outline(*cut_edges(points, wireframe.edges, near, far), camera.project_from_camera)
    return geometry.bounding_box(xy), bool(points[:, 2].min() < near or points[:, 2].max() > far)
