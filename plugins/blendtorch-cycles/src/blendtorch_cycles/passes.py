"""What Cycles can emit: our names, units and frames, and how they are made of its passes.

`image` and `linear` come of a picture: many samples per pixel, filtered, denoised. The others are geometry: they come of a
render of their own, with one ray through the centre of each pixel, so that they agree with the projection formulas and with
what a rasterizer draws, and no value is a blend of two surfaces.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from blendtorch.core import ArraySpec

Floats = npt.NDArray[np.float32]
BACKGROUND_Z = 1e10  # what Cycles writes where nothing was hit

# Of Cycles' passes: the property of a view layer that switches one on, its names in a result, its number of channels.
SOURCES: dict[str, tuple[str, tuple[str, ...], int]] = {
    "combined": ("use_pass_combined", ("Combined",), 4),
    "z": ("use_pass_z", ("Depth",), 1),
    "normal": ("use_pass_normal", ("Normal",), 3),
    "position": ("use_pass_position", ("Position",), 3),
    "uv": ("use_pass_uv", ("UV",), 3),
    "object_index": ("use_pass_object_index", ("Object Index", "IndexOB"), 1),  # from 5.0 on; before
}


@dataclass(frozen=True)
class Pass:
    """Something to emit.

    Attributes
    ----------
    spec : ArraySpec
    sources : tuple of str
        Which of `SOURCES` it is made of; none for the picture, which Blender itself finishes.
    convert : callable
        Makes it of arrays of shape (height, width, channels), float32, row 0 on top, by the names of their sources.
    """

    spec: ArraySpec
    sources: tuple[str, ...] = ()
    convert: Callable[[Mapping[str, Floats]], npt.NDArray[np.generic]] = lambda sources: next(iter(sources.values()))


def _depth(sources: Mapping[str, Floats]) -> Floats:
    z = sources["z"][..., 0]
    return np.where(z < BACKGROUND_Z, z, np.float32(np.inf))


def _position(sources: Mapping[str, Floats]) -> Floats:
    return np.where(sources["z"] < BACKGROUND_Z, sources["position"], np.float32(np.nan))


PASSES: dict[str, Pass] = {
    # The picture as F12 would save it, under the scene's view transform; RGBA with straight alpha where the run is transparent.
    "image": Pass(ArraySpec("uint8", ("height", "width", 3))),
    # Scene-linear light of the active view layer, before compositing; premultiplied RGBA where the run is transparent.
    "linear": Pass(ArraySpec("float32", ("height", "width", 3)), ("combined",), lambda s: s["combined"]),
    # Planar: along the camera's axis. Background inf.
    "depth": Pass(ArraySpec("float32", ("height", "width"), unit="scene units"), ("z",), _depth),
    # Of shading (smooth, with bump maps), in the world frame, of length 1. Background 0.
    "normals": Pass(ArraySpec("float32", ("height", "width", 3)), ("normal",), lambda s: s["normal"]),
    # Of the surface, in the world frame. Background NaN.
    "position": Pass(ArraySpec("float32", ("height", "width", 3), unit="scene units"), ("z", "position"), _position),
    # Of the mesh's active UV map, (0, 0) at the lower left of a texture. Background, and what has no UV map, 0.
    "uv": Pass(ArraySpec("float32", ("height", "width", 2)), ("uv",), lambda s: s["uv"][..., :2].copy()),
    # Ids of the objects of interest. Background, and every other object, 0.
    "instance_ids": Pass(
        ArraySpec("int32", ("height", "width")),
        ("object_index",),
        lambda s: np.rint(s["object_index"][..., 0]).astype(np.int32),
    ),
}
PICTURES = ("image", "linear")  # the rest is geometry
