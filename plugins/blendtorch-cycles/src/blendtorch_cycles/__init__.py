"""The renderer `cycles`: path traced pictures, and every pass in memory."""

from blendtorch.core import hookimpl

from blendtorch_cycles.options import CyclesOptions
from blendtorch_cycles.renderer import Cycles

__all__ = ["Cycles", "CyclesOptions"]


@hookimpl
def blendtorch_register_renderers() -> type[Cycles]:
    """Register Cycles."""
    return Cycles
