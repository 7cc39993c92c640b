"""Annotators that need no picture: cameras, boxes, poses and keypoints, from the geometry of the evaluated scene."""

from blendtorch.core import hookimpl

from blendtorch_standard.annotators.boxes import Boxes2DLoose, Boxes3D
from blendtorch_standard.annotators.camera import Camera
from blendtorch_standard.annotators.keypoints import Keypoints
from blendtorch_standard.annotators.poses import Poses

__all__ = ["Boxes2DLoose", "Boxes3D", "Camera", "Keypoints", "Poses"]


@hookimpl
def blendtorch_register_annotators() -> list[type]:
    """Register the annotators."""
    return [Camera, Boxes2DLoose, Boxes3D, Poses, Keypoints]
