"""Each object of interest drawn alone: what of it lies in the picture, whatever stands in front of it."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from blendtorch.core import CameraView, geometry
from blendtorch.core.solids import box_corners, curved_outline

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


_NO_PIXELS = np.zeros((0, 0), bool)


class Region:
    """Where each instance may be in the picture that is drawn, by the box around its mesh.

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
        xy, _ = camera.pinhole.project_from_camera(corners.reshape(-1, 3))
        xy = xy.reshape(-1, 8, 2)
        height, width = camera.pinhole.shape
        self._crosses = (corners[..., 2] < near).any(axis=1)
        self._may_be_cut = self._crosses | (corners[..., 2] > far).any(axis=1)
        if camera.resampling is None:
            self._may_be_cut |= ~((xy >= 0) & (xy <= (width, height))).all(axis=(1, 2))
        else:  # corners may be in the picture, and an edge between them bent out of it: by a quarter of its length, at most
            seen = camera.project_from_camera(corners.reshape(-1, 3))[0].reshape(-1, 8, 2)
            room = np.ptp(seen, axis=1).max(axis=1, keepdims=True) / 2
            inside = (seen.min(axis=1) - room >= 0) & (seen.max(axis=1) + room <= camera.shape[::-1])
            self._may_be_cut |= ~inside.all(axis=1)
        self._low, self._high = xy.min(axis=1), xy.max(axis=1)

    def window(self, numbers: npt.NDArray[np.int64]) -> tuple[int, int, int, int]:
        """Return x, y, width and height of a region of pixels of the pinhole camera that has all of these instances."""
        height, width = self._camera.pinhole.shape
        if self._crosses[numbers].any():
            return 0, 0, width, height
        # A pixel more on each side: the GPU computes in float32.
        low = np.clip(np.floor(self._low[numbers].min(axis=0)) - 1, 0, (width, height)).astype(int)
        high = np.clip(np.ceil(self._high[numbers].max(axis=0)) + 1, 0, (width, height)).astype(int)
        return int(low[0]), int(low[1]), int(max(0, high[0] - low[0])), int(max(0, high[1] - low[1]))

    def resampled(self, drawn: Silhouette) -> Silhouette:
        """Find a silhouette that a pinhole camera sees in the picture of the lens."""
        table = self._camera.resampling
        height, width = drawn.mask.shape
        if table is None or not drawn.mask.size:
            return drawn
        # The lens maps the inside of a border to the inside of where it maps the border.
        across, down = np.arange(width + 1.0) + drawn.x, np.arange(height + 1.0) + drawn.y
        border = np.concatenate(
            [np.column_stack([across, np.full(len(across), y)]) for y in down[[0, -1]]]
            + [np.column_stack([np.full(len(down), x), down]) for x in across[[0, -1]]]
        )
        points = geometry.unproject(border, np.ones(len(border)), self._camera.pinhole.K)
        xy, _ = self._camera.project_from_camera(points)
        size = self._camera.shape[::-1]
        left, top = np.clip(np.floor(xy.min(axis=0)) - 1, 0, size).astype(int)
        right, bottom = np.clip(np.ceil(xy.max(axis=0)) + 1, 0, size).astype(int)
        rows, columns = np.divmod(table.nearest[top:bottom, left:right], table.pinhole.width)
        rows, columns = rows - drawn.y, columns - drawn.x
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        mask = drawn.mask[np.where(inside, rows, 0), np.where(inside, columns, 0)] & inside
        return Silhouette(int(left), int(top), mask, drawn.truncated)

    def truncated(self, numbers: npt.NDArray[np.int64]) -> bool:
        """Whether the border of the picture, or a clip plane cuts one of these instances: their vertices decide."""
        return any(self._may_be_cut[number] and self._is_cut(number) for number in numbers)

    def _is_cut(self, number: int) -> bool:
        points = geometry.transform(self._camera_from_object[number], self._what.meshes[number].surface.vertices)
        near, far = self._camera.clip_range
        if points[:, 2].min() < near or points[:, 2].max() > far:
            return True
        if self._leaves_picture(self._camera.project_from_camera(points)[0]):
            return True
        if self._camera.resampling is None:
            return False
        surface = self._what.meshes[number].surface
        corners = geometry.transform(self._camera_from_object[number], surface.positions)[surface.indices]
        segments = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
        return self._leaves_picture(curved_outline(points, segments, self._camera.project_from_camera))

    def _leaves_picture(self, xy: npt.NDArray[np.float64]) -> bool:
        return not bool(((xy >= 0) & (xy <= self._camera.shape[::-1])).all())


class SilhouetteTarget:
    """Where objects are drawn alone: side by side, each in the region of the picture that it can be in; one read has all.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the picture.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._height = 0
        self._texture: Any = None
        self._framebuffer: Any = None

    def draw(self, what: Drawn, count: int, region: Region, shader: Any, uniforms: Callable[[Any], None]) -> list[Silhouette]:
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
        members = _members(what.ids, count)[1:]
        windows = [region.window(own) if len(own) else (0, 0, 0, 0) for own in members]
        found = [Silhouette(0, 0, _NO_PIXELS, truncated=bool(len(own)) and region.truncated(own)) for own in members]
        for placed in packed([(width, height) for _, _, width, height in windows], self.shape[1]):
            pixels = self._draw_side_by_side(what, members, windows, placed, shader, uniforms)
            for number, column, row in placed:
                x, y, width, height = windows[number]
                mask = pixels[row : row + height, column : column + width] > 0
                found[number] = region.resampled(Silhouette(x, y, mask, found[number].truncated))
        return found

    def _draw_side_by_side(
        self,
        what: Drawn,
        members: Sequence[npt.NDArray[np.int64]],
        windows: Sequence[tuple[int, int, int, int]],
        placed: Sequence[tuple[int, int, int]],
        shader: Any,
        uniforms: Callable[[Any], None],
    ) -> npt.NDArray[np.float32]:
        import gpu
        from blendtorch.btb import blender

        height = max(row + windows[number][3] for number, _, row in placed)
        if height > self._height:
            self._height = -(-height // 256) * 256
            self._texture = gpu.types.GPUTexture((self.shape[1], self._height), format="R32F")
            self._framebuffer = gpu.types.GPUFrameBuffer(color_slots=[self._texture])
        pixels = np.empty((height, self.shape[1], 1), np.float32)
        with self._framebuffer.bind():
            self._texture.clear(format="FLOAT", value=(0.0,))
            gpu.state.depth_test_set("NONE")
            gpu.state.depth_mask_set(False)
            gpu.state.blend_set("NONE")
            gpu.state.face_culling_set("NONE")
            shader.bind()
            uniforms(shader)
            for number, column, row in placed:
                x, y, *_ = windows[number]  # all that is drawn lies in it
                gpu.state.viewport_set(column - x, row - y, *self.shape[::-1])
                for each in members[number]:
                    blender.draw_instances(what.meshes[each].batch, shader, int(each), 1)
            buffer = gpu.types.Buffer("FLOAT", pixels.shape, pixels)
            self._framebuffer.read_color(0, 0, self.shape[1], height, 1, 0, "FLOAT", data=buffer)
        return pixels[..., 0]


def widened(camera: CameraView) -> CameraView:
    """Return a camera whose picture goes on by the picture's own size on each side."""
    lens = camera.lens
    wide = msgspec.structs.replace(
        lens,
        width=3 * lens.width,
        height=3 * lens.height,
        sensor_width_mm=3 * lens.sensor_width_mm,
        sensor_height_mm=3 * lens.sensor_height_mm,
        orthographic_scale=3 * lens.orthographic_scale,
        shift_x=lens.shift_x / 3,
        shift_y=lens.shift_y / 3,
    )
    return replace(camera, name=f"{camera.name}, widened", lens=wide)


def packed(sizes: Sequence[tuple[int, int]], width: int, height: int = 4096) -> list[list[tuple[int, int, int]]]:
    """Place rectangles side by side in rows, the high ones first, on as many sheets as they need.

    Parameters
    ----------
    sizes : sequence of (int, int)
        Width and height of each; what is empty is left out.
    width, height : int
        Of a sheet; none is wider, and what is higher gets a sheet of its own.

    Returns
    -------
    list of list of (number, x, y)
        For each sheet.

    Examples
    --------
    >>> packed([(4, 2), (3, 5), (0, 0), (6, 1)], width=8, height=9)
    [[(1, 0, 0), (0, 3, 0), (3, 0, 5)]]
    """
    sheets: list[list[tuple[int, int, int]]] = []
    x = y = row_height = 0
    for number in sorted((n for n, size in enumerate(sizes) if min(size) > 0), key=lambda n: -sizes[n][1]):
        wide, high = sizes[number]
        if x + wide > width:
            x, y = 0, y + row_height
        if not sheets or (x == 0 and y + high > height):
            sheets.append([])
            x = y = 0
        if x == 0:
            row_height = high
        sheets[-1].append((number, x, y))
        x += wide
    return sheets


def _members(ids: npt.NDArray[np.int64], count: int) -> list[npt.NDArray[np.int64]]:
    """List the instances of each id, from 0 on."""
    order = np.argsort(ids, kind="stable")
    ends = np.searchsorted(ids[order], np.arange(count + 2))
    return [order[begin:end] for begin, end in itertools.pairwise(ends)]
