"""Drawing into memory with the engine of the viewport: no window, no file."""

import sys
from typing import Any

import bpy
import gpu
import mathutils
import numpy as np
import numpy.typing as npt
from blendtorch.btb.blender import egl, versions
from blendtorch.btb.blender.meshes import depsgraph
from blendtorch.core.errors import SceneError
from blendtorch.core.geometry import CAMERA_FROM_BLENDER_CAMERA
from blendtorch.core.interfaces import CameraView

_gpu_started = False


def start_gpu() -> None:
    """Make the GPU context that drawing needs; does nothing when there is one already.

    In background Blender refuses to draw until a context exists. From 5.2 on `gpu.init` makes it; before that a render
    does, here of an empty scene of our own at 8x8 pixels, so that no handler or setting of the user's scene takes part.

    Raises
    ------
    SceneError
        If no context can be made: says what to install.
    """
    global _gpu_started
    if _gpu_started or not bpy.app.background:
        return
    if sys.platform == "linux" and (error := egl.context_error(versions.opengl())):
        raise SceneError(f"Blender cannot draw here: {error}")
    if hasattr(gpu, "init"):
        gpu.init()
    else:
        scene = bpy.data.scenes.new("blendtorch-gpu-start")
        camera_data = bpy.data.cameras.new("blendtorch-gpu-start")
        scene.camera = bpy.data.objects.new("blendtorch-gpu-start", camera_data)
        scene.render.engine = "BLENDER_WORKBENCH"
        scene.render.resolution_x = scene.render.resolution_y = 8
        bpy.ops.render.render(scene=scene.name)
        camera = scene.camera
        bpy.data.scenes.remove(scene)
        bpy.data.objects.remove(camera)
        bpy.data.cameras.remove(camera_data)
    _gpu_started = True


def find_view3d() -> tuple[Any, Any, Any]:
    """Find a 3D view, in whichever screen of the file has one.

    Returns
    -------
    area : bpy.types.Area
    space : bpy.types.SpaceView3D
    region : bpy.types.Region
        Its window region.

    Raises
    ------
    SceneError
        If no screen has a 3D view.
    """
    screens = [bpy.context.screen] if bpy.context.screen else []
    for screen in [*screens, *bpy.data.screens]:
        for area in screen.areas:
            if area.type == "VIEW_3D":
                region = next(region for region in area.regions if region.type == "WINDOW")
                return area, area.spaces.active, region
    raise SceneError("no screen of this file has a 3D view to draw: save the file with one, or launch with background=True")


def gpu_device() -> str:
    """Name what draws: the GPU, or the software that stands in for it."""
    start_gpu()
    return f"{gpu.platform.renderer_get()} ({gpu.platform.backend_type_get()})"


class Viewport:
    """Draws what a camera sees, as the 3D view would.

    With the scene's engine on Workbench or EEVEE and the shading `RENDERED`, a picture has the colours that F12 would
    save, under the scene's view transform.

    Parameters
    ----------
    shading : {'RENDERED', 'MATERIAL', 'SOLID', 'WIREFRAME'}
        As in the header of a 3D view. MATERIAL needs EEVEE or Cycles as the scene's engine.
    overlays : bool
        Draw grid, outlines and other helpers too.
    alpha : bool
        RGBA; alpha is 255 unless the scene's film is transparent.

    Raises
    ------
    SceneError
        If no screen of the file has a 3D view.
    """

    def __init__(self, shading: str = "RENDERED", overlays: bool = False, alpha: bool = False) -> None:
        start_gpu()
        _, self.space, self.region = find_view3d()
        self.channels = 4 if alpha else 3
        self._shading, self._overlays = shading, overlays
        self._offscreen: Any = None
        self._pixels: npt.NDArray[np.uint8]
        self._target: Any

    def set_style(self, shading: str, overlays: bool) -> None:
        """Choose how to draw; see the class.

        Raises
        ------
        SceneError
            If the scene's engine does not offer this shading.
        """
        self._shading, self._overlays = shading, overlays
        self._apply_style()

    def draw(self, camera: CameraView) -> npt.NDArray[np.uint8]:
        """Draw the scene as it is now.

        Returns
        -------
        ndarray, shape (height, width, 3 or 4), uint8
            A view of memory that the next call writes to; rows from the top.

        Raises
        ------
        SceneError
            If the scene's engine cannot be drawn like this, or this Blender cannot draw a transparent film.
        """
        graph = depsgraph()  # evaluates what changed: the drawing below would show the scene as it was before
        self._apply_style()
        height, width = camera.shape
        if self._offscreen is None or (self._offscreen.height, self._offscreen.width) != (height, width):
            self._allocate(height, width)
        render = graph.scene.render
        projection = camera.obj.evaluated_get(graph).calc_matrix_camera(
            graph, x=width, y=height, scale_x=render.pixel_aspect_x, scale_y=render.pixel_aspect_y
        )
        self._offscreen.draw_view3d(
            graph.scene,
            bpy.context.view_layer,
            self.space,
            self.region,
            mathutils.Matrix(CAMERA_FROM_BLENDER_CAMERA @ camera.camera_from_world),
            projection,
            do_color_management=True,
            **versions.film_arguments(graph.scene, alpha=self.channels == 4),
        )
        with self._offscreen.bind():
            gpu.state.active_framebuffer_get().read_color(0, 0, width, height, self.channels, 0, "UBYTE", data=self._target)
        return self._pixels[::-1]  # OpenGL's rows come from the bottom

    def close(self) -> None:
        """Free the memory on the GPU; the next `draw` takes it again."""
        if self._offscreen is not None:
            self._offscreen.free()
            self._offscreen = None

    def _allocate(self, height: int, width: int) -> None:
        self.close()
        self._offscreen = gpu.types.GPUOffScreen(width, height)
        self._pixels = np.empty((height, width, self.channels), np.uint8)
        self._target = gpu.types.Buffer("UBYTE", self._pixels.shape, self._pixels)  # reads land in the array

    def _apply_style(self) -> None:
        # All share the one 3D view of the file, so each sets its style before it draws.
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


def draw_instances(batch: Any, shader: Any, first: int, count: int) -> None:
    """Draw a batch `count` times, with the uniform `first` of the bound shader at `first`; `gl_InstanceID` counts from 0.

    Blender 3.4 has no such call: there `first` counts, and `gl_InstanceID` stays 0.
    """
    if hasattr(batch, "draw_instanced"):
        shader.uniform_int("first", first)
        batch.draw_instanced(shader, instance_start=0, instance_count=count)
        return
    for number in range(first, first + count):
        shader.uniform_int("first", number)
        batch.draw(shader)
