"""What the two sides of blendtorch share: messages, sockets, camera geometry, the interfaces of plug-ins, the errors."""

from blendtorch.core import errors, geometry
from blendtorch.core.atomic import write_atomically
from blendtorch.core.distortion import Distortion
from blendtorch.core.distributions import (
    Choice,
    Constant,
    Distribution,
    Integer,
    LogUniform,
    Normal,
    Uniform,
    draw,
    draw_vector,
)
from blendtorch.core.hooks import hookimpl
from blendtorch.core.interfaces import (
    Annotator,
    CameraView,
    Moment,
    ObjectOfInterest,
    Options,
    Randomizer,
    RandomizerOptions,
    Renderer,
    SetupContext,
    Writer,
)
from blendtorch.core.messages import EndOfStream, Failure, Frame, Message
from blendtorch.core.payload import ArraySpec, Payload

__all__ = [
    "Annotator",
    "ArraySpec",
    "CameraView",
    "Choice",
    "Constant",
    "Distortion",
    "Distribution",
    "EndOfStream",
    "Failure",
    "Frame",
    "Integer",
    "LogUniform",
    "Message",
    "Moment",
    "Normal",
    "ObjectOfInterest",
    "Options",
    "Payload",
    "Randomizer",
    "RandomizerOptions",
    "Renderer",
    "SetupContext",
    "Uniform",
    "Writer",
    "draw",
    "draw_vector",
    "errors",
    "geometry",
    "hookimpl",
    "write_atomically",
]
