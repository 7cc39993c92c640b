"""Optical flow: where each surface was in the frame before, and where what that frame showed is now."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from blendtorch.core import ArraySpec, CameraView, Moment
from blendtorch.core.distortion import distort
from blendtorch.core.interfaces import Arrays

from blendtorch_gbuffer import scene, shaders
from blendtorch_gbuffer.gbuffer import Maps, Target, projection
from blendtorch_gbuffer.maps import Sharing
from blendtorch_gbuffer.meshes import UploadedMesh


@dataclass(frozen=True)
class _Frame:
    """What was drawn of a frame, and where its depths are."""

    episode: int
    frame: int
    camera: CameraView
    drawn: scene.Drawn
    target: Target


@dataclass(eq=False)
class _Pair:
    """A mesh at two moments, with a batch that has both."""

    one: UploadedMesh
    other: UploadedMesh
    batch: Any


class Flow(Sharing):
    """Optical flow between the frame before and this one, of surfaces: of moving cameras, moving objects and deforming meshes.

    backward : ndarray, shape (height, width, 2), float32, px
        For each pixel of this frame: from its centre to where its surface was in the picture of the frame before, x right,
        y down.
    backward_occluded : ndarray, shape (height, width), bool
        It could not be seen there: it was behind something, or outside of the picture.
    forward : ndarray, shape (height, width, 2), float32, px
        For each pixel of the frame *before*: to where its surface is in this one. So the sample of a frame has both directions
        of one pair of pictures, its own and that of the sample before, and nothing depends on a frame to come.
    forward_occluded : ndarray, shape (height, width), bool

    NaN for background, for what is there at one of the moments only or whose mesh got other triangles, for what is behind a
    perspective camera at the other moment, and everywhere in the first frame of an episode.
    """

    name = "flow"
    outputs = ()

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self._shader: Any = None
        self._frames: dict[str, list[_Frame]] = {}
        self._pairs: dict[tuple[int, int], _Pair] = {}
        self._targets: dict[str, list[Target]] = {}

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """See the class."""
        return {
            "backward": ArraySpec("float32", ("height", "width", 2), unit="px"),
            "backward_occluded": ArraySpec("bool", ("height", "width")),
            "forward": ArraySpec("float32", ("height", "width", 2), unit="px"),
            "forward_occluded": ArraySpec("bool", ("height", "width")),
        }

    def annotate(self, moment: Moment, camera: CameraView, inputs: Mapping[str, Arrays]) -> Arrays:  # noqa: ARG002
        """Draw both moments, each with where its surfaces are at the other."""
        labels: Arrays = moment.once((__name__, id(self), camera.name), lambda: self._compare(moment, camera))
        return labels

    def observe(self, moment: Moment, camera: CameraView) -> None:
        """Remember a frame of which no sample is made."""
        self.annotate(moment, camera, {})

    def close(self) -> None:
        """Free the memory."""
        self._frames.clear()
        self._pairs.clear()
        self._targets.clear()
        self._shader = None
        super().close()

    def _compare(self, moment: Moment, camera: CameraView) -> Arrays:
        drawn = self.gbuffer.drawn(moment)
        frames = self._frames.setdefault(camera.name, [])  # the last two
        if frames and (frames[-1].episode, frames[-1].frame) == (moment.episode, moment.frame):
            frames.pop()  # it is labelled again
        before = frames[-1] if frames else None
        if before is not None and (
            (before.episode, before.frame) != (moment.episode, moment.frame - 1) or before.camera.shape != camera.shape
        ):
            before = None
        now = _Frame(moment.episode, moment.frame, camera, drawn, self._free_target(camera, before))
        if self._shader is None:
            self._shader = shaders.flow(distorted=camera.resampling is not None)
        used: dict[tuple[int, int], _Pair] = {}
        backward = self._draw(now, before or now, now.target, used)
        forward = self._draw(before, now, self._target(2, before.camera), used) if before else None
        self._pairs = used
        self._frames[camera.name] = [*frames[-1:], now]
        return {
            **_labels("backward", backward if before else None, camera.shape),
            **_labels("forward", forward, camera.shape),
        }

    def _free_target(self, camera: CameraView, before: _Frame | None) -> Target:
        """Find one that the frame before does not use; the third is for what that one sees."""
        targets = self._targets.get(camera.name)
        first_is_used = targets is not None and before is not None and before.target is targets[0]
        return self._target(1 if first_is_used else 0, camera)

    def _target(self, number: int, camera: CameraView) -> Target:
        """Return one of the three targets of a camera, of the size of what is drawn."""
        shape = camera.pinhole.shape
        targets = self._targets.get(camera.name)
        if targets is None:
            targets = self._targets[camera.name] = [Target(shaders.FLOW_CHANNELS, shape) for _ in range(3)]
        if targets[number].shape != shape:
            targets[number] = Target(shaders.FLOW_CHANNELS, shape)
        return targets[number]

    def _draw(self, this: _Frame, other: _Frame, target: Target, used: dict[tuple[int, int], _Pair]) -> Maps:
        from blendtorch.btb import blender

        spare = self._targets[this.camera.name][2]
        places = {each.key: number for number, each in enumerate(other.drawn.instances)}
        pairs, world, is_new = [], [], []
        for number, each in enumerate(this.drawn.instances):
            mesh = this.drawn.meshes[number]
            place = places.get(each.key)
            twin = None if place is None else other.drawn.meshes[place]
            same = twin is not None and twin.elements is mesh.elements  # as long as the triangles are the same
            pairs.append(self._pair(mesh, twin if same and twin is not None else mesh, used))
            world.append(other.drawn.world_from_object[place] if same and place is not None else np.eye(4))
            is_new.append(not same)
        order, groups = scene.grouped(pairs)
        what = replace(
            this.drawn,
            instances=[this.drawn.instances[number] for number in order],
            meshes=[this.drawn.meshes[number] for number in order],
            groups=groups,
            ids=np.where(np.array(is_new, bool)[order], -1, 0) if order else this.drawn.ids,
            world_from_object=this.drawn.world_from_object[order],
            holdouts=this.drawn.holdouts[order],
        )
        target_from_object = other.camera.camera_from_world @ np.array(world).reshape(-1, 4, 4)[order]
        # In the first frame of an episode only the depths count: nothing may be read that is drawn into.
        depths = (spare if other is this else other.target).textures["depth"]
        here, there = this.camera.pinhole, other.camera.pinhole
        texture = scene.instance_texture(what, here, target_from_object[:, :3])  # a shader does not keep it
        with target.drawing():
            shader = self._shader
            shader.bind()
            lens, clip = projection(here)
            if this.camera.resampling is not None:
                shader.uniform_sampler("offsets", self.gbuffer.offsets(this.camera, this.camera.resampling))
            shader.uniform_sampler("instances", texture)
            shader.uniform_sampler("target_depth", depths)
            shader.uniform_float("lens", lens)
            shader.uniform_float("clip", clip)
            K = there.K
            shader.uniform_float("target_lens", (K[0, 0], K[0, 2], K[1, 1], K[1, 2]))
            shader.uniform_float("target_clip", (*other.camera.clip_range, float(other.camera.orthographic)))
            shader.uniform_float("far_away", np.inf)
            shader.uniform_float("unknown", np.nan)
            for group in what.groups:
                blender.draw_instances(group.mesh.batch, shader, group.first, group.count)
            target.read("flow", "occluded")
        return target.maps if this.camera.resampling is None else _distorted(target.maps, this.camera, other.camera)

    def _pair(self, mesh: UploadedMesh, other: UploadedMesh, used: dict[tuple[int, int], _Pair]) -> _Pair:
        """Find the batch with the positions of a mesh at both moments, or make it."""
        import gpu

        key = id(mesh), id(other)
        pair = used.get(key) or self._pairs.get(key)
        if pair is None or pair.one is not mesh or pair.other is not other:
            layout = gpu.types.GPUVertFormat()
            for name in ("position", "target_position"):
                layout.attr_add(id=name, comp_type="F32", len=3, fetch_mode="FLOAT")
            vertices = gpu.types.GPUVertBuf(layout, len(mesh.surface.positions))
            vertices.attr_fill("position", mesh.surface.positions)
            vertices.attr_fill("target_position", other.surface.positions)
            pair = _Pair(mesh, other, gpu.types.GPUBatch(type="TRIS", buf=vertices, elem=mesh.elements))
        used[key] = pair
        return pair


def _distorted(maps: Maps, this: CameraView, other: CameraView) -> Maps:
    """Look up what the rays of a lens show, and distort where that is at the other moment."""
    table, model = this.resampling, other.lens.distortion
    if table is None or model is None:
        return maps
    plane, occluded = distort(table.sharp(maps["flow"]), model), table.sharp(maps["occluded"])
    flow = np.empty(plane.shape, np.float32)
    for axis, (size, other_size) in enumerate(zip(this.shape[::-1], other.shape[::-1], strict=True)):
        place = plane[..., axis] * other.K[axis, axis] + other.K[axis, 2]
        occluded[(place < 0) | (place > other_size)] = 1
        centers = np.arange(size) + 0.5
        flow[..., axis] = place - (centers if axis == 0 else centers[:, None])
    return {"flow": flow, "occluded": occluded}


def _labels(name: str, maps: Maps | None, shape: tuple[int, int]) -> dict[str, npt.NDArray[Any]]:
    if maps is None:
        return {name: np.full((*shape, 2), np.nan, np.float32), f"{name}_occluded": np.zeros(shape, bool)}
    return {name: maps["flow"], f"{name}_occluded": maps["occluded"] > 0}
