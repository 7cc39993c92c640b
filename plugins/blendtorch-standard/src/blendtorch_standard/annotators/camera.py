"""What the camera was."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from blendtorch.core import Annotator, ArraySpec, CameraView, Moment, SetupContext, geometry
from blendtorch.core.interfaces import Arrays


class Camera(Annotator):
    """The camera of the picture.

    K : ndarray, shape (3, 3), float64, px
        Counts from the corner of the image: see `blendtorch.core.geometry.intrinsics`. Perspective: `(u, v, w) = K (x, y, z)`,
        pixel `(u/w, v/w)`. Orthographic: pixel `(u, v)` of `K (x, y, 1)`, pixels per scene unit.
    K_opencv : ndarray, shape (3, 3), float64, px
        The same, counting from the centre of the first pixel, as OpenCV, BOP and COCO do: half a pixel less.
    distortion : ndarray, shape (5,), float64
        OpenCV's k1, k2, p1, p2, k3, as its functions take them beside `K_opencv`; zeros for a lens that does not distort. Else
        pixel `K (x'', y'', 1)` of what they make of `x / z` and `y / z`: see `blendtorch.core.distortion`.
    camera_from_world : ndarray, shape (4, 4), float64
        Into the camera frame x right, y down, z forward; scene units.
    resolution : ndarray, shape (2,), int64, px
        Width, then height.

    Where cameras are orthographic when the run begins, the legend has their names: `{"orthographic": ["Camera"]}`.
    """

    name = "camera"
    interface = 1

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """See the class."""
        return {
            "K": ArraySpec("float64", (3, 3), unit="px"),
            "K_opencv": ArraySpec("float64", (3, 3), unit="px"),
            "distortion": ArraySpec("float64", (5,)),
            "camera_from_world": ArraySpec("float64", (4, 4)),
            "resolution": ArraySpec("int64", (2,), unit="px"),
        }

    def setup(self, context: SetupContext) -> None:
        """Look which cameras are orthographic."""
        # Cameras of a scene without Blender have no type, and are perspective.
        self._orthographic = [camera.name for camera in context.cameras if getattr(camera.data, "type", "") == "ORTHO"]

    def legend(self) -> Mapping[str, Any]:
        """Say what no matrix tells."""
        return {"orthographic": self._orthographic} if self._orthographic else {}

    def annotate(self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays]) -> Arrays:  # noqa: ARG002
        """Describe the camera."""
        height, width = camera.shape
        distortion = camera.lens.distortion
        return {
            "K": camera.K,
            "K_opencv": geometry.K_opencv(camera.K),
            "distortion": np.zeros(5) if distortion is None else np.array(distortion.coefficients),
            "camera_from_world": camera.camera_from_world,
            "resolution": np.array([width, height], np.int64),
        }
