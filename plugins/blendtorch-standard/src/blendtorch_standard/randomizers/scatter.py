"""Objects at random places, none in another."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from blendtorch.core import Distribution, Moment, Randomizer, RandomizerOptions, SetupContext
from blendtorch.core.errors import SceneError
from blendtorch.core.interfaces import GEOMETRY

from blendtorch_standard.randomizers import targets
from blendtorch_standard.randomizers.arrangement import arrange, radius
from blendtorch_standard.randomizers.values import check, check_box, number


class ScatterOptions(RandomizerOptions, frozen=True, kw_only=True):
    """Options of `scatter`.

    Attributes
    ----------
    low, high : tuple of float
        The box in which the origins of the objects lie, in scene units, in the frame of their parent: the world, where they
        have none. Equal numbers for z put them on a plane.
    objects : str
        Their names, with the wildcards `*`, `?` and `[]`. Default: the objects of interest.
    gap : float
        What is to be left between two objects, in scene units.
    scale : distribution of one number, or None
        A factor for the scale that the object has when the run begins. None leaves the scale as it is.
    tries : int
        How many places are drawn for an object before the run ends with an error.
    """

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    objects: str = ""
    gap: float = 0.0
    scale: Distribution | None = None
    tries: int = 1000

    def __post_init__(self) -> None:
        """Check the box and the numbers."""
        check_box(self.low, self.high)
        check(self, scale=1)
        if self.gap < 0 or self.tries < 1:
            raise ValueError(f"gap is {self.gap} and tries {self.tries}: expected 0 or more, and 1 or more")


class Scatter(Randomizer):
    """Puts objects at random places, so that the spheres about their origins that hold them do not overlap.

    The sphere holds an object however it is rotated: `pose` may rotate it too. It does not follow a scale of `pose`; scale with
    the option of `scatter`.
    """

    name = "scatter"
    interface = 1
    Options = ScatterOptions
    changes = frozenset({GEOMETRY})

    def setup(self, context: SetupContext) -> None:
        """Find the objects and their sizes, and see whether they can be placed."""
        families = targets.families(context, self.options.objects)
        self._objects = [obj for obj, _ in families]
        self._check_parents()
        self._radii = {obj.name: radius(obj, parts) for obj, parts in families}
        self._scale = {obj.name: np.array(obj.scale) for obj in self._objects}
        self._draw(context.rng(self.name))

    def writes(self) -> Sequence[tuple[Any, str]]:
        """The location, and the scale where it is drawn."""
        paths = ("location",) if self.options.scale is None else ("location", "scale")
        return [(obj, path) for obj in self._objects for path in paths]

    def randomize(self, moment: Moment, rng: np.random.Generator) -> Mapping[str, Any]:  # noqa: ARG002
        """Place the objects; the record has location and scale factor of each."""
        places, factors = self._draw(rng)
        for obj in self._objects:
            if obj.name in places:
                obj.location = places[obj.name]
            if self.options.scale is not None:
                obj.scale = self._scale[obj.name] * factors.get(obj.name, 1.0)
        return {name: {"location": place, "scale": factors[name]} for name, place in places.items()}

    def _draw(self, rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, float]]:
        options = self.options
        there = [obj.name for obj in self._objects if not targets.is_parked(obj)]
        factors = {name: 1.0 if options.scale is None else number(options.scale, rng) for name in there}
        radii = {name: self._radii[name] * abs(factor) for name, factor in factors.items()}
        return arrange(radii, options.low, options.high, options.gap, options.tries, rng), factors

    def _check_parents(self) -> None:
        """Refuse objects whose places are told in different frames: whether they overlap could not be said."""
        first, *others = self._objects
        for obj in others:
            same = obj.parent == first.parent and np.allclose(obj.matrix_parent_inverse, first.matrix_parent_inverse)
            if not same:
                raise SceneError(
                    f"{first.name!r} and {obj.name!r} have different parents: scatter objects of one parent, or of none"
                )
