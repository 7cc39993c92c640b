"""Pictures of the scene, drawn into memory by the engine of the viewport. Needs no window and no file."""

from typing import Any, Literal

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
        self._viewport = blender.Viewport(alpha=mode == "rgba")

    @property
    def space(self) -> Any:
        """The 3D view's space, for settings that `set_render_style` does not have."""
        return self._viewport.space

    @property
    def region(self) -> Any:
        """The 3D view's window region."""
        return self._viewport.region

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
        self._viewport.set_style(shading, overlays)

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
        picture = self._viewport.draw(blender.view(self.camera.bpy_camera, self.shape))
        return (picture if self.origin == "upper-left" else picture[::-1]).copy()

    def close(self) -> None:
        """Free the memory on the GPU; the next `render` takes it again."""
        self._viewport.close()
