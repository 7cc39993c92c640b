"""Where objects are, relative to the camera."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from blendtorch.core import Annotator, ArraySpec, CameraView, Moment, SetupContext
from blendtorch.core.interfaces import Arrays

from blendtorch_standard.annotators.instances import own_boxes, rigid_camera
from blendtorch_standard.annotators.models import models_of


class Poses(Annotator):
    """Poses of the frames of the instances' root objects, in the camera frame x right, y down, z forward.

    A vertex `v` of the root's own mesh is at `camera_from_object @ (scale * v, 1)`.

    camera_from_object : ndarray, shape (N, 4, 4), float64
        Rigid: orthonormal, determinant +1; translation in scene units.
    scale : ndarray, shape (N, 3), float64
        Of the root, with that of its parents; all three negative for a mirrored object, as Blender decomposes it.
    size : ndarray, shape (N, 3), float64
        Extent along the axes of that frame of all parts that are shown, in scene units: for an instance of one object the
        extent of its mesh times |scale|.
    valid : ndarray, shape (N,), bool
        The object is shown, in the picture or not. Else the rest is NaN.

    The legend has `models`: for each category id a list of the models that its objects are copies of, as they were when the
    run began. Each has `diameter`, the largest distance of two vertices, `low` and `high`, the ends of its box in that frame,
    all in scene units with the scale of the root, and whether it is `mirrored`. A category has several where its objects differ
    in size.

    Refused, with a SceneError: a collection whose objects have no common parent in it, for it has no frame of its own, and a
    root that is sheared or has a scale of zero.
    """

    name = "poses"
    interface = 1

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """See the class."""
        return {
            "camera_from_object": ArraySpec("float64", ("objects", 4, 4)),
            "scale": ArraySpec("float64", ("objects", 3)),
            "size": ArraySpec("float64", ("objects", 3), unit="scene units"),
            "valid": ArraySpec("bool", ("objects",)),
        }

    def setup(self, context: SetupContext) -> None:
        """Refuse instances without a frame."""
        for each in context.objects:
            each.require_frame()
        self._objects = context.objects

    def legend(self) -> Mapping[str, Any]:
        """Describe the models."""
        found = models_of(self._objects)
        models = {str(category): [each.describe() for each in found[category]] for category in sorted(found)}
        return {"models": models} if models else {}

    def annotate(self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays]) -> Arrays:  # noqa: ARG002
        """Carry the frames into the camera frame."""
        camera_from_world, count = rigid_camera(camera), len(moment.objects)
        poses, valid = np.full((count, 4, 4), np.nan), np.zeros(count, bool)
        scale, size = np.full((count, 3), np.nan), np.full((count, 3), np.nan)
        for row, box in enumerate(own_boxes(moment)):
            if box is not None:
                poses[row], scale[row] = camera_from_world @ box.world_from_object, box.scale
                size[row], valid[row] = box.high - box.low, True
        return {"camera_from_object": poses, "scale": scale, "size": size, "valid": valid}
