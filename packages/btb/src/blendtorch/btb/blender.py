"""What differs between Blender versions, and what it takes to work without a window: known here and nowhere else.

This is the public facade for plug-ins. Versions: 3.4, 4.2, 4.5, 5.0, 5.2.
"""

from typing import Any

import bpy
import gpu
import numpy as np
import numpy.typing as npt
from blendtorch.core import geometry
from blendtorch.core.errors import CameraError, SceneError

VERSION: tuple[int, int, int] = tuple(bpy.app.version)

_gpu_started = False


def start_gpu() -> None:
    """Make the GPU context that drawing needs; does nothing when there is one already.

    In background Blender refuses to draw until a context exists. From 5.2 on `gpu.init` makes it; before that a render
    does, here of an empty scene of our own at 8x8 pixels, so that no handler or setting of the user's scene takes part.
    """
    global _gpu_started
    if _gpu_started or not bpy.app.background:
        return
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


def depsgraph() -> Any:
    """Evaluate the scene where it changed, and return its dependency graph (that of the viewport)."""
    return bpy.context.evaluated_depsgraph_get()


def picture_shape(scene: Any = None) -> tuple[int, int]:
    """Compute the shape of the scene's pictures.

    Parameters
    ----------
    scene : bpy.types.Scene, optional
        Default: the current one.

    Returns
    -------
    tuple of int
        Height and width in pixels, with the resolution percentage, rounded down as Blender does.
    """
    render = (scene or bpy.context.scene).render
    return (
        render.resolution_y * render.resolution_percentage // 100,
        render.resolution_x * render.resolution_percentage // 100,
    )


def scene_camera(camera: Any = None) -> Any:
    """Return `camera`, or the current scene's, as a camera object.

    Raises
    ------
    CameraError
        If there is none, or the object is no camera.
    """
    camera = bpy.context.scene.camera if camera is None else camera
    if camera is None:
        raise CameraError("the scene has no active camera: set scene.camera, or pass one")
    if getattr(camera, "type", None) != "CAMERA":
        raise CameraError(f"{getattr(camera, 'name', camera)!r} is no camera object")
    return camera


def lens(camera: Any, shape: tuple[int, int], scene: Any = None) -> geometry.Lens:
    """Read what shapes the projection of a camera.

    Parameters
    ----------
    camera : bpy.types.Object
        A camera object; its animation is evaluated.
    shape : tuple of int
        Height and width of the picture in pixels.
    scene : bpy.types.Scene, optional
        Whose pixel aspect counts. Default: the current one.

    Returns
    -------
    geometry.Lens

    Raises
    ------
    CameraError
        If the camera is panoramic or custom: straight lines are no lines in its pictures.
    """
    data = camera.evaluated_get(depsgraph()).data
    if data.type not in ("PERSP", "ORTHO"):
        raise CameraError(
            f"camera {camera.name!r} is of type {data.type}: only perspective and orthographic cameras can be projected"
        )
    render = (scene or bpy.context.scene).render
    return geometry.Lens(
        width=shape[1],
        height=shape[0],
        projection="perspective" if data.type == "PERSP" else "orthographic",
        focal_length_mm=data.lens,
        sensor_width_mm=data.sensor_width,
        sensor_height_mm=data.sensor_height,
        sensor_fit=data.sensor_fit,
        orthographic_scale=data.ortho_scale,
        shift_x=data.shift_x,
        shift_y=data.shift_y,
        pixel_aspect_x=render.pixel_aspect_x,
        pixel_aspect_y=render.pixel_aspect_y,
    )


def world_matrix(obj: Any) -> npt.NDArray[np.float64]:
    """Read the evaluated world matrix of an object.

    Returns
    -------
    ndarray, shape (4, 4), float64
        `world_from_object`, with animation, parents and constraints.
    """
    return np.array(obj.evaluated_get(depsgraph()).matrix_world, np.float64)


def film_arguments(scene: Any, alpha: bool) -> dict[str, bool]:
    """Choose the arguments of `GPUOffScreen.draw_view3d` that give a picture the scene's film.

    Parameters
    ----------
    scene : bpy.types.Scene
    alpha : bool
        Whether the picture has an alpha channel; without one the film makes no difference.

    Raises
    ------
    SceneError
        If the film is transparent, and this Blender draws it opaque: 3.4 does, 4.2 and later do not.
    """
    if not (alpha and scene.render.film_transparent):
        return {}
    if VERSION < (4, 0, 0):
        raise SceneError(
            f"Blender {bpy.app.version_string} draws a transparent film opaque: "
            "switch off scene.render.film_transparent, use mode='rgb', or a newer Blender"
        )
    return {"draw_background": False}


def eevee() -> str:
    """Name EEVEE as `scene.render.engine` wants it in this Blender."""
    return "BLENDER_EEVEE_NEXT" if (4, 2, 0) <= VERSION < (5, 0, 0) else "BLENDER_EEVEE"


def set_render_threads(threads: int) -> None:
    """Limit the threads that every scene of the file renders with."""
    for scene in bpy.data.scenes:
        scene.render.threads_mode = "FIXED"
        scene.render.threads = max(1, min(1024, threads))


def open_scene(path: str, run_scripts: bool) -> None:
    """Open a .blend file, or the factory scene for an empty path; never the user's startup file.

    The file's window layout is not loaded: Blender's own has a 3D view, the file's may have none.

    Raises
    ------
    SceneError
        If the file cannot be opened.
    """
    if not path:
        bpy.ops.wm.read_factory_settings(use_empty=False)
        return
    try:
        bpy.ops.wm.open_mainfile(filepath=path, load_ui=False, use_scripts=run_scripts)
    except RuntimeError as error:
        raise SceneError(f"Blender {bpy.app.version_string} cannot open {path}: {error}") from None


def check_scene(path: str) -> None:
    """Refuse to go on with a .blend file that Blender was given on its command line and could not open.

    It shows its factory scene then, under the name of the file.

    Raises
    ------
    SceneError
    """
    if path:
        try:
            with bpy.data.libraries.load(path):
                pass
        except OSError as error:
            raise SceneError(f"Blender {bpy.app.version_string} cannot open {path}: {error}") from None


def scripts_not_run() -> str:
    """Say which scripts inside the current .blend were not allowed to run; empty for none."""
    texts = [text.name for text in bpy.data.texts if text.use_module]
    parts = [f"text blocks {', '.join(texts)}"] if texts else []
    if bpy.app.autoexec_fail and not texts:
        parts.append(bpy.app.autoexec_fail_message)
    if not parts:
        return ""
    return (
        f"{bpy.data.filepath} brings scripts that were not run ({'; '.join(parts)}): "
        "pass enable_autoexec=True to the launcher where you trust the file"
    )
