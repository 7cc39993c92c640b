"""What this Blender can do on this machine, tried out rather than read off its version."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import bpy
import numpy as np
from blendtorch.btb.blender import versions
from blendtorch.btb.blender.cameras import scene_camera, view
from blendtorch.btb.blender.drawing import Viewport

# Part of the names of the programs that stand in for a GPU: Mesa's, Google's, Microsoft's.
_SOFTWARE = ("llvmpipe", "lavapipe", "softpipe", "swrast", "swiftshader", "software", "basic render")


def engines() -> tuple[str, ...]:
    """Find which of Workbench, EEVEE and Cycles are there, as `scene.render.engine` wants them."""
    render = bpy.context.scene.render
    before = render.engine
    found = []
    for name in ("BLENDER_WORKBENCH", versions.eevee(), "CYCLES"):
        with contextlib.suppress(TypeError):  # no such engine in this build
            render.engine = name
            found.append(name)
    render.engine = before
    return tuple(found)


def is_software(device: str) -> bool:
    """Tell from its name whether what draws is a program that stands in for a GPU."""
    return any(name in device.lower() for name in _SOFTWARE)


def workbench_frame_ms(shape: tuple[int, int] = (240, 320)) -> float:
    """Measure one Workbench frame of the current scene with readback, in milliseconds; the median of five."""
    bpy.context.scene.render.engine = "BLENDER_WORKBENCH"
    viewport = Viewport()
    camera = view(scene_camera(), shape)
    viewport.draw(camera)  # compiles the shaders
    spent = []
    for _ in range(5):
        begin = time.perf_counter()
        viewport.draw(camera)
        spent.append(1e3 * (time.perf_counter() - begin))
    viewport.close()
    return float(np.median(spent))


def cycles_devices() -> tuple[str, ...]:
    """List what Cycles could render on: "CPU: AMD EPYC"."""
    addon = bpy.context.preferences.addons.get("cycles")
    if addon is None:
        return ()
    addon.preferences.refresh_devices()
    return tuple(sorted(f"{device.type}: {device.name}" for device in addon.preferences.devices))


def cycles_memory_error() -> str:
    """Say why the passes of Cycles cannot be read from memory; empty where they can.

    Cycles is registered from Python, so that its `render` can be wrapped and the engine's result read inside it. This is
    undocumented: it is tried, with a picture of 8x8 pixels and 1 sample.
    """
    try:
        import cycles  # type: ignore[import-not-found]  # Blender's; an add-on: some builds lack it
    except ImportError as error:
        return f"Cycles is not there: {error}"
    if not hasattr(cycles, "CyclesRender"):
        return "the add-on of Cycles has no CyclesRender any more"
    of_cycles, read = cycles.CyclesRender.render, []

    def render_and_read(engine: Any, depsgraph: Any) -> None:
        of_cycles(engine, depsgraph)
        try:
            result = engine.get_result()
            each = result.layers[0].passes["Combined"]
            pixels = np.full(result.resolution_x * result.resolution_y * each.channels, np.nan, np.float32)
            each.rect.foreach_get(pixels)
            read.append("" if np.isfinite(pixels).all() else "the pass came back empty")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            read.append(f"{type(error).__name__}: {error}")

    cycles.CyclesRender.render = render_and_read
    try:
        with _small_scene() as scene:
            bpy.ops.render.render(scene=scene.name)
    except RuntimeError as error:
        return f"it does not render: {error}"
    finally:
        cycles.CyclesRender.render = of_cycles
    return read[0] if read else "the wrapped render was not called"


@contextlib.contextmanager
def _small_scene() -> Iterator[Any]:
    scene = bpy.data.scenes.new("blendtorch-cycles")
    data = bpy.data.cameras.new("blendtorch-cycles")
    camera = bpy.data.objects.new("blendtorch-cycles", data)
    try:
        scene.camera = camera
        scene.render.engine = "CYCLES"
        scene.render.resolution_x = scene.render.resolution_y = 8
        scene.cycles.samples, scene.cycles.use_denoising = 1, False
        yield scene
    finally:
        bpy.data.scenes.remove(scene)
        bpy.data.objects.remove(camera)
        bpy.data.cameras.remove(data)
