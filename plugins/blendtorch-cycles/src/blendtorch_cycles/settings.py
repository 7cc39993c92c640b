"""Settings that are Blender's, set for one render and given back."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from blendtorch.core import CameraView

from blendtorch_cycles.passes import SOURCES

Setting = tuple[Any, str, Any]  # whose, which property, its value


@contextmanager
def applied(settings: Sequence[Setting]) -> Iterator[None]:
    """Set properties, and set them back at the end.

    Both go in the order given, since some properties decide what others can be. What has its value already is not touched:
    Blender would evaluate it again.
    """
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in settings]
    try:
        _set(settings)
        yield
    finally:
        _set(before)


def of_view(scene: Any, camera: CameraView) -> list[Setting]:
    """List what makes a render show what a camera sees."""
    render = scene.render
    height, width = camera.shape
    # A marker of the timeline may have a camera, which a render would make the scene's.
    markers = [(marker, "camera", None) for marker in scene.timeline_markers if marker.camera is not None]
    return [
        *markers,
        (scene, "camera", camera.obj),
        (render, "engine", "CYCLES"),
        (render, "resolution_x", width),
        (render, "resolution_y", height),
        (render, "resolution_percentage", 100),
        (render, "use_border", False),
        (render, "use_multiview", False),
    ]


def of_geometry(scene: Any, camera: CameraView) -> list[Setting]:
    """List what sends one ray through the centre of each pixel, and spends nothing on light."""
    cycles = scene.cycles
    return [
        (cycles, "samples", 1),
        (cycles, "seed", 0),
        (cycles, "pixel_filter_type", "BLACKMAN_HARRIS"),  # BOX would have no width to choose
        (cycles, "filter_width", 0.01),  # the least: rays within 0.005 pixels of the centre
        (cycles, "max_bounces", 0),
        (cycles, "use_adaptive_sampling", False),
        (cycles, "use_denoising", False),
        (cycles, "time_limit", 0.0),
        (scene.render, "use_motion_blur", False),
        (camera.obj.data.dof, "use_dof", False),
        (scene.render, "use_compositing", False),
        (scene.render, "use_sequencer", False),
    ]


def of_passes(layer: Any, sources: Sequence[str]) -> list[Setting]:
    """List what makes a view layer have passes; `sources` are names of `passes.SOURCES`."""
    return [(layer, "use", True), *((layer, SOURCES[name][0], True) for name in sources)]


def of_ids(objects: Sequence[Any], ids: dict[str, int]) -> list[Setting]:
    """List what writes ids into the pass of object indices; `ids` are by the names of objects, 0 for all others."""
    return [(obj, "pass_index", ids.get(obj.name, 0)) for obj in objects if obj.pass_index != ids.get(obj.name, 0)]


def of_targa(scene: Any, alpha: bool) -> list[Setting]:
    """List what saves a picture without compression."""
    return [*_media(scene, "IMAGE", "TARGA_RAW"), (scene.render.image_settings, "color_mode", "RGBA" if alpha else "RGB")]


def of_openexr(scene: Any) -> list[Setting]:
    """List what saves every pass without compression or loss."""
    image = scene.render.image_settings
    interleave = [(image, "use_exr_interleave", True)] if hasattr(image, "use_exr_interleave") else []  # 5.0: one part
    exact = [(image, "color_mode", "RGBA"), (image, "color_depth", "32"), (image, "exr_codec", "NONE")]
    return [*_media(scene, "MULTI_LAYER_IMAGE", "OPEN_EXR_MULTILAYER"), *exact, *interleave]


def _media(scene: Any, media: str, file_format: str) -> list[Setting]:
    image = scene.render.image_settings
    kind = [(image, "media_type", media)] if hasattr(image, "media_type") else []  # from 5.0 on it decides the formats
    return [*kind, (image, "file_format", file_format)]


def _set(settings: Sequence[Setting]) -> None:
    for owner, name, value in settings:
        if getattr(owner, name) != value:
            setattr(owner, name, value)
