"""Scenes: opening them, their render settings, and what in them moves by itself."""

import difflib
import fnmatch
from typing import Any

import bpy
from blendtorch.btb.blender import versions
from blendtorch.core.errors import SceneError


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


def objects_matching(scene: Any, pattern: str) -> list[Any]:
    """Find objects of a scene by name, in the order of their names.

    Parameters
    ----------
    scene : bpy.types.Scene
    pattern : str
        A name, or one with the wildcards `*`, `?` and `[]`.

    Raises
    ------
    SceneError
        If there is none; names the nearest known one.
    """
    return matching(scene.objects, pattern, "object")


def matching(named: Any, pattern: str, what: str) -> list[Any]:
    """Find datablocks by name; see `objects_matching`."""
    found = sorted((each for each in named if fnmatch.fnmatchcase(each.name, pattern)), key=lambda each: str(each.name))
    if not found:
        names = sorted(each.name for each in named)
        nearest = difflib.get_close_matches(pattern, names, 1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"there are {', '.join(names) or 'none'}"
        raise SceneError(f"no {what} is called {pattern!r}: {hint}")
    return found


def overwritten(datablock: Any, path: str, every: str) -> str:
    """Say what would overwrite a property that a script sets before `frame_set`.

    Parameters
    ----------
    datablock : bpy.types.ID
    path : str
        Of the property: "location".
    every : {'episode', 'frame'}
        A rigid body may be set once per episode: that is where its simulation starts.

    Returns
    -------
    str
        "an F-curve", "a driver", "the constraint 'Track To'" or "the physics"; empty for nothing.
    """
    animation = datablock.animation_data
    if animation:
        if any(curve.data_path == path for curve in versions.fcurves(animation)):
            return "an F-curve"
        if any(curve.data_path == path for curve in animation.drivers):
            return "a driver"
    if path.startswith(("location", "rotation", "scale", "matrix")):
        for constraint in getattr(datablock, "constraints", ()):
            if not constraint.mute and constraint.influence > 0:
                return f"the constraint {constraint.name!r}"
        body = getattr(datablock, "rigid_body", None)
        if body is not None and body.type == "ACTIVE" and not body.kinematic and every == "frame":
            return "the physics"
    return ""
