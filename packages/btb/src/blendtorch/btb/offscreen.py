"""Pictures of the scene, drawn into memory by the engine of the viewport. Needs no window and no file."""

from typing import Any, Literal

import bpy
import gpu
import numpy as np
import numpy.typing as npt
from blendtorch.btb import blender
from blendtorch.btb.camera import Camera
from blendtorch.core.errors import SceneError


class OffScreenRenderer:
    """Draws what a camera sees.

    With the scene's engine on Workbench or EEVEE and the shading `RENDERED` (the default), a picture has the colours
    that F12 would save, under the scene's view transform.

    Parameters
    ----------
    camera : bpy.types.Object or Camera, optional
        Default: the scene's active camera. Its pose and lens are read for each picture.
    mode : {'rgba', 'rgb'}
    origin : {'upper-left', 'lower-left'}
        Which row comes first: the top one, or the bottom one.

    Raises
    ------
    CameraError
        If there is no camera, or it is panoramic.
    SceneError
        If `mode` or `origin` is unknown.
    """

    def __init__(
        self,
        camera: Any = None,
        mode: Literal["rgba", "rgb"] = "rgba",
        origin: Literal["upper-left", "lower-left"] = "upper-left",
    ) -> None:
        if mode not in ("rgba", "rgb"):
            raise SceneError(f"mode {mode!r}: expected 'rgb' or 'rgba'")
        if origin not in ("upper-left", "lower-left"):
            raise SceneError(f"origin {origin!r}: expected 'upper-left' or 'lower-left'")
        self.camera = camera if isinstance(camera, Camera) else Camera(camera)
        self.mode = mode
        self.origin = origin
        blender.start_gpu()
        _, self.space, self.region = blender.find_view3d()
        self._shading, self._overlays = "RENDERED", False
        self._offscreen: Any = None
        self._pixels: npt.NDArray[np.uint8]
        self._target: Any

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the pictures."""
        return self.camera.shape

    def set_render_style(self, shading: str = "RENDERED", overlays: bool = False) -> None:
        """Choose how the scene is drawn.

        Parameters
        ----------
        shading : {'RENDERED', 'MATERIAL', 'SOLID', 'WIREFRAME'}
            As in the header of a 3D view. MATERIAL needs EEVEE or Cycles as the scene's engine.
        overlays : bool
            Draw grid, outlines and other helpers too.

        Raises
        ------
        SceneError
            If the scene's engine does not offer this shading.
        """
        self._shading, self._overlays = shading, overlays
        self._apply_style()

    def render(self) -> npt.NDArray[np.uint8]:
        """Draw the scene as it is now.

        Returns
        -------
        ndarray, shape (height, width, 3 or 4), uint8
            A new array, the caller's own. RGB or RGBA; alpha is 255 unless the scene's film is transparent.

        Raises
        ------
        SceneError
            If the scene's engine cannot be drawn like this, or this Blender cannot draw a transparent film.
        """
        graph = blender.depsgraph()  # evaluates what changed: the drawing below would show the scene as it was before
        self._apply_style()
        height, width = self.shape
        if self._offscreen is None or (self._offscreen.height, self._offscreen.width) != (height, width):
            self._allocate(height, width)
        self._offscreen.draw_view3d(
            graph.scene,
            bpy.context.view_layer,
            self.space,
            self.region,
            self.camera.view_matrix,
            self.camera.proj_matrix,
            do_color_management=True,
            **blender.film_arguments(graph.scene, alpha=len(self.mode) == 4),
        )
        with self._offscreen.bind():
            gpu.state.active_framebuffer_get().read_color(0, 0, width, height, len(self.mode), 0, "UBYTE", data=self._target)
        # OpenGL's rows come from the bottom.
        return (self._pixels[::-1] if self.origin == "upper-left" else self._pixels).copy()

    def close(self) -> None:
        """Free the memory on the GPU; the next `render` takes it again."""
        if self._offscreen is not None:
            self._offscreen.free()
            self._offscreen = None

    def _allocate(self, height: int, width: int) -> None:
        self.close()
        self._offscreen = gpu.types.GPUOffScreen(width, height)
        self._pixels = np.empty((height, width, len(self.mode)), np.uint8)
        self._target = gpu.types.Buffer("UBYTE", self._pixels.shape, self._pixels)  # reads land in the array

    def _apply_style(self) -> None:
        # Renderers share the one 3D view of the file, so each sets its style before it draws.
        if self.space.shading.type != self._shading:
            engine = bpy.context.scene.render.engine
            try:
                self.space.shading.type = self._shading
            except TypeError:
                raise SceneError(f"shading {self._shading!r} is not offered by the engine {engine}") from None
        if self._shading == "RENDERED" and bpy.context.scene.render.engine == "CYCLES":
            raise SceneError(
                "Cycles does not draw into the viewport of a headless Blender: "
                "set scene.render.engine to BLENDER_WORKBENCH or EEVEE, or the shading to SOLID"
            )
        self.space.overlay.show_overlays = self._overlays
