"""Annotators that share one pass of our own shader: exact labels for each pixel, at the speed of pictures."""

from blendtorch.core import hookimpl

from blendtorch_gbuffer.flow import Flow
from blendtorch_gbuffer.maps import (
    UV,
    CategoryIds,
    Depth,
    Distance,
    InstanceIds,
    MaterialIds,
    Normals,
    ObjectCoordinates,
    Position,
)
from blendtorch_gbuffer.objects import Boxes2DAmodal, Boxes2DTight, MasksAmodal, Visibility

__all__ = [
    "UV",
    "Boxes2DAmodal",
    "Boxes2DTight",
    "CategoryIds",
    "Depth",
    "Distance",
    "Flow",
    "InstanceIds",
    "MasksAmodal",
    "MaterialIds",
    "Normals",
    "ObjectCoordinates",
    "Position",
    "Visibility",
]


@hookimpl
def blendtorch_register_annotators() -> list[type]:
    """Register the annotators."""
    return [
        Depth,
        Distance,
        Normals,
        Position,
        UV,
        ObjectCoordinates,
        InstanceIds,
        CategoryIds,
        MaterialIds,
        Flow,
        Boxes2DTight,
        Boxes2DAmodal,
        Visibility,
        MasksAmodal,
    ]
