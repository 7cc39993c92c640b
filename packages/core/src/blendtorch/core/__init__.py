"""What the two sides of blendtorch share: messages, the wire, sockets, camera geometry and the errors."""

from blendtorch.core import errors, geometry
from blendtorch.core.messages import EndOfStream, Failure, Frame, Message
from blendtorch.core.payload import ArraySpec, Payload

__all__ = ["ArraySpec", "EndOfStream", "Failure", "Frame", "Message", "Payload", "errors", "geometry"]
