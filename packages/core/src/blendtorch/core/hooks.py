"""The hooks of blendtorch. They take nothing and return classes; pluggy calls them at start-up, never per frame.

A plug-in is a module with one or more of these functions, named in its distribution's metadata::

    from blendtorch.core import hookimpl


    @hookimpl
    def blendtorch_register_annotators():
        return [Centers]

and in its pyproject.toml, one line for each class, by its name: so a run imports only what it names::

    [project.entry - points.blendtorch]
    centers = "acme_centers"

A hook that an older core lacks is marked with `@hookimpl(optionalhook=True)`.
"""

from collections.abc import Sequence

import pluggy
from blendtorch.core.interfaces import Annotator, Randomizer, Renderer, Writer

hookspec = pluggy.HookspecMarker("blendtorch")
hookimpl = pluggy.HookimplMarker("blendtorch")


@hookspec
def blendtorch_register_renderers() -> Sequence[type[Renderer]] | type[Renderer]:  # type: ignore[empty-body]
    """Return a class derived from `blendtorch.core.Renderer`, or several."""


@hookspec
def blendtorch_register_annotators() -> Sequence[type[Annotator]] | type[Annotator]:  # type: ignore[empty-body]
    """Return a class derived from `blendtorch.core.Annotator`, or several."""


@hookspec
def blendtorch_register_randomizers() -> Sequence[type[Randomizer]] | type[Randomizer]:  # type: ignore[empty-body]
    """Return a class derived from `blendtorch.core.Randomizer`, or several."""


@hookspec
def blendtorch_register_writers() -> Sequence[type[Writer]] | type[Writer]:  # type: ignore[empty-body]
    """Return a class derived from `blendtorch.core.Writer`, or several."""
