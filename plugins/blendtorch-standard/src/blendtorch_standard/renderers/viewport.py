"""Pictures by Workbench and EEVEE, drawn into memory as the 3D view draws them."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from blendtorch.core import ArraySpec, CameraView, Moment, Options, Renderer, SetupContext
from blendtorch.core.interfaces import COLOR, GEOMETRY, LIGHTS, SURFACE, TEXTURE, WORLD_COLOR, WORLD_IMAGE, Arrays

from blendtorch_standard.renderers.alpha import straight


class _Viewport(Renderer):
    """Draws through `blender.Viewport`, with an engine of its own."""

    _viewport: Any = None
    _device = "unknown"

    @property
    def emits(self) -> Mapping[str, ArraySpec]:
        """One picture."""
        return {"image": ArraySpec("uint8", ("height", "width", 4 if self.transparent else 3))}

    def setup(self, context: SetupContext) -> None:
        """Make the GPU context, and choose the engine's settings."""
        from blendtorch.btb import blender

        self._scene = context.scene
        self._images: dict[str, npt.NDArray[np.uint8]] = {}
        if context.transparent:
            context.scene.render.film_transparent = True
        self._engine = self._choose(context.scene)
        self._viewport = blender.Viewport(alpha=self.transparent)
        blender.film_arguments(context.scene, alpha=self.transparent)  # refuses what this Blender cannot draw
        self._device = blender.gpu_device()

    def render(self, moment: Moment, camera: CameraView) -> Arrays:  # noqa: ARG002
        """Draw the picture."""
        if self._scene.render.engine != self._engine:  # another renderer of this run has another
            self._scene.render.engine = self._engine
        drawn = self._viewport.draw(camera)
        if self.transparent:
            return {"image": straight(drawn.copy())}
        # A new array per frame would cost its pages again: 0.2 ms at 640x480. One per camera, for the next is drawn over this.
        image = self._images.get(camera.name)
        if image is None or image.shape != drawn.shape:
            image = self._images[camera.name] = np.empty(drawn.shape, np.uint8)
        np.copyto(image, drawn)
        return {"image": image}

    @property
    def device(self) -> str:
        """The GPU, or the software that stands in for it."""
        return self._device

    def close(self) -> None:
        """Free the memory on the GPU."""
        if self._viewport is not None:
            self._viewport.close()

    def _choose(self, scene: Any) -> str:
        raise NotImplementedError


class WorkbenchOptions(Options, frozen=True, kw_only=True):
    """Options of `workbench`.

    Attributes
    ----------
    color : {'scene', 'material', 'texture', 'object', 'random', 'single'}
        What colours objects; 'scene' leaves it as the file has it.
    antialiasing : {'scene', 'off', 'fxaa', '5', '8', '11', '16', '32'}
        Samples per pixel.
    """

    color: Literal["scene", "material", "texture", "object", "random", "single"] = "scene"
    antialiasing: Literal["scene", "off", "fxaa", "5", "8", "11", "16", "32"] = "scene"


class Workbench(_Viewport):
    """Fast pictures with viewport colours: no lamps, no environment, no surface properties."""

    name = "workbench"
    interface = 1
    Options = WorkbenchOptions

    @property
    def shows(self) -> frozenset[str]:  # type: ignore[override]
        """Colours of materials, or their textures, by the option `color`."""
        effect = {"material": {COLOR}, "scene": {COLOR}, "texture": {COLOR, TEXTURE}}.get(self.options.color, set())
        return frozenset({GEOMETRY, WORLD_COLOR} | effect)

    def _choose(self, scene: Any) -> str:
        if self.options.color != "scene":
            scene.display.shading.color_type = self.options.color.upper()
        if self.options.antialiasing != "scene":
            scene.display.viewport_aa = self.options.antialiasing.upper()
        return "BLENDER_WORKBENCH"


class EeveeOptions(Options, frozen=True, kw_only=True):
    """Options of `eevee`.

    Attributes
    ----------
    samples : int or None
        Per pixel. Default: as the file has it.
    """

    samples: int | None = None


class Eevee(_Viewport):
    """Shaded pictures in real time on a GPU; in software a frame takes seconds, and the first one up to half a minute."""

    name = "eevee"
    interface = 1
    Options = EeveeOptions
    shows = frozenset({GEOMETRY, COLOR, TEXTURE, SURFACE, LIGHTS, WORLD_COLOR, WORLD_IMAGE})

    def _choose(self, scene: Any) -> str:
        from blendtorch.btb import blender

        if self.options.samples is not None:
            scene.eevee.taa_samples = self.options.samples
        return blender.eevee()
