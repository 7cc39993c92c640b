"""The renderer."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from blendtorch.core import ArraySpec, CameraView, Moment, Renderer, SetupContext
from blendtorch.core.errors import SceneError
from blendtorch.core.interfaces import COLOR, GEOMETRY, LIGHTS, SURFACE, TEXTURE, WORLD_COLOR, WORLD_IMAGE, Arrays
from blendtorch.core.seeding import generator

from blendtorch_cycles import devices, doors, settings
from blendtorch_cycles.files import MemoryFile
from blendtorch_cycles.options import CyclesOptions
from blendtorch_cycles.passes import PASSES, PICTURES, Floats

MOST_IDS = 32767  # of `Object.pass_index`


class Cycles(Renderer):
    """Path traced pictures, and passes, as `options.passes` names them.

    A frame costs one render for `image` and `linear`, and one with a single sample for all the others.
    """

    name = "cycles"
    interface = 1
    Options = CyclesOptions
    shows = frozenset({GEOMETRY, COLOR, TEXTURE, SURFACE, LIGHTS, WORLD_COLOR, WORLD_IMAGE})
    pictures = PICTURES

    _file: MemoryFile | None = None
    _device = "unknown"

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """The passes of the options, `image` first."""
        asked = sorted(self.options.passes, key=list(PASSES).index)
        return {name: self._spec(name) for name in asked}

    def setup(self, context: SetupContext) -> None:
        """Choose device and denoiser, and try which way passes get out.

        Raises
        ------
        SceneError
            If this Blender has no Cycles, or not the device or denoiser that was asked for, or there are more objects than ids.
        """
        options, scene = self.options, context.scene
        if "instance_ids" in options.passes and len(context.objects) > MOST_IDS:
            raise SceneError(f"instance_ids: there are {len(context.objects)} objects, and Cycles counts to {MOST_IDS}")
        self._seed = context.seed
        self._on_device = devices.choose(scene, options.device)
        self._denoiser = devices.choose_denoiser(options.denoiser, self._on_device)
        if options.denoiser == "auto" and not self._denoiser:
            context.notify("this Blender has no denoiser, pictures keep their noise")
        self._file = MemoryFile()
        self._in_memory = True
        if any(PASSES[name].sources for name in options.passes):
            self._in_memory = doors.works_in_memory()
            if not self._in_memory:
                context.notify("this Blender does not hand out passes in memory, they go through OpenEXR")

    def render(self, moment: Moment, camera: CameraView) -> Arrays:
        """Render what was asked for."""
        asked = list(self.emits)
        view = [*self._on_device, *settings.of_view(moment.scene, camera)]
        arrays: dict[str, Any] = {}
        if pictures := [name for name in asked if name in PICTURES]:
            with settings.applied([*view, *self._of_picture(moment, camera)]):
                sources = self._rendered(moment.scene, pictures, alone=False)
                if "image" in pictures:
                    arrays["image"] = doors.read_picture(moment.scene, self.transparent, self._open_file())
                self._note_device(moment.scene)
            arrays.update(self._converted(pictures, sources))
        if geometry := [name for name in asked if name not in PICTURES]:
            with settings.applied([*view, *settings.of_geometry(moment.scene, camera), *self._of_ids(moment)]):
                sources = self._rendered(moment.scene, geometry, alone=True)
                self._note_device(moment.scene)
            arrays.update(self._converted(geometry, sources))
        return arrays

    @property
    def device(self) -> str:
        """What the last frame was rendered on: "CPU (...)", or "GPU (...; OptiX)"."""
        return self._device

    def close(self) -> None:
        """Free the memory that pictures pass through."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _spec(self, name: str) -> ArraySpec:
        spec = PASSES[name].spec
        if name in PICTURES and self.transparent:
            return msgspec.structs.replace(spec, shape=("height", "width", 4))
        return spec

    def _of_picture(self, moment: Moment, camera: CameraView) -> list[settings.Setting]:
        options, cycles = self.options, moment.scene.cycles
        # Noise of its own for each frame and camera, whichever instance renders it.
        noise = generator(self._seed, f"cycles.{camera.name}", moment.episode, moment.frame).integers(2**31)
        denoiser = [(cycles, "denoiser", self._denoiser)] if self._denoiser else []
        threshold = [(cycles, "adaptive_threshold", options.noise_threshold)] if options.noise_threshold else []
        film = [(moment.scene.render, "film_transparent", True)] if self.transparent else []
        return [
            (cycles, "samples", options.samples),
            (cycles, "use_adaptive_sampling", options.noise_threshold > 0),
            *threshold,
            (cycles, "use_denoising", bool(self._denoiser)),
            *denoiser,
            (cycles, "time_limit", options.time_limit_s),
            (cycles, "seed", int(noise)),
            (cycles, "use_animated_seed", False),
            *film,
        ]

    def _of_ids(self, moment: Moment) -> list[settings.Setting]:
        if "instance_ids" not in self.options.passes:
            return []
        import bpy  # not there at the training side

        ids = {part.name: each.id for each in moment.objects for part in each.parts}
        return settings.of_ids(list(bpy.data.objects), ids)

    def _rendered(self, scene: Any, names: list[str], alone: bool) -> dict[str, Floats]:
        import bpy  # not there at the training side

        sources = list(dict.fromkeys(source for name in names for source in PASSES[name].sources))
        layer = bpy.context.view_layer
        if not sources:
            doors.render(scene)
            return {}
        with settings.applied(settings.of_passes(layer, sources)):
            if self._in_memory:
                return doors.render_in_memory(scene, layer.name, sources, alone)
            return doors.render_by_file(scene, layer.name, sources, alone, self._open_file())

    def _converted(self, names: list[str], sources: Mapping[str, Floats]) -> dict[str, Any]:
        arrays = {}
        for name in names:
            if PASSES[name].sources:
                array = PASSES[name].convert(sources)
                if name == "linear" and not self.transparent:
                    array = array[..., :3]
                arrays[name] = np.ascontiguousarray(array)
        return arrays

    def _note_device(self, scene: Any) -> None:
        if self._device == "unknown":
            self._device = devices.in_use(scene)
            if self.options.device == "auto" and self._device.startswith("CPU"):
                self._device += ": Cycles finds no GPU here"

    def _open_file(self) -> MemoryFile:
        if self._file is None:
            raise SceneError("this renderer is closed")
        return self._file
