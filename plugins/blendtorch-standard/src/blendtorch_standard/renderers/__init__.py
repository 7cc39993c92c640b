"""Renderers that draw with the engines of Blender's viewport."""

from blendtorch.core import hookimpl

from blendtorch_standard.renderers.viewport import Eevee, Workbench

__all__ = ["Eevee", "Workbench"]


@hookimpl
def blendtorch_register_renderers() -> list[type]:
    """Register Workbench and EEVEE."""
    return [Workbench, Eevee]
