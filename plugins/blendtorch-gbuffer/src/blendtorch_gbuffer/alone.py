"""Each object of interest drawn alone: what of it lies in the picture, whatever stands in front of it."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from blendtorch.core import CameraView, geometry
from blendtorch.core.solids import box_corners

from blendtorch_gbuffer.scene import Drawn


@dataclass(frozen=True)
class Silhouette:
    """What an object of interest covers.

    Attributes
    ----------
    x, y : int
        The upper left pixel of `mask`.
    mask : ndarray, shape (h, w), bool
        The rest of the picture is False.
    truncated : bool
        The border of the picture, or the near or the far plane cuts the object.
    """

    x: int
    y: int
    mask: npt.NDArray[np.bool_]
    truncated: bool

    @property
    def window(self) -> tuple[slice, slice]:
        """Where the mask lies in the picture."""
        return slice(self.y, self.y + self.mask.shape[0]), slice(self.x, self.x + self.mask.shape[1])


NOWHERE = Silhouette(0, 0, np.zeros((0, 0), bool), truncated=False)


class Region:
    """Where each instance may be in the picture, by the box around its mesh.

    Parameters
    ----------
    what : Drawn
    camera : CameraView
    """

    def __init__(self, what: Drawn, camera: CameraView) -> None:
        self._what, self._camera = what, camera
        self._camera_from_object = camera.camera_from_world @ what.world_from_object
        corners = np.array([box_corners(mesh.low, mesh.high) for mesh in what.meshes]).reshape(-1, 8, 3)
        rotation, origin = self._camera_from_object[:, :3, :3], self._camera_from_object[:, :3, 3]
        corners = corners @ rotation.transpose(0, 2, 1) + origin[:, None]
        near, far = camera.clip_range
        xy, _ = geometry.project(corners.reshape(-1, 3), camera.K, camera.orthographic)
        xy = xy.reshape(-1, 8, 2)
        height, width = camera.shape
        self._crosses = (corners[..., 2] < near).any(axis=1)
        self._may_be_cut = self._crosses | (corners[..., 2] > far).any(axis=1)
        self._may_be_cut |= ~((xy >= 0) & (xy <= (width, height))).all(axis=(1, 2))
        self._low, self._high = xy.min(axis=1), xy.max(axis=1)

    def window(self, numbers: npt.NDArray[np.int64]) -> tuple[int, int, int, int]:
        """Return x, y, width and height of a region of pixels that has all of these instances."""
        height, width = self._camera.shape
        if self._crosses[numbers].any():
            return 0, 0, width, height
        # A pixel more on each side: the GPU computes in float32.
        low = np.clip(np.floor(self._low[numbers].min(axis=0)) - 1, 0, (width, height)).astype(int)
        high = np.clip(np.ceil(self._high[numbers].max(axis=0)) + 1, 0, (width, height)).astype(int)
        return int(low[0]), int(low[1]), int(max(0, high[0] - low[0])), int(max(0, high[1] - low[1]))

    def truncated(self, numbers: npt.NDArray[np.int64]) -> bool:
        """Whether the border of the picture, or a clip plane cuts one of these instances: their vertices decide."""
        return any(self._may_be_cut[number] and self._is_cut(number) for number in numbers)

    def _is_cut(self, number: int) -> bool:
        points = geometry.transform(self._camera_from_object[number], self._what.meshes[number].surface.vertices)
        near, far = self._camera.clip_range
        if points[:, 2].min() < near or points[:, 2].max() > far:
            return True
        xy, _ = geometry.project(points, self._camera.K, self._camera.orthographic)
        height, width = self._camera.shape
        return not bool(((xy >= 0) & (xy <= (width, height))).all())


class SilhouetteTarget:
    """Where objects are drawn alone.

    One after the other goes into one texture, with its id for a color and without a depth test: what has its color then is it,
    so nothing needs to be cleared between two. Only the region that an object can be in is read.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        import gpu

        self.shape = shape
        self._texture = gpu.types.GPUTexture(shape[::-1], format="R32F")
        self._framebuffer = gpu.types.GPUFrameBuffer(color_slots=[self._texture])
        self._memory = np.empty(shape[0] * shape[1], np.float32)

    def draw(self, what: Drawn, count: int, region: Region, shader: Any, uniforms: Any) -> Iterator[Silhouette]:
        """Draw the objects with the ids 1 to `count`.

        Parameters
        ----------
        what : Drawn
        count : int
        region : Region
        shader : gpu.types.GPUShader
            Of `shaders.surface(["instance_ids"])`.
        uniforms : callable
            Called with the shader once it is bound: sets its uniforms.
        """
        import gpu
        from blendtorch.btb import blender

        members = _members(what.ids, count)
        with self._framebuffer.bind():
            gpu.state.viewport_set(0, 0, *self.shape[::-1])
            gpu.state.depth_test_set("NONE")
            gpu.state.depth_mask_set(False)
            gpu.state.blend_set("NONE")
            gpu.state.face_culling_set("NONE")
            self._texture.clear(format="FLOAT", value=(0.0,))
            shader.bind()
            uniforms(shader)
            for number in range(1, count + 1):
                own = members[number]
                if not len(own):
                    yield NOWHERE
                    continue
                x, y, width, height = region.window(own)
                if not width or not height:
                    yield Silhouette(0, 0, NOWHERE.mask, region.truncated(own))
                    continue
                for each in own:
                    blender.draw_instances(what.meshes[each].batch, shader, int(each), 1)
                pixels = self._memory[: width * height].reshape(height, width, 1)
                buffer = gpu.types.Buffer("FLOAT", pixels.shape, pixels)
                self._framebuffer.read_color(x, y, width, height, 1, 0, "FLOAT", data=buffer)
                yield Silhouette(x, y, pixels[..., 0] == number, region.truncated(own))


def _members(ids: npt.NDArray[np.int64], count: int) -> list[npt.NDArray[np.int64]]:
    """List the instances of each id, from 0 on."""
    order = np.argsort(ids, kind="stable")
    ends = np.searchsorted(ids[order], np.arange(count + 2))
    return [order[begin:end] for begin, end in itertools.pairwise(ends)]
