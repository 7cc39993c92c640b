"""The pass that the annotators of a run share: what a camera sees, drawn once, into the maps that somebody asked for."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from blendtorch.core import CameraView, Moment, SetupContext
from blendtorch.core.resampling import Resampling

from blendtorch_gbuffer import limits, scene, shaders
from blendtorch_gbuffer.alone import Region, Silhouette, SilhouetteTarget
from blendtorch_gbuffer.coordinates import coordinates_from_objects
from blendtorch_gbuffer.meshes import MeshStore

Maps = dict[str, npt.NDArray[np.float32]]
_MOST_SHAPES = 8  # of pictures that silhouettes are drawn for
_FORMATS = {1: "R32F", 2: "RG32F", 4: "RGBA32F"}
_READ = {"normals": 3, "object_coordinates": 3}  # fewer channels than are drawn


class Target:
    """Textures to draw into, and the arrays that they are read into.

    Parameters
    ----------
    channels : mapping of str to int
        How many channels each map is drawn with: 1, 2 or 4.
    shape : tuple of int
        Height and width.

    Attributes
    ----------
    textures : dict of str to gpu.types.GPUTexture
    maps : dict of str to ndarray, float32
        Row 0 on top; what `read` reads.
    """

    def __init__(self, channels: Mapping[str, int], shape: tuple[int, int]) -> None:
        import gpu

        self.shape = shape
        self._channels = dict(channels)
        height, width = shape
        self.textures = {name: gpu.types.GPUTexture((width, height), format=_FORMATS[n]) for name, n in channels.items()}
        # Kept here: a framebuffer does not keep its textures, and draws without a depth test once that one is gone.
        self._depth = gpu.types.GPUTexture((width, height), format="DEPTH_COMPONENT32F")
        self._framebuffer = gpu.types.GPUFrameBuffer(depth_slot=self._depth, color_slots=list(self.textures.values()))
        self.maps: Maps = {}
        self._buffers = {}
        for slot, (name, drawn) in enumerate(channels.items()):
            count = _READ.get(name, drawn)
            array = np.empty((height, width, count), np.float32)
            self._buffers[name] = slot, count, gpu.types.Buffer("FLOAT", array.shape, array)  # reads land in the array
            self.maps[name] = array[..., 0] if count == 1 else array

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Fill with background, and draw here, with a depth test."""
        import gpu

        with self._framebuffer.bind():
            for name, texture in self.textures.items():
                texture.clear(format="FLOAT", value=(shaders.BACKGROUND.get(name, 0.0),) * self._channels[name])
            self._framebuffer.clear(depth=1.0)
            gpu.state.viewport_set(0, 0, *self.shape[::-1])
            gpu.state.depth_test_set("LESS_EQUAL")
            gpu.state.depth_mask_set(True)
            gpu.state.blend_set("NONE")
            gpu.state.face_culling_set("NONE")
            gpu.state.front_facing_set(False)
            yield
            gpu.state.depth_test_set("NONE")
            gpu.state.depth_mask_set(False)

    def read(self, *names: str) -> None:
        """Read what was drawn into `maps`, while drawing."""
        height, width = self.shape
        for name in names:
            slot, count, buffer = self._buffers[name]
            self._framebuffer.read_color(0, 0, width, height, count, slot, "FLOAT", data=buffer)


class GBuffer:
    """What the annotators of a run share.

    Parameters
    ----------
    context : SetupContext

    Attributes
    ----------
    objects : tuple of ObjectOfInterest
    exact : ndarray, shape (N,), bool
        Which of them are drawn as every renderer shows them; known at the first frame.
    """

    def __init__(self, context: SetupContext) -> None:
        self.objects = context.objects
        self.exact = np.ones(len(context.objects), bool)
        self._notify = context.notify
        self._users: list[Any] = []
        self._outputs: tuple[str, ...] = ()
        self._ids: dict[int, int] = {}
        self._store: MeshStore | None = None
        self._shaders: dict[bool, Any] = {}  # by whether the lens distorts
        self._offsets: dict[str, tuple[Resampling, Any]] = {}
        self._id_shader: Any = None
        self._targets: dict[str, Target] = {}
        self._silhouette_targets: dict[tuple[int, int], SilhouetteTarget] = {}

    def ask(self, user: Any, outputs: Sequence[str]) -> None:
        """Ask for maps; before the first frame."""
        self._users.append(user)
        wanted = tuple(name for name in shaders.CHANNELS if name in {*self._outputs, *outputs})
        if wanted != self._outputs:
            self.close()  # of another run with the same objects
            self._outputs = wanted

    def leave(self, user: Any) -> None:
        """Need it no more; who is last frees its memory."""
        if user in self._users:
            self._users.remove(user)
        if not self._users:
            self.close()

    def maps(self, moment: Moment, camera: CameraView) -> Maps:
        """Draw what a camera sees, once for all that ask.

        Returns
        -------
        dict of str to ndarray, float32
            The maps that were asked for, row 0 on top; overwritten when the same camera is drawn again. For a lens that
            distorts: of the surface that the pixel of the pinhole camera shows, at the ray of the lens.
        """
        maps: Maps = moment.once((__name__, "maps", camera.name), lambda: self._draw(moment, camera))
        return maps

    def drawn(self, moment: Moment) -> scene.Drawn:
        """List the instances of a frame, once for all that ask."""
        return moment.once((__name__, "drawn"), lambda: scene.drawn(self._start(moment), self._ids))  # type: ignore[no-any-return]

    def instance_ids(self, moment: Moment, camera: CameraView) -> npt.NDArray[np.int32]:
        """Read the ids of a frame, shape (height, width), once for all that ask."""
        ids: npt.NDArray[np.int32] = moment.once(
            (__name__, "instance_ids", camera.name), lambda: self.maps(moment, camera)["instance_ids"].astype(np.int32)
        )
        return ids

    def visible_pixels(self, moment: Moment, camera: CameraView) -> npt.NDArray[np.int64]:
        """Count the pixels of each object of interest, shape (N,), once for all that ask."""
        count = len(self.objects) + 1

        def counted() -> npt.NDArray[np.int64]:
            return np.bincount(self.instance_ids(moment, camera).ravel(), minlength=count)[1:]

        visible: npt.NDArray[np.int64] = moment.once((__name__, "visible_pixels", camera.name), counted)
        return visible

    def silhouettes(self, moment: Moment, camera: CameraView) -> list[Silhouette]:
        """Draw each object of interest alone, once for all that ask."""
        found: list[Silhouette] = moment.once((__name__, "silhouettes", camera.name), lambda: self._draw_alone(moment, camera))
        return found

    def close(self) -> None:
        """Free the memory."""
        if self._store is not None:
            self._store.close()
        self._store = self._id_shader = None
        self._shaders.clear()
        self._offsets.clear()
        self._targets.clear()
        self._silhouette_targets.clear()

    def _start(self, moment: Moment) -> MeshStore:
        if self._store is None:
            self._store = MeshStore(shaders.attributes(self._outputs))
            self._ids = scene.owners(self.objects)
            self.exact = limits.exact(self.objects, moment.scene, self._notify)
        return self._store

    def offsets(self, camera: CameraView, table: Resampling) -> Any:
        """Make the texture that tells the shaders where the rays of a lens are; kept as long as that stays."""
        import gpu

        known, texture = self._offsets.get(camera.name, (None, None))
        if known is not table:
            height, width, _ = table.offsets.shape
            data = gpu.types.Buffer("FLOAT", table.offsets.size, np.ascontiguousarray(table.offsets).ravel())
            texture = gpu.types.GPUTexture((width, height), format="RG32F", data=data)
            self._offsets[camera.name] = table, texture
        return texture

    def _draw(self, moment: Moment, camera: CameraView) -> Maps:
        from blendtorch.btb import blender

        what, table, seen = self.drawn(moment), camera.resampling, camera.pinhole
        target = self._targets.get(camera.name)
        if target is None or target.shape != seen.shape:
            channels = {name: shaders.CHANNELS[name] for name in self._outputs}
            target = self._targets[camera.name] = Target(channels, seen.shape)
        distorted = table is not None
        shader = self._shaders.get(distorted)
        if shader is None:
            shader = self._shaders[distorted] = shaders.surface(self._outputs, distorted)
        with target.drawing():
            shader.bind()
            self._set_uniforms(shader, moment, seen)
            if table is not None:
                shader.uniform_sampler("offsets", self.offsets(camera, table))
            for name, output in shaders.UNIFORMS.items():
                if output in self._outputs:
                    shader.uniform_float(name, shaders.BACKGROUND[output])
            for group in what.groups:
                blender.draw_instances(group.mesh.batch, shader, group.first, group.count)
            target.read(*self._outputs)
        return target.maps if table is None else {name: table.sharp(array) for name, array in target.maps.items()}

    def _draw_alone(self, moment: Moment, camera: CameraView) -> list[Silhouette]:
        what, seen = self.drawn(moment), camera.pinhole
        if self._id_shader is None:
            self._id_shader = shaders.surface(["instance_ids"])
        target = self._silhouette_targets.get(seen.shape)
        if target is None:
            if len(self._silhouette_targets) >= _MOST_SHAPES:
                self._silhouette_targets.clear()  # of a lens that zooms
            target = self._silhouette_targets[seen.shape] = SilhouetteTarget(seen.shape)
        return target.draw(
            what,
            len(self.objects),
            Region(what, camera),
            self._id_shader,
            lambda shader: self._set_uniforms(shader, moment, seen),
        )

    def _set_uniforms(self, shader: Any, moment: Moment, camera: CameraView) -> None:
        def texture() -> Any:
            what = self.drawn(moment)
            more = coordinates_from_objects(what, self.objects) if "object_coordinates" in self._outputs else None
            return scene.instance_texture(what, camera, more)

        lens, clip = projection(camera)
        shader.uniform_sampler("instances", moment.once((__name__, "texture", camera.name), texture))
        shader.uniform_float("lens", lens)
        shader.uniform_float("clip", clip)


def projection(camera: CameraView) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Say how the shaders project a point of the camera frame.

    Returns
    -------
    lens : tuple of 4 float
        Scale and offset of x, then of y, in OpenGL's clip space; row 0 is at -1.
    clip : tuple of 3 float
        Scale and offset of z, and 1 for an orthographic camera, else 0.
    """
    (height, width), K = camera.shape, camera.K
    lens = (2 * K[0, 0] / width, 2 * K[0, 2] / width - 1, 2 * K[1, 1] / height, 2 * K[1, 2] / height - 1)
    near, far = camera.clip_range
    if camera.orthographic:
        return lens, (2 / (far - near), -(far + near) / (far - near), 1.0)
    return lens, ((far + near) / (far - near), -2 * far * near / (far - near), 0.0)


_current: GBuffer | None = None  # of the run that is set up in this process


def join(user: Any, context: SetupContext, outputs: Sequence[str]) -> GBuffer:
    """Share the G-buffer of a run; `GBuffer.leave` it at the end."""
    global _current
    if _current is None or _current.objects is not context.objects:
        _current = GBuffer(context)
    _current.ask(user, outputs)
    return _current
