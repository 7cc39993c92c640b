"""The Blender side of blendtorch: animate, render, annotate, publish.

Runs wherever `import bpy` works: inside a `blender` executable, or in a Python with the bpy wheel.
"""

from typing import Any

from blendtorch.btb import blender, camera, randomness, utils
from blendtorch.btb.animation import AnimationController
from blendtorch.btb.arguments import parse_blendtorch_args
from blendtorch.btb.camera import Camera
from blendtorch.btb.coordinates import (
    bbox_world_coordinates,
    object_coordinates,
    world_coordinates,
)
from blendtorch.btb.offscreen import OffScreenRenderer
from blendtorch.btb.paths import add_scene_dir_to_path
from blendtorch.btb.pipeline import Pipeline
from blendtorch.btb.publisher import DataPublisher
from blendtorch.btb.signal import Signal
from blendtorch.core.errors import name_to_come

__all__ = [
    "AnimationController",
    "Camera",
    "DataPublisher",
    "OffScreenRenderer",
    "Pipeline",
    "Signal",
    "add_scene_dir_to_path",
    "bbox_world_coordinates",
    "blender",
    "camera",
    "object_coordinates",
    "parse_blendtorch_args",
    "rng",
    "utils",
    "world_coordinates",
]


def __getattr__(name: str) -> Any:
    if name == "rng":  # not an ordinary name: a script that may be started again has to have asked for it
        return randomness.use()
    raise name_to_come("btb", name, ("CompositeRenderer", "DuplexChannel", "env"))
