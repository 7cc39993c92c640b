"""Whether objects are there."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from blendtorch.core import Moment, Randomizer, RandomizerOptions, SetupContext
from blendtorch.core.interfaces import GEOMETRY

from blendtorch_standard.randomizers import targets


class VisibilityOptions(RandomizerOptions, frozen=True, kw_only=True):
    """Options of `visibility`.

    Attributes
    ----------
    probability : float
        From 0 to 1: that an object is shown. Each draws for itself.
    objects : str
        Their names, with the wildcards `*`, `?` and `[]`. Default: the objects of interest. What is parented to an object
        goes with it; what the file hides from renders stays hidden.
    """

    probability: float = 0.5
    objects: str = ""

    def __post_init__(self) -> None:
        """Check the probability."""
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability is {self.probability}: expected a number from 0 to 1")


class Visibility(Randomizer):
    """Shows and hides objects, in renders and in the viewport: engines that draw there go by the one, Cycles by the other."""

    name = "visibility"
    interface = 1
    Options = VisibilityOptions
    changes = frozenset({GEOMETRY})

    def setup(self, context: SetupContext) -> None:
        """Find the objects, with what belongs to them."""
        families = targets.families(context, self.options.objects)
        self._families = {
            obj.name: [part for part in parts if not part.hide_render or targets.is_asset(part)] for obj, parts in families
        }

    def writes(self) -> Sequence[tuple[Any, str]]:
        """Both switches of each object."""
        parts = {part.name: part for family in self._families.values() for part in family}
        return [(part, path) for part in parts.values() for path in ("hide_render", "hide_viewport")]

    def randomize(self, moment: Moment, rng: np.random.Generator) -> Mapping[str, Any]:  # noqa: ARG002
        """Show or hide each object; the record has true for those that are shown."""
        shown = {name: bool(rng.random() < self.options.probability) for name in self._families}
        # One that matches, and hangs on another that matches, is shown where both are.
        hidden = {part.name for name, family in self._families.items() if not shown[name] for part in family}
        for family in self._families.values():
            for part in family:
                part.hide_render = part.hide_viewport = part.name in hidden or targets.is_parked(part)
        return shown
