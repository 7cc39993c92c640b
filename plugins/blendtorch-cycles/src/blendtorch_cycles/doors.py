"""How the passes of a render get out of Blender: in memory, or by an OpenEXR file.

Cycles is an add-on, registered from Python: its class has the method `render`, which Blender looks up for each render, and
inside it the engine's own result can be read. That is not documented, so it is tried at the start of each run; Blender 3.4
refuses to hand out passes with several channels. The other door is what F12 would save: every pass in one file, which lies
in memory.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
from blendtorch.core.errors import SceneError

from blendtorch_cycles import settings
from blendtorch_cycles.files import MemoryFile, read_openexr, read_targa
from blendtorch_cycles.passes import SOURCES, Floats


def render(scene: Any, layer: str = "") -> None:
    """Render a scene with its present settings, as F12 does; with `layer`, this view layer alone.

    Raises
    ------
    SceneError
        If Blender cannot.
    """
    import bpy

    try:
        with _quiet():
            result = bpy.ops.render.render(scene=scene.name, layer=layer)
    except RuntimeError as error:
        raise SceneError(f"Cycles cannot render: {error}") from None
    if "FINISHED" not in result:
        raise SceneError("the render was cancelled")


def render_in_memory(scene: Any, layer: str, sources: Sequence[str], alone: bool) -> dict[str, Floats]:
    """Render, and read passes from the engine's result.

    Parameters
    ----------
    scene : bpy.types.Scene
    layer : str
        Name of the view layer that has them.
    sources : sequence of str
        Of `passes.SOURCES`.
    alone : bool
        Render this view layer only.

    Returns
    -------
    dict of str to ndarray, shape (height, width, channels), float32
        Row 0 on top.

    Raises
    ------
    SceneError
        If a pass cannot be read.
    """
    engine_class = import_module("cycles").CyclesRender  # Blender's add-on, known to no type checker

    found: dict[str, Floats] = {}
    errors: list[str] = []
    original = engine_class.render

    def render_and_read(engine: Any, graph: Any) -> None:
        ours = graph.view_layer.name == layer  # before 4.5 it is gone after the render
        original(engine, graph)
        if ours:
            try:
                found.update(_read(engine.get_result(), layer, sources))
            except Exception as error:  # noqa: BLE001 - Blender would print it and go on
                errors.append(str(error))  # the exception itself would keep the engine alive

    engine_class.render = render_and_read
    try:
        render(scene, layer if alone else "")
    finally:
        engine_class.render = original
    if errors or len(found) < len(sources):
        missing = ", ".join(name for name in sources if name not in found)
        raise SceneError(f"Cycles gives no pass {missing} in memory: {errors[0] if errors else 'it was not rendered'}")
    return found


def render_by_file(scene: Any, layer: str, sources: Sequence[str], alone: bool, file: MemoryFile) -> dict[str, Floats]:
    """Render, save every pass as OpenEXR, and read it back; see `render_in_memory`."""
    render(scene, layer if alone else "")
    with settings.applied(settings.of_openexr(scene)):
        _save(scene, file)
    channels = read_openexr(file.read())
    found = {}
    for source in sources:
        _, names, number = SOURCES[source]
        parts = {name.removeprefix(f"{layer}."): values for name, values in channels.items() if name.startswith(f"{layer}.")}
        for name in names:
            ends = "RGBA" if source == "combined" else "UVA" if source == "uv" else "Z" if source == "z" else "XYZ"
            planes = [parts[f"{name}.{end}"] for end in ends[:number] if f"{name}.{end}" in parts]
            if len(planes) == number:
                found[source] = np.stack(planes, axis=-1)
        if source not in found:
            raise SceneError(f"the file that Blender saved has no pass {' or '.join(names)}; it has {', '.join(parts)}")
    return found


def works_in_memory() -> bool:
    """Try the door in memory, with a scene of our own that is removed again."""
    import bpy

    scene = bpy.data.scenes.new("blendtorch-cycles")
    camera_data = bpy.data.cameras.new("blendtorch-cycles")
    camera = bpy.data.objects.new("blendtorch-cycles", camera_data)
    try:
        scene.camera = camera
        scene.render.engine = "CYCLES"
        scene.render.resolution_x = scene.render.resolution_y = 8
        scene.cycles.samples, scene.cycles.use_denoising = 1, False
        layer = scene.view_layers[0]
        with settings.applied(settings.of_passes(layer, ["normal"])):
            shape = render_in_memory(scene, layer.name, ["normal"], alone=True)["normal"].shape
    except SceneError:
        return False
    finally:
        bpy.data.scenes.remove(scene)
        bpy.data.objects.remove(camera)
        bpy.data.cameras.remove(camera_data)
    return shape == (8, 8, 3)


def read_picture(scene: Any, alpha: bool, file: MemoryFile) -> Any:
    """Return the picture of the last render as F12 would save it: 8 bits, display colours, dithering.

    No access to the finished pixels of a render exists: saving is what turns them into display colours. As Targa it costs 5 to
    12 ms at 640x480, nearly all of it the colours (measured with 4.5 to 5.2).
    """
    with settings.applied(settings.of_targa(scene, alpha)):
        _save(scene, file)
    return read_targa(file.read())


def _save(scene: Any, file: MemoryFile) -> None:
    import bpy

    result = next(image for image in bpy.data.images if image.type == "RENDER_RESULT")
    try:
        with _quiet():
            result.save_render(file.path, scene=scene)
    except RuntimeError as error:
        raise SceneError(f"Blender cannot save the render: {error}") from None


def _read(result: Any, layer: str, sources: Sequence[str]) -> dict[str, Floats]:
    passes = next(each for each in result.layers if each.name == layer).passes
    found = {}
    for source in sources:
        _, names, channels = SOURCES[source]
        of_cycles = next(each for each in passes if each.name in names)
        flat = np.empty(result.resolution_x * result.resolution_y * channels, np.float32)
        of_cycles.rect.foreach_get(flat)
        found[source] = flat.reshape(result.resolution_y, result.resolution_x, channels)[::-1]  # from the bottom
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what Blender prints out of the log: before 5.0, 50 lines for each render."""
    sys.stdout.flush()
    kept = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
