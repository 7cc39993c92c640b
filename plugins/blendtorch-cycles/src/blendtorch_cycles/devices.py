"""On which device Cycles renders: choosing one, and saying which it was."""

from collections.abc import Sequence
from typing import Any

from blendtorch.core.errors import SceneError

from blendtorch_cycles.settings import Setting

# Interfaces to GPUs as Cycles names them, the fastest first where a GPU has several.
BACKENDS = {"OPTIX": "OptiX", "CUDA": "CUDA", "HIP": "HIP", "METAL": "Metal", "ONEAPI": "oneAPI"}


def choose(scene: Any, device: str) -> list[Setting]:
    """List the settings that make Cycles render on a device.

    Parameters
    ----------
    scene : bpy.types.Scene
    device : str
        As in `CyclesOptions`.

    Raises
    ------
    SceneError
        If it is not there, or Cycles is not.
    """
    preferences = _preferences()
    if device == "cpu":
        return [(scene.cycles, "device", "CPU")]
    offered = [name for name, *_ in preferences.get_device_types(None)]
    asked = [name for name in BACKENDS if device in ("auto", "gpu", name.lower())]
    for backend in asked:
        entries = preferences.get_devices_for_type(backend) if backend in offered else []
        if any(entry.type == backend for entry in entries):
            return [
                (preferences, "compute_device_type", backend),
                *((entry, "use", entry.type == backend) for entry in entries),
                (scene.cycles, "device", "GPU"),
            ]
    if device == "auto":
        return [(scene.cycles, "device", "CPU")]
    looked = ", ".join(BACKENDS[name] for name in asked if name in offered) or "none of the interfaces of this build"
    raise SceneError(
        f"device {device!r}: Cycles finds no such GPU here (asked: {looked}); there is the CPU, {_cpu(preferences)}: "
        "install the GPU's driver, or use device='auto' or 'cpu'"
    )


def in_use(scene: Any) -> str:
    """Name what Cycles renders on with the present settings, by the rule that Cycles itself has.

    Without a GPU that is switched on in the preferences it takes the CPU, whatever the scene says.
    """
    preferences = _preferences()
    backend = preferences.compute_device_type
    if scene.cycles.device == "GPU" and backend in BACKENDS:
        names = _names(entry for entry in preferences.get_devices_for_type(backend) if entry.use)
        if names:
            return f"GPU ({', '.join(names)}; {BACKENDS[backend]})"
    return f"CPU ({_cpu(preferences)})"


def choose_denoiser(denoiser: str, chosen: Sequence[Setting]) -> str:
    """Choose a denoiser, as Cycles names it; "" for none.

    Parameters
    ----------
    denoiser : str
        As in `CyclesOptions`.
    chosen : sequence of Setting
        The settings of the device.

    Raises
    ------
    SceneError
        If this Blender does not have it.
    """
    if denoiser == "off":
        return ""
    on_optix = any(name == "compute_device_type" and value == "OPTIX" for _, name, value in chosen)
    asked = ["OPTIX"] * on_optix + ["OPENIMAGEDENOISE"] if denoiser == "auto" else [denoiser.upper()]
    if found := next((name for name in asked if _has_denoiser(name)), ""):
        return found
    if denoiser == "auto":
        return ""
    raise SceneError(f"denoiser {denoiser!r}: this Blender does not have it, or no device for it; use denoiser='auto' or 'off'")


def _has_denoiser(name: str) -> bool:
    import bpy

    scene = bpy.data.scenes.new("blendtorch-cycles")  # what is offered shows only by setting it
    try:
        scene.cycles.denoiser = name
    except TypeError:
        return False
    finally:
        bpy.data.scenes.remove(scene)
    return True


def _preferences() -> Any:
    import bpy

    addon = bpy.context.preferences.addons.get("cycles")
    if addon is None:
        raise SceneError("Cycles is not part of this Blender, or switched off: enable the add-on `cycles`")
    return addon.preferences


def _cpu(preferences: Any) -> str:
    return ", ".join(_names(entry for entry in preferences.get_devices_for_type("CPU") if entry.type == "CPU")) or "unknown"


def _names(entries: Any) -> list[str]:
    return [entry.name for entry in entries]
